"""fetch from a folder: what its checksums file records, or one line of error."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fetching import NEEDED, SHARDS, Fetch, make_checkpoint

SHARD = SHARDS[0]


class Folder:
    """A checkpoint in a folder with the checksums that ``sha256sum`` would record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        for name, data in make_checkpoint().items():
            if "/" not in name and not name.endswith(".bin"):
                (path / name).write_bytes(data)
        self.record()

    def record(self, leave_out: str | None = None) -> None:
        """Write SHA256SUMS for what is there."""
        lines = [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted(self.path.iterdir())
            if path.name not in ("SHA256SUMS", leave_out)
        ]
        (self.path / "SHA256SUMS").write_text("".join(lines))

    @property
    def source(self) -> dict[str, object]:
        """For ``--source``."""
        return {"path": str(self.path), "checksums": "SHA256SUMS"}

    @property
    def needed(self) -> dict[str, bytes]:
        """The files that must arrive."""
        return {name: (self.path / name).read_bytes() for name in NEEDED}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "model")


def test_a_folder_is_copied_without_what_is_not_needed(fetch: Fetch, folder: Folder) -> None:
    fetch.succeeds(folder.source, folder.needed)
    assert str(folder.path) not in (fetch.into / "SOURCE.json").read_text()
    first = (fetch.into / "SOURCE.json").read_bytes()
    fetch.succeeds(folder.source, folder.needed)
    assert (fetch.into / "SOURCE.json").read_bytes() == first


def test_lines_of_sha256sum_in_binary_mode_are_read(fetch: Fetch, folder: Folder) -> None:
    sums = folder.path / "SHA256SUMS"
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


def _flip(folder: Folder) -> None:
    data = bytearray((folder.path / SHARD).read_bytes())
    data[-1] ^= 1
    (folder.path / SHARD).write_bytes(data)


def _truncate(folder: Folder) -> None:
    (folder.path / SHARD).write_bytes((folder.path / SHARD).read_bytes()[:-1000])
    folder.record()


def _truncate_header(folder: Folder) -> None:
    (folder.path / SHARD).write_bytes((folder.path / SHARD).read_bytes()[:20])
    folder.record()


def _empty(folder: Folder) -> None:
    (folder.path / SHARD).write_bytes(b"")
    folder.record()


def _lose(folder: Folder) -> None:
    (folder.path / "tokenizer.json").unlink()


def _lose_recorded(folder: Folder) -> None:
    (folder.path / SHARD).unlink()
    folder.record()


def _lose_config(folder: Folder) -> None:
    (folder.path / "config.json").unlink()
    folder.record()


def _break_config(folder: Folder) -> None:
    (folder.path / "config.json").write_text("{")
    folder.record()


def _add_unlisted(folder: Folder) -> None:
    (folder.path / "chat_template.jinja").write_text("x")


def _leave_out_shard(folder: Folder) -> None:
    folder.record(leave_out=SHARD)


def _list_pickle(folder: Folder) -> None:
    (folder.path / "training_args.bin").write_bytes(b"x")
    folder.record()


def _only_pickles(folder: Folder) -> None:
    for path in folder.path.glob("model*"):
        path.unlink()
    folder.record()
    (folder.path / "pytorch_model.bin").write_bytes(b"x")


def _link(folder: Folder) -> None:
    elsewhere = folder.path.parent / "blob"
    shutil.move(folder.path / SHARD, elsewhere)
    (folder.path / SHARD).symlink_to(elsewhere)


def _no_checksums(folder: Folder) -> None:
    (folder.path / "SHA256SUMS").unlink()


def _empty_checksums(folder: Folder) -> None:
    (folder.path / "SHA256SUMS").write_text("")


def _checksums_of_another_tool(folder: Folder) -> None:
    (folder.path / "SHA256SUMS").write_text("MD5 (config.json) = 0\n")


def _checksums_binary(folder: Folder) -> None:
    (folder.path / "SHA256SUMS").write_bytes(b"\xff\xfe\x00")


def _checksums_outside(folder: Folder) -> None:
    with (folder.path / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  ../../etc/passwd\n")


def _checksums_twice(folder: Folder) -> None:
    with (folder.path / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  config.json\n")


def _index_outside(folder: Folder) -> None:
    index = {"weight_map": {"embed": "../blob.safetensors"}}
    (folder.path / "model.safetensors.index.json").write_text(json.dumps(index))
    folder.record()


def _index_lies(folder: Folder) -> None:
    index = {"weight_map": {"embed": SHARD, "lost": SHARD}}
    (folder.path / "model.safetensors.index.json").write_text(json.dumps(index))
    folder.record()


def _not_there(folder: Folder) -> None:
    shutil.rmtree(folder.path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_flip, [SHARD, "SHA256SUMS records", "expected"]),
        (_truncate, [SHARD, "truncated or damaged"]),
        (_truncate_header, [SHARD, "truncated or damaged"]),
        (_empty, [SHARD, "truncated or damaged"]),
        (_lose, ["SHA256SUMS lists tokenizer.json, which is not there"]),
        (_lose_recorded, [f"names {SHARD}, which is not there"]),
        (_lose_config, ["no config.json"]),
        (_break_config, ["config.json is not JSON"]),
        (_add_unlisted, ["chat_template.jinja", "no checksum"]),
        (_leave_out_shard, [SHARD, "no checksum"]),
        (_list_pickle, ["training_args.bin is a pickle"]),
        (_only_pickles, ["pytorch_model.bin", "pickle"]),
        (_link, [SHARD, "a link is no source"]),
        (_no_checksums, ["checksums file is missing", "sha256sum"]),
        (_empty_checksums, ["SHA256SUMS", "lists no file"]),
        (_checksums_of_another_tool, ["SHA256SUMS:1", "not a line of sha256sum"]),
        (_checksums_binary, ["SHA256SUMS", "not a text"]),
        (_checksums_outside, ["leaves its folder", "../../etc/passwd"]),
        (_checksums_twice, ["lists 'config.json' twice"]),
        (_index_outside, ["outside its folder", "../blob.safetensors"]),
        (_index_lies, [f"{SHARD} holds no tensor lost"]),
        (_not_there, ["no such folder"]),
    ],
)
def test_a_folder_that_is_not_what_it_records_is_refused(
    fetch: Fetch, folder: Folder, spoil: Callable[[Folder], None], words: list[str]
) -> None:
    spoil(folder)
    fetch.fails(folder.source, *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checksums": "../SHA256SUMS"}, "checksums"),
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
    fetch.into.write_text("here first")
    code, output = fetch.run(folder.source)
    assert code == 1
    assert "not a folder" in output
    assert "Traceback" not in output
