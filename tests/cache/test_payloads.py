"""What a record names reaches a machine that has the record only, whole or not at all."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from phiforge.artifact.manifest import verify
from phiforge.artifact.record import write_record
from phiforge.artifact.tree import sha256_file
from phiforge.cache import CacheRefusal
from phiforge.cache.payloads import Payloads
from support.agents import SOURCE, Agent, Shelf, bucket


@pytest.fixture(params=["folder", "s3"])
def shelf(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shelf]:
    if request.param == "folder":
        yield Shelf(tmp_path / "storage")
        return
    with bucket("payloads", monkeypatch) as made:
        yield made


@pytest.fixture
def maker(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """A machine that has converted, and has stored its payload."""
    agent = Agent(tmp_path / "maker", shelf.configured, monkeypatch)
    Payloads(agent.build(), shelf.configured).store()
    return agent


def received(maker: Agent, folder: Path) -> list[str]:
    """Bring BUILD.json only to another machine; the command there that needs the payload."""
    folder.mkdir(exist_ok=True)
    (folder / "BUILD.json").write_bytes((maker.folder / "build/BUILD.json").read_bytes())
    return ["release", "job.json", "--build", str(folder / "BUILD.json"), "--into", "release"]


def test_a_payload_follows_its_record(shelf: Shelf, maker: Agent, tmp_path: Path) -> None:
    there = tmp_path / "there"
    Payloads(received(maker, there), shelf.configured).fetch()
    assert verify(there / "payload") == verify(maker.folder / "build/payload")
    model = there / "payload/model.bin"
    assert model.stat().st_mode & 0o222 == 0
    before = model.stat().st_ino
    Payloads(received(maker, there), shelf.configured).fetch()
    assert model.stat().st_ino == before, "what is here is not fetched again"


def test_what_an_earlier_record_named_gives_way(shelf: Shelf, maker: Agent, tmp_path: Path) -> None:
    there = tmp_path / "there"
    Payloads(received(maker, there), shelf.configured).fetch()
    (there / "payload/left-over.bin").write_bytes(b"of another version")
    Payloads(received(maker, there), shelf.configured).fetch()
    assert not (there / "payload/left-over.bin").exists()


def test_jobs_that_want_the_same_payload_wait_for_each_other(
    shelf: Shelf, maker: Agent, tmp_path: Path
) -> None:
    command = received(maker, tmp_path / "there")
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(Payloads(command, shelf.configured).fetch) for _ in range(2)]
    assert [one.result() for one in both] == [None, None]
    assert verify(tmp_path / "there/payload") == verify(maker.folder / "build/payload")


@pytest.mark.parametrize(("data", "name"), [(b"WEIGHTS", "changed-file"), (None, "missing-file")])
def test_other_bytes_are_refused_by_name(
    shelf: Shelf, maker: Agent, tmp_path: Path, data: bytes | None, name: str
) -> None:
    digest = sha256_file(maker.folder / "build/payload/model.bin")
    shelf.write(f"files/{digest[:2]}/{digest}", data)
    there = tmp_path / "there"
    with pytest.raises(CacheRefusal, match=name) as refused:
        Payloads(received(maker, there), shelf.configured).fetch()
    assert refused.value.name == name and digest in str(refused.value)
    assert not (there / "payload").exists()


def test_a_source_and_a_reference_follow_theirs(shelf: Shelf, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "source/files").mkdir(parents=True)
    (here / "source/files/config.json").write_text("{}")
    digest = sha256_file(here / "source/files/config.json")
    one = {"path": "config.json", "sha256": digest, "size": 2}
    write_record(here / "source/SOURCE.json", {**SOURCE, "files": [one]})
    (here / "reference").mkdir()
    (here / "reference/tokenizer.json").write_text("{}")
    write_record(here / "reference/REFERENCE.json", {"files": {"tokenizer.json": digest}})
    for rule, made in (("fetch", "source"), ("reference", "reference")):
        Payloads([rule, "job.json", "--into", str(here / made)], shelf.configured).store()
        for record in (here / made).glob("*E.json"):
            (there / made).mkdir(parents=True)
            (there / made / record.name).write_bytes(record.read_bytes())
    words = ["--source", str(there / "source/files"), "--reference", str(there / "reference")]
    Payloads(["check", "job.json", *words], shelf.configured).fetch()
    for name in ("source/files/config.json", "reference/tokenizer.json"):
        assert (there / name).read_text() == "{}"
    assert (there / "reference/REFERENCE.json").is_file()


def test_a_name_that_leaves_the_folder_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    one = {"path": "../escaped", "sha256": "a" * 64, "size": 1}
    write_record(tmp_path / "source/SOURCE.json", {**SOURCE, "files": [one]})
    words = ["reference", "job.json", "--source", str(tmp_path / "source/files")]
    with pytest.raises(CacheRefusal, match="hostile-name"):
        Payloads(words, shelf.configured).fetch()


def test_an_envelope_follows_its_receipt(shelf: Shelf, tmp_path: Path) -> None:
    here, there = (tmp_path / one / "checks/tiny/openvino" for one in ("here", "there"))
    write_record(here / "npu.json", {"verdict": "passed"})
    write_record(here / "npu.dsse.json", {"payload": "signed"})
    command = ["check", "job.json", "--receipt", str(here / "npu.json")]
    Payloads(command, shelf.configured).store()
    there.mkdir(parents=True)
    (there / "npu.json").write_bytes((here / "npu.json").read_bytes())
    Payloads(["release", "job.json", str(there / "npu.json")], shelf.configured).fetch()
    assert (there / "npu.dsse.json").read_bytes() == (here / "npu.dsse.json").read_bytes()


def test_a_blocked_build_names_nothing(shelf: Shelf, tmp_path: Path) -> None:
    write_record(tmp_path / "build/BUILD.json", {"blocked": {"reason": "no tool"}})
    command = ["convert", "job.json", "--into", str(tmp_path / "build")]
    Payloads(command, shelf.configured).store()
    words = ["--artifact", str(tmp_path / "build"), "--receipts", "receipts"]
    Payloads(["blocked", "job.json", *words], shelf.configured).fetch()
    assert not (tmp_path / "build/payload").exists()
