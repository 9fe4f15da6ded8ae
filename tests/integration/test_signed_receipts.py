"""Real receipts: each way to cheat is refused by name; stable is reached only with keys."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attestation import keys
from attestation.envelope import verify
from attestation.statement import VERIFICATION_SUMMARY
from checkout import ROOT, Checkout
from configuration.documents import read_yaml
from configuration.plan import row_settings
from configuration.settings import load
from records.record import read_record, write_record
from records.tree import files_under, sha256_file
from release.gate import GateError, gate
from release.promotion import PROMOTION, PromotionError
from release.scrutiny import expect as expect_of
from release.scrutiny import scrutinize
from release.stage import Terms, stage
from releasing import Verifier, copy_release
from validators.receipt_files import envelope_path
from validators.signed_receipt import write_signed

SETTINGS = load(read_yaml(ROOT / "config/config.yaml"), ROOT / "config")
MODEL = SETTINGS.models["phi3-tiny"]
OVERRIDES = {
    **MODEL.acceptance,
    "minimum_validated_tokens": MODEL.minimum_validated_tokens,
}
VARIANT = "openvino-int4"
CPU_ONLY = "genai-cpu-int4"


@dataclass
class Case:
    """Copies of what a gate reads, to be tampered with."""

    folder: Path
    pipeline: Path
    golden: Path
    acceptance: Path
    rows: dict[str, dict[str, Any]]

    def receipt(self, row: str) -> Path:
        return self.folder / f"{row}.json"

    def build(self) -> dict[str, Any]:
        return read_record(self.folder / "BUILD.json")

    def told(self) -> dict[str, Any]:
        return {
            "golden": self.golden,
            "reference": self.pipeline / "artifacts/reference/phi3-tiny/REFERENCE.json",
            "acceptance": self.acceptance,
            "overrides": OVERRIDES,
            "rows": self.rows,
        }

    def gate(self) -> dict[str, Any]:
        receipts = [self.receipt(row) for row in self.rows]
        verdict = self.folder / "verdict"
        gate(self.folder / "BUILD.json", receipts, "candidate", verdict, **self.told())
        return read_record(verdict)

    def sign_again(self, row: str, **changes: Any) -> None:
        """Let someone with a key of their own claim something else."""
        changed = {**read_record(self.receipt(row)), **changes}
        write_signed(self.receipt(row), changed, keys.occasional())

    def take(self, row: str, other: Path) -> None:
        shutil.copyfile(other, self.receipt(row))
        shutil.copyfile(envelope_path(other), envelope_path(self.receipt(row)))

    def checked(self, variant: str, row: str) -> Path:
        return self.pipeline / f"artifacts/checks/phi3-tiny/{variant}/{row}.json"


@pytest.fixture
def case(pipeline: Checkout, tmp_path: Path) -> Case:
    variant = SETTINGS.variants[VARIANT]
    made = Case(
        folder=tmp_path / VARIANT,
        pipeline=pipeline.folder,
        golden=tmp_path / "golden.yaml",
        acceptance=tmp_path / "acceptance.yaml",
        rows={
            name: {
                **row_settings(SETTINGS.devices[name], variant),
                "executes": "GPU" if name == "gpu" else "CPU",
                "available": name != "gpu",
                "key": None,
            }
            for name in variant.devices
        },
    )
    shutil.copytree(made.checked(VARIANT, "cpu").parent, made.folder)
    artifacts = pipeline.folder / "artifacts"
    shutil.copyfile(artifacts / f"build/phi3-tiny/{VARIANT}/BUILD.json", made.folder / "BUILD.json")
    shutil.copyfile(ROOT / "models/phi3-tiny/golden.yaml", made.golden)
    shutil.copyfile(ROOT / "config/acceptance.yaml", made.acceptance)
    return made


def test_honest_receipts_are_believed_in_another_checkout_too(case: Case) -> None:
    verdict = case.gate()
    assert {row: told["verdict"] for row, told in verdict["receipts"].items()} == {
        "cpu": "passed",
        "gpu": "blocked",
        "gpu-standin": "passed",
    }
    assert verdict["missing_for_stable"] == ["cpu", "gpu"]


def unsigned(case: Case) -> None:
    envelope_path(case.receipt("cpu")).unlink()


def written_by_hand(case: Case) -> None:
    passed = read_record(case.receipt("cpu"))
    write_record(case.receipt("gpu"), {**passed, "device": "gpu"})


def blocked_by_hand(case: Case) -> None:
    told = read_record(case.receipt("gpu"))
    write_record(case.receipt("cpu"), {**told, "device": "cpu"})


def failure_hidden_as_blocked(case: Case) -> None:
    blocked_by_hand(case)
    envelope_path(case.receipt("cpu")).unlink()
    told = read_record(case.receipt("cpu"))
    settings = case.rows["cpu"]["settings"]
    write_record(case.receipt("cpu"), {**told, "settings": settings, "runtime": "openvino"})


def edited_receipt(case: Case) -> None:
    text = case.receipt("cpu").read_text()
    case.receipt("cpu").write_text(text.replace('"validated_tokens": ', '"validated_tokens": 1'))
    assert case.receipt("cpu").read_text() != text


def edited_envelope(case: Case) -> None:
    path = envelope_path(case.receipt("cpu"))
    envelope = read_record(path)
    head, tail = envelope["payload"][:200], envelope["payload"][201:]
    write_record(path, {**envelope, "payload": head + "A" + tail})


def stale(case: Case) -> None:
    write_record(case.folder / "BUILD.json", {**case.build(), "artifact_sha256": "0" * 64})


def other_golden(case: Case) -> None:
    text = case.golden.read_text()
    case.golden.write_text(text.replace("max_new_tokens: 1024", "max_new_tokens: 1000", 1))


def other_reference(case: Case) -> None:
    case.sign_again("cpu", reference_sha256="0" * 64)


def other_validator(case: Case) -> None:
    case.sign_again("cpu", validator_sha256="0" * 64)


def of_another_variant(case: Case) -> None:
    case.take("cpu", case.checked("openvino-int8", "cpu"))


def of_another_row(case: Case) -> None:
    case.take("gpu", case.checked(VARIANT, "gpu-standin"))


def standin_as_device(case: Case) -> None:
    case.take("gpu", case.checked(VARIANT, "gpu-standin"))
    row = case.rows["gpu"]
    case.sign_again(
        "gpu",
        device="gpu",
        **{key: row[key] for key in ("kind", "standin_for", "settings")},
    )


def gentler_gates(case: Case) -> None:
    text = re.sub(r"gate: [0-9.]+", "gate: 0.9", case.acceptance.read_text())
    case.acceptance.write_text(text)


def gentler_thresholds(case: Case) -> None:
    case.sign_again("cpu", thresholds={"mean_kl": 9.0, "max_kl": 9.0})


def failing_numbers(case: Case) -> None:
    metrics = read_record(case.receipt("cpu"))["metrics"]
    case.sign_again("cpu", metrics={**metrics, "mean_kl": 0.5})


def wrong_answer(case: Case) -> None:
    golden = read_record(case.receipt("cpu"))["golden"]
    case.sign_again("cpu", golden=[{**golden[0], "passed": False}, *golden[1:]])


def fewer_prompts(case: Case) -> None:
    case.sign_again("cpu", golden=read_record(case.receipt("cpu"))["golden"][1:])


@pytest.mark.parametrize(
    ("cheat", "told"),
    [
        (unsigned, "cpu: .*nobody signed this receipt"),
        (written_by_hand, "gpu: .*nobody signed this receipt"),
        (blocked_by_hand, "cpu: .*edited: a blocked row has no signer and no envelope"),
        (failure_hidden_as_blocked, "cpu: blocked, and yet it can run here"),
        (edited_receipt, "cpu: .*it is not the receipt that was signed"),
        (edited_envelope, "cpu: .*(the envelope was edited|not a signed envelope)"),
        (stale, "cpu: stale, it is about another artifact"),
        (other_golden, "cpu: it answers other golden prompts"),
        (other_reference, "cpu: it was compared with another reference"),
        (other_validator, "cpu: another validator's code made it"),
        (of_another_variant, "cpu: copied, .* phi3-tiny/openvino-int8/cpu"),
        (of_another_row, "gpu: .*the envelope is another row's"),
        (standin_as_device, "gpu: 'passed', but CPU executed it, GPU must have"),
        (gentler_gates, "cpu: its thresholds are not the current gates"),
        (gentler_thresholds, "cpu: its thresholds are not the current gates"),
        (failing_numbers, "cpu: 'passed', but its mean_kl is 0.5"),
        (wrong_answer, "cpu: 'passed', but golden prompt guide-introduction did not"),
        (fewer_prompts, "cpu: 'passed', but not every golden prompt is in it"),
    ],
    ids=lambda one: one.__name__ if callable(one) else "",
)
def test_a_receipt_that_is_not_what_it_seems_is_refused_by_name(
    case: Case, cheat: Callable[[Case], None], told: str
) -> None:
    cheat(case)
    with pytest.raises(GateError, match=told):
        case.gate()
    assert not (case.folder / "verdict").exists()


def test_only_the_rows_key_counts_where_a_key_is_asked_for(case: Case, tmp_path: Path) -> None:
    keys.new_key(tmp_path / "lab.key", tmp_path / "lab.pub")
    case.rows["cpu"]["key"] = str(tmp_path / "lab.pub")
    expected = expect_of(case.build(), **case.told())
    row = expected.rows["cpu"]
    assert row.key is not None
    _, against = scrutinize(case.receipt("cpu"), row, expected, [row.key])
    assert [refusal.name for refusal in against] == ["unknown-signer"]
    lab = keys.load_private(tmp_path / "lab.key")
    write_signed(case.receipt("cpu"), read_record(case.receipt("cpu")), lab)
    receipt, against = scrutinize(case.receipt("cpu"), row, expected, [row.key])
    assert against == ()
    assert receipt is not None and receipt["signer"]["occasional"] is False


def test_stable_names_every_missing_receipt_of_the_shipped_configuration(
    pipeline: Checkout,
) -> None:
    done = pipeline.snakemake("--cores", "4", "stable", check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    for variant in SETTINGS.variants.values():
        if not (pipeline.folder / f"artifacts/release/phi3-tiny/{variant.name}").is_dir():
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

    shutil.copytree(pipeline.folder, copy.folder, ignore=others)
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


def release_of(checkout: Checkout) -> Path:
    return checkout.folder / "artifacts/release/phi3-tiny" / CPU_ONLY


def test_stable_is_a_signed_summary_of_what_was_verified(
    stable: Checkout, pipeline: Checkout
) -> None:
    release = release_of(stable)
    output = (stable.folder.parent / "stable.txt").read_text()
    assert f"phi3-tiny {CPU_ONLY}: stable since " in output
    assert "convert" not in output, "a promotion builds nothing"
    key = keys.read_public(stable.folder.parent / "release.pub")
    statement = verify(read_record(release / "evidence" / PROMOTION), [key])
    assert statement["predicateType"] == VERIFICATION_SUMMARY
    assert statement["subject"][0]["digest"]["sha256"] == sha256_file(release / "SHA256SUMS")
    predicate = statement["predicate"]
    assert predicate["verificationResult"] == "PASSED"
    (attested,) = predicate["inputAttestations"]
    assert attested["uri"] == "evidence/receipts/cpu.dsse.json"
    assert sha256_file(release / attested["uri"]) == attested["digest"]["sha256"]
    lab = keys.read_public(stable.folder.parent / "lab.pub")
    assert verify(read_record(release / attested["uri"]), [lab])["predicate"]["result"] == "PASSED"
    record = read_record(stable.folder / f"artifacts/promotions/phi3-tiny/{CPU_ONLY}.json")
    assert record["promoted"] and record["keyid"] == key.keyid
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=release, check=True)
    for name in files_under(release_of(pipeline)):
        if name.parts[0] not in ("evidence", "README.md"):
            assert (release / name).read_bytes() == (release_of(pipeline) / name).read_bytes()


def test_stable_is_verified_where_there_is_only_the_folder(
    stable: Checkout, verifier: Verifier, tmp_path: Path
) -> None:
    release = release_of(stable)
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
    secrets = []
    for name in ("lab", "release"):
        secrets += [(folder / f"{name}.key").read_bytes().splitlines()[1]]
    seen = [path for path in (stable.folder / "artifacts").rglob("*") if path.is_file()]
    seen += [path for path in (stable.folder / ".snakemake").rglob("*") if path.is_file()]
    seen.append(folder / "stable.txt")
    for path in seen:
        data = path.read_bytes()
        assert b"PRIVATE KEY" not in data, path
        assert not any(secret in data for secret in secrets), path


def test_all_never_demotes(stable: Checkout) -> None:
    release = release_of(stable)
    before = {name: (release / name).read_bytes() for name in files_under(release)}
    chosen = ("--config", f"variants={CPU_ONLY}")
    assert stable.planned("all", *chosen) <= {"index phi3-tiny"}  # which tells of the promotion
    done = stable.snakemake("--cores", "4", "all", "--forcerun", "gate", *chosen)
    assert {name: (release / name).read_bytes() for name in files_under(release)} == before
    assert re.search(r"│ stable +│", done.stdout + done.stderr)


def test_another_artifact_does_not_take_a_stable_releases_place(
    stable: Checkout, pipeline: Checkout, tmp_path: Path
) -> None:
    release = release_of(stable)
    before = {name: (release / name).read_bytes() for name in files_under(release)}
    artifacts = pipeline.folder / "artifacts"
    with pytest.raises(PromotionError, match=r"a stable release stands here .*Remedy"):
        stage(
            artifacts / "build/phi3-tiny/genai-dml-int4/BUILD.json",
            artifacts / "gates/phi3-tiny/genai-dml-int4.json",
            [],
            {},
            Terms("0.1.0", {}, "urn:test:builder"),
            release,
        )
    assert {name: (release / name).read_bytes() for name in files_under(release)} == before
    assert json.loads((release / "MANIFEST.json").read_text())["variant"] == CPU_ONLY
