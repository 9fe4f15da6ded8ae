"""Checks of real artifacts: honest ones pass, broken ones are caught by name, nothing lies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from phiforge.artifact.record import read_record
from phiforge.jobs import Blocked
from support.bench import Bench, copied, reseal
from support.checkout import ROOT
from support.jobs import check_job, command
from support.memory_kills import kill_for_want_of_memory, needs_control_groups
from validators.isolation import run_in_subprocess


def test_a_damaged_payload_is_not_even_opened(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    artifact = copied(built("openvino-int4"), tmp_path)
    config = artifact / "payload/config.json"
    kept = config.read_bytes()

    def reason() -> str:
        receipt = bench.receipt("openvino-int4", "cpu", artifact)
        assert [failure["name"] for failure in receipt["failures"]] == ["damaged-payload"]
        assert receipt["executed_on"] is None
        return str(receipt["reason"])

    config.write_bytes(kept + b" ")
    assert "ARTIFACT/config.json: payload file changed" in reason()
    assert str(tmp_path) not in reason()
    config.unlink()
    assert "config.json: payload file is missing" in reason()
    config.write_bytes(kept)
    (artifact / "payload/extra.bin").write_bytes(b"x")
    assert "extra.bin: payload file is not listed" in reason()


def test_a_model_too_large_for_a_row_fails_with_its_first_layers(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    """What runs instead of it is judged by receipt: here one of a payload that is damaged."""
    damaged, part = copied(built("openvino-int4"), tmp_path), tmp_path / "cpu.json"
    (damaged / "payload/extra.bin").write_bytes(b"x")
    options = bench.arguments(check_job("openvino-int4", "cpu", gates={}), damaged, part)
    subprocess.run(command("check-here", *options), cwd=ROOT, check=True)
    _, receipt = bench.check(
        "openvino-int4",
        "cpu",
        built("openvino-int4").parent,
        *("--first-layers", str(part)),
        blocked=Blocked("too slow", "a device"),
    )
    assert receipt is not None
    assert receipt["verdict"] == "failed"
    assert [failure["name"] for failure in receipt["failures"]] == ["first-layers"]
    assert "phi3-tiny/openvino-int4/cpu: damaged-payload" in receipt["reason"]


def test_an_artifact_that_its_runtime_refuses_fails(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    artifact = copied(built("genai-dml-int4"), tmp_path)
    config = artifact / "payload/genai_config.json"
    config.write_text(config.read_text().replace('"type": "phi3"', '"type": "phi333"'))
    reseal(artifact / "payload")
    elsewhere = replace(bench, source=None)  # the lint would name it
    assert elsewhere.failures("genai-dml-int4", "dml-standin", artifact) == ["runtime-error"]


def test_a_runtimes_own_words_name_no_folder_of_this_machine(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    payload = copied(built("openvino-fp16"), tmp_path) / "payload"
    (payload / "openvino_tokenizer.xml").write_text("<net")
    seen = run_in_subprocess(
        payload, "openvino", {"device": "CPU"}, bench.reference, bench.golden, time_limit_s=120
    )
    assert seen.failure is not None and seen.failure.name == "runtime-error"
    assert "ARTIFACT/openvino_tokenizer.xml" in seen.failure.what
    assert str(tmp_path) not in seen.failure.what and str(ROOT) not in seen.failure.what


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_runtime_that_dies_leaves_a_receipt_that_names_its_death(
    bench: Bench, built: Callable[[str], Path], number: signal.Signals, tmp_path: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    with checking(bench, built("openvino-fp16").parent, receipt) as (check, worker):
        worker.send_signal(number)
        assert check.wait(60) == 0
    said = read_record(receipt)
    assert [failure["name"] for failure in said["failures"]] == ["runtime-crashed"]
    assert number.name in said["reason"]
    assert "openvino" in said["toolchain"]


@needs_control_groups
def test_what_dies_while_the_kernel_kills_for_want_of_memory_is_no_verdict(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    with checking(bench, built("openvino-fp16").parent, receipt) as (check, worker):
        kill_for_want_of_memory()
        worker.send_signal(signal.SIGKILL)
        assert check.wait(60) == 1
    assert (
        receipt.with_suffix(".log")
        .read_text()
        .startswith(
            "error: the kernel killed for want of memory during the check of openvino-fp16 on cpu, "
            "which is no verdict. Remedy: give the job more memory"
        )
    )
    assert not receipt.exists()


@needs_control_groups
def test_what_the_lint_finds_stands_though_the_kernel_kills_a_neighbour(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    artifact = copied(built("openvino-fp16"), tmp_path)
    (artifact / "payload/config.json").write_text("{}")
    golden, receipt = tmp_path / "golden.yaml", tmp_path / "receipt.json"
    os.mkfifo(golden)
    waiting = replace(bench, golden=golden)
    job = check_job("openvino-fp16", "cpu")
    begin = command("check-here", *waiting.arguments(job, artifact, receipt))
    check = subprocess.Popen(begin, cwd=ROOT)
    with golden.open("wb") as asked:  # it is at work once it reads
        kill_for_want_of_memory()
        asked.write(bench.golden.read_bytes())
    assert check.wait(60) == 0
    assert [one["name"] for one in read_record(receipt)["failures"]] == ["damaged-payload"]


def test_a_killed_check_takes_its_runtime_with_it(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    with checking(bench, built("openvino-fp16").parent, tmp_path / "receipt.json") as pair:
        check, worker = pair
        check.kill()
        check.wait(10)
        worker.wait(10)
    assert not (tmp_path / "receipt.json").exists()


@contextmanager
def checking(
    bench: Bench, artifact: Path, receipt: Path
) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """A running check on the row cpu, and its child once that has reported what it does."""
    job = check_job("openvino-fp16", "cpu")
    begin = command("check-here", *bench.arguments(job, artifact, receipt))
    with receipt.with_suffix(".log").open("w") as log:
        check = subprocess.Popen(begin, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log)
    try:
        yield check, worker_of(check)
    finally:
        check.kill()
        check.wait()


def worker_of(check: subprocess.Popen[bytes]) -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and check.poll() is None:
        for child in psutil.Process(check.pid).children():
            job = Path(child.cmdline()[-1]) if child.cmdline() else Path()
            if job.with_name("DOING").is_file():
                return child
        time.sleep(0.01)
    raise AssertionError("the check never opened its artifact")


def test_a_runtime_that_hangs_is_ended(bench: Bench, built: Callable[[str], Path]) -> None:
    artifact = built("openvino-fp16").parent
    found = bench.failures("openvino-fp16", "cpu", artifact, "--time-limit-s", "0.2")
    assert found == ["runtime-timeout"]


def test_a_blocked_row_loads_no_runtime(bench: Bench, built: Callable[[str], Path]) -> None:
    receipt = bench.folder / "blocked.json"
    artifact = built("openvino-int4-npu").parent
    blocked = Blocked("no Intel NPU here", "run it where one is")
    job = check_job("openvino-int4-npu", "npu-4000", blocked=blocked)
    arguments = ["check-here", *bench.arguments(job, artifact, receipt)]
    code = (
        "import contextlib, sys; from phiforge.cli import main\n"
        f"with contextlib.suppress(SystemExit): main({arguments!r})\n"
        "print(*sorted(set(sys.modules) & {'torch', 'transformers', 'openvino', "
        "'openvino_genai', 'onnxruntime', 'onnxruntime_genai', 'onnx', 'optimum', 'nncf'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1:] == [""]
    said = read_record(receipt)
    assert (said["verdict"], said["reason"]) == ("blocked", "no Intel NPU here")
    assert said["artifact_sha256"] == read_record(artifact / "BUILD.json")["artifact_sha256"]


def row(runtime: str, **settings: str) -> dict[str, Any]:
    """Change the row of a check."""
    configured = check_job("openvino-int4", "cpu").row
    return {"row": replace(configured, runtime=runtime, settings=settings)}


@pytest.mark.parametrize(
    ("extra", "changes", "line"),
    [
        ((), row("openvino", devise="CPU"), "unknown setting 'devise'"),
        ((), row("absent"), "runtime 'absent' cannot be imported"),
        ((), row("openvino_npu", npuw_devices="NPU,CPU"), "would hide which device ran"),
        ((), {"synthetic": True}, "disagree on --synthetic"),
        (("--golden", str(ROOT / "config/golden/phi-3.yaml")), {}, "answered other golden prompts"),
    ],
    ids=["setting", "runtime", "fall-back", "synthetic", "golden"],
)
def test_where_no_verdict_can_be_given_there_is_no_receipt(
    bench: Bench,
    built: Callable[[str], Path],
    extra: tuple[str, ...],
    changes: dict[str, Any],
    line: str,
) -> None:
    artifact = built("openvino-int4").parent
    done, receipt = bench.check("openvino-int4", "cpu", artifact, *extra, **changes)
    assert done.returncode != 0
    assert receipt is None
    assert line in done.stderr
    assert "Traceback" not in done.stderr
