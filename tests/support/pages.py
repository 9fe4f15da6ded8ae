"""Run a page of the documentation as its reader would: write its files, run its commands, compare.

What a fenced block is follows from its language, and from an HTML comment right before it:

- ``sh``: commands, run in the checkout. The exit code must be 0, or what the output says.
- ``text`` after ``sh``: lines that the commands print, in this order; ``…`` stands for anything. A
  last line ``exit code N`` is what the commands end with.
- ``yaml``, ``python``: the file that the first line names (``# file: PATH``). Keys of a YAML block
  go into a file that exists.
- ``<!-- dry run: REASON -->``: ``make`` and ``snakemake`` only say what they would do.
- ``<!-- not run: REASON -->``: nothing happens; tests/docs/test_pages.py lists both.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

from support.checkout import ROOT

COMMENT = re.compile(r"<!-- (dry run|not run): (.+) -->\s*")
FILE = re.compile(r"# file: (\S+)\n")
EXIT_CODE = re.compile(r"exit code (\d+)\n?\Z")
# As a user's shell, but for what ends a page: the first command that fails, and where it stands.
SHELL = "set -euo pipefail; trap 'echo $((LINENO - 1)) > {at}' ERR; {dry}\n"
DRY = 'make() { command make -n "$@"; }; snakemake() { command snakemake -n "$@"; }'


class PageFault(AssertionError):
    """What a page says does not hold, with page and line."""


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its fence, ``mark`` and ``reason`` are its comment's."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    reason: str = ""

    def fault(self, what: str, line: int = 0) -> PageFault:
        """What is wrong at a line of the block, counted from 1."""
        return PageFault(f"{self.page}:{self.line + line}: {what}")


def blocks_of(text: str, page: str) -> Iterator[Block]:
    """Read a page.

    Raises:
        PageFault: a block that is indented instead of fenced, and so has no language.
    """
    before = ""
    for token in MarkdownIt().parse(text):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "code_block":
            raise PageFault(f"{page}:{line}: a block is fenced, and its fence names its language")
        if token.type == "fence":
            comment = COMMENT.fullmatch(before)
            mark, reason = comment.groups() if comment else ("", "")
            yield Block(page, line, token.info, token.content, mark, reason)
        before = token.content if token.type == "html_block" else ""


@dataclass
class Reader:
    """Someone who follows a page in a checkout.

    Attributes:
        home: what ``~`` means in commands and file names.
        environment: all that the commands are given.
        standins: what stands on the page, and what takes its place here; each must be found.
    """

    checkout: Path
    home: Path
    environment: Mapping[str, str]
    standins: Mapping[str, str] = field(default_factory=dict)

    def follow(self, text: str, page: str) -> None:
        """Do what a page says.

        Raises:
            PageFault: it does not hold.
        """
        found = {name for name in self.standins if name in text}
        assert found == self.standins.keys(), f"{page}: not found: {self.standins.keys() - found}"
        shown = list(blocks_of(text, page))
        for before, block, after in zip([None, *shown], shown, [*shown[1:], None], strict=False):
            if block.mark == "not run":
                continue
            if block.language == "sh":
                self._run(block, after if after and after.language == "text" else None)
            elif block.language in ("yaml", "python"):
                self._write(block)
            elif block.language != "text" or before is None or before.language != "sh":
                raise block.fault(f"it is not known what to do with this ({block.language!r})")

    def output(self, *command: str) -> str:
        """Run a command in the checkout; its output, or an error where it fails."""
        return subprocess.run(
            command, cwd=self.checkout, env=dict(self.environment),
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    def _replaced(self, text: str) -> str:
        for name, standin in self.standins.items():
            text = text.replace(name, standin)
        return text

    def _path(self, name: str) -> Path:
        return self.home / name[2:] if name.startswith("~/") else self.checkout / name

    def _write(self, block: Block) -> None:
        named = FILE.match(block.text)
        if not named:
            raise block.fault("no first line '# file: PATH' says where this belongs", 1)
        path, text = self._path(named[1]), self._replaced(block.text[named.end() :])
        path.parent.mkdir(parents=True, exist_ok=True)
        if block.language == "yaml" and path.exists():
            merged = merge(yaml.safe_load(path.read_text()), yaml.safe_load(text))
            text = yaml.safe_dump(merged, sort_keys=False, allow_unicode=True)
        path.write_text(text)

    def _run(self, block: Block, expected: Block | None) -> None:
        at, script = self.home / ".line", self.home / ".block.sh"
        dry = DRY if block.mark == "dry run" else ""
        script.write_text(SHELL.format(at=at, dry=dry) + self._replaced(block.text))
        at.write_text(str(len(block.text.splitlines())))
        done = subprocess.run(
            ["bash", script], cwd=self.checkout, env=dict(self.environment), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        text = expected.text if expected else ""
        code = EXIT_CODE.search(text)
        if done.returncode != int(code[1] if code else 0):
            line = int(at.read_text())
            command = block.text.splitlines()[line - 1].strip()
            what = f"{command}: ended with {done.returncode}, and printed\n{done.stdout[-4000:]}"
            raise block.fault(what, line)
        if expected:
            lines = text[: code.start()] if code else text
            missing = first_missing(lines, done.stdout)
            if missing:
                raise expected.fault(f"not seen; printed was\n{done.stdout[-4000:]}", missing)


def first_missing(expected: str, output: str) -> int:
    """The number of the first line that the output does not have after those before it; 0: none.

    White space counts as one space, and ``…`` stands for anything.
    """
    printed = (" ".join(line.split()) for line in output.splitlines())
    for number, line in enumerate(expected.splitlines(), 1):
        pattern = ".*".join(map(re.escape, " ".join(line.split()).split("…")))
        if line.strip() not in ("", "…") and not any(
            re.fullmatch(pattern, found) for found in printed
        ):
            return number
    return 0


def merge(old: Any, new: Any) -> Any:
    """Put the keys of ``new`` in the place of those of ``old``, at every depth."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: merge(old.get(key), value) for key, value in new.items()}
    return new


def example_of_help(output: str) -> str:
    """The command at the end of a ``--help``."""
    found = re.search(r"^example:\n  (phiforge .*)$", output, re.MULTILINE)
    assert found, output
    return found[1]


def page_text(page: str) -> str:
    """Read a page, named by its path in this repository."""
    return (ROOT / page).read_text(encoding="utf-8")


PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[ac]*/README.md"))
)
"""Every page of the documentation."""
