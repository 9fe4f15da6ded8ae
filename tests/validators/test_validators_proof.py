"""Counters must rise, heavy operators must be the device's, and nothing hides which device ran."""

from functools import partial
from pathlib import Path

import openvino
import pytest

from validators.contract import CheckError, ExecutionEvidence, Proof, shown
from validators.device_counters import DeviceCounters, gpu_busy, npu_busy_time_us
from validators.evaluation import judge_device
from validators.openvino_pipeline import one_device
from validators.ort_profile import Ran, executor, proofs, read_profile
from validators.runtimes.openvino_npu import exactly_one, refuse_other_generation

GRAPH = ("Cast", "MatMulNBits", "GroupQueryAttention", "Gather")
CPU, DML = "CPUExecutionProvider", "DmlExecutionProvider"


@pytest.fixture
def npu(tmp_path: Path) -> DeviceCounters:
    return DeviceCounters(busy={"npu_busy_time_us": partial(npu_busy_time_us, tmp_path)})


def work(root: Path, microseconds: int) -> None:
    """Let an NPU's driver count."""
    file = root / "sys/class/accel/accel0/device/npu_busy_time_us"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{(npu_busy_time_us(root) or 0) + microseconds}\n")


def test_only_a_counter_that_rises_meanwhile_proves_it(tmp_path: Path, npu: DeviceCounters) -> None:
    work(tmp_path, 7000)
    with npu.watch("it answered"):
        pass
    work(tmp_path, 500)
    for _ in range(2):
        with npu.watch("it was scored"):
            work(tmp_path, 30)
    answered, scored = npu.proof()
    assert answered.failure == "unproven-device"
    assert scored == Proof(
        "counters of the device while it was scored", "npu_busy_time_us rose by 60"
    )


def test_a_missing_counter_proves_nothing(npu: DeviceCounters) -> None:
    assert npu.proof()[0].failure == "unproven-device"
    with npu.watch("it answered"):
        pass
    (proof,) = npu.proof()
    assert (proof.observed, proof.failure) == ("npu_busy_time_us is missing", "unproven-device")


def test_held_memory_counts_from_before_the_artifact_was_opened() -> None:
    held = [100]
    counters = DeviceCounters(held={"memory": lambda: held[0]})
    held[0] = 900
    for _ in range(2):
        with counters.watch("it answered"):
            pass
    assert counters.proof() == (
        shown("counters of the device while it answered", "memory rose by 800", holds=True),
    )


def test_a_gpu_opened_twice_counts_once(tmp_path: Path) -> None:
    folder = tmp_path / "proc/self/fdinfo"
    folder.mkdir(parents=True)
    assert gpu_busy(tmp_path) == 0
    (folder / "0").write_text("pos:\t0\nflags:\t02\n")
    client = "drm-driver:\ti915\ndrm-pdev:\t0000:00:02.0\ndrm-client-id:\t7\n"
    engines = "drm-engine-render:\t900 ns\ndrm-engine-capacity-video:\t2\ndrm-engine-copy:\t34 ns\n"
    for name in ("5", "6"):
        (folder / name).write_text(client + engines)
    (folder / "8").write_text(client.replace("\t7", "\t9") + "drm-cycles-ccs:\t66\n")
    assert gpu_busy(tmp_path) == 1000
    assert gpu_busy(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("ran", "device", "failures"),
    [
        ({DML: {"MatMulNBits": 9, "GroupQueryAttention": 4}, CPU: {"Cast": 2}}, "DML", [None] * 2),
        ({DML: {"DmlFusedNode": 3}, CPU: {"Gather": 2}}, "DML", [None] * 2),
        ({DML: {"DmlFusedNode": 3}, CPU: {"GroupQueryAttention": 4}}, "DML", [None, "fell-back"]),
        ({DML: {"MatMulNBits": 9}, CPU: {"MatMulNBits": 1}}, "DML", ["fell-back", "unproven"]),
        ({CPU: {"MatMulNBits": 9, "GroupQueryAttention": 4}}, "DML", ["fell-back"] * 2),
        ({CPU: {"MatMulNBits": 9, "GroupQueryAttention": 4}}, "CPU", [None] * 2),
        ({DML: {"Cast": 9}, CPU: {"Gather": 2}}, "DML", ["unproven", "unproven"]),
        ({}, "CUDA", ["unproven", "unproven"]),
    ],
    ids=["dml", "fused", "attention left", "a product left", "cpu", "on the cpu", "light", "none"],
)
def test_only_the_devices_provider_may_run_what_is_heavy(
    ran: Ran, device: str, failures: list[str | None]
) -> None:
    named = {None: None, "unproven": "unproven-device", "fell-back": "fell-back"}
    assert [one.failure for one in proofs(ran, device, GRAPH)] == [named[one] for one in failures]


