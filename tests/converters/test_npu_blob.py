"""NPU blobs, exported and imported for real with the CPU in the NPU's place.

This machine has neither an NPU nor its compiler: what is compiled here is CPU code, and phiforge
must say so wherever it matters. The export, the import, both cache modes, the label and every
refusal are the ones that a real blob meets.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openvino
import pytest

from benchmarks.sabotage import Weights, sabotaged
from converters.npu_blob import build, convert
from phiforge.artifact.manifest import write_manifest
from phiforge.artifact.npu_blob import BLOB, LABEL, not_npu_code, objections, read_code, read_header
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import PhiforgeError
from phiforge.jobs import Row, RowPolicy
from phiforge.release.gate import GateError, gate
from support.bench import Bench, copied, reseal
from support.checkout import ROOT, Checkout
from support.jobs import SETTINGS

OPTIONS = dict(SETTINGS.variants["npu-blob-4000"].options)
MODES = ("OPTIMIZE_SPEED", "OPTIMIZE_SIZE")
ON_CPU = {"npuw_devices": "CPU", "platform": "4000"}
ON_NPU = {"npuw_devices": "NPU", "platform": "4000"}


SOME_LIBRARY = Path(openvino.__file__).parent / "libs/libtbb.so.12"
ROW = "npu-blob-standin"


@dataclass(frozen=True)
class Blobs:
    """Blobs of phi3-tiny in both cache modes, and the bench that checks them."""

    folder: Path
    bench: Bench

    def payload(self, mode: str) -> Path:
        """The sealed payload of a cache mode."""
        return self.folder / mode / "payload"

    def check(self, artifact: Path, settings: dict[str, str]) -> dict[str, Any]:
        """The receipt of a check, as the rule runs it but for the row's kind and settings."""
        return self.bench.receipt("npu-blob-4000", "npu-4000", artifact, row=row(settings))


def row(settings: dict[str, str]) -> Row:
    """A row that no configuration has: an NPU blob has no stand-in, except in these tests."""
    return Row(ROW, "standin", "local", "CPU", ("npu-4000",), "npu_blob", None, settings)


