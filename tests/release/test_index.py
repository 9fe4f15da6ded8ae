"""The index of a model's releases, and the snippets that load them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import openvino
import pytest
import yaml

from phiforge.jobs import Blocked, Index
from phiforge.release.index import snippet, write_index
from support.checkout import ROOT, Checkout
from support.html_page import text_of
from support.release_edits import updated
from support.releasing import copy_release

HARDWARE: dict[str, Any] = yaml.safe_load((ROOT / "config/hardware.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((ROOT / "phiforge/release/index.schema.json").read_text())

# The static NPU pipeline on the CPU: what openvino_genai's own tests do without an NPU.
NPU_ON_CPU = (
    'NPUW_DEVICES="CPU", NPUW_ONLINE_PIPELINE="NONE", '
    "INFERENCE_PRECISION_HINT=openvino.Type.f32, KV_CACHE_PRECISION=openvino.Type.f16"
)
# What a machine without the device changes in a card's snippet; each must be found in it.
STANDINS = {
    "openvino": [('device = "GPU.0"', 'device = "CPU"')],
    "openvino-npu": [
        (
            '**profile["pipeline_options"]',
            f'**profile["pipeline_options"], {NPU_ON_CPU}',
        ),
        ('if "NPU" not in', 'if "CPU" not in'),
    ],
    "onnx-genai": [
        (
            "model = og.Model(folder)",
            "config = og.Config(folder); config.clear_providers(); model = og.Model(config)",
        )
    ],
}
# What a card's snippet says on a machine that has a CPU only.
AS_PRINTED = {
    "genai-cpu-int4": "Phi-tiny",
    "genai-cuda-int4": "it does not load here: Cuda interface not available",
    "genai-dml-int4": "it does not load here: DML provider requested, but",
    "genai-webgpu-int4": "it does not load here: WebGPU execution provider is not supported",
    "npu-blob-4000": "no NPU here, or no driver for it; there is CPU",
    "openvino-int4": "no GPU.0 here, or no driver for it; there is CPU",
    "openvino-int4-npu": "no NPU here, or no driver for it; there is CPU",
}
# Runs each (folder, code) in its folder, one after the other; what each prints is a JSON line.
RUNNER = """
import contextlib, io, json, os, sys
for folder, code in json.load(sys.stdin):
    os.chdir(folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, folder, "exec"), {"__name__": "__main__"})
    print(json.dumps([folder, printed.getvalue()]), flush=True)
