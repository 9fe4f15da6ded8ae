"""Builds to compare: phi3-tiny with nearly dead rows, converted by us and by optimum-cli."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from phiforge.offline import OFFLINE
from support.openvino_options import FP16, INT4, INT8, NPU

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "phi3-tiny"
SOURCE_FILES = (
    "LICENSE",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)
CONVERT = """
import json, sys
from pathlib import Path
from phiforge.offline import go_offline
go_offline()
from converters.openvino import convert
source, into, options, base = sys.argv[1:]
record = convert(
    Path(source), Path(into), options=json.loads(options), base=Path(base) if base else None
)
print(json.dumps([record.toolchain, record.recipe, record.notes]))
"""


def run_ours(
    source: Path,
    into: Path,
    options: Mapping[str, Any],
    base: Path | None = None,
    **environment: str,
) -> Any:
    """Convert in a process of its own; its toolchain, recipe and notes."""
    into.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, source, into, json.dumps(options), base or ""],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run_optimum_cli(source: Path, into: Path, *flags: str) -> Path:
    """The guide's command with these flags."""
    done = subprocess.run(
        [Path(sys.executable).parent / "optimum-cli", "export", "openvino",
         "--model", source, "--task", "text-generation-with-past", *flags, into],
        env={**os.environ, **OFFLINE},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return into


def make_nearly_dead_rows(folder: Path) -> None:
    """Fill ``folder`` with phi3-tiny, rows of every layer scaled down to 1e-5 .. 1e-8."""
    for name in SOURCE_FILES:
        if (MODEL / name).is_file():
            shutil.copyfile(MODEL / name, folder / name)
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if weight.ndim == 2 and ".layers." in name:
            for magnitude, first in ((1e-5, 1), (1e-6, 2), (1e-7, 3), (1e-8, 4)):
                rows = weight[first::50].float()
                scaled = rows / rows.abs().amax(dim=1, keepdim=True) * magnitude
                weight[first::50] = scaled.to(weight.dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


class Workshop:
    """Builds of ours and of optimum-cli, two at a time, each made once."""

    def __init__(self, source: Path, folder: Path, pool: ThreadPoolExecutor) -> None:
        self.folder = folder
        self._records: dict[str, Future[Any]] = {}
        fp16 = folder / "ours" / "fp16"
        self._records["fp16"] = pool.submit(run_ours, source, fp16, FP16)
        self._official = {
            "int4": pool.submit(
                run_optimum_cli, source, folder / "official" / "int4", "--weight-format", "int4",
                "--group-size", "128", "--ratio", "0.6", "--sym",
            ),
            "int8": pool.submit(
                run_optimum_cli, source, folder / "official" / "int8", "--weight-format", "int8"
            ),
            "fp16": pool.submit(
                run_optimum_cli, source, folder / "official" / "fp16", "--weight-format", "fp16"
            ),
        }  # fmt: skip
        derived = {
            "int4": INT4,
            "int8": INT8,
            "awq": {**INT4, "awq": True},
            "npu": NPU,
            "npu-cw": {**NPU, "group_size": -1},
        }
        for name, options in derived.items():
            self._records[name] = pool.submit(self._derive, source, name, options)

    def _derive(self, source: Path, name: str, options: Mapping[str, Any]) -> Any:
        self._records["fp16"].result()
        base = self.folder / "ours" / "fp16"
        return run_ours(source, self.folder / "ours" / name, options, base)

    def ours(self, name: str) -> Path:
        self._records[name].result()
        return self.folder / "ours" / name

    def record(self, name: str) -> Any:
        return self._records[name].result()

    def official(self, name: str) -> Path:
        return self._official[name].result()
