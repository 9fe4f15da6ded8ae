"""What a receipt calls the folders of the machine that wrote it.

A runtime's exception quotes the paths that it was given. A receipt travels: it says which file of
the artifact this was about, and not where the artifact lay, or who ran the check.
"""

import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from phiforge.checkout import ROOT

ARTIFACT = "ARTIFACT"


def redact_paths(text: str, payload: Path) -> str:
    """``text`` with this machine's folders replaced by what they are.

    The artifact's own folder becomes ``ARTIFACT``, the checkout (or kit) ``CHECKOUT``, and so on
    for Python's, the home and the folder for temporary files; what follows is kept:
    ``ARTIFACT/config.json``.

    Args:
        payload: the artifact's folder, as it was told or resolved.
    """
    for path, name in sorted(_places(payload).items(), key=lambda one: -len(one[0])):
        # Not inside a longer name: /home/jo is neither in /home/joan nor in /srv/home/jo.
        text = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", name, text)
    return text


def _places(payload: Path) -> dict[str, str]:
    """Every way to write a folder, to its name; of two names for one folder the first counts."""
    told = [
        (payload, ARTIFACT),
        (ROOT, "CHECKOUT"),
        (Path(sys.prefix), "PYTHON"),
        (Path(sys.base_prefix), "PYTHON"),
        (Path(tempfile.gettempdir()), "TEMPORARY"),
    ]
    with suppress(RuntimeError):  # this machine cannot tell
        told.append((Path.home(), "HOME"))
    places: dict[str, str] = {}
    for folder, name in told:
        for path in (folder, folder.resolve()):
            if len(path.parts) > 1:  # a root, or one word, may mean anything
                for written in (str(path), path.as_posix(), str(path).replace("\\", r"\\")):
                    places.setdefault(written, name)
    return places