"""


def index_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "index.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return found


def test_the_index_says_what_stands_there(pipeline: Checkout) -> None:
    folder = pipeline.release()
    index = index_of(folder)
    released = sorted(path.parent.name for path in folder.glob("[!.]*/MANIFEST.json"))
    assert [one["variant"] for one in index["variants"]] == released
    for one in index["variants"]:
        release = folder / one["variant"]
        record = json.loads((release / "evidence/release.json").read_text())
        assert one["artifact_sha256"] == record["artifact_sha256"]
        assert one["version"] == record["version"]
        beside = {"README.md"} | {
            path.relative_to(release).as_posix() for path in (release / "evidence").rglob("*")
        }
        payload = [
            path
            for path in release.rglob("*")
            if path.is_file() and path.relative_to(release).as_posix() not in beside
        ]
        assert one["size"] == sum(path.stat().st_size for path in payload)
        for receipt in one["receipts"]:
            whole = json.loads(
                (release / "evidence/receipts" / f"{receipt['row']}.json").read_text()
            )
            assert receipt["verdict"] == whole["verdict"]
            if whole["verdict"] == "passed":
                assert receipt["fidelity"]["mean_kl"] == whole["metrics"]["mean_kl"]
                assert (
                    receipt["speed"]["tokens_per_s"] == whole["performance"]["tokens_per_s"]["p50"]
                )
        assert one["load"] == snippet(release / "README.md")
        assert one["build"]["seconds"] > 0 and one["build"]["memory_mb"] > 100


def test_every_released_variant_is_chosen_for_some_hardware(pipeline: Checkout) -> None:
    index = index_of(pipeline.release())
    chosen = {name for row in index["hardware"] for name in row["choose"]}
    assert {one["variant"] for one in index["variants"]} <= chosen
    assert [row["hardware"] for row in index["hardware"]] == list(HARDWARE)
    cpu = next(row for row in index["hardware"] if row["hardware"] == "cpu")
    assert cpu["proven"]["genai-cpu-int4"] == ["cpu"]
    for row in index["hardware"]:
        if row["hardware"] != "cpu":
            assert row["proven"] == {}  # none of these devices is here
        assert not row["choose"] or row["checked_with"]


def test_the_index_names_what_is_blocked_and_what_was_revoked(
    pipeline: Checkout, tmp_path: Path
) -> None:
    folder = tmp_path / "phi3-tiny"
    copy_release(pipeline.release("genai-cpu-int4"), folder / "genai-cpu-int4")
    (folder / "versions.json").write_bytes((pipeline.release() / "versions.json").read_bytes())
    updated("versions.json", "versions", "genai-cpu-int4", "0.1.0", revoked="bad")(folder)
    blocked = {"reason": "no compiler here", "remedy": "Bring one."}
    job = Index("phi3-tiny", "A model", "MIT", {"npu-blob": Blocked(**blocked)}, (), ())
    write_index(job, ROOT / "config/hardware.yaml", folder, tmp_path)
    index = index_of(folder)
    assert index["blocked"] == [{"variant": "npu-blob", **blocked}]
    assert [one["revoked"] for one in index["variants"]] == ["bad"]
    assert all(row["choose"] == [] for row in index["hardware"])
    assert [one["build"] for one in index["variants"]] == [None]
    page = text_of(folder / "index.html")
    assert "npu-blob was not built: no compiler here. Bring one." in page
    assert "revoked bad" in page


@pytest.mark.parametrize("kind", STANDINS)
def test_the_snippet_on_each_card_answers(pipeline: Checkout, kind: str) -> None:
    """Every card's own code, with the stand-in's options where the device is not here."""
    variants: dict[str, Any] = yaml.safe_load((ROOT / "config/variants.yaml").read_text())
    work = []
    for card in sorted(pipeline.release().glob("[!.]*/README.md")):
        if variants[card.parent.name]["snippet"] != kind:
            continue
        code = snippet(card)
        for old, new in STANDINS[kind]:
            assert code.count(old) == 1, old
            code = code.replace(old, new)
        work.append((str(card.parent), code))
    if not work:
        pytest.skip(f"no variant with the snippet {kind} is released here")
    assert_each_answers(work)


def assert_each_answers(work: list[tuple[str, str]]) -> None:
    """Run each (folder, code); it must print the model's introduction of itself."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(work),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = dict(json.loads(row) for row in done.stdout.splitlines() if row.startswith("["))
    assert answers.keys() == {folder for folder, _ in work}
    for folder, answer in answers.items():
        assert "Phi-tiny" in answer, (folder, answer)


def test_the_blob_snippet_falls_back_to_the_ir(pipeline: Checkout, tmp_path: Path) -> None:
    """No blob can be made or loaded here: the snippet meets one that no NPU takes."""
    release = pipeline.release("openvino-int4-npu")
    folder = copy_release(release, tmp_path / "npu-blob-4000")
    options = json.loads((folder / "npu-profile.json").read_text())["pipeline_options"]
    (folder / "model.blob").write_bytes(b"of another NPU")
    label = {"blob": {"file": "model.blob"}, "weightless": False, "pipeline_options": options}
    (folder / "npu-blob.json").write_text(json.dumps(label))
    code = (ROOT / "phiforge/release/snippets/npu-blob.py").read_text()
    old = '**label["pipeline_options"]'
    assert code.count(old) == 1
    code = code.replace(old, f"{old}, {NPU_ON_CPU}").replace('if "NPU" not in', 'if "CPU" not in')
    assert_each_answers([(str(folder), code)])


@pytest.mark.parametrize("variant", AS_PRINTED)
def test_a_card_s_snippet_as_it_is_printed(pipeline: Checkout, variant: str) -> None:
    """It answers, or says in one line that its device is not here."""
    expected = AS_PRINTED[variant]
    folder = pipeline.release(variant)
    if not folder.is_dir():
        pytest.skip(f"needs a release of {variant}: make npu-compiler")
    if any(f"no {name}" in expected for name in openvino.Core().available_devices):
        pytest.skip(f"needs a machine without what {variant} is for")
    done = subprocess.run(
        [sys.executable, "-c", snippet(folder / "README.md")],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        assert expected in done.stdout
    else:
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(expected)


def test_every_snippet_has_its_test() -> None:
    named = {path.stem for path in (ROOT / "phiforge/release/snippets").glob("*.py")}
    # npu-blob is above; npu-library has an environment of its own (test_npu_library.py).
    assert named == STANDINS.keys() | {"npu-blob", "npu-library"}
