"""Agents share what they make; what is not signed, not whole or not theirs costs time only."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phiforge.artifact.manifest import verify
from phiforge.artifact.record import canonical, read_record, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.cache import CACHE
from phiforge.reproduce import rebuild
from phiforge.settings import modules
from phiforge.trust import keys
from phiforge.trust.envelope import sign
from support.agents import (
    Agent,
    MakeAgent,
    Shelf,
    bucket,
    key_of,
    only,
    statement_in,
)
from support.checkout import ROOT, Checkout
from support.jobs import JOBS, Names, run, write_job


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_an_agent_takes_what_another_made_and_says_so(
    make: MakeAgent, shelf: Shelf, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket(f"cache-{uuid.uuid4()}", monkeypatch) as there:
        storage = (shelf if place == "folder" else there).configured
        first = make("first", storage=storage)
        second = make("second", first, storage=storage)
        only(first.put(first.build()), "shared: phi3-tiny/openvino-fp16")
        assert second.command(second.conversion()).take()
        files = (shelf if place == "folder" else there).names()
    payload = second.folder / "build/payload"
    taken, made = (read_record(one.folder / "build/BUILD.json") for one in (second, first))
    assert verify(payload) == made["artifact_sha256"]
    assert taken.pop("cache") == {"key": files[0].split("/")[2], "keyid": first.keyid,
                                  "builder": "urn:test:first"}  # fmt: skip
    assert taken == made
    assert {path.name for path in second.folder.glob("build/*")} == {
        "BUILD.json",
        "payload",
        ".payload.lock",
    }
    assert not (payload / "model.bin").stat().st_mode & 0o222


Spoil = Callable[[Shelf, Agent], None]


def in_entry(change: Callable[[bytes], bytes | None]) -> Spoil:
    def spoil(shelf: Shelf, first: Agent) -> None:
        (name,) = [name for name in shelf.names() if name.startswith("entries/")]
        shelf.write(name, change(shelf.read(name)))

    return spoil


def in_weights(change: Callable[[bytes], bytes | None]) -> Spoil:
    def spoil(shelf: Shelf, first: Agent) -> None:
        digest = sha256_file(first.folder / "build/payload/model.bin")
        name = f"files/{digest[:2]}/{digest}"
        shelf.write(name, change(shelf.read(name)))

    return spoil


def signed_again(signer: keys.Signer | None = None, **changes: Any) -> Spoil:
    """The statement says something else, signed by its own key or another."""

    def spoil(shelf: Shelf, first: Agent) -> None:
        (name,) = [name for name in shelf.names() if name.startswith("entries/")]
        said = statement_in(shelf.read(name))
        files = changes.pop("files", {})
        said["predicate"] |= changes
        for one in said["subject"]:
            if (new := files.get(one["name"])) is not None:
                said["predicate"]["sizes"][new] = said["predicate"]["sizes"].pop(one["name"])
                one["name"] = new
        key = signer or keys.load_private(first.private)
        shelf.write(name, canonical(sign(said, key)).encode())

    return spoil


def rebuilt(**facts: Any) -> Spoil:
    """The first agent shares a build that says something else of itself."""

    def spoil(shelf: Shelf, first: Agent) -> None:
        first.put(first.build(**facts))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        (in_weights(lambda data: b"W" + data[1:]), "changed-file: tree/model.bin"),
        (in_weights(lambda data: data[:-1]), "truncated-file: tree/model.bin has 6 bytes, not 7"),
        (in_weights(lambda data: None), "missing-file: tree/model.bin"),
        (in_entry(lambda data: data[:-40]), "not-json"),
        (in_entry(lambda data: b" " * 4_000_001), "oversized-file"),
        (in_entry(lambda data: data.replace(b'"sig": "M', b'"sig": "N').replace(
            b'"sig": "', b'"sig": "AAAA')), "bad-signature"),
        (signed_again(keys.ephemeral()), "wrong-key"),
        (signed_again(key="0" * 64), "other-entry"),
        (signed_again(rule="check"), "other-entry"),
        (signed_again(result="0" * 64), "other-contents: the artifact that is signed"),
        (signed_again(sizes={}), "malformed: its files and sizes"),
        (signed_again(more=1), "malformed: holds unknown more"),
        (signed_again(files={"tree/model.bin": "tree/../../model.bin"}), "hostile-name"),
        (signed_again(files={"tree/model.bin": "tree/other.bin"}), "other-contents: its payload"),
        (signed_again(files={"record/BUILD.json": "record/OTHER.json"}), "malformed: KeyError"),
        (rebuilt(model="phi-3.5-mini"), "other-contents: its name"),
        (rebuilt(source={"kind": "local", "files": []}), "other-contents: its source"),
        (rebuilt(derived_from={"artifact_sha256": "0" * 64}), "other-contents: its base"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_was_signed_is_refused_by_name(
    make: MakeAgent, shelf: Shelf, spoil: Spoil, refusal: str
) -> None:
    first = make("first")
    second = make("second", first)
    first.put(first.build())
    spoil(shelf, first)
    taken, notes = second.take(second.conversion())
    assert not taken
    only(notes, "not taken: ", refusal)


def test_a_file_that_was_refused_is_repaired_by_who_makes_it_again(
    make: MakeAgent, shelf: Shelf
) -> None:
    first = make("first")
    second = make("second", first)
    argv = first.build()
    first.put(argv)
    in_weights(lambda data: b"W" + data[1:])(shelf, first)
    command = second.command(second.conversion())
    assert not command.take()
    second.build()
    command._configured["write"] = True  # type: ignore[index]
    command.put()
    assert second.take(argv)[0]


def test_an_older_toolchain_is_refused_and_not_shared(make: MakeAgent, shelf: Shelf) -> None:
    first = make("first")
    old = first.build(toolchain={"numpy": "1.26.4"})
    only(first.put(old), "not shared: other-toolchain: made with numpy 1.26.4, and the lock has")
    assert shelf.names() == []


def test_another_lock_or_option_or_source_is_another_key(
    make: MakeAgent, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make("first")
    second = make("second", first)
    first.put(first.build())
    assert second.take(second.conversion())[0]
    taken, notes = second.take(second.conversion(title="another"))
    assert not taken
    only(notes, "nothing of these inputs is there")
    write_record(second.folder / "source/SOURCE.json", {"kind": "local", "files": []})
    assert not second.take(second.conversion())[0]
    (second.folder / "source/SOURCE.json").unlink()

    lock = tmp_path / "older.lock"
    text = (ROOT / "envs/main.lock").read_text()
    lock.write_text(text.replace("\nnumpy==", "\nnumpy==1."))
    monkeypatch.setattr(modules, "LOCK", lock)
    for cached in (modules.made_with, modules.pinned_toolchain):
        cached.cache_clear()
    taken, notes = second.take(second.conversion())
    for cached in (modules.made_with, modules.pinned_toolchain):
        cached.cache_clear()
    assert not taken
    only(notes, "nothing of these inputs is there")


def test_what_was_made_while_its_inputs_changed_is_not_shared(
    make: MakeAgent, shelf: Shelf
) -> None:
    first = make("first")
    before = key_of(first.build())
    argv = first.conversion(title="another")
    answered = first.asked(argv, "put", key=before, write=True, again=False)
    only(answered["notes"], "not shared: other-inputs")
    assert shelf.names() == []


def test_who_is_not_configured_is_named_and_not_believed(make: MakeAgent) -> None:
    first, third = make("first"), make("third")
    second = make("second", third)
    first.put(first.build())
    taken, notes = second.take(second.conversion())
    assert not taken
    only(notes, "no key of 'cache.keys' signed", first.keyid)


def test_two_builders_that_disagree_are_both_named(make: MakeAgent) -> None:
    first, twin = make("first"), make("twin")
    second = make("second", first, twin)
    first.put(first.build())
    twin.put(twin.build(b"WEIGHTS"))
    taken, notes = second.take(second.conversion())
    assert not taken
    only(notes, "alarm: ", "disagreement", "urn:test:first (key", "urn:test:twin (key")
    # The next to make it says which of the two is wrong.
    notes = second.put(second.build(), write=False)
    only(notes, "alarm: ", "this agent made", "urn:test:twin (key")
    assert not any("urn:test:first" in note for note in notes)


def test_an_alarm_is_in_the_job_log_for_status_to_find(
    make: MakeAgent, capfd: pytest.CaptureFixture[str]
) -> None:
    from phiforge.release.states import States

    first, twin = make("first"), make("twin")
    second = make("second", first, twin)
    first.put(first.build())
    twin.put(twin.build(b"WEIGHTS"))
    capfd.readouterr()
    assert not second.command(second.conversion()).take()
    log = Path("artifacts/logs/convert/phi3-tiny.openvino-fp16.log")
    log.parent.mkdir(parents=True)
    log.write_text(capfd.readouterr().out + "built\n")
    (state,) = States([("phi3-tiny", "openvino-fp16")], Path("artifacts")).variants["phi3-tiny"]
    assert "alarm: cache: " in state.errors[0] and "urn:test:twin" in state.errors[0]


def test_nobody_can_believe_what_no_key_signed(
    make: MakeAgent, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make("first")
    argv = first.build()
    monkeypatch.setattr(first, "private", "")
    only(first.put(argv), "not shared: no-key")
    assert shelf.names() == []


# Commands and the configuration


def test_a_second_build_never_sees_the_cache() -> None:
    assert rebuild._clean({CACHE: "{}", "PATH": "/bin"}) == {"PATH": "/bin"}


def test_a_conversion_is_done_once(
    pipeline: Checkout, tmp_path: Path, shelf: Shelf, make: MakeAgent
) -> None:
    """A real one: three CPU seconds."""
    variant, made = "genai-dml-int4", pipeline.folder / "artifacts"
    first = make("first")
    job = JOBS.convert(Names(variant=variant))
    source = made / "source/phi3-tiny/SOURCE.json"
    base = [str(made / f"build/phi3-tiny/{job.recipe.base}/BUILD.json")] if job.recipe.base else []

    def convert(into: Path, **cache: Any) -> str:
        configured = {"storage": shelf.configured, "builder": "urn:test:agent", **cache}
        variables = {CACHE: json.dumps(configured), keys.RUNNER_KEY: str(first.private)}
        of = ["--source", source, "--base", *base, "--into", into]
        done = run("convert", write_job(tmp_path / "jobs", job), *of, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = convert(tmp_path / "one", write=True)
    assert "built phi3-tiny" in said and "cache: shared: phi3-tiny/genai-dml-int4" in said
    said = convert(tmp_path / "two", keys=[str(first.public)])
    assert (
        "built" not in said
        and "cache: taken: phi3-tiny/genai-dml-int4, made by urn:test:agent" in said
    )
    built = read_record(made / f"build/phi3-tiny/{variant}/BUILD.json")["artifact_sha256"]
    assert verify(tmp_path / "two/payload") == verify(tmp_path / "one/payload") == built
