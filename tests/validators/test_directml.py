"""Microsoft's DirectML on this CPU: what it alone sees, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from onnx import ModelProto

from phiforge import environment
from phiforge.artifact.record import read_record
from phiforge.receipts.receipt import CheckResult
from phiforge.receipts.signed_receipt import read_signed
from phiforge.settings.limits import declared_limits
from support.bench import Bench, copied
from support.checkout import ROOT, Checkout
from support.directml_graphs import (
    double_product,
    edited,
    float16_zero_points,
    group_indices,
    newer_opset,
    rotary_in_attention,
)
from support.small_disk import small_disk
from validators.acceptance import load_gates
from validators.contract import ArtifactError, CheckError
from validators.directml_process import DirectmlProcess
from validators.evaluation import evaluate
from validators.golden import load_golden
from validators.isolation import run_in_subprocess
from validators.reference_tree import load_reference

needs_directml = pytest.mark.skipif(
    environment.installed_tree("directml") is None, reason="needs `make directml`"
)

PROMPT = (1, 450, 1000, 310, 444, 338)
ROWS = {
    "dml-software": ("onnx_genai_directml", {"answer_tokens": 13}, "DML"),
    "dml-software, earlier": ("onnx_genai_directml", {"answer_tokens": 13, "earlier": True}, "DML"),
    "dml-standin": ("onnx_genai", {"provider": "cpu"}, "CPU"),
}


@pytest.fixture(scope="module")
def int4(built: Callable[[str], Path]) -> Path:
    return built("genai-dml-int4")


def ran(bench: Bench, row: str, payload: Path) -> CheckResult:
    """What a check says after lint, which refuses most of these graphs unseen."""
    module, settings, executor = ROWS[row]
    reference, golden = load_reference(bench.reference), load_golden(bench.golden)
    limits = declared_limits({"execution_provider": "dml"}, settings)
    run = run_in_subprocess(
        payload, module, settings, bench.reference, bench.golden, time_limit_s=600, limits=limits
    )
    gates = load_gates(ROOT / "config/acceptance.yaml", "int4", {}, {})
    return evaluate(run, reference, golden, precision="int4", executor=executor, gates=gates)


@needs_directml
@pytest.mark.parametrize(
    ("edit", "graph_capture", "expected"),
    [
        (float16_zero_points, True, {"mean-kl"}),
        (rotary_in_attention, True, {"mean-kl"}),
        (group_indices, True, {"directml-refused"}),
        (newer_opset, True, {"directml-refused"}),
        (double_product, False, {"fell-back"}),
    ],
    ids=["float16 zero points", "rotary in attention", "g_idx", "opset 23", "CPU fallback"],
)
def test_what_directml_does_otherwise_fails_there_and_passes_on_the_cpu(
    bench: Bench,
    int4: Path,
    tmp_path: Path,
    edit: Callable[[ModelProto], None],
    graph_capture: bool,
    expected: set[str],
) -> None:
    payload = copied(int4, tmp_path) / "payload"
    edited(payload, edit, graph_capture)
    assert ran(bench, "dml-standin", payload).failures == ()
    found = ran(bench, "dml-software", payload).failures
    assert expected <= {failure.name for failure in found}, found


@needs_directml
def test_the_last_release_before_the_wheel_of_today_runs_the_same_build(
    bench: Bench, int4: Path
) -> None:
    result = ran(bench, "dml-software, earlier", int4)
    assert result.failures == ()
    assert result.metrics is not None


@needs_directml
@pytest.mark.parametrize("variant", ["genai-dml-int4", "genai-dml-fp16"])
def test_the_pipeline_checks_each_build_there_and_its_index_says_so(
    pipeline: Checkout, variant: str
) -> None:
    receipt = read_signed(
        pipeline.folder / f"artifacts/checks/phi3-tiny/{variant}/dml-software.json"
    )
    assert (receipt.verdict, receipt.runtime) == ("passed", "onnx_genai_directml"), receipt.reason
    assert receipt.metrics is not None and receipt.executed_on is not None
    assert (receipt.kind, receipt.stands_for) == ("standin", ("dml",))
    assert receipt.executed_on.device == "DML"
    assert "software adapter llvmpipe" in receipt.executed_on.how
    assert receipt.executed_on.details["directml"].startswith("1.15.")
    assert "DmlFusedNode" in receipt.executed_on.details["profile"]["DmlExecutionProvider"]
    left_out = {one.id: one.not_run for one in receipt.golden if one.not_run}
    assert left_out["guide-introduction"] == "its answer has 52 tokens, this row answers up to 13"
    assert 2 * len(left_out) <= len(receipt.golden)
    index = read_record(pipeline.release() / "index.json")
    [indexed] = [one for one in index["variants"] if one["variant"] == variant]
    rows = {one["row"]: one for one in indexed["receipts"]}
    for row in ("dml-software", "dml-standin"):
        assert rows[row]["fidelity"]["mean_kl"] < 0.01, rows[row]
    assert rows["dml-software"]["fidelity"]["mean_kl"] == receipt.metrics.mean_kl


@needs_directml
def test_where_a_model_is_too_slow_its_first_layers_are_checked(copy: Checkout) -> None:
    devices = copy.folder / "config/devices.yaml"
    text = devices.read_text(encoding="utf-8")
    changed = text.replace("parameters: 1.0e+8\n  layers: 2", "parameters: 1.0e+6\n  layers: 1")
    assert changed != text
    devices.write_text(changed, encoding="utf-8")
    checks = copy.folder / "artifacts/checks"
    wanted = checks / "phi3-tiny/genai-dml-fp16/dml-software.json"
    copy.snakemake("--cores", "2", str(wanted.relative_to(copy.folder)))
    part = read_signed(checks / "phi3-tiny-1-layers/genai-dml-fp16/dml-software.json")
    assert (part.verdict, part.synthetic) == ("passed", True), part.reason
    assert part.metrics is not None and part.metrics.mean_kl < 1e-4
    assert all(one.answer is not None and one.passed is None for one in part.golden)
    whole = read_signed(wanted)
    assert whole.verdict == "blocked"
    assert "too slow for 11 million parameters" in whole.reason
    assert f"phi3-tiny-1-layers, built alike, ran there: mean KL {part.metrics.mean_kl:.2g}" in (
        whole.reason
    )


@needs_directml
def test_a_build_for_the_cpu_is_not_directml_s(bench: Bench, int4: Path, tmp_path: Path) -> None:
    payload = copied(int4, tmp_path) / "payload"
    config = payload / "genai_config.json"
    document = json.loads(config.read_text(encoding="utf-8"))
    document["model"]["decoder"]["session_options"]["provider_options"] = []
    config.write_text(json.dumps(document), encoding="utf-8")
    found = ran(bench, "dml-software", payload).failures
    assert {"wrong-device", "unproven-device"} <= {failure.name for failure in found}


@pytest.fixture
def process(
    int4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DirectmlProcess]:
    monkeypatch.chdir(tmp_path)
    found = DirectmlProcess(int4, job_limit_s=120)
    yield found
    found.end()


def inside(name: str) -> list[psutil.Process]:
    """This test's processes of that name in the tree."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if name in child.name()]


