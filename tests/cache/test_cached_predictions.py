"""What a build's own weights predict is taken for a check on this machine's own device."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from phiforge.artifact.origin import PREDICTIONS_TAKEN
from phiforge.artifact.record import read_record, write_record
from phiforge.cache import CACHE, PAYLOADS
from phiforge.cache.key import Predict, read_shared_job
from phiforge.cache.work import Work, read_work
from phiforge.release.provenance import taken_from_cache
from phiforge.trust import keys
from support.agents import Agent, CheckedVariant, MakeAgent, Shelf, only
from support.checkout import ROOT, Checkout
from support.jobs import JOBS, Names, run, write_job
from validators.predictions import RECORD, SCORES, alone, write_facts


@pytest.fixture
def checked(tmp_path: Path) -> CheckedVariant:
    variant = CheckedVariant(tmp_path / "artifacts/work")
    write_record(variant.folder / "source/files/config.json", {"model_type": "phi3"})
    return variant


def ask(checked: CheckedVariant, into: Path, row: str = "cpu") -> list[str]:
    return [*checked.check(row), "--predictions", str(into)]


def predict(argv: list[str], scores: bytes = b"scores") -> None:
    """Make what the check would make."""
    work = read_work(argv)
    assert work is not None and work.tree is not None
    job = read_shared_job(work)
    assert isinstance(job, Predict)
    work.tree.mkdir(parents=True, exist_ok=True)
    (work.tree / SCORES).write_bytes(scores)
    write_facts(work.tree, job.basis)


def shared(make: MakeAgent, checked: CheckedVariant, into: Path) -> tuple[Agent, Agent, list[str]]:
    """An agent that has shared predictions, one that believes it, and the first one's command."""
    first = make("first")
    argv = ask(checked, into)
    predict(argv)
    first.put(argv)
    return first, make("second", first), argv


