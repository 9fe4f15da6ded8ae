"""What a page names in a sentence exists: links, commands, files, tests. Blocks: test_pages.py."""

import re

import pytest

from phiforge.cli import COMMANDS
from support.checkout import ROOT
from support.pages import PAGES, page_text

each_page = pytest.mark.parametrize("page", PAGES)


def spans(page: str) -> list[str]:
    """The code spans of a page; one that begins at the end of a line goes on in the next."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page_text(page), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


@each_page
def test_links_lead_to_files_and_headings(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page_text(page)):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.exists(), f"{page} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
            assert heading in anchors, f"{page} links to {target}"


@each_page
def test_commands_exist(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = "".join(path.read_text("utf-8") for path in [*ROOT.glob("rules/*"), ROOT / "Snakefile"])
    options = r"(?:-n |--cores \d+ |[A-Z]+=\S+ )*"
    for span in spans(page):
        if named := re.match(rf"make {options}([a-z][a-z.-]*)", span):
            assert re.search(rf"^{re.escape(named[1])}:", makefile, re.MULTILINE), (page, span)
        if named := re.match(r"(?:python -m )?phiforge ([a-z][a-z-]*)", span):
            assert named[1] in COMMANDS, (page, span)
        if named := re.match(rf"snakemake {options}([a-z]+)", span):
            assert re.search(rf"^rule {named[1]}:", rules, re.MULTILINE), (page, span)
        if named := re.match(r"python -m ((?:benchmarks|phiforge|validators)[a-z_.]*)", span):
            path = ROOT / named[1].replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), span


@each_page
def test_named_files_and_tests_exist(page: str) -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    folders = (
        "rules|profiles|config|converters|validators|phiforge|models|envs|tests|benchmarks|docs"
    )
    for span in spans(page):
        for path in re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]+\.\w+)(?![\w*<])", span):
            assert (ROOT / path).exists(), f"{page}: {path}"
        if re.fullmatch(r"test_\w+", span):
            assert f"def {span}(" in tests, f"{page}: {span}"
