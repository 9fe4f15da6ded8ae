"""Ask DirectML for each form of each operator, and compare it with float64.

    python benchmarks/directml_sweep/sweep.py

Needs `make directml`; part of `make directml-lock`. Nothing may run on the CPU: a form that
DirectML leaves to it is refused. The result goes to result.json beside this file;
validators/lint/providers.py follows from it.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[2]))

from forms import Array, Form, forms

from phiforge.artifact.tree import sha256_file
from phiforge.environment import debian_tree

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[2]
LOCKS = ("envs/directml.lock", "envs/directml/packages.lock")
TOLERANCE = 0.01  # of the largest value: float16 sums of 512 products differ by 0.002
PROGRAM = """
x86_64-w64-mingw32-g++-posix -std=gnu++17 -O2 -w -static -I/usr/include/onnxruntime \
    -o /opt/directml/operators.exe /source/operators.cpp
bash /opt/directml/run.sh operators.exe Z:/cases
"""


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    started, swept = time.monotonic(), list(forms())
    with tempfile.TemporaryDirectory(prefix="phiforge-sweep-") as name:
        folder = Path(name)
        for index, form in enumerate(swept):
            write_case(form, folder / str(index))
        run_all(folder, len(swept))
        results = [judged(form, folder / str(index)) for index, form in enumerate(swept)]
        version = (folder / "version").read_text(encoding="utf-8")
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "locks": {name: sha256_file(ROOT / name) for name in LOCKS},
        "onnxruntime": version,
        "seconds": round(time.monotonic() - started),
        "tolerance": TOLERANCE,
        "forms": results,
    }
    into = HERE / "result.json"
    into.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for one in results:
        print(one["operator"], "|", one["form"], "|", one["verdict"], one.get("error", ""))


def write_case(form: Form, folder: Path) -> None:
    folder.mkdir()
    onnx.save(form.model(), str(folder / "model.onnx"))
    lines = []
    for name, array in form.inputs.items():
        (folder / name).write_bytes(np.ascontiguousarray(array).tobytes())
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        lines.append(f"{name} {kind} {name} {' '.join(map(str, array.shape))}\n")
    (folder / "inputs").write_text("".join(lines), encoding="utf-8")


def run_all(folder: Path, count: int) -> None:
    """Run the program until every case has an answer; one that ends it has crashed."""
    root = debian_tree("directml")
    while left := [str(i) for i in range(count) if not (folder / str(i) / "answer").exists()]:
        (folder / "list").write_text("\n".join(left) + "\n", encoding="utf-8")
        folders = ["--read", f"{HERE}:/source", "--write", f"{folder}:/cases"]
        subprocess.run(
            ["sh", str(root / "enter.sh"), str(root), *folders, "--", "bash", "-c", PROGRAM],
            check=False,
            timeout=900,
        )
        if not (folder / "version").is_file():
            raise SystemExit("error: the program did not start; read above")
        if not any((folder / one / "answer").exists() for one in left):
            (folder / left[0] / "answer").write_text("crash", encoding="utf-8")


def judged(form: Form, folder: Path) -> dict[str, Any]:
    """The entry of a form: ``right``, ``wrong``, ``refused``, ``fails when run`` or ``crashes``."""
    said = (folder / "answer").read_text(encoding="utf-8", errors="replace")
    about = {"operator": form.operator, "form": form.form}
    step, _, message = said.partition(" ")
    if step != "done":
        verdicts = {"load": "refused", "run": "fails when run", "crash": "crashes"}
        return {**about, "verdict": verdicts[step], "message": message[-160:]}
    errors = []
    for name in form.judged or tuple(form.expected):
        found: Array = np.fromfile(folder / f"{name}.out", dtype=form.dtype).astype(float)
        expected = form.expected[name].ravel()
        error = np.abs(found - expected).max() if found.size == expected.size else np.inf
        errors.append(float(error / np.abs(expected).max()))
    worst = max(errors) if np.isfinite(errors).all() else float("inf")
    right = worst <= TOLERANCE
    shown = f"{worst:.2g}" if np.isfinite(worst) else "not finite, or of another shape"
    return {**about, "verdict": "right" if right else "wrong", "error": shown}


if __name__ == "__main__":
    main()