@pytest.fixture(scope="module")
def blobs(
    bench: Bench, built: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Blobs:
    folder = tmp_path_factory.mktemp("npu-blob")
    base = built("openvino-int4-npu")
    for mode in MODES:
        payload = folder / mode / "payload"
        payload.mkdir(parents=True)
        record = build(base, payload, {**OPTIONS, "cache_mode": mode}, made_for="CPU")
        facts = {"model": "phi3-tiny", "variant": "npu-blob-4000", "format": "npu-blob"}
        facts |= {"precision": "int4", "recipe": dict(record.recipe)}
        sealed = write_manifest(payload, facts, [str(folder), str(base)])
        write_record(payload.parent / "BUILD.json", {**facts, "artifact_sha256": sealed})
    return Blobs(folder, replace(bench, source=None))


def zero_the_matrices(weights: Weights) -> None:
    for tensor in weights.tensors.values():
        if tensor.type == "i4":
            weights.of(tensor)[:] = 0


@pytest.mark.parametrize("mode", MODES)
def test_an_exported_blob_answers_the_golden_prompts(
    blobs: Blobs, mode: str, tmp_path: Path
) -> None:
    artifact = blobs.payload(mode).parent
    if mode == "OPTIMIZE_SPEED":  # the IR beside it knows nothing any more: the blob must answer
        payload = sabotaged(artifact / "payload", tmp_path / "payload", zero_the_matrices)
        ir = read_record(payload / LABEL)["ir"]
        ir["bin"]["sha256"] = sha256_file(payload / ir["bin"]["file"])
        relabelled(ir=ir)(payload)
        reseal(payload)
        artifact = payload.parent
    receipt = blobs.check(artifact, ON_CPU)
    assert receipt["verdict"] == "passed", receipt["reason"]
    assert receipt["executed_on"]["device"] == "CPU"
    assert receipt["executed_on"]["details"]["blob"]["loaded"] == BLOB
    assert all(entry["output"] == entry["expected"] for entry in receipt["golden"])


@pytest.mark.parametrize("mode", MODES)
def test_the_label_says_what_the_blob_is_tied_to(blobs: Blobs, mode: str) -> None:
    payload = blobs.payload(mode)
    label = read_record(payload / LABEL)
    header = read_header(payload / BLOB)
    assert openvino.get_version().startswith(label["openvino"] + "-")
    assert label["openvino"] == header.openvino
    assert label["weightless"] is header.weightless is (mode == "OPTIMIZE_SIZE")
    assert (label["platform"], label["cache_mode"], label["made_for"]) == ("4000", mode, "CPU")
    assert label["pipeline_options"] == {
        key: OPTIONS[key] for key in OPTIONS if key not in ("platform", "cache_mode")
    }
    profile = read_record(payload / "npu-profile.json")
    assert profile["pipeline_options"] == label["pipeline_options"]
    for described in (label["blob"], *label["ir"].values()):
        data = (payload / described["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == described["sha256"]
    sizes = {one: (blobs.payload(one) / BLOB).stat().st_size for one in MODES}
    weights = (payload / "openvino_model.bin").stat().st_size
    assert sizes["OPTIMIZE_SPEED"] - sizes["OPTIMIZE_SIZE"] > 0.9 * weights


def relabelled(**changes: Any) -> Callable[[Path], None]:
    def spoil(payload: Path) -> None:
        write_record(payload / LABEL, {**read_record(payload / LABEL), **changes})

    return spoil


def truncate(payload: Path) -> None:
    os.truncate(payload / BLOB, (payload / BLOB).stat().st_size - 1000)


def truncate_and_relabel(payload: Path) -> None:
    truncate(payload)
    size = (payload / BLOB).stat().st_size
    blob = {**read_record(payload / LABEL)["blob"], "size": size}
    relabelled(blob=blob)(payload)


def written_by_another_release(payload: Path) -> None:
    with (payload / BLOB).open("r+b") as blob:
        blob.seek(16)  # the minor version
        blob.write((3).to_bytes(4, "little"))


def without_weights(payload: Path) -> None:
    (payload / "openvino_model.bin").unlink()


def with_other_weights(payload: Path) -> None:
    data = (payload / "openvino_model.bin").read_bytes()
    (payload / "openvino_model.bin").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def unchanged(payload: Path) -> None:
    assert (payload / BLOB).is_file()


WORKS, WORKS_NOT = "IR works on this row", "IR does not work on this row"
REFUSALS: list[tuple[str, str, Callable[[Path], None], dict[str, str], str, str]] = [
    ("another platform", "OPTIMIZE_SPEED", relabelled(platform="3720"), ON_CPU,
     "blob-wrong-platform", WORKS),
    ("another release in the label", "OPTIMIZE_SPEED", relabelled(openvino="2025.3.0"), ON_CPU,
     "blob-wrong-openvino", WORKS),
    ("another release in the header", "OPTIMIZE_SIZE", written_by_another_release, ON_CPU,
     "blob-wrong-openvino", WORKS),
    ("truncated", "OPTIMIZE_SPEED", truncate, ON_CPU, "blob-truncated", WORKS),
    ("truncated, its label agrees", "OPTIMIZE_SIZE", truncate_and_relabel, ON_CPU,
     "blob-truncated", WORKS),
    ("no weights file", "OPTIMIZE_SIZE", without_weights, ON_CPU,
     "incomplete-weights", "(0 bytes) does not hold what the IR places there"),
    ("another weights file", "OPTIMIZE_SIZE", with_other_weights, ON_CPU,
     "blob-weights-missing", WORKS),
    ("made for the CPU", "OPTIMIZE_SPEED", unchanged, ON_NPU, "blob-made-for-cpu", WORKS_NOT),
    ("made for the CPU, labelled otherwise", "OPTIMIZE_SIZE", relabelled(made_for="NPU"), ON_NPU,
     "blob-made-for-cpu", WORKS_NOT),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "spoil", "settings", "name", "fallback"),
    [one[1:] for one in REFUSALS],
    ids=[one[0] for one in REFUSALS],
)
def test_a_blob_that_does_not_fit_is_refused_by_name(
    blobs: Blobs,
    tmp_path: Path,
    mode: str,
    spoil: Callable[[Path], None],
    settings: dict[str, str],
    name: str,
    fallback: str,
) -> None:
    artifact = copied(blobs.payload(mode), tmp_path)
    spoil(artifact / "payload")
    reseal(artifact / "payload")
    receipt = blobs.check(artifact, settings)
    assert [failure["name"] for failure in receipt["failures"]] == [name], receipt["reason"]
    assert fallback in receipt["reason"]
    assert str(tmp_path) not in receipt["reason"], "a receipt names no folder of this machine"


def test_a_blob_of_cpu_code_is_never_released_however_good_its_receipts_are(
    blobs: Blobs, tmp_path: Path
) -> None:
    artifact = blobs.payload("OPTIMIZE_SIZE").parent
    passed = blobs.check(artifact, ON_CPU)
    assert passed["verdict"] == "passed"
    write_record(tmp_path / f"{ROW}.json", passed)
    bench, verdict = blobs.bench, tmp_path / "verdict.json"
    with pytest.raises(GateError) as caught:
        gate(
            artifact / "BUILD.json", [tmp_path / f"{ROW}.json"], "candidate", verdict,
            golden=bench.golden, reference=bench.reference / "REFERENCE.json",
            acceptance=ROOT / "config/acceptance.yaml", overrides={},
            rows={ROW: RowPolicy(row(ON_CPU), available=True, key=None)},
        )  # fmt: skip
    message = str(caught.value)
    assert "not released to candidate: blob-made-for-cpu: its bytes hold code of the CPU" in message
    assert ";" not in message.split("ov=")[0], "nothing else stands against it"
    assert not verdict.exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_blob_is_held_against_what_was_asked_for(blobs: Blobs, mode: str) -> None:
    blob, weightless = blobs.payload(mode) / BLOB, mode == "OPTIMIZE_SIZE"
    code = read_code(blob)
    assert list(objections(blob, code, platform=None, weightless=weightless)) == []
    [objection] = objections(blob, code, platform="4000", weightless=weightless)
    assert objection.startswith("blob-made-for-cpu: its bytes hold code of the CPU plugin")
    [objection] = objections(blob, code, platform=None, weightless=not weightless)
    assert f"weightless {not weightless}" in objection


def test_bytes_without_code_of_the_npu_plugin_are_no_proof(blobs: Blobs, tmp_path: Path) -> None:
    blob = tmp_path / BLOB
    header = (blobs.payload("OPTIMIZE_SPEED") / BLOB).read_bytes()[:64]
    blob.write_bytes(header + bytes(1000))
    assert "no code of the NPU plugin" in str(not_npu_code(blob))
    blob.write_bytes(header + b"OVNPU" + bytes(1000))
    assert not_npu_code(blob) is None


def libraries(loader: Path, *, sha256: str | None = None) -> dict[str, Any]:
    """A configuration of `npu_compiler` that names one library for both parts."""
    digest = sha256 or hashlib.sha256(loader.read_bytes()).hexdigest()
    one = {"path": str(loader), "sha256": digest}
    return {"npu_compiler": {"loader": one, "compiler": one}}


def refused(base: Path, into: Path, *, message: str, sha256: str | None = None) -> str:
    """Why nothing is made of a base with a library that is no compiler."""
    tools = libraries(SOME_LIBRARY, sha256=sha256)
    with pytest.raises(PhiforgeError, match=message) as caught:
        convert(Path("source"), into, options=OPTIONS, base=base, tools=tools)
    return str(caught.value)


def test_a_library_with_another_digest_is_refused_in_one_line(
    built: Callable[[str], Path], tmp_path: Path
) -> None:
    message = r"npu_compiler\.loader.*expected 0{64}, found"
    refused(built("openvino-int4-npu"), tmp_path, message=message, sha256="0" * 64)
    assert not (tmp_path / BLOB).exists() and not (tmp_path / LABEL).exists()


def test_the_wheel_finds_the_configured_loader_and_is_left_alone(
    built: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Any library will do to see it found; one that is no compiler is named as such."""
    libs = SOME_LIBRARY.parent
    before = sorted(libs.iterdir())
    message = "the NPU compiler cannot work: "
    message = refused(built("openvino-int4-npu"), tmp_path, message=message)
    assert "undefined symbol: vcl" in message, "it was opened, beside the libraries of the wheel"
    assert "\n" not in message and "Traceback" not in capfd.readouterr().err
    assert sorted(libs.iterdir()) == before
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_a_base_without_an_npu_profile_is_refused(
    built: Callable[[str], Path], tmp_path: Path
) -> None:
    refused(built("openvino-int4"), tmp_path, message="npu-profile")


def test_another_compiler_makes_the_blobs_and_is_asked_again(
    pipeline: Checkout, tmp_path: Path
) -> None:
    library = tmp_path / "library.so"
    library.touch()
    compiler = json.dumps(libraries(library)["npu_compiler"])
    jobs = pipeline.planned("all", "--config", f"npu_compiler={compiler}")
    blobs = {f"npu-blob-{platform}" for platform in ("3720", "4000", "5010")}
    converted = {job for job in jobs if job.startswith("convert ")}
    assert converted == {f"convert phi3-tiny to {blob}" for blob in blobs}
    for job in jobs:
        if job.startswith("check ") and not any(blob in job for blob in blobs):
            assert job.endswith("-compiler"), "no other receipt rests on the compiler"
    assert {f"release phi3-tiny {blob}" for blob in blobs} <= jobs
