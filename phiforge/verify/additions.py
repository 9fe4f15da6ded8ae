"""Name what a download from a Hub leaves in a release folder; nothing of it is trusted.

The Hub puts ``.gitattributes`` into every repository, and its client keeps notes about what it
downloaded (``hf download --local-dir``) below ``.cache/huggingface``. No signature covers either,
and no runtime reads them; whatever else was added is refused.
"""

from collections.abc import Collection, Iterator

from phiforge.verify.findings import Finding
from phiforge.verify.folder import Folder

ATTRIBUTES = ".gitattributes"
NOTES = ".cache/huggingface/"
MAX_SIZE = 64_000  # bytes of each; the Hub's are 2 kB, its client's a few hundred


def hub_files(folder: Folder, listed: Collection[str]) -> tuple[str, ...]:
    """Return the names of the regular files that the Hub and its client added, sorted.

    Args:
        listed: the release's own files; one of them is never taken for the Hub's.
    """
    named = (name for name in folder.sizes if name == ATTRIBUTES or name.startswith(NOTES))
    return tuple(sorted(name for name in named if name not in listed))


def check_hub_files(folder: Folder, names: Collection[str]) -> Iterator[Finding]:
    """Note that they are in the folder; refuse one that is too large to be the Hub's."""
    for name in names:
        if folder.sizes[name] > MAX_SIZE:
            what = f"larger than {MAX_SIZE} bytes, which nothing of the Hub's is"
            yield Finding("oversized-file", what, name)
    notes = sum(name.startswith(NOTES) for name in names)
    names_left = [name for name in names if not name.startswith(NOTES)]
    if notes:
        names_left.append(f"{notes} file{'s' if notes != 1 else ''} below {NOTES}")
    if names_left:
        what = f"left by a download from a Hub, no part of the release: {', '.join(names_left)}"
        yield Finding("hub-files", what, refuses=False)
