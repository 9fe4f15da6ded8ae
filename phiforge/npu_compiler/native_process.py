"""Compile an IR with the OpenVINO on PYTHONPATH (`phiforge.npu_compiler.native` starts this).

    python -m phiforge.npu_compiler.native_process JOB.json

``JOB.json``: ``ir`` (an .xml file), ``blob`` (the file to write) and ``properties``. Prints, as
its last line, JSON with ``openvino`` and ``version``.
"""

import json
import sys
from pathlib import Path

import openvino

from phiforge.npu_compiler.outcome import REFUSED

TOOLCHAIN = ("openvino",)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    properties = job["properties"]
    core = openvino.Core()
    version = None
    if properties["NPUW_DEVICES"] == "NPU":
        core.set_property("NPU", {"NPU_COMPILER_TYPE": "PLUGIN"})
        try:
            version = str(core.get_property("NPU", "NPU_COMPILER_VERSION"))
        except RuntimeError as error:
            _end(1, error)
    try:
        compiled = core.compile_model(core.read_model(job["ir"]), "NPU", properties)
    except RuntimeError as error:
        _end(REFUSED, error)
    Path(job["blob"]).write_bytes(compiled.export_model().getbuffer())
    print(json.dumps({"openvino": openvino.get_version(), "version": version}))


def _end(code: int, error: Exception) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
