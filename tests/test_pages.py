"""What the pages show exists: links, commands, targets, files of this repository."""

import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from phiforge.cli import COMMANDS
from support.checkout import ROOT

PAGES = [
    ROOT / name
    for name in (
        "README.md", "DESIGN.md", "CONTRIBUTING.md", "SECURITY.md",
        "artifacts/README.md", "config/README.md",
    )
    if (ROOT / name).is_file()
] + sorted((ROOT / "docs").glob("*.md"))  # fmt: skip
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def code(page: Path) -> str:
    """The code blocks and code spans of a page, one a line."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^( *)```\w*\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4,}(.*)$", text, re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", text)
    return "\n".join([block for _, block in blocks] + indented + spans)


@each_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
            assert heading in anchors, f"{page.name} links to {target}"


@each_page
def test_commands_exist(page: Path) -> None:
    for command in re.findall(r"(?:^|[ '(])phiforge ([a-z][a-z-]*)", code(page), re.MULTILINE):
        assert command in COMMANDS, f"{page.name}: phiforge {command}"
    for module in re.findall(r"python -m ([a-z_.]+)", code(page)):
        spec = importlib.util.find_spec(module)
        assert spec is not None, f"{page.name}: python -m {module}"
        is_package = spec.submodule_search_locations is not None
        assert not is_package or importlib.util.find_spec(f"{module}.__main__"), module


@each_page
def test_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|[ '`(])make ([a-z][a-z.-]*)", code(page), re.MULTILINE):
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"make {target}"
    rules = "\n".join(
        p.read_text(encoding="utf-8") for p in [*ROOT.glob("rules/*.smk"), ROOT / "Snakefile"]
    )
    pattern = r"snakemake (?:--cores \d+ |-n )+(?:-n )?([a-z]+)"
    for target in re.findall(pattern, code(page)):
        if target != "artifacts":
            assert re.search(rf"^rule {target}:", rules, re.MULTILINE), f"snakemake {target}"


@each_page
def test_named_files_exist(page: Path) -> None:
    folders = (
        "rules|profiles|config|converters|validators|phiforge|models|envs|tests|benchmarks|docs"
    )
    made = set(re.findall(r"(?:--public |# file: )(\S+)", code(page)))  # by the page's examples
    for path in re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]+\.\w+)(?![\w*<])", code(page)):
        assert path in made or (ROOT / path).exists(), f"{page.name}: {path}"


@each_page
def test_named_tests_exist(page: Path) -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")):
        assert f"def {name}(" in tests, f"{page.name}: {name}"
