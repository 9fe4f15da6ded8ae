"""fetch from a folder: what its checksums file records, or one line of error."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fetching import NEEDED, SHARDS, Fetch, make_checkpoint

SHARD = SHARDS[0]
SUMS = "SHA256SUMS"


class Folder:
    """A checkpoint in a folder with the checksums that ``sha256sum`` would record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        for name, data in make_checkpoint().items():
            if "/" not in name and not name.endswith(".bin"):
                (path / name).write_bytes(data)
        self.record()

    def record(self) -> None:
        """Write SHA256SUMS of the files that are there; a second time it lists itself."""
        lines = [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted(self.path.iterdir())
        ]
        (self.path / SUMS).write_text("".join(lines))

    @property
    def source(self) -> dict[str, object]:
        """The source block."""
        return {"path": str(self.path), "checksums": SUMS}

    @property
    def needed(self) -> dict[str, bytes]:
        """The files that must arrive."""
        return {name: (self.path / name).read_bytes() for name in NEEDED}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "model")


def test_a_folder_is_copied_without_what_is_not_needed(fetch: Fetch, folder: Folder) -> None:
    fetch.succeeds(folder.source, folder.needed)
    first = (fetch.into / "SOURCE.json").read_text()
    assert str(folder.path) not in first
    fetch.succeeds(folder.source, folder.needed)
    assert (fetch.into / "SOURCE.json").read_text() == first


def test_lines_of_sha256sum_in_binary_mode_are_read(fetch: Fetch, folder: Folder) -> None:
    sums = folder.path / SUMS
    sums.write_text(sums.read_text().replace("  ", " *./"))
    fetch.succeeds(folder.source, folder.needed)


def test_a_changed_folder_changes_the_tree_and_a_bad_one_keeps_it(
    fetch: Fetch, folder: Folder
) -> None:
    fetch.succeeds(folder.source, folder.needed)
    before = folder.needed
    (folder.path / "generation_config.json").write_text('{"eos_token_id": 7}')
    fetch.refuses(folder.source, "generation_config.json")
    fetch.holds(folder.source, before)
    folder.record()
    fetch.succeeds(folder.source, folder.needed)


Edit = Callable[[bytes], bytes | None]


@pytest.mark.parametrize(
    ("name", "edit", "recorded", "words"),
    [
        (SHARD, lambda data: data[:-1] + b"\x00", False, [SHARD, f"{SUMS} records", "expected"]),
        (SHARD, lambda data: data[:-1000], True, [SHARD, "truncated or damaged"]),
        ("config.json", lambda _: b'{"model_type": "phi3small"}', True, ["Phi-3-small", "Remedy"]),
        ("config.json", lambda _: b'{"model_type": "phi4flash"}', True, ["Phi-4-mini-flash"]),
        (SHARD, lambda data: data[:20], True, [SHARD, "truncated or damaged"]),
        (SHARD, lambda _: b"", True, [SHARD, "truncated or damaged"]),
        (
            "tokenizer.json",
            lambda _: None,
            False,
            [f"{SUMS} lists tokenizer.json, which is missing"],
        ),
        ("chat_template.jinja", lambda _: b"x", False, ["chat_template.jinja", "no checksum"]),
        ("training_args.bin", lambda _: b"x", True, ["training_args.bin is a pickle"]),
        (SUMS, lambda _: None, False, ["checksums file is missing", "sha256sum"]),
        (SUMS, lambda _: b"", False, [SUMS, "lists no file"]),
        (SUMS, lambda _: b"MD5 (config.json) = 0\n", False, [f"{SUMS}:1", "not a line of"]),
        (SUMS, lambda _: b"\xff\xfe\x00", False, [SUMS, "not a text"]),
        (SUMS, lambda data: data + b"0" * 64 + b"  ../../etc/passwd\n", False, ["../etc/passwd"]),
        (SUMS, lambda data: data + b"0" * 64 + b"  config.json\n", False, ["config.json' twice"]),
        (SUMS, lambda data: data.replace(SHARD.encode(), b"LICENSE-MIT"), False, ["LICENSE-MIT"]),
        (SUMS, lambda data: data[data.index(b"\n") + 1 :], False, ["LICENSE", "no checksum"]),
    ],
)
def test_a_folder_that_is_not_what_it_records_is_refused(
    fetch: Fetch, folder: Folder, name: str, edit: Edit, recorded: bool, words: list[str]
) -> None:
    path = folder.path / name
    data = edit(path.read_bytes() if path.exists() else b"")
    path.unlink(missing_ok=True)
    if data is not None:
        path.write_bytes(data)
    if recorded:
        (folder.path / SUMS).unlink()
        folder.record()
    fetch.fails(folder.source, *words)


def test_a_link_is_refused(fetch: Fetch, folder: Folder) -> None:
    shutil.move(folder.path / SHARD, folder.path.parent / "blob")
    (folder.path / SHARD).symlink_to("../blob")
    fetch.fails(folder.source, SHARD, "a link is no source")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checksums": "../SHA256SUMS"}, "checksums"),
        ({"path": "no such folder"}, "no such folder"),
        ({"path": ""}, "checksums file is missing"),
        ({"path": 3}, "not a source"),
        ({"revision": "main"}, "revision"),
    ],
)
def test_a_source_block_that_is_not_valid_is_refused(
    fetch: Fetch, folder: Folder, change: dict[str, object], words: str
) -> None:
    fetch.fails({**folder.source, **change}, words)


def test_a_place_that_is_a_file_is_refused(fetch: Fetch, folder: Folder) -> None:
    fetch.into.parent.mkdir()
    fetch.into.write_text("in the way")
    fetch.refuses(folder.source, "not a folder")