def left_behind(jobs: Path) -> list[str]:
    """Processes and mounts that name a folder of jobs."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    found = [line for line in mounts.splitlines() if ".directml" in line or str(jobs) in line]
    for one in psutil.process_iter(["cmdline"]):
        command = " ".join(one.info["cmdline"] or ())
        found += [command] if str(jobs) in command else []
    return found


@needs_directml
@pytest.mark.parametrize("victim", ["runner.exe", "wineserver"])
def test_a_killed_runner_or_wine_server_is_named_and_leaves_nothing(
    process: DirectmlProcess, victim: str
) -> None:
    process.ask("open")
    for one in inside(victim):
        one.kill()
    with pytest.raises(ArtifactError) as caught:
        process.ask("generate", " ".join(map(str, PROMPT)), "8")
    assert caught.value.name == "runtime-crashed"
    assert not left_behind(process.jobs)


@needs_directml
def test_a_hanging_shader_compiler_is_named(
    int4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hangs is the process that compiles; it is stopped here."""
    monkeypatch.chdir(tmp_path)
    process = DirectmlProcess(int4, job_limit_s=60)
    process.ask("open")
    process._job_limit_s = 3
    for one in inside("runner.exe"):
        one.suspend()
    with pytest.raises(ArtifactError) as caught:
        process.ask("generate", " ".join(map(str, PROMPT)), "8")
    assert caught.value.name == "runtime-timeout"
    assert not left_behind(process.jobs)


@needs_directml
def test_a_killed_check_leaves_nothing_running_or_mounted(int4: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from validators.directml_process import DirectmlProcess\n"
        f"process = DirectmlProcess(Path({str(int4)!r}), 120)\n"
        "process.ask('open')\nprint(process.jobs, flush=True)\ntime.sleep(600)\n"
    )
    check = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert check.stdout is not None
    jobs = Path(check.stdout.readline().strip())
    runners = inside("runner.exe") + inside("wineserver")
    assert len(runners) == 2
    check.send_signal(signal.SIGKILL)
    check.wait()
    _, alive = psutil.wait_procs(runners, timeout=20)
    assert not alive
    assert not left_behind(jobs)


@needs_directml
def test_two_at_once_answer_alike(
    int4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    both = [DirectmlProcess(int4, job_limit_s=300) for _ in range(2)]
    answers = []
    for process in both:
        process.ask("open")
    for process in both:
        ids, *_ = process.ask("generate", " ".join(map(str, PROMPT)), "4")
        answers.append(ids)
        process.end()
    assert answers[0] == answers[1] != ""


@needs_directml
def test_a_full_disk_is_no_verdict(
    int4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        monkeypatch.chdir(disk)
        process = DirectmlProcess(int4, job_limit_s=120)
        process.ask("open")
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 3 * 4096))
        positions = " ".join(map(str, range(len(PROMPT))))
        with pytest.raises(CheckError, match="make room"):
            process.ask("score", " ".join(map(str, PROMPT)), positions)
        monkeypatch.chdir(tmp_path)
