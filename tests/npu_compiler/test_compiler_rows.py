"""Intel's NPU compiler as a check: what it takes, what it refuses, and what a blob must be."""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converters.npu_blob import build
from phiforge.artifact.npu_blob import BLOB, LABEL, read_code, read_header
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import sha256_file
from support.bench import Bench, copied, reseal
from support.checkout import NPU_COMPILER
from support.jobs import SETTINGS, check_job

pytestmark = pytest.mark.skipif(
    not (NPU_COMPILER / ".installed").is_file(), reason="needs `make npu-compiler`"
)

PLATFORMS = ("3720", "4000", "5010")
BLOBS = [f"npu-blob-{platform}" for platform in PLATFORMS]


def compiled(
    bench: Bench, variant: str, row: str, artifact: Path, /, **changes: Any
) -> dict[str, Any]:
    """The receipt of a compiler row."""
    done, receipt = bench.check(variant, row, artifact, **changes)
    assert done.returncode == 0 and receipt is not None, done.stderr
    return receipt


def failure(receipt: Mapping[str, Any]) -> tuple[str, str]:
    """The one failure of a receipt, its name and what it says."""
    assert receipt["verdict"] == "failed" and receipt["compiled"] is None
    [one] = receipt["failures"]
    return one["name"], one["what"]


@pytest.mark.parametrize("variant", BLOBS)
def test_a_blob_is_code_for_its_platform_and_says_what_it_is_tied_to(
    variant: str, built: Callable[[str], Path]
) -> None:
    payload, platform = built(variant), variant.rpartition("-")[2]
    label, code = read_record(payload / LABEL), read_code(payload / BLOB)
    assert code.platforms == (platform,) and code.submodels > 1
    assert (label["platform"], label["submodels"]) == (platform, code.submodels)
    assert re.fullmatch(r"\d+\.\d+\.\d+", label["interface"]), "which a driver must know"
    assert label["openvino"] == read_header(payload / BLOB).openvino
    assert label["pipeline_options"]["MAX_PROMPT_LEN"] == 1024
    base = SETTINGS.variants[variant].base
    assert base is not None
    for described in label["ir"].values():
        assert described["sha256"] == sha256_file(built(base) / described["file"])
    assert not any("wine" in str(value) for value in label.values()), "no agent's own in a payload"


@pytest.mark.parametrize("variant", ["openvino-int4-npu", "npu-blob-4000"])
def test_the_compiler_says_what_it_took(
    variant: str, built: Callable[[str], Path], bench: Bench
) -> None:
    payload = built(variant)
    receipt = compiled(bench, variant, "npu-4000-compiler", payload.parent)
    assert (receipt["kind"], receipt["verdict"]) == ("compiler", "compiled"), receipt["reason"]
    evidence, blob = receipt["compiled"], built("npu-blob-4000") / BLOB
    assert evidence["blob_sha256"] == sha256_file(blob), "the bytes that the converter got"
    assert evidence["ir"]["openvino_model.bin"] == sha256_file(payload / "openvino_model.bin")
    assert evidence["platform"] == "4000" == evidence["options"]["NPU_PLATFORM"]
    assert evidence["options"]["NPUW_DEVICES"] == "NPU"
    assert "Intel's NPU compiler" in evidence["compiler"] and "wine" in evidence["compiler"]
    assert receipt["executed_on"] is None and receipt["golden"] == []


def test_the_compiler_refuses_nf4_where_the_generation_has_none(
    built: Callable[[str], Path], bench: Bench
) -> None:
    artifact = built("openvino-nf4-npu-cw").parent
    verdict = compiled(bench, "openvino-nf4-npu-cw", "npu-4000-compiler", artifact)["verdict"]
    assert verdict == "compiled"
    row = check_row("openvino-nf4-npu-cw", "npu-4000-compiler", platform="3720")
    receipt = compiled(bench, "openvino-nf4-npu-cw", "npu-4000-compiler", artifact, row=row)
    name, what = failure(receipt)
    assert name == "compiler-refuses"
    assert "does not take this IR for platform 3720: compile: " in what and "\n" not in what
    assert what.endswith("Unsupported data type 'nf4'")


def check_row(variant: str, row: str, **settings: str) -> Any:
    """A row with other settings than the configured one's."""
    configured = check_job(variant, row).row
    return replace(configured, settings={**configured.settings, **settings})


