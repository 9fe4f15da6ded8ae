"""What cards, index, verify and diff say of each generation: never more than its receipts."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from phiforge.artifact.record import read_record, write_record
from phiforge.cli import main
from phiforge.jobs import Index
from phiforge.release.card import render
from phiforge.release.diff import diff
from phiforge.release.index import ReleaseIndexError, write_index
from phiforge.release.status import status
from support.checkout import ROOT
from support.release_edits import updated
from support.small_blob import STANDIN, SmallBlob
from support.small_release import COMPILER, MODEL, NPU, SmallVariant

FACTS = {
    "summary": "s",
    "snippet": "print()",
    "version": "0.1.0",
    "keyid": "ab",
    "notice": "",
    "languages": ["en"],
    "base_model": None,
}
LIMITS = {"size": 0.1, "mean_kl": 0.1, "max_kl": 0.1, "first_token_ms": 0.1, "tokens_per_s": 0.1}


@pytest.fixture
def blob(tmp_path: Path) -> SmallBlob:
    return SmallBlob(tmp_path / "variants")


def card(variant: SmallVariant) -> str:
    receipts = [read_record(variant.receipt(name)) for name in variant.rows]
    return render(read_record(variant.build), receipts, variant.gate(), FACTS, variant.payload)


def test_a_blobs_card_says_that_no_device_has_run_it(blob: SmallBlob) -> None:
    text = card(blob)
    assert "**No device has run this blob.** The NPU's own compiler made it" in text
    assert f"**{STANDIN}** (standin of openvino-int4): passed" in text
    assert f"| {STANDIN} of openvino-int4 | 2 of 2 |" in text
    assert f"**{COMPILER}** (compiler): compiled for NPU 4000 by Intel's NPU compiler" in text
    assert "for drivers that know interface 11.4.10" in text
    assert f"| {NPU} | compiled |" in text
    assert f"no receipt of {NPU} has passed" in text
    blob.appear(NPU)
    text = card(blob)
    assert "No device" not in text
    assert f"| {NPU} | passed (driver 32.0.100) |" in text


def test_an_irs_card_says_whether_the_compiler_was_asked(blob: SmallBlob) -> None:
    variant = blob.base
    assert f"| {NPU} | not asked |" in card(variant) and "| cpu | passed |" in card(variant)
    variant.appear(COMPILER)
    assert f"| {NPU} | compiled |" in card(variant)
    del variant.rows["cpu"], variant.rows[COMPILER]
    text = card(variant)
    assert f"| {NPU} | missing |" in text
    assert "**No device has run it.** What is known of each comes from a stand-in on a CPU." in text


def released(variant: SmallVariant, folder: Path) -> Path:
    release = variant.release(into=folder / MODEL / variant.variant)
    (release / "README.md").write_text("# a card\n\n```python\nprint()\n```\n")
    return release


def test_the_index_has_a_matrix_of_variant_by_device(blob: SmallBlob, tmp_path: Path) -> None:
    blob.appear(NPU)
    for variant in (blob, blob.base):
        released(variant, tmp_path)
    folder = tmp_path / MODEL
    hardware = ROOT / "config/hardware.yaml"
    write_index(Index(MODEL, "T", "MIT", {}, (), ()), hardware, folder, tmp_path)
    index: dict[str, Any] = json.loads((folder / "index.json").read_text())
    schema = json.loads((ROOT / "phiforge/release/index.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(index)
    told = {one["variant"]: one["devices"] for one in index["variants"]}
    assert told == {
        "npu-blob-4000": {NPU: {"state": "passed", "driver": "32.0.100"}},
        "openvino-int4": {
            "cpu": {"state": "passed", "driver": None},
            NPU: {"state": "not asked", "driver": None},
        },
    }
    rows = {row["hardware"]: row for row in index["hardware"]}
    assert rows["intel-npu-compiled"]["proven"] == {"npu-blob-4000": [NPU]}
    assert rows["cpu"]["proven"] == {"openvino-int4": ["cpu"]}
    receipts = {one["row"]: one for one in index["variants"][0]["receipts"]}
    assert receipts[STANDIN]["variant"] == "openvino-int4"
    assert receipts[COMPILER]["compiled"]["interface"] == "11.4.10"
    updated(f"npu-blob-4000/evidence/receipts/{NPU}.json", standin_for=None)(folder)
    with pytest.raises(ReleaseIndexError, match=r"standin_for.*release the variant again"):
        write_index(Index(MODEL, "T", "MIT", {}, (), ()), hardware, folder, tmp_path)


def test_verify_prints_what_is_known_on_each_device(
    blob: SmallBlob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = blob.release(into=tmp_path / MODEL / "npu-blob-4000")
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(release), "--any-signer"])
    assert ended.value.code == 0
    *_, verdict, device = capsys.readouterr().out.splitlines()
    assert verdict.startswith("INTACT: phi3-tiny npu-blob-4000") and device == f"  {NPU}: compiled"
    with pytest.raises(SystemExit):
        main(["verify", str(release), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["devices"] == {NPU: {"state": "compiled", "driver": None}}
    (release / "LICENSE").write_text("mine")
    with pytest.raises(SystemExit):
        main(["verify", str(release)])
    assert capsys.readouterr().out.splitlines()[-1].startswith("REFUSED"), "and says no more"


def test_a_blob_for_other_drivers_and_one_no_longer_compiled_are_in_the_diff(
    blob: SmallBlob, tmp_path: Path
) -> None:
    old, new = blob.release(into=tmp_path / "old"), blob.release(into=tmp_path / "new")
    assert diff(old, new, LIMITS) == ()
    path = new / f"evidence/receipts/{COMPILER}.json"
    receipt = read_record(path)
    receipt["compiled"]["interface"] = "11.5.0"
    path.write_text(json.dumps(receipt))
    (change,) = diff(old, new, LIMITS)
    assert (change.old, change.new, change.regression) == ("11.4.10", "11.5.0", "")
    path.write_text(json.dumps({**receipt, "verdict": "blocked", "compiled": None}))
    first, second = diff(old, new, LIMITS)
    assert first.regression == "no longer compiled" and second.new == ""


def test_the_runs_table_knows_compiled_and_forgets_a_row_that_is_gone(
    blob: SmallBlob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variant, root = blob.base, tmp_path / "artifacts"
    variant.appear(COMPILER)
    variant.gate()
    checks = root / "checks" / MODEL / variant.variant
    shutil.copytree(variant.folder / "checks", checks)
    old = {**read_record(variant.receipt(NPU)), "device": "npu-of-old"}
    write_record(checks / "npu-of-old.json", old)
    status([(MODEL, variant.variant)], root)
    assert "npu-of-old" in capsys.readouterr().out, "no gate says which rows there are"
    (root / "gates" / MODEL).mkdir(parents=True)
    shutil.copyfile(variant.verdict, root / "gates" / MODEL / f"{variant.variant}.json")
    status([(MODEL, variant.variant)], root)
    told = capsys.readouterr().out
    assert f"{COMPILER} compiled" in told and "npu-of-old" not in told
    assert f"  cpu: {variant.variant}\n  {NPU}: {variant.variant}\n" in told


def test_the_runs_table_says_why_something_failed_and_where_it_is_told(
    blob: SmallBlob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variant, root = blob.base, tmp_path / "artifacts"
    checks = root / "checks" / MODEL / variant.variant
    shutil.copytree(variant.folder / "checks", checks)
    reason = "mean kl is 0.4, and at most 0.01 is accepted: " + "far too much of it " * 4
    receipt = {**read_record(variant.receipt("cpu")), "verdict": "failed", "reason": reason.strip()}
    write_record(checks / "cpu.json", receipt)
    release_log, old_log = (
        root / f"logs/{rule}/{MODEL}.{variant.variant}.log" for rule in ("release", "convert")
    )
    for log, text in ((release_log, "x\nerror: no \x1b[2Jway\n"), (old_log, "error: old\ndone\n")):
        log.parent.mkdir(parents=True)
        log.write_text(text)
    status([(MODEL, variant.variant)], root)
    told = capsys.readouterr().out
    assert max(map(len, told.replace(str(tmp_path), "").splitlines())) <= 80
    flat = " ".join(told.split())
    check_log = root / f"logs/check/{MODEL}.{variant.variant}.cpu.log"
    assert f"{variant.variant} on cpu: {reason.strip()} ({check_log})" in flat
    assert f"release {MODEL} {variant.variant}: error: no \ufffd[2Jway ({release_log})" in flat
    assert "old" not in flat
