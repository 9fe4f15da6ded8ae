"""Device rows: what a mistake in one says, and the locks that devices elsewhere use."""

from pathlib import Path
from typing import Any

import pytest

from phiforge.artifact.lock_file import read_lock
from phiforge.settings.device_locks import CUT, LOCK, WINDOWS, lock_text
from phiforge.settings.devices import load_devices
from phiforge.settings.documents import ConfigurationError
from phiforge.settings.plan import blocked_row
from support.checkout import ROOT
from support.lab_row import HOST_KEY, SSH, lab_row


def load_row(folder: Path, **keys: Any) -> Any:
    return load_devices([ROOT / "config/devices.yaml", lab_row(folder, **keys)])["npu-4000"]


def test_a_lab_s_row_replaces_ours_and_its_paths_are_relative_to_its_file(tmp_path: Path) -> None:
    device = load_row(tmp_path)
    assert device.ssh.identity == tmp_path / "id"
    assert (device.ssh.port, device.ssh.python, device.ssh.folder) == (22, "python", "phiforge-lab")
    assert device.lock("openvino") == Path("envs/device-openvino.lock")
    assert blocked_row(device, {}) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ssh": None}, "key 'npu-4000.ssh' is missing"),
        ({"runner": "courier"}, "key 'npu-4000.ssh' has no meaning for runner: courier"),
        ({"runner": "local", "ssh": None}, "key 'npu-4000.detect' is missing"),
        ({"executes": "TPU"}, "key 'npu-4000.executes' has a value that is not allowed"),
        ({"executes": None}, "key 'npu-4000.executes' is missing"),
        ({"kind": "standin"}, "key 'npu-4000.executes' is neither CPU nor DML"),
        ({"kind": "compiler", "stands_for": ["gpu"]}, "key 'npu-4000.kind' does not fit the row"),
        (
            {"runtimes": {"openvino": {"module": "openvino", "environment": "intel-gpu"}}},
            "key 'npu-4000.kind' is not standin",
        ),
        ({"key": "absent.pub"}, "key 'npu-4000.key' names 'absent.pub', and"),
        ({"key": "id"}, "which is not a public key in PEM"),
        ({"ssh": {**SSH, "identity": "absent"}}, "key 'npu-4000.ssh.identity' names 'absent', and"),
        (
            {"ssh": {**SSH, "host_key": "ssh-rsa " + HOST_KEY.split()[1]}},
            "'npu-4000.ssh.host_key' is",
        ),
        ({"ssh": {**SSH, "python": "py; rm"}}, "key 'npu-4000.ssh.python' has a value that is not"),
        ({"ssh": {**SSH, "prot": 22}}, "unknown key 'npu-4000.ssh.prot'"),
        ({"runtimes": {"openvino": {"module": "openvino"}}}, "'npu-4000.runtimes.openvino.lock'"),
        (
            {"runtimes": {"openvino": {"module": "openvino", "lock": "device-opnvino"}}},
            "write 'device-openvino'",
        ),
    ],
)
def test_a_mistake_in_a_row_names_its_key(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_row(tmp_path, **keys)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "devices.yaml"))


def test_a_generation_is_any_of_its_processors(tmp_path: Path) -> None:
    (tmp_path / "device").write_text("0xad1d\n")
    detect = {"files": [f"{tmp_path}/devic[e]"], "containing": ["0x7d1d", "0xad1d"]}
    local = {"runner": "local", "ssh": None}
    assert blocked_row(load_row(tmp_path, **local, detect=detect), {}) is None
    other = blocked_row(load_row(tmp_path, **local, detect={**detect, "containing": ["0x6"]}), {})
    assert other is not None and "devic[e] is missing" in other.reason


def test_a_tool_that_is_not_here_blocks_its_row(tmp_path: Path) -> None:
    keys = {
        "kind": "compiler",
        "runner": "local",
        "ssh": None,
        "stands_for": ["npu-5010"],
        "detect": {"tool": "npu_compiler"},
        "remedy": "make npu-compiler",
    }
    row = load_row(tmp_path, **keys)
    assert blocked_row(row, {"npu_compiler": {"any": "value"}}) is None
    found = blocked_row(row, {"npu_compiler": None})
    assert found is not None and found.remedy == "make npu-compiler"
    assert found.reason == "the lab's NPU: it is not installed here, or not as it is locked now"


def test_a_blocked_row_names_the_ways_to_its_receipt() -> None:
    rows = load_devices([ROOT / "config/devices.yaml"])
    found = blocked_row(rows["dml"], {})
    assert found is not None
    for way in ("run this on Windows", "(ssh)", "artifacts/kits/MODEL/VARIANT/dml.zip", "inbox"):
        assert way in found.remedy


@pytest.mark.parametrize("name", CUT)
def test_device_locks_pin_what_the_main_lock_pins(name: str) -> None:
    text = (ROOT / "envs" / f"{name}.lock").read_text(encoding="utf-8")
    only = [read_lock(LOCK.with_name(f"{name}.lock"))[one] for one in WINDOWS.get(name, {})]
    assert text == lock_text(name, only), "run 'make lock'"
    assert "torch==" not in text and "http" not in text
    assert LOCK.name == "main.lock"


def test_the_directml_lock_has_the_wheel_that_bundles_directml() -> None:
    text = (ROOT / "envs/device-directml.lock").read_text(encoding="utf-8")
    assert "onnxruntime-genai-winml==0.18.0" in text
    assert "onnxruntime==" not in text
