"""Replace the paths of the machine that wrote a receipt.

A runtime's exception quotes the paths that it was given. A receipt travels: it says which file of
the artifact this was about, not where the artifact lay or who ran the check.
"""

import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from phiforge.checkout import ROOT

ARTIFACT = "ARTIFACT"


def redact_paths(text: str, payload: Path) -> str:
    """Replace this machine's folders in ``text`` by what they are.

    The artifact's own folder becomes ``ARTIFACT``, the checkout (or kit) ``CHECKOUT``, and so on
    for Python's, the home and the folder for temporary files; what follows is kept:
    ``ARTIFACT/config.json``.

    Args:
        payload: the artifact's folder, as given or resolved.
    """
    for path, name in sorted(_folders(payload).items(), key=lambda entry: -len(entry[0])):
        # Not inside a longer name: /home/jo is neither in /home/joan nor in /srv/home/jo.
        text = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", name, text)
    return text


def _folders(payload: Path) -> dict[str, str]:
    """Return every way to write a folder, to its name; of two names the first counts."""
    named = [
        (payload, ARTIFACT),
        (ROOT, "CHECKOUT"),
        (Path(sys.prefix), "PYTHON"),
        (Path(sys.base_prefix), "PYTHON"),
        (Path(tempfile.gettempdir()), "TEMPORARY"),
    ]
    with suppress(RuntimeError):  # a machine without homes
        named.append((Path.home(), "HOME"))
    spellings: dict[str, str] = {}
    for folder, name in named:
        for path in (folder, folder.resolve()):
            if len(path.parts) > 1:  # a root, or one word, may mean anything
                for spelling in (str(path), path.as_posix(), str(path).replace("\\", r"\\")):
                    spellings.setdefault(spelling, name)
    return spellings