def unknown_operator(payload: Path) -> None:
    graph = payload / "openvino_model.xml"
    text = graph.read_text()
    assert 'type="Softmax"' in text or 'type="ScaledDotProductAttention"' in text
    graph.write_text(re.sub('type="(Softmax|ScaledDotProductAttention)"', 'type="Nothing"', text))


def relabel(payload: Path, **changes: Any) -> None:
    write_record(payload / LABEL, {**read_record(payload / LABEL), **changes})


def describe_blob(payload: Path) -> None:
    """Let the label describe the blob that is there."""
    blob = payload / BLOB
    relabel(
        payload,
        blob={"file": BLOB, "size": blob.stat().st_size, "sha256": sha256_file(blob)},
    )


def of_another_platform(payload: Path, built: Callable[[str], Path]) -> None:
    replace_blob(payload, built("npu-blob-3720") / BLOB)


def labelled_for_another_platform(payload: Path, built: Callable[[str], Path]) -> None:
    relabel(payload, platform="3720")


def of_another_release(payload: Path, built: Callable[[str], Path]) -> None:
    data = bytearray((payload / BLOB).read_bytes())
    data[16:20] = (3).to_bytes(4, "little")  # the minor version
    rewrite(payload, bytes(data))


def with_a_byte_changed(payload: Path, built: Callable[[str], Path]) -> None:
    data = bytearray((payload / BLOB).read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(payload, bytes(data))


def cut_short(payload: Path, built: Callable[[str], Path]) -> None:
    rewrite(payload, (payload / BLOB).read_bytes()[:-100])


def of_cpu_code(payload: Path, built: Callable[[str], Path]) -> None:
    made = payload.parent / "cpu"
    made.mkdir()
    options = dict(SETTINGS.variants["npu-blob-4000"].options)
    build(built("openvino-int4-npu"), made, options, made_for="CPU")
    replace_blob(payload, made / BLOB)
    shutil.rmtree(made)


def of_another_ir(payload: Path, built: Callable[[str], Path]) -> None:
    ir = read_record(payload / LABEL)["ir"]
    other = sha256_file(built("openvino-int4-npu-cw") / "openvino_model.bin")
    relabel(payload, ir={**ir, "bin": {**ir["bin"], "sha256": other}})


def rewrite(payload: Path, data: bytes) -> None:
    (payload / BLOB).write_bytes(data)
    describe_blob(payload)


def replace_blob(payload: Path, other: Path) -> None:
    rewrite(payload, other.read_bytes())


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (of_another_platform, "blob-wrong-platform"),
        (labelled_for_another_platform, "blob-wrong-platform"),
        (of_another_release, "blob-wrong-openvino"),
        (of_cpu_code, "blob-made-for-cpu"),
        (with_a_byte_changed, "blob-of-another-compiler"),
        (cut_short, "blob-of-another-compiler"),
        (of_another_ir, "blob-of-another-ir"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_blob_that_is_not_the_compilers_is_refused_by_name(
    spoil: Callable[[Path, Callable[[str], Path]], None],
    name: str,
    built: Callable[[str], Path],
    bench: Bench,
    tmp_path: Path,
) -> None:
    artifact = copied(built("npu-blob-4000"), tmp_path)
    spoil(artifact / "payload", built)
    reseal(artifact / "payload")
    receipt = compiled(bench, "npu-blob-4000", "npu-4000-compiler", artifact)
    assert failure(receipt)[0] == name, receipt["reason"]
    assert str(tmp_path) not in receipt["reason"], "a receipt names no folder of this machine"


def test_an_ir_that_the_compiler_cannot_read_is_refused_by_name(
    built: Callable[[str], Path], bench: Bench, tmp_path: Path
) -> None:
    artifact = copied(built("openvino-int4-npu"), tmp_path)
    unknown_operator(artifact / "payload")
    reseal(artifact / "payload")
    # Beside the source, the lint of the graph's form would name it first.
    alone = replace(bench, source=None)
    receipt = compiled(alone, "openvino-int4-npu", "npu-4000-compiler", artifact)
    name, what = failure(receipt)
    assert name == "compiler-refuses" and "read the IR" in what


def test_a_changed_blob_whose_digests_are_old_is_damaged(
    built: Callable[[str], Path], bench: Bench, tmp_path: Path
) -> None:
    artifact = copied(built("npu-blob-4000"), tmp_path)
    blob = artifact / "payload" / BLOB
    data = blob.read_bytes()
    blob.write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
    receipt = compiled(bench, "npu-blob-4000", "npu-4000-compiler", artifact)
    assert failure(receipt)[0] == "damaged-payload"
