"""Every page holds: a reader writes its files, runs its commands, and sees what it says."""

from pathlib import Path

import pytest

from phiforge.cli import EXAMPLES
from support.checkout import NPU_COMPILER, Checkout
from support.lab_host import SSHD
from support.pages import (
    PAGES,
    PageFault,
    Reader,
    blocks_of,
    example_of_help,
    first_missing,
    page_text,
)
from support.reader import make_reader
from support.stand_ins import STAND_INS, stand_ins

WITH_BLOCKS = [page for page in PAGES if list(blocks_of(page_text(page), page))]

# What is not run, or only as a dry run, and why.
MARKED = [
    "DESIGN.md: not run: no command, a table of folders",
    "README.md: dry run: the first runs these very tests, the others fetch and build for minutes",
    "README.md: dry run: needs 24 GiB of memory, a download of 7.6 GB, and an hour",
    *["docs/cluster.md: not run: needs a Slurm cluster; benchmarks/cluster.py runs it on one"] * 2,
    *["docs/cluster.md: not run: needs machines; benchmarks/storage.py runs it on this one"] * 2,
    "docs/container.md: not run: needs mmdebstrap, buildah and a package index",
    "docs/container.md: not run: needs the image; benchmarks/container.py runs this command",
    "docs/devices.md: dry run: needs a lab host with an Intel NPU",
    "docs/devices.md: not run: needs Windows",
    "docs/npu-blob.md: dry run: fetches and installs for minutes",
    "docs/npu-blob.md: not run: needs Intel's native libraries",
    "docs/npu-blob.md: not run: needs a laptop with an Intel NPU",
    "docs/npu-library.md: dry run: builds a library from its sources for minutes",
    "docs/releases.md: not run: no command, a table of files",
    "docs/upgrading.md: dry run: resolves against a package index, and runs these very tests",
    "docs/without-the-hardware.md: dry run: fetches and builds for minutes",
]


# What no stand-in takes the place of.
NEEDED = {
    "docs/devices.md": (SSHD is not None, "openssh-server (sshd)"),
    "docs/npu-blob.md": ((NPU_COMPILER / ".installed").is_file(), "make npu-compiler"),
}


@pytest.fixture
def reader(pipeline: Checkout, tmp_path: Path) -> Reader:
    return make_reader(pipeline, tmp_path)


@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_a_page_holds(reader: Reader, page: str) -> None:
    here, needed = NEEDED.get(page, (True, ""))
    if not here:
        pytest.skip(f"needs {needed}")
    with stand_ins(page)(reader) as equipped:
        equipped.follow(page_text(page), page)


def test_the_examples_of_help_hold(reader: Reader) -> None:
    """Of every command that a person runs, after what it needs was made."""
    shown = {name: example_of_help(reader.output("phiforge", name, "--help")) for name in EXAMPLES}
    page = f"""
```yaml
# file: publish.yaml
publish: {{channel: candidate, storage: [{{url: releases}}]}}
```

```sh
{shown["new-key"]}
export PHIFORGE_SIGNING_KEY=~/keys/release.pem
snakemake --cores 4 all --config variants=openvino-int4
cp -al artifacts/release/phi3-tiny ~/old
{shown["doctor"]}
{shown["verify"]}
{shown["diff"]}
{shown["status"]}
{shown["configuration"]}
{shown["publish"]}
{shown["prune"]}
{shown["revoke"]}
```

```text
key …
'snakemake --cores 4 all' can end well here
VERIFIED: …
nothing changed
published phi3-tiny/openvino-int4 0.1.0 (candidate): releases/…
nothing to remove: …
revoked…
```
"""
    reader.follow(page, "--help")


def test_every_stand_in_has_a_page() -> None:
    assert STAND_INS.keys() <= set(WITH_BLOCKS)


def test_no_block_is_left_out_silently() -> None:
    found = [
        f"{block.page}: {block.mark}: {block.reason}"
        for page in WITH_BLOCKS
        for block in blocks_of(page_text(page), page)
        if block.mark
    ]
    assert found == MARKED


GOOD = """\
# A page

```yaml
# file: config/there.yaml
more: {b: 2}
```

```sh
cat config/there.yaml
echo "to be seen"; exit 3
```

```text
b: 2
to … seen
exit code 3
```
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", None),
        ("cat config/there", "cat config/their", "page.md:9: cat config/their.yaml: ended with 1"),
        ("exit 3", "true", "page.md:10: "),
        ("to … seen", "to … sewn", "page.md:15: not seen"),
        ("b: 2\nto", "to … seen\nb", "page.md:15: not seen"),  # in another order
        ("# file: config/there.yaml\n", "", "page.md:4: no first line '# file: PATH'"),
        ("```sh", "```", "page.md:8: it is not known"),
        ("```sh\n", "<!-- a remark -->\n```fish\n", "page.md:9: it is not known"),
        ("```sh\ncat config/there.yaml", "```yaml\n# file: a.yaml\na: 1", "page.md:14: it is not"),
        ("```sh\ncat", "    cat", "page.md:8: a block is fenced"),
    ],
)
def test_a_wrong_page_fails_by_page_and_line(
    old: str, new: str, message: str | None, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "config/there.yaml").write_text("more: {a: 1}\n")
    reader = Reader(tmp_path, tmp_path / "home", {"PATH": "/usr/bin:/bin"})
    try:
        reader.follow(GOOD.replace(old, new, 1), "page.md")
    except PageFault as fault:
        assert message is not None and str(fault).startswith(message), fault
    else:
        assert message is None
    if message is None:
        assert "a: 1" in (tmp_path / "config/there.yaml").read_text()


def test_lines_are_found_in_their_order() -> None:
    assert first_missing("a\n…\nc d\n", "a\nb\n  c   d\n") == 0
    assert first_missing("a…\nc", "c\nabc\n") == 2
