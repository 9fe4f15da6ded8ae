"""Find pickles in any folder: loading one executes whatever it says.

A file is judged by its bytes, never by its name: pickles of protocol 0 to 5, torch's archives
(zip files with pickles inside) and legacy files, NumPy arrays of objects, and all of these inside
zip, tar, gzip, bzip2 and xz files.
"""

import bz2
import gzip
import io
import lzma
import pickletools
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_NUMPY = b"\x93NUMPY"
_LONGEST_NUMPY_HEADER = 10_000
_COMPRESSED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\x00": lzma.decompress,
}


def pickles_in(folder: Path) -> list[str]:
    """Every pickle below ``folder``: ``file``, or ``file: member`` for one inside an archive."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                name = path.relative_to(folder).as_posix()
                found += [": ".join((name, *inside)) for inside in _pickles(stream)]
    return found


def _pickles(stream: BinaryIO) -> Iterator[tuple[str, ...]]:
    """The path of members that leads to each pickle; () for the stream itself."""
    head = stream.read(_LONGEST_NUMPY_HEADER)
    decompress = next((_COMPRESSED[magic] for magic in _COMPRESSED if head.startswith(magic)), None)
    stream.seek(0)
    if head.startswith(_NUMPY):
        if re.search(rb"'descr':[^}]*\|O", head):
            yield ()
    elif decompress is not None:
        content = io.BytesIO(decompress(stream.read()))
        yield from (("decompressed", *inside) for inside in _pickles(content))
    elif head[257:262] == b"ustar":
        with tarfile.open(fileobj=stream) as archive:
            for entry in archive:
                if file := archive.extractfile(entry):
                    content = io.BytesIO(file.read())
                    yield from ((entry.name, *inside) for inside in _pickles(content))
    elif zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as packed:
            for member in packed.infolist():
                content = io.BytesIO(packed.read(member))
                yield from ((member.filename, *inside) for inside in _pickles(content))
    elif _is_pickle(stream):
        yield ()


def _is_pickle(stream: BinaryIO) -> bool:
    """Opcodes up to STOP, after a PROTO, or (protocols 0 and 1 have none) filling the file."""
    stream.seek(0)
    try:
        opcodes = [opcode.name for opcode, _, _ in pickletools.genops(stream)]
    except Exception:  # whatever pickletools says of bytes that are no pickle
        return False
    return opcodes[0] == "PROTO" or (len(opcodes) > 1 and not stream.read().strip())
