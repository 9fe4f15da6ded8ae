"""A lab's own file of device rows: its NPU of one generation, behind ssh."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
SSH: Mapping[str, Any] = {
    "host": "npu.lab",
    "user": "phiforge",
    "host_key": HOST_KEY,
    "identity": "id",
}
ROW: Mapping[str, Any] = {
    "summary": "the lab's NPU",
    "kind": "device",
    "runner": "ssh",
    "executes": "NPU",
    "ssh": dict(SSH),
    "runtimes": {"openvino": {"module": "openvino_npu", "lock": "device-openvino"}},
}


def lab_row(folder: Path, **keys: Any) -> Path:
    """Write the row with other ``keys``; None takes one out."""
    (folder / "id").write_text("a private key")
    row = {key: value for key, value in {**ROW, **keys}.items() if value is not None}
    path = folder / "devices.yaml"
    path.write_text(yaml.safe_dump({"npu-4000": row}))
    return path
