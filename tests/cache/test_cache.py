"""Agents share what they make; what is not signed, not whole or not theirs costs time only."""

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
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
    CheckedVariant,
    MakeAgent,
    Shelf,
    bucket,
    key_of,
    only,
    statement_in,
)
from support.checkout import ROOT, Checkout
from support.jobs import JOBS, Names, run, write_job
from support.small_disk import small_disk


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


# Receipts


@pytest.fixture
def checked(tmp_path: Path) -> CheckedVariant:
    return CheckedVariant(tmp_path / "artifacts/work")


def test_a_standin_receipt_is_taken_and_the_gate_accepts_it(
    make: MakeAgent, checked: CheckedVariant
) -> None:
    first = make("first")
    second = make("second", first)
    signer = keys.load_private(first.private)
    checked.name_key("npu-standin", signer)  # the row's key, as a lab would name it
    checked.sign_standin(signer)
    only(first.put(checked.check()), "shared: phi3-tiny/openvino-int4/npu-standin")
    receipt = checked.receipt("npu-standin")
    bytes_then = receipt.read_bytes()
    for file in receipt.parent.glob("npu-standin.*"):
        file.unlink()
    assert second.command(checked.check(key=first.public)).take()
    assert receipt.read_bytes() == bytes_then
    release = checked.release()
    held = statement_in((release / "evidence/provenance.dsse.json").read_bytes())
    taken = {one["name"]: one for one in held["predicate"]["buildDefinition"]
             ["resolvedDependencies"] if one["name"].startswith("cache/")}  # fmt: skip
    described = taken["cache/checks/phi3-tiny/openvino-int4/npu-standin.json"]
    assert described["annotations"]["builder"] == "urn:test:first"
    assert described["annotations"]["keyid"] == first.keyid
    # A check that runs here makes another receipt, of which the note says nothing.
    checked.sign_standin(signer, validated_tokens=13)
    release = checked.release(into=checked.folder / "again")
    assert (
        b"cache/checks"
        not in json.dumps(
            statement_in((release / "evidence/provenance.dsse.json").read_bytes())
        ).encode()
    )


def test_a_receipt_by_another_key_than_its_row_names_is_not_taken(
    make: MakeAgent, checked: CheckedVariant
) -> None:
    first, third = make("first"), make("third")
    second = make("second", first)
    checked.sign_standin(keys.load_private(first.private))
    first.put(checked.check())
    answered = second.asked(checked.check(key=third.public), "take", scratch=None)
    assert "records" not in answered
    only(answered["notes"], "not taken: ", "wrong-key")


def test_a_receipt_by_a_key_that_is_not_configured_is_not_taken(
    make: MakeAgent, checked: CheckedVariant
) -> None:
    first = make("first")
    second = make("second", first)
    checked.sign_standin(keys.ephemeral())  # the entry is the first agent's, the receipt is not
    first.put(checked.check())
    answered = second.asked(checked.check(), "take", scratch=None)
    assert "records" not in answered
    only(answered["notes"], "not taken: ", "wrong-key")


def test_a_failed_receipt_is_not_shared(make: MakeAgent, checked: CheckedVariant) -> None:
    first = make("first")
    failures = [{"name": "not-finite", "what": "nan", "prompt": None}]
    signer = keys.load_private(first.private)
    checked.sign_standin(signer, verdict="failed", failures=failures, reason="nan")
    only(first.put(checked.check()), "not shared: ", "not-passed")


def test_a_receipt_of_other_code_is_stale(make: MakeAgent, checked: CheckedVariant) -> None:
    first = make("first")
    second = make("second", first)
    signer = keys.load_private(first.private)
    checked.sign_standin(signer, validator_sha256="0" * 64)
    first.put(checked.check())
    answered = second.asked(checked.check(), "take", scratch=None)
    assert "records" not in answered
    only(answered["notes"], "stale-receipt")


def test_device_rows_are_never_asked_for(make: MakeAgent, checked: CheckedVariant) -> None:
    first = make("first")
    answered = first.asked(checked.check("cpu"), "take", scratch=None)
    assert answered == {"notes": []}


# A storage that does not do its part


@pytest.fixture
def silent() -> Iterator[tuple[int, list[socket.socket]]]:
    """A port where connections are taken and nothing is ever said; those connections."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hold() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
            except OSError:
                pass

        threading.Thread(target=hold, daemon=True).start()
        yield server.getsockname()[1], held
        for one in held:
            one.close()


def test_a_silent_storage_costs_its_time_limit_once(
    make: MakeAgent,
    silent: tuple[int, list[socket.socket]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    port, connections = silent
    first = make("first")
    options = {"endpoint_url": f"http://127.0.0.1:{port}", "region": "us-east-1"}
    storage = {"url": "s3://bucket/shared", "options": options}
    second = make("second", first, storage=storage, time_limit_s=2)
    command = second.command(second.conversion())
    started = time.monotonic()
    assert not command.take()
    assert time.monotonic() - started < 60
    assert "cache: out of order: no answer in 2 s" in capfd.readouterr().out
    asked = len(connections)
    assert not second.command(second.conversion()).take()  # the next job does not wait
    assert len(connections) == asked
    assert "not asked, it was out of order" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("storage", "why"),
    [
        ({"url": "s4://bucket"}, "Protocol not known: s4"),
        ({"url": "sftp://me:s3cret@host/x"}, "cache.storage: the password in a URL is a secret"),
        ({"url": "s3://bucket", "options": {"endpoint_url": "http://127.0.0.1:9", "region": "eu",
                                            "retries": 1}}, "Could not connect"),
    ],
)  # fmt: skip
def test_a_broken_storage_is_named_and_the_job_goes_on(
    make: MakeAgent, storage: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    second = make("second", make("first"), storage=storage)
    answered = second.asked(second.conversion(), "take", scratch=None)
    assert answered["broken"]
    only(answered["notes"], "out of order: ", why)


def test_a_full_storage_leaves_nothing_half(make: MakeAgent, tmp_path: Path) -> None:
    with small_disk(tmp_path / "full", 1) as disk:
        first = make("first", storage={"url": str(disk / "shared")})
        argv = first.build(b"w" * 2_000_000)
        answered = first.asked(argv, "put", key=key_of(argv), write=True, again=False)
        assert answered["broken"]
        only(answered["notes"], "out of order: ", "No space left on device")
        shared = Shelf(disk / "shared")
        assert not [name for name in shared.names() if not name.startswith("files/")]
        assert not [name for name in shared.names() if "partial" in name]


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
