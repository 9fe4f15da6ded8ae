"""Run the documentation: files and commands, as a page shows them."""

import re
from pathlib import Path

from support.checkout import ROOT


def shown_files(page: str) -> list[tuple[str, str]]:
    """The blocks of ``docs/<page>`` that begin with ``# file: PATH``, as paths and texts."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    pattern = r"^```\w+\n# file: (\S+)\n(.*?)^```$"
    return re.findall(pattern, text, re.MULTILINE | re.DOTALL)


def shown_commands(page: str) -> list[str]:
    """The blocks of ``docs/<page>`` that are shell commands."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def add(folder: Path, name: str, text: str) -> None:
    """Write a file of a page below ``folder``; blocks are appended to a file that exists."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write("\n" + text if path.stat().st_size else text)
