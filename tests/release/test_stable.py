"""From candidate to stable with real receipts: only with keys, signed, and never back."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from phiforge.artifact.record import read_record
from phiforge.artifact.tree import files_under, sha256_file
from phiforge.receipts.policy import PROMOTION
from phiforge.release.promotion import PromotionError
from phiforge.release.stage import stage
from phiforge.trust import keys
from phiforge.trust.envelope import open_envelope
from phiforge.trust.statement import VERIFICATION_SUMMARY
from support.checkout import ROOT, Checkout
from support.jobs import JOBS, SETTINGS, Names
from support.releasing import Verifier, copy_release

CPU_ONLY = "genai-cpu-int4"


def test_stable_names_every_missing_receipt_of_the_shipped_configuration(
    pipeline: Checkout,
) -> None:
    done = pipeline.snakemake("--cores", "4", "stable", check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    for variant in SETTINGS.variants.values():
        if not pipeline.release(variant.name).is_dir():
            assert f"phi3-tiny {variant.name}: not built here" in output
            continue
        for row in variant.devices:
            if SETTINGS.devices[row].kind == "device":
                # Snakemake shows the log of a rule that failed, and so each line twice.
                lines = {
                    line
                    for line in output.splitlines()
                    if line.startswith(f"phi3-tiny {variant.name}: {row} is missing: ")
                }
                assert len(lines) == 1, (variant.name, row)
                assert "To get it: " in lines.pop()
    assert "releases are not stable" in output
    assert "Traceback" not in output
    assert not list(pipeline.folder.glob(f"artifacts/release/*/*/evidence/{PROMOTION}"))


@pytest.fixture(scope="module")
def stable(pipeline: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy in which a CPU build was checked with its row's key and promoted."""
    folder = tmp_path_factory.mktemp("stable")
    copy = Checkout(folder / "phiforge")

    def others(parent: str, names: list[str]) -> set[str]:
        above = Path(parent).relative_to(pipeline.folder).parent.as_posix()
        variants = above in ("artifacts/build", "artifacts/release")
        return {name for name in names if variants and name != CPU_ONLY}

    shutil.copytree(pipeline.folder, copy.folder, symlinks=True, ignore=others)
    for name, kind in (("lab", "ed25519"), ("release", "ecdsa")):
        keys.new_key(folder / f"{name}.key", folder / f"{name}.pub", kind=kind)
    devices = copy.folder / "config/devices.yaml"
    before = devices.read_text()
    key = f"  summary: CPU\n  key: {folder}/lab.pub\n"
    devices.write_text(before.replace("  summary: CPU\n", key))
    assert devices.read_text() != before
    (copy.folder / f"artifacts/checks/phi3-tiny/{CPU_ONLY}/cpu.json").unlink()
    done = copy.snakemake(
        "--cores", "4", "stable", "--config", f"variants={CPU_ONLY}",
        PHIFORGE_RUNNER_KEY=str(folder / "lab.key"),
        PHIFORGE_SIGNING_KEY=str(folder / "release.key"),
    )  # fmt: skip
    (folder / "stable.txt").write_text(done.stdout + done.stderr)
    return copy


def content(release: Path) -> dict[Path, bytes]:
    return {name: (release / name).read_bytes() for name in files_under(release)}


def test_stable_is_a_signed_summary_of_what_was_verified(
    stable: Checkout, pipeline: Checkout
) -> None:
    release = stable.release(CPU_ONLY)
    output = (stable.folder.parent / "stable.txt").read_text()
    assert f"phi3-tiny {CPU_ONLY}: stable since " in output
    assert "convert" not in output, "a promotion builds nothing"
    key = keys.read_public(stable.folder.parent / "release.pub")
    statement, _ = open_envelope(read_record(release / "evidence" / PROMOTION), [key])
    assert statement["predicateType"] == VERIFICATION_SUMMARY
    assert statement["subject"][0]["digest"]["sha256"] == sha256_file(release / "SHA256SUMS")
    predicate = statement["predicate"]
    assert predicate["verificationResult"] == "PASSED"
    (attested,) = predicate["inputAttestations"]
    assert attested["uri"] == "evidence/receipts/cpu.dsse.json"
    assert sha256_file(release / attested["uri"]) == attested["digest"]["sha256"]
    lab = keys.read_public(stable.folder.parent / "lab.pub")
    checked, _ = open_envelope(read_record(release / attested["uri"]), [lab])
    assert checked["predicate"]["result"] == "PASSED"
    assert predicate["policy"]["uri"] == "evidence/gate.json"
    record = read_record(stable.folder / f"artifacts/promotions/phi3-tiny/{CPU_ONLY}.json")
    assert record["promoted"] and record["keyid"] == key.keyid
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=release, check=True)
    for name in files_under(pipeline.release(CPU_ONLY)):
        if name.parts[0] not in ("evidence", "README.md"):
            assert (release / name).read_bytes() == (pipeline.release(CPU_ONLY) / name).read_bytes()


def test_stable_is_verified_where_there_is_only_the_folder(
    stable: Checkout, verifier: Verifier, tmp_path: Path
) -> None:
    release = stable.release(CPU_ONLY)
    key = ("--key", str(stable.folder.parent / "release.pub"))
    done = verifier.run(release, *key, "--channel", "stable")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(f"VERIFIED: phi3-tiny {CPU_ONLY} 0.1.0 (stable)")
    assert verifier.findings(release, "--channel", "stable") == ["policy"]  # by whom?
    copy = copy_release(release, tmp_path / CPU_ONLY)
    (copy / "evidence" / PROMOTION).unlink()
    assert verifier.findings(copy, *key) == []
    assert verifier.findings(copy, *key, "--channel", "stable") == ["policy"]


def test_no_private_key_is_in_artifacts_or_logs(stable: Checkout) -> None:
    folder = stable.folder.parent
    secrets = [path.read_bytes().splitlines()[1] for path in folder.glob("*.key")]
    assert len(secrets) == 2
    artifacts, logs = (stable.folder / name for name in ("artifacts", ".snakemake"))
    for path in (*artifacts.rglob("*"), *logs.rglob("*"), folder / "stable.txt"):
        data = path.read_bytes() if path.is_file() else b""
        assert b"PRIVATE KEY" not in data, path
        assert not any(secret in data for secret in secrets), path


def test_all_never_demotes(stable: Checkout) -> None:
    release = stable.release(CPU_ONLY)
    before = content(release)
    chosen = ("--config", f"variants={CPU_ONLY}")
    assert stable.planned("all", *chosen) <= {
        "index phi3-tiny",
        "page of all models",
    }  # which tells of the promotion
    done = stable.snakemake("--cores", "4", "all", "--forcerun", "release", *chosen)
    assert content(release) == before
    assert " stable 0.1.0 " in done.stdout


def test_another_artifact_does_not_take_a_stable_releases_place(
    stable: Checkout, pipeline: Checkout, tmp_path: Path
) -> None:
    release = stable.release(CPU_ONLY)
    before = content(release)
    artifacts = pipeline.folder / "artifacts"
    with pytest.raises(PromotionError, match=r"this folder holds a stable release .*Remedy"):
        stage(
            JOBS.release(Names(variant="genai-dml-int4")),
            artifacts / "build/phi3-tiny/genai-dml-int4/BUILD.json",
            artifacts / "gates/phi3-tiny/genai-dml-int4.json",
            [],
            ROOT / "phiforge/release/snippets/onnx-genai.py",
            release,
            {},
        )
    assert content(release) == before
    assert json.loads((release / "MANIFEST.json").read_text())["variant"] == CPU_ONLY
