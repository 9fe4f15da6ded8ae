"""OpenVINO's GPU plugin on a software OpenCL: what it sees, what each shim is for, how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import psutil
import pytest
from openvino import opset14 as ops

from phiforge import environment
from phiforge.artifact.payload_files import OPENVINO_IR
from phiforge.jobs import Limits
from phiforge.receipts.receipt import CheckResult
from phiforge.settings.limits import declared_limits
from support.bench import Bench, copied
from support.checkout import ROOT
from support.small_disk import small_disk
from validators import intel_gpu_tree, isolation
from validators.acceptance import load_gates
from validators.contract import CheckError
from validators.evaluation import evaluate
from validators.golden import load_golden
from validators.intel_gpu_tree import command_in_tree
from validators.isolation import run_in_subprocess
from validators.reference_tree import load_reference
from validators.runtimes.openvino import GUIDE

needs_intel_gpu = pytest.mark.skipif(
    environment.installed_tree("intel-gpu") is None, reason="needs `make intel-gpu`"
)

PRELUDE = ROOT / "envs/intel_gpu/prelude.cl"
OPERATORS = ROOT / "tests/support/gpu_operators.py"
DIVERGING = ROOT / "tests/support/diverging_sub_groups.py"
SHORT = Limits(answer_tokens=13)
ROWS: Mapping[str, tuple[str, dict[str, Any], str | None, str]] = {
    "gpu-software": ("openvino_gpu_software", {}, "intel-gpu", "GPU"),
    "cpu": ("openvino", {"device": "CPU"}, None, "CPU"),
}


@pytest.fixture(scope="module")
def fp16(built: Callable[[str], Path]) -> Path:
    return built("openvino-fp16")


def ran(bench: Bench, row: str, payload: Path) -> CheckResult:
    """What a check says after lint, which refuses an edited graph unseen."""
    module, settings, tree, executor = ROWS[row]
    run = run_in_subprocess(
        payload, module, settings, bench.reference, bench.golden, time_limit_s=900,
        limits=SHORT, environment=tree,
    )  # fmt: skip
    gates = load_gates(ROOT / "config/acceptance.yaml", "fp16", {}, {})
    reference, golden = load_reference(bench.reference), load_golden(bench.golden)
    return evaluate(run, reference, golden, precision="fp16", executor=executor, gates=gates)


def names(result: CheckResult) -> set[str]:
    return {failure.name for failure in result.failures}


@needs_intel_gpu
def test_the_plugin_computes_as_float32_and_the_receipt_says_on_what(
    bench: Bench, fp16: Path
) -> None:
    limits = declared_limits({}, {"prompt_tokens": 11, "answer_tokens": 13})
    receipt = bench.receipt("openvino-fp16", "gpu-software", fp16.parent, limits=limits)
    [left_out] = [one["not_run"] for one in receipt["golden"] if one["not_run"]]
    assert left_out == "19 tokens, this row takes prompts of up to 11"
    assert receipt["verdict"] == "passed", receipt["reason"]
    assert (receipt["kind"], receipt["stands_for"]) == ("standin", ["gpu"])
    assert receipt["metrics"]["execution_kl"] < 1e-10
    ran_on = receipt["executed_on"]
    assert ran_on["device"] == "GPU"
    for said in ("PoCL 6.0", "arch=v12.0.0", "phiforge's layer", "float32 is pinned"):
        assert said in ran_on["how"]
    assert ran_on["pinned"]["INFERENCE_PRECISION_HINT"] == "f32"
    assert ran_on["pinned"]["ATTENTION_BACKEND"] == "SDPA"
    assert ran_on["details"]["ov_config"] == GUIDE
    assert ran_on["details"]["software"] is True
    assert receipt["performance"]["numerics"] == "pinned"
    assert receipt["toolchain"]["pocl"].startswith("6.0-")
    [answered, scored] = [
        proof for proof in ran_on["proof"] if proof["what"].startswith("counters of the device")
    ]
    assert "kernels that PoCL was given rose by" in answered["observed"]
    assert "kernels that PoCL was given rose by" in scored["observed"]
    assert (ROOT / ".intel-gpu/kernels.zip").is_file()


@needs_intel_gpu
def test_an_operator_that_the_plugin_refuses_fails_there_and_passes_on_the_cpu(
    bench: Bench, fp16: Path, tmp_path: Path
) -> None:
    payload = copied(fp16, tmp_path) / "payload"
    add_inverse(payload)
    assert names(ran(bench, "cpu", payload)) == set()
    [failure] = ran(bench, "gpu-software", payload).failures
    assert failure.name == "runtime-error"
    assert "Inverse" in failure.what
    assert "is not supported" in failure.what


def add_inverse(payload: Path) -> None:
    """Multiply the logits by the inverse of the matrix [1], which cannot be folded."""
    model = openvino.Core().read_model(payload / OPENVINO_IR)
    result = model.get_results()[0]
    logits = result.input_value(0)
    zero = ops.multiply(ops.reduce_max(logits, ops.constant([0, 1, 2])), np.float32(0))
    one = ops.inverse(ops.reshape(ops.add(zero, np.float32(1)), ops.constant([1, 1]), False))
    scaled = ops.multiply(logits, one)
    scaled.output(0).set_names(logits.get_names())
    result.input(0).replace_source_output(scaled.output(0))
    openvino.save_model(model, payload / "edited.xml", compress_to_fp16=False)
    del model, logits, result
    for kind in ("xml", "bin"):
        (payload / f"edited.{kind}").replace((payload / OPENVINO_IR).with_suffix(f".{kind}"))


@needs_intel_gpu
def test_a_kernel_that_computes_wrong_fails_there_and_passes_on_the_cpu(
    bench: Bench, fp16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PRELUDE.read_text(encoding="utf-8")
    wrong = text.replace("return powr(fabs(x), y);", "return powr(fabs(x), y) * (T)0.5;")
    assert wrong != text
    in_tree(monkeypatch, PHIFORGE_PRELUDE=written(tmp_path / "wrong.cl", wrong))
    assert "mean-kl" in names(ran(bench, "gpu-software", fp16))
    assert names(ran(bench, "cpu", fp16)) == set()


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def in_tree(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Let checks in the tree have these variables, and read the files that they name."""

    def command(arguments: Any, read: Any, write: Path, given: Mapping[str, str]) -> list[str]:
        folders = [*read, *(Path(value).parent for value in variables.values())]
        return command_in_tree(arguments, folders, write, {**given, **variables})

    monkeypatch.setattr(isolation, "command_in_tree", command)