def test_predictions_are_taken_and_the_check_goes_on(
    make: MakeAgent, checked: CheckedVariant, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, into = make("first"), tmp_path / "artifacts/predictions/phi3-tiny/openvino-int4"
    second = make("second", first)
    argv = ask(checked, tmp_path / "one")
    predict(argv)
    only(first.put(argv), "shared: phi3-tiny/openvino-int4/predictions")
    taker = second.command(ask(checked, into))
    assert not taker.take()  # the device itself has said nothing
    assert (into / SCORES).read_bytes() == b"scores"
    assert read_record(into / "PREDICTIONS.cached")["builder"] == "urn:test:first"
    taker.put()
    said = capfd.readouterr().out
    assert "cache: taken: phi3-tiny/openvino-int4/predictions, made by urn:test:first" in said
    assert "shared" not in said
    # Another row of the artifact finds them, asks for nothing and shares nothing of others'.
    assert second.asked(ask(checked, into), "take", scratch="unused") == {"notes": []}
    assert second.put(ask(checked, into)) == []
    release = dict(read_record(checked.build.parent / "BUILD.json")) | {"model": "phi3-tiny"}
    receipt = checked.passed("cpu", lint=[{"name": PREDICTIONS_TAKEN, "what": "by another"}])
    path = tmp_path / "artifacts/checks/phi3-tiny/openvino-int4/cpu.json"
    (named,) = taken_from_cache(release, {path: receipt})
    assert named["name"] == "cache/predictions/phi3-tiny/openvino-int4/PREDICTIONS.json"
    assert named["annotations"]["builder"] == "urn:test:first"
    assert list(taken_from_cache(release, {path: {**receipt, "lint": []}})) == []


def test_who_takes_waits_for_a_row_that_computes_them(
    make: MakeAgent, checked: CheckedVariant, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ask(checked, tmp_path / "kept")
    taker = make("first").command(argv)
    with alone(tmp_path / "kept"):
        waiting = threading.Thread(target=taker.take)
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
        predict(argv)
    waiting.join()
    assert "cache: " not in capfd.readouterr().out  # nobody was asked


@pytest.mark.parametrize(
    ("edit", "refusal"),
    [
        (lambda data: data + b"!", "truncated-file"),
        (lambda data: b"S" + data[1:], "changed-file"),
    ],
    ids=["longer", "changed"],
)
def test_changed_predictions_are_refused(
    make: MakeAgent,
    checked: CheckedVariant,
    shelf: Shelf,
    tmp_path: Path,
    edit: Any,
    refusal: str,
) -> None:
    _, second, _ = shared(make, checked, tmp_path / "one")
    (name,) = [one for one in shelf.names() if shelf.read(one) == b"scores"]
    shelf.write(name, edit(shelf.read(name)))
    taken, notes = second.take(ask(checked, tmp_path / "two"))
    assert not taken
    only(notes, "not taken: ", refusal)


def test_predictions_of_another_build_or_reference_are_not_found(
    make: MakeAgent, checked: CheckedVariant, tmp_path: Path
) -> None:
    first, second, argv = shared(make, checked, tmp_path / "one")
    reference = checked.folder / "REFERENCE.json"
    write_record(reference, {**read_record(reference), "sliding_window": 7})
    taken, notes = second.take(ask(checked, tmp_path / "two"))
    assert not taken
    only(notes, "nothing of these inputs is there")
    # What was made of other inputs is not shared under the new key either.
    assert first.put(argv) == []


def test_nothing_is_asked_for_where_nobody_would_read_it(
    checked: CheckedVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_work(checked.check("cpu")) is None  # a kit
    argv = ask(checked, tmp_path / "one")
    assert isinstance(read_work(argv), Work)
    monkeypatch.setenv(PAYLOADS, json.dumps({"url": "s3://jobs"}))
    assert read_work(argv) is None
    standin = read_work(ask(checked, tmp_path / "one", row="npu-standin"))
    assert standin is not None and standin.rule == "check"


def test_a_device_check_computes_no_predictions_that_another_agent_has(
    pipeline: Checkout, tmp_path: Path, shelf: Shelf, make: MakeAgent
) -> None:
    """A real one, as rule check runs it."""
    first, variant = make("first"), "openvino-fp16"
    made = pipeline.folder / "artifacts"
    job = write_job(tmp_path / "jobs", JOBS.check(Names(variant=variant, device="cpu")))

    def check(agent: Agent, name: str, **cache: Any) -> tuple[str, dict[str, Any]]:
        configured = {"storage": shelf.configured, "builder": agent.name, **cache}
        receipt = tmp_path / name / "cpu.json"
        done = run(
            "check", job, "--artifact", made / f"build/phi3-tiny/{variant}",
            "--source", ROOT / "models/phi3-tiny", "--reference", made / "reference/phi3-tiny",
            "--golden", ROOT / "models/phi3-tiny/golden.yaml",
            "--acceptance", ROOT / "config/acceptance.yaml",
            "--predictions", tmp_path / name / "predictions", "--receipt", receipt,
            **{CACHE: json.dumps(configured), keys.RUNNER_KEY: str(agent.private)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, read_record(receipt)

    said, ours = check(first, "one", write=True)
    assert f"cache: shared: phi3-tiny/{variant}/predictions" in said
    said, theirs = check(make("second", first), "two", keys=[str(first.public)])
    assert f"cache: taken: phi3-tiny/{variant}/predictions, made by urn:test:first" in said
    assert (tmp_path / "two/predictions/PREDICTIONS.cached").is_file()
    assert PREDICTIONS_TAKEN in [note["name"] for note in theirs["lint"]]
    assert theirs["verdict"] == ours["verdict"] == "passed"
    assert theirs["metrics"]["execution_kl"] == pytest.approx(ours["metrics"]["execution_kl"])
    assert (tmp_path / "two/predictions" / RECORD).read_bytes() == (
        tmp_path / "one/predictions" / RECORD
    ).read_bytes()
