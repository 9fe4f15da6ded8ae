"""What an inbox finds and what it ignores with a note; people and their systems put files there."""

import json
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from phiforge.remote.inbox import companions, scan

SUBJECT = {"model": "m", "variant": "v", "device": "npu"}
RECEIPT = json.dumps(SUBJECT)
FOUND = ("m", "v", "npu")


def a_zip(path: Path, members: dict[str, str], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in members.items():
            archive.writestr(name, text)


def damaged(path: Path) -> None:
    a_zip(path, {"npu.json": RECEIPT}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    data[40:50] = bytes(10)
    path.write_bytes(data)


def encrypted(path: Path) -> None:
    a_zip(path, {"npu.json": RECEIPT})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(2 << 30)


def bomb(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("npu.json", "w", force_zip64=True) as stream,
    ):
        for _ in range(200):
            stream.write(bytes(1 << 20))


def beside_a_fifo(path: Path) -> None:
    path.write_text(RECEIPT)
    os.mkfifo(path.with_name("x.dsse.json"))


BAD: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "folder": ("x.zip", Path.mkdir, "found a folder"),
    "dangling link": ("x.zip", lambda path: path.symlink_to("nowhere"), "No such file"),
    "link to itself": ("x.json", lambda path: path.symlink_to(path), "Too many levels"),
    "fifo": ("x.json", os.mkfifo, "found no file"),
    "envelope is a fifo": ("x.json", beside_a_fifo, "found no file"),
    "no zip": ("x.zip", lambda path: path.write_text("text") and None, "not a zip"),
    "damaged member": ("x.zip", damaged, "found "),
    "encrypted": ("x.zip", encrypted, "encrypted"),
    "odd compression": (
        "x.zip", lambda path: a_zip(path, {"npu.json": RECEIPT}, zipfile.ZIP_LZMA), "no kit uses",
    ),
    "2 GiB": ("x.json", sparse, "found 2147483648 bytes"),
    "zip bomb": ("x.zip", bomb, "of more than 8388608 bytes"),
    "two receipts": (
        "x.zip", lambda path: a_zip(path, {"a.json": RECEIPT, "b.json": RECEIPT}), "2 receipts",
    ),
    "nothing": ("x.zip", lambda path: a_zip(path, {}), "0 receipts"),
    "no JSON": ("x.json", lambda path: path.write_text("{") and None, "found not JSON"),
    "no text": ("x.json", lambda path: path.write_bytes(b"\xff\xfe\x00") and None, "not JSON"),
    "nested": ("x.json", lambda path: path.write_text("[" * 1_000_000) and None, "found not JSON"),
    "a list": ("x.json", lambda path: path.write_text("[1]") and None, "names no model"),
    "another JSON": (
        "x.json", lambda path: path.write_text('{"model": 1}') and None, "names no model",
    ),
    "escapes in its name": ("\x1b[2J.zip", Path.mkdir, "\ufffd[2J.zip: not a receipt"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "spoil", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_ignored_with_a_note_and_stops_nothing(
    tmp_path: Path, name: str, spoil: Callable[[Path], None], message: str
) -> None:
    (tmp_path / "good.json").write_text(RECEIPT)
    spoil(tmp_path / name)
    started = time.process_time()
    found, notes = scan(tmp_path)
    assert found == {FOUND: [str(tmp_path / "good.json")]}
    (note,) = notes
    assert message in note and "\n" not in note
    assert time.process_time() - started < 5


def test_receipts_are_found_under_any_name_and_what_systems_add_is_passed_over(
    tmp_path: Path,
) -> None:
    a_zip(tmp_path / "B.ZIP", {"npu.json": RECEIPT, "npu.dsse.json": "{}"})
    a_zip(
        tmp_path / "from a mac.zip",
        {"npu.json": RECEIPT, "__MACOSX/._npu.json": "x", "._npu.json": "x", "readme.txt": ""},
    )
    (tmp_path / "._from a mac.zip").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "x.json").write_text(RECEIPT)
    (tmp_path / "x.dsse.json").write_text("{}")
    (tmp_path / "other.json").write_text(json.dumps({**SUBJECT, "device": "gpu"}))
    found, notes = scan(tmp_path)
    assert notes == []
    assert [Path(path).name for path in found[FOUND]] == ["B.ZIP", "from a mac.zip", "x.json"]
    assert list(found) == [FOUND, ("m", "v", "gpu")]
    envelope = str(tmp_path / "x.dsse.json")
    assert companions(found[FOUND][2]) == [str(tmp_path / "x.json"), envelope]


def test_an_inbox_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert scan(tmp_path / "inbox") == ({}, [])