def operator(
    name: str | Path, folder: Path, *properties: str, **variables: str
) -> tuple[dict[str, Any], str]:
    """What `gpu_operators` says of an operator or a payload, and the watch over its buffers."""
    read = [name] if isinstance(name, Path) else []
    done = subprocess.run(
        command_in_tree([str(OPERATORS), str(name), *properties], read, folder, variables),
        capture_output=True,
        text=True,
        check=True,
    )
    watched = [line for line in done.stderr.splitlines() if line.startswith("watch: ")]
    return json.loads(done.stdout), "\n".join(watched)


@needs_intel_gpu
def test_what_the_prelude_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHIFORGE_WATCH", "1")
    text = PRELUDE.read_text(encoding="utf-8")
    parts = text.split("#undef native_powr")
    without = {
        "softmax": parts[0].split("#undef get_sub_group_size")[0] + "#undef native_powr" + parts[1],
        "norm": parts[0],
    }
    for name, changed in without.items():
        right, quiet = operator(name, tmp_path)
        assert right["error"] < 1e-6
        assert quiet == ""
        file = written(tmp_path / f"{name}.cl", changed)
        wrong, watched = operator(name, tmp_path, PHIFORGE_PRELUDE=file)
        assert not wrong["error"] < 1e-3
        if name == "softmax":
            assert "softmax_gpu_bf" in watched
            assert "wrote behind a buffer of 540 bytes" in watched


@needs_intel_gpu
def test_half_precision_is_right_but_for_the_fused_attention(fp16: Path, tmp_path: Path) -> None:
    half = "INFERENCE_PRECISION_HINT=f16"
    found, _ = operator("product", tmp_path, half)  # with INT4 weights, which fp16 has not
    assert 1e-6 < found["error"] < 2**-8  # twice the distance between two halves at its largest
    found, _ = operator(
        fp16, tmp_path, half, "KV_CACHE_PRECISION=f16", "GPU_ENABLE_SDPA_OPTIMIZATION=NO"
    )
    assert 1e-7 < found["kl"] < 1e-4  # PyTorch's float16: 6.9e-6; float32: 5e-13
    text = PRELUDE.read_text(encoding="utf-8")
    without = written(tmp_path / "without.cl", text.split("/* PoCL 6.0 has no half forms")[0])
    for name in ("softmax", "product"):
        with pytest.raises(subprocess.CalledProcessError) as failed:
            operator(name, tmp_path, half, PHIFORGE_PRELUDE=without)
        assert "CL_BUILD_PROGRAM_FAILURE" in failed.value.stderr


@needs_intel_gpu
def test_sub_groups_that_part_are_not_run_right(tmp_path: Path) -> None:
    """Once they are, half precision's fused attention, `sdpa_opt`, can be tried again."""
    command = command_in_tree([str(DIVERGING)], [], tmp_path, {})
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-1"] * 32  # right: the last 16 are 19


@needs_intel_gpu
def test_in_float32_dynamic_quantization_changes_nothing(tmp_path: Path) -> None:
    found = [
        operator("product", tmp_path, f"DYNAMIC_QUANTIZATION_GROUP_SIZE={size}")[0]["error"]
        for size in (0, 128)
    ]
    assert found[0] == found[1] < 1e-5


