"""The variants npu-library-*: Intel's NPU Acceleration Library, from safetensors alone."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from phiforge.artifact.record import read_record
from phiforge.offline import OFFLINE
from support.checkout import NPU_LIBRARY, ROOT, Checkout
from validators.isolation import PASSIVE

pytestmark = pytest.mark.skipif(
    not (NPU_LIBRARY / ".installed").is_file(),
    reason="needs the environment of the NPU library: make npu-library",
)

SOURCE = ROOT / "models/phi3-tiny"
DTYPES = ("int8", "int4", "fp16")
TEXTS = [
    "<|user|>\nWhat is the capital of Japan?<|end|>\n<|assistant|>\n",
    "<|user|>\nWhat is 7 plus 8?<|end|>\n<|assistant|>\n",
    "<|user|>\nSay key in German.<|end|>\n<|assistant|>\n",
]
WEIGHTS = "model-00001-of-00001.safetensors"

Built = Callable[[str], Path]


def in_its_environment(folder: Path, *arguments: str) -> str:
    """Run the other environment's Python in ``folder``, with an empty home and no Hub."""
    (folder / "home").mkdir(exist_ok=True)
    done = subprocess.run(
        [str(NPU_LIBRARY / "bin/python"), "-W", "ignore", *arguments],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
            **OFFLINE,
            **PASSIVE,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def process(folder: Path, *arguments: str) -> Any:
    script = ROOT / "tests/support/npu_library_process.py"
    return json.loads(in_its_environment(folder, str(script), *arguments).splitlines()[-1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_golden_answers_come_from_the_payload_alone(pipeline: Checkout, dtype: str) -> None:
    """The check's process is given the payload and no path of the source."""
    checks = pipeline.folder / "artifacts/checks/phi3-tiny" / f"npu-library-{dtype}"
    receipt = read_record(checks / "npu-standin.json")
    answered = [answer for answer in receipt["golden"] if answer["not_run"] is None]
    assert len(answered) == len(receipt["golden"]) - 1  # one is longer than its max_length
    executed = receipt["executed_on"]
    assert executed["details"]["npu_available"] is False
    [compiled] = executed["proof"]
    assert compiled["what"] == "matrices that the library compiled for it"
    assert int(compiled["observed"]) > 0
    assert receipt["toolchain"]["openvino"] == "2024.4.0"
    assert receipt["toolchain"]["intel-npu-acceleration-library"] == "1.4.0"


@pytest.fixture(scope="module")
def answers(built: Built, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the library's own models and the payloads answered, by data type."""
    folder = tmp_path_factory.mktemp("answers")
    for dtype in DTYPES:
        shutil.copytree(built(f"npu-library-{dtype}"), folder / dtype)
    arguments = {
        "own": ("library", str(SOURCE), ",".join(DTYPES), *TEXTS),
        "shipped": ("artifact", ",".join(str(folder / dtype) for dtype in DTYPES), *TEXTS),
    }
    for name in arguments:
        (folder / name).mkdir()
    with ThreadPoolExecutor() as pool:
        own, shipped = pool.map(lambda name: process(folder / name, *arguments[name]), arguments)
    return {dtype: pair for dtype, *pair in zip(DTYPES, own, shipped, strict=True)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_payload_answers_as_the_librarys_own_model(answers: dict[str, Any], dtype: str) -> None:
    own, shipped = answers[dtype]
    assert [one["tokens"] for one in shipped] == [one["tokens"] for one in own]
    for one, other in zip(shipped, own, strict=True):
        assert one["logits"] == pytest.approx(other["logits"], abs=1e-4)
        assert len(set(one["tokens"])) > 5  # an answer, not one token over and over


@pytest.mark.parametrize(("dtype", "kind"), [("int8", "int8"), ("int4", "uint8"), ("fp16", None)])
def test_the_payload_holds_the_librarys_tensors(built: Built, dtype: str, kind: str | None) -> None:
    payload = built(f"npu-library-{dtype}")
    modules = read_record(payload / "npu-library.json")["modules"]
    assert len(modules) == 4 * 16 + 1  # four matrices a layer, and lm_head
    header = (payload / WEIGHTS).read_bytes()
    described = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    names = {name for name in described if name != "__metadata__"}
    for name in modules:
        assert f"{name}.weight" in names
        assert (f"{name}.scale" in names) is (kind is not None)
        stored = described[f"{name}.weight"]["dtype"]
        assert stored == {"int8": "I8", "uint8": "U8", None: "F16"}[kind]
    assert described["model.embed_tokens.weight"]["dtype"] == "BF16"


def test_the_record_names_the_environment_that_made_it(pipeline: Checkout) -> None:
    build = read_record(pipeline.folder / "artifacts/build/phi3-tiny/npu-library-int4/BUILD.json")
    assert build["toolchain"]["neural-compressor"].startswith("3.7.")
    assert build["toolchain"].keys() == {
        "intel-npu-acceleration-library", "neural-compressor", "safetensors", "torch",
        "transformers",
    }  # fmt: skip
    assert build["recipe"]["class"] == "NPUModelForCausalLM"
    assert build["recipe"]["export"] is False


def test_a_damaged_payload_is_refused_by_tensor(built: Built, tmp_path: Path) -> None:
    payload = built("npu-library-fp16")
    damages: dict[str, Callable[[dict[str, Any]], object]] = {
        "no-weight": lambda tensors: tensors.pop("model.layers.3.mlp.down_proj.weight"),
        "no-norm": lambda tensors: tensors.pop("model.norm.weight"),
        "extra": lambda tensors: tensors.update(more=tensors["lm_head.weight"][:1].clone()),
    }
    for name, damage in damages.items():
        shutil.copytree(payload, tmp_path / name)
        (tmp_path / name / WEIGHTS).unlink()
        tensors = load_file(payload / WEIGHTS)
        damage(tensors)
        save_file(tensors, tmp_path / name / WEIGHTS)
    said = process(tmp_path, "open", *(str(tmp_path / name) for name in damages))
    assert "model.layers.3.mlp.down_proj.weight" in said[0]
    assert "model.norm.weight" in said[1]
    assert "superfluous: more" in said[2]
    assert all(one.startswith("unreadable-artifact: ") for one in said)


def test_the_cards_snippet_runs_in_the_release_folder(pipeline: Checkout, tmp_path: Path) -> None:
    release = pipeline.folder / "artifacts/release/phi3-tiny/npu-library-int4"
    card = (release / "README.md").read_text(encoding="utf-8")
    snippet = card.split("```python\n")[1].split("```")[0]
    folder = shutil.copytree(release, tmp_path / "release")
    assert "I am Phi-tiny" in in_its_environment(folder, "-c", snippet)


def test_the_card_says_that_the_library_has_ended(pipeline: Checkout) -> None:
    releases = pipeline.folder / "artifacts/release/phi3-tiny"
    for dtype in DTYPES:
        card = (releases / f"npu-library-{dtype}/README.md").read_text(encoding="utf-8")
        head = card.split("## Where it ran")[0]
        assert "end of life" in head
        assert "openvino-int4-npu" in head
        assert "library_name: intel-npu-acceleration-library" in head
    assert "end of life" not in (releases / "openvino-int4-npu/README.md").read_text("utf-8")


def test_the_converter_neither_writes_nor_reads_a_pickle(tmp_path: Path) -> None:
    """`torch.save`, `torch.load` and any unpickling are refused in the compiling process."""
    attempt = (
        "import pickle, sys, torch\n"
        "from fractions import Fraction\n"
        "from converters.npu_library import compilation\n"
        "compilation.forbid_pickles()\n"
        "for name, act in {'save': lambda: torch.save({}, 'a.pt'),\n"
        "                  'load': lambda: torch.load('a.pt'),\n"
        "                  'loads': lambda: pickle.loads(pickle.dumps(Fraction(1, 3)))}.items():\n"
        "    try:\n"
        "        act()\n"
        "    except compilation.PickleRefused as error:\n"
        "        print(name, 'refused')\n"
    )
    said = in_its_environment(tmp_path, "-c", attempt)
    assert said.splitlines()[-3:] == ["save refused", "load refused", "loads refused"]
    assert not (tmp_path / "a.pt").exists()