def test_the_executor_is_the_only_provider_that_did_heavy_work() -> None:
    assert executor({DML: {"DmlFusedNode": 3}, CPU: {"Gather": 2}}) == "DML"
    assert executor({CPU: {"MatMulNBits": 3}}) == "CPU"
    assert executor({DML: {"DmlFusedNode": 3}, CPU: {"GroupQueryAttention": 2}}) == "unknown"
    assert executor({DML: {"MatMul": 3}, "OtherExecutionProvider": {"MatMul": 2}}) == "unknown"
    assert executor({CPU: {"Gather": 2}}) == "unknown"


def test_a_graph_without_heavy_operators_proves_nothing() -> None:
    (proof,) = proofs({DML: {"Cast": 1}}, "DML", ["Cast"])
    assert proof.failure == "unproven-device"


def test_a_profile_counts_kernels_by_provider(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    # As DirectML writes them (fused), and as the CPU does; a session's own events are no kernels.
    file.write_text(
        '[{"cat": "Session", "name": "model_run", "args": {}},'
        '{"cat": "Node", "name": "DmlFusedNode_0_1_kernel_time",'
        ' "args": {"op_name": "DmlFusedNode_0_1", "provider": "DmlExecutionProvider"}},'
        '{"cat": "Node", "name": "x_fence_before", "args": {"op_name": "Cast"}},'
        '{"cat": "Node", "name": "x_kernel_time",'
        ' "args": {"op_name": "Cast", "provider": "CPUExecutionProvider"}}]'
    )
    assert read_profile(file) == {CPU: {"Cast": 1}, DML: {"DmlFusedNode": 1}}


@pytest.mark.parametrize("name", ["AUTO", "AUTO:GPU,CPU", "HETERO:GPU,CPU", "MULTI:GPU", "NPU", ""])
def test_one_device_or_none(name: str) -> None:
    assert [one_device(device) for device in ("CPU", "GPU", "GPU.1")] == ["CPU", "GPU", "GPU.1"]
    with pytest.raises(CheckError, match="would hide which device ran"):
        one_device(name)


@pytest.mark.parametrize("devices", ["NPU,CPU", "CPU,NPU", ["NPU"], "npu", "GPU", None])
def test_npuw_devices_are_exactly_one(devices: object) -> None:
    with pytest.raises(CheckError, match="would hide which device ran"):
        exactly_one(devices)


class NpuOf3720:
    """What OpenVINO's core says on Meteor Lake; no NPU is here."""

    available_devices = ("CPU", "NPU")

    def get_property(self, device: str, name: str) -> str:
        assert (device, name) == ("NPU", "DEVICE_ARCHITECTURE")
        return "3720"


def test_the_npu_of_another_generation_is_not_asked() -> None:
    refuse_other_generation(NpuOf3720(), "3720")
    with pytest.raises(CheckError, match=r"expected 4000, found 3720.*on the row npu-3720"):
        refuse_other_generation(NpuOf3720(), "4000")
    core = openvino.Core()
    if "NPU" not in core.available_devices:
        with pytest.raises(CheckError, match=r"no NPU here.*expected NPU 4000, found CPU"):
            refuse_other_generation(core, "4000")


def test_every_observation_must_hold() -> None:
    proof = (Proof("devices", "CPU, NPU"), Proof("counters", "rose by 0", "unproven-device"))
    found = judge_device(ExecutionEvidence("NPU", "it says so", proof), "NPU")
    assert [(one.name, one.what) for one in found] == [("unproven-device", "counters: rose by 0")]
    assert judge_device(ExecutionEvidence("NPU", "it says so", proof[:1]), "NPU") == []
    (silent,) = judge_device(ExecutionEvidence("NPU", "it says so"), "NPU")
    assert silent.name == "unproven-device"