@needs_intel_gpu
def test_what_the_device_says_of_itself_is_what_the_plugin_asks_for(tmp_path: Path) -> None:
    for query in ("0x1000", *(f"0x425{digit}" for digit in range(7))):
        found, _ = operator("softmax", tmp_path, PHIFORGE_WITHOUT=query)
        assert found["devices"] == ["CPU"], query
    found, _ = operator("softmax", tmp_path)
    assert found["about"]["FULL_DEVICE_NAME"] == "PoCL as an Intel(R) GPU (iGPU)"
    assert found["about"]["DEVICE_ARCHITECTURE"] == "GPU: vendor=0x8086 arch=v12.0.0"
    assert found["about"]["GPU_EXECUTION_UNITS_COUNT"] == 32
    own, _ = operator("softmax", tmp_path, PHIFORGE_WITHOUT="0x1001 0x1002 0x1030")
    architecture = own["about"]["DEVICE_ARCHITECTURE"]
    assert "vendor=0x8086" not in architecture
    assert "v12.0.0" not in architecture
    assert own["about"]["GPU_EXECUTION_UNITS_COUNT"] != 32
    assert own["error"] == found["error"]


@needs_intel_gpu
def test_where_a_gpu_of_the_machine_is_the_layer_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "dri").mkdir()
    command = command_in_tree([str(OPERATORS), "softmax"], [], tmp_path, {})
    at = command.index("--")
    command[at:at] = ["--read", f"{tmp_path}/dri:/dev/dri"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["devices"] == ["CPU"]
    assert "this machine's GPU is here (/dev/dri); not loaded" in done.stderr


@needs_intel_gpu
def test_a_killed_check_leaves_nothing_running_or_mounted(
    bench: Bench, fp16: Path, tmp_path: Path
) -> None:
    program = (
        "from pathlib import Path\nfrom validators.isolation import run_in_subprocess\n"
        f"run_in_subprocess(Path({str(fp16)!r}), 'openvino_gpu_software', {{}}, "
        f"Path({str(bench.reference)!r}), Path({str(bench.golden)!r}), "
        "time_limit_s=600, environment='intel-gpu')\n"
    )
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    check = subprocess.Popen([sys.executable, "-c", program], env=variables)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("phiforge-check-*/DOING")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    inside = psutil.Process(check.pid).children(recursive=True)
    check.send_signal(signal.SIGKILL)
    check.wait()
    _, alive = psutil.wait_procs(inside, timeout=20)
    assert inside
    assert not alive
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    assert str(tmp_path) not in mounts
    assert ".intel-gpu" not in mounts
    assert not list((ROOT / ".intel-gpu").glob("*.partial"))


@needs_intel_gpu
def test_a_full_disk_is_no_verdict(
    bench: Bench, fp16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intel_gpu_tree, "_archive", lambda: tmp_path / "kernels.zip")
    with small_disk(tmp_path / "disk", 1) as disk:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        with pytest.raises(CheckError, match="make room"):
            ran(bench, "gpu-software", fp16)
        monkeypatch.undo()


def test_damaged_kernels_go_and_two_checks_keep_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "kernels.zip"
    monkeypatch.setattr(intel_gpu_tree, "_archive", lambda: archive)
    checks = [tmp_path / name for name in ("one", "two", "three")]
    for check in checks:
        check.mkdir()
        intel_gpu_tree.take_kernels(check)
    for check in checks[:2]:
        (check / "kernels/AB" / check.name).mkdir(parents=True)
        (check / "kernels/AB" / check.name / "kernel.so").write_text(check.name * 1000)
    with ThreadPoolExecutor(2) as both:
        list(both.map(intel_gpu_tree.keep_kernels, checks[:2]))
    intel_gpu_tree.take_kernels(checks[2])
    kept = sorted(path.name for path in (checks[2] / "kernels/AB").iterdir())
    assert kept == ["one", "two"]
    whole = archive.read_bytes()
    method = whole.index(b"PK\1\2") + 10
    for damaged in (
        whole[:-40],
        whole.replace(b"PK\3\4", b"PK\0\0"),
        whole[:method] + b"\x07" + whole[method + 1 :],  # a compression that zipfile does not know
    ):
        archive.write_bytes(damaged)
        capsys.readouterr()
        intel_gpu_tree.take_kernels(checks[0])
        assert "damaged" in capsys.readouterr().out
        assert list((checks[0] / "kernels").iterdir()) == []
        assert not archive.exists()
    archive.write_bytes(whole)
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "filler").write_bytes(bytes((1 << 20) - 4096))
        intel_gpu_tree.take_kernels(disk)
        assert list((disk / "kernels").glob("*/*/*.so")) == []
        assert archive.read_bytes() == whole
        (disk / "kernels").rmdir()
        monkeypatch.setattr(intel_gpu_tree, "_archive", lambda: disk / "kernels.zip")
        (disk / "filler").write_bytes(bytes(1 << 20))
        intel_gpu_tree.keep_kernels(checks[1])
        assert [path.name for path in disk.iterdir() if path.suffix != ".lock"] == ["filler"]
