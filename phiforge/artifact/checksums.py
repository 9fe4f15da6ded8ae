"""SHA256SUMS, in the format of coreutils' sha256sum, and the file names that it may list.

Whoever sent a release or a source has written its list, so names are held to printable ASCII that
means the same on Linux and Windows: one that looks like another, hides characters or leaves the
folder is refused, not interpreted.
"""

import re
from pathlib import Path

from phiforge.errors import PhiforgeError

CHECKSUMS = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(.+)")
_WINDOWS_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


class ChecksumsError(PhiforgeError):
    """A list is not one of sha256sum, or names what it must not.

    Attributes:
        name: ``malformed-checksums``, ``hostile-name`` or ``duplicate-path``.
        what: the message without its place.
    """

    def __init__(self, name: str, what: str, where: str) -> None:
        super().__init__(visible(what), where=visible(where))
        self.name, self.what = name, what


def parse_checksums(text: str, where: str | Path) -> dict[str, str]:
    """Return file name to hex SHA-256, of the list ``text``.

    Args:
        where: the list's own name, for messages.

    Raises:
        ChecksumsError: a line is not sha256sum's, or its name is hostile or listed twice.
    """
    listed: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        place = f"{where}:{number}"
        match = _LINE.fullmatch(line)
        if match is None:
            what = f"not a line of sha256sum: {line[:80]!r}"
            raise ChecksumsError("malformed-checksums", what, place)
        digest, name = match.groups()
        if problem := name_problem(name):
            raise ChecksumsError("hostile-name", f"'{name[:80]}' {problem}", place)
        if name in listed:
            raise ChecksumsError("duplicate-path", f"lists '{name}' twice", place)
        listed[name] = digest
    return listed


def name_problem(name: str) -> str | None:
    """Say why a file must not have this name; None: it may.

    >>> name_problem("evidence/gate.json")
    >>> name_problem("../weights.bin")
    'leaves its folder'
    >>> name_problem("weights\\u202enib.bin")
    'holds a character that is not plain ASCII: weights\\\\u202enib.bin'
    """
    if not all(" " <= letter <= "~" for letter in name):
        return f"holds a character that is not plain ASCII: {visible(name)}"
    if name.startswith(("/", "~")) or re.match(r"[A-Za-z]:", name):
        return "is an absolute path"
    if any(letter in name for letter in '\\:*?"<>|'):
        return "holds a character that is special elsewhere"
    parts = name.split("/")
    if ".." in parts:
        return "leaves its folder"
    if len(name) > 1000 or any(len(part) > 200 for part in parts):
        return "is too long"
    if any(part in ("", ".") or part != part.strip(" ") or part.endswith(".") for part in parts):
        return "has a part that is empty, or that Windows reads otherwise"
    if any(_WINDOWS_DEVICE.fullmatch(part) for part in parts):
        return "is a device on Windows"
    return None


def visible(text: str) -> str:
    """Escape everything in ``text`` but printable ASCII.

    >>> visible("weights\\u202ebin")
    'weights\\\\u202ebin'
    """
    return "".join(
        letter if " " <= letter <= "~" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
