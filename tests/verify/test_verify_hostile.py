"""Hostile release folders: refused by name, from a minimal environment, without a traceback."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phiforge.verify.revocations import Revocation, with_notice
from support.releasing import Certified, Verifier, edit

WEIGHTS = "openvino_model.bin"


def list_a_path(name: str) -> Callable[[Path], None]:
    def spoil(release: Path) -> None:
        path = release / "SHA256SUMS"
        path.write_text(path.read_text() + f"{'0' * 64}  {name}\n")

    return spoil


def describe_a_path(name: str) -> Callable[[Path], None]:
    def spoil(release: Path) -> None:
        def add(manifest: Any) -> None:
            manifest["files"][1]["path"] = name

        edit(release / "MANIFEST.json", add)

    return spoil


def write(name: str, data: bytes) -> Callable[[Path], None]:
    def spoil(release: Path) -> None:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_bytes(data)

    return spoil


def link_outside(release: Path) -> None:
    (release / WEIGHTS).unlink()
    (release / WEIGHTS).symlink_to("/etc/passwd")


def link_a_folder(release: Path) -> None:
    (release / "evidence").rename(release.with_name("elsewhere"))
    (release / "evidence").symlink_to(release.with_name("elsewhere"))


def pipe_for_a_file(release: Path) -> None:
    (release / "config.json").unlink()
    os.mkfifo(release / "config.json")


def oversized(name: str) -> Callable[[Path], None]:
    return lambda release: os.truncate(release / name, 10_000_000_000)


def link_among_the_clients_notes(release: Path) -> None:
    notes = release / ".cache/huggingface/download"
    notes.mkdir(parents=True)
    (notes / "config.json.metadata").symlink_to("/etc/passwd")


def notice_for_no_reason(release: Path) -> None:
    card = release / "README.md"
    card.write_text(with_notice(card.read_text(), Revocation("m/v", "1", "0", "", "", "", {})))


def write_sparse(name: str) -> Callable[[Path], None]:
    def spoil(release: Path) -> None:
        (release / name).touch()
        os.truncate(release / name, 10_000_000_000)

    return spoil


def very_many_files(release: Path) -> None:
    for number in range(2_001):
        (release / f"f{number}").touch()


def very_deep_folders(release: Path) -> None:
    (release / "/".join("d" * 40)).mkdir(parents=True)


def name_of_bytes(release: Path) -> None:
    Path(os.fsdecode(os.fsencode(release) + b"/weights\xff.bin")).touch()


def same_key_twice(release: Path) -> None:
    path = release / "evidence/release.json"
    path.write_text(path.read_text().replace("{", '{"version": "0.1.0", ', 1))


def same_path_twice(release: Path) -> None:
    path = release / "SHA256SUMS"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")


DEEP = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
HOSTILE: list[tuple[str, Callable[[Path], None], str]] = [
    ("traversal in the checksums", list_a_path("../../etc/passwd"), "hostile-name"),
    ("absolute path in the checksums", list_a_path("/etc/passwd"), "hostile-name"),
    ("drive in the checksums", list_a_path("C:/windows"), "hostile-name"),
    ("backslash in the checksums", list_a_path("..\\secret"), "hostile-name"),
    ("traversal in the manifest", describe_a_path("../LICENSE"), "hostile-name"),
    ("absolute path in the manifest", describe_a_path("/etc/passwd"), "hostile-name"),
    ("symbolic link to a file", link_outside, "symlink"),
    ("symbolic link to a folder", link_a_folder, "symlink"),
    ("named pipe", pipe_for_a_file, "not-a-regular-file"),
    ("oversized checksums", oversized("SHA256SUMS"), "oversized-file"),
    ("oversized manifest", oversized("MANIFEST.json"), "oversized-file"),
    ("oversized receipt", oversized("evidence/receipts/npu.json"), "oversized-file"),
    ("link among the Hub client's notes", link_among_the_clients_notes, "symlink"),
    ("another cache", write(".cache/other/notes", b""), "extra-file"),
    ("a cache in a folder", write("evidence/.cache/huggingface/x", b""), "extra-file"),
    ("a file for the cache", write(".cache/huggingface", b""), "extra-file"),
    ("much among the notes", write(".cache/huggingface/x", bytes(64_001)), "oversized-file"),
    ("large attributes", write(".gitattributes", bytes(64_001)), "oversized-file"),
    ("attributes in a folder", write("evidence/.gitattributes", b""), "extra-file"),
    ("revocations of another form", write("revocations.json", b"{}"), "malformed"),
    ("revocations that are no JSON", write("revocations.json", b"\xff"), "not-utf-8"),
    ("oversized revocations", write_sparse("revocations.json"), "oversized-file"),
    ("revocations in a folder", write("evidence/revocations.json", b"{}"), "extra-file"),
    ("a notice for no reason", notice_for_no_reason, "changed-evidence"),
    ("very many files", very_many_files, "too-many-files"),
    ("very deep folders", very_deep_folders, "not-a-regular-file"),
    ("deep JSON", write("MANIFEST.json", DEEP), "deep-json"),
    ("deep JSON in an envelope", write("evidence/provenance.dsse.json", DEEP), "deep-json"),
    ("JSON that is no object", write("evidence/release.json", b"[]"), "not-json"),
    ("not a number", write("evidence/gate.json", b'{"receipts": NaN}'), "not-json"),
    ("huge number", write("evidence/gate.json", b'{"a": ' + b"9" * 9999 + b"}"), "not-json"),
    ("the same key twice", same_key_twice, "duplicate-key"),
    ("the same path twice", same_path_twice, "duplicate-path"),
    ("not UTF-8", write("evidence/release.json", b'{"version": "\xff"}'), "not-utf-8"),
    ("checksums that are not UTF-8", write("SHA256SUMS", b"\xff\xfe"), "not-utf-8"),
    ("checksums of another form", write("SHA256SUMS", b"MD5 (x) = 1\n"), "malformed-checksums"),
    ("name written right to left", write("weights\u202enib.exe", b""), "hostile-name"),
    ("name with a Cyrillic letter", write("c\u043enfig.json", b""), "hostile-name"),
    ("name with nothing to see", write("config\u200b.json", b""), "hostile-name"),
    ("name with a newline", write("a\nb", b""), "hostile-name"),
    ("name that is no text", name_of_bytes, "hostile-name"),
    ("name of a device", write("NUL.txt", b""), "hostile-name"),
    ("names that differ in case", write("CONFIG.json", b""), "hostile-name"),
    ("a key id that is a path", lambda release: edit(
        release / "evidence/release.json",
        lambda record: record["signer"].update(keyid="../../../etc/passwd"),
    ), "malformed"),
    ("a signer that is a list", lambda release: edit(
        release / "evidence/release.json", lambda record: record.update(signer=[]),
    ), "malformed"),
    ("signatures that are text", lambda release: edit(
        release / "evidence/model.sig", lambda sig: sig["dsseEnvelope"].update(signatures="x"),
    ), "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [(spoil, finding) for _, spoil, finding in HOSTILE],
    ids=[name.replace(" ", "-") for name, _, _ in HOSTILE],
)
def test_what_is_hostile_is_refused(
    verifier: Verifier,
    received: Path,
    certified: Certified,
    spoil: Callable[[Path], None],
    finding: str,
) -> None:
    spoil(received)
    started = time.monotonic()
    done = verifier.run(received, "--key", str(certified.public))
    assert time.monotonic() - started < 20
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"refused {finding}: " in done.stdout, done.stdout + done.stderr
    assert done.stdout.isascii() and "\x1b" not in done.stdout
