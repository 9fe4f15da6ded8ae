"""The evidence of a release is what standard tools of the field accept, and is the truth."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult as Result
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from phiforge.artifact.record import read_record
from phiforge.artifact.tree import sha256_file
from phiforge.release.signing import SigningError, release_key
from phiforge.trust import keys
from support.checkout import ROOT, Checkout, available_variants, planned_jobs
from support.jobs import command
from support.release_edits import Edit, flipped, pipe, write
from support.releasing import SIGNED_VARIANT as VARIANT
from support.releasing import Certified, Verifier, minimal_environment, stage

MODEL_SIGNING = str(Path(sys.executable).parent / "model_signing")


def statement_in(path: Path) -> dict[str, Any]:
    statement: dict[str, Any] = json.loads(
        base64.b64decode(json.loads(path.read_text())["payload"])
    )
    return statement


def shipped_key(release: Path) -> Path:
    (key,) = (release / "evidence/keys").glob("*.pub")
    return key


def test_the_minimal_environment_is_minimal(verifier: Verifier) -> None:
    for package in ("torch", "openvino", "yaml", "securesystemslib", "jinja2"):
        done = subprocess.run([str(verifier.python), "-I", "-c", f"import {package}"], check=False)
        assert done.returncode != 0, package
    assert verifier.program.stat().st_size < 64_000


@pytest.mark.parametrize("variant", available_variants())
def test_a_release_is_verified_where_there_is_only_the_folder(
    verifier: Verifier, pipeline: Checkout, variant: str
) -> None:
    release = pipeline.release(variant)
    done = verifier.run(release)
    assert done.returncode == 3, done.stdout
    assert verifier.run(release, "--any-signer").returncode == 0
    assert f"\nINTACT: phi3-tiny {variant} 0.1.0 (candidate)" in done.stdout
    assert "an ephemeral key" in done.stdout
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=release, check=True)


def test_a_signer_that_the_reader_knows_is_named(
    verifier: Verifier, signed: Path, certified: Certified
) -> None:
    for arguments in (
        ["--key", str(certified.public)],
        ["--ca", str(certified.authority), "--subject", certified.subject],
    ):
        done = verifier.run(signed, *arguments)
        assert done.returncode == 0, done.stdout
        assert done.stdout.startswith(f"VERIFIED: phi3-tiny {VARIANT} 0.1.0"), done.stdout


def test_the_checkout_verifies_too(pipeline: Checkout) -> None:
    verify = command("verify", pipeline.release(VARIANT), "--json")
    assert pipeline.run(*verify, check=False).returncode == 3
    done = pipeline.run(*verify, "--any-signer")
    report = json.loads(done.stdout)
    assert (report["verdict"], report["version"], report["ephemeral"]) == ("intact", "0.1.0", True)
    assert [finding["name"] for finding in report["findings"]] == ["unknown-signer"]


def test_the_command_on_the_card_is_accepted_by_model_signing(pipeline: Checkout) -> None:
    release = pipeline.release(VARIANT)
    card = (release / "README.md").read_text()
    found = re.search(r"`(model_signing verify key [^`]+)`", card)
    assert found is not None
    key = shipped_key(release)
    assert f"RELEASE-KEY.pub (key `{key.stem}`)" in card
    words = found[1].replace("RELEASE-KEY.pub", str(key)).split()
    done = subprocess.run(
        [MODEL_SIGNING, *words[1:]], cwd=release, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Verification succeeded" in done.stdout


def test_model_signing_accepts_the_certificate(signed: Path, certified: Certified) -> None:
    subprocess.run(
        [
            MODEL_SIGNING, "verify", "certificate", str(signed),
            "--signature", str(signed / "evidence/model.sig"),
            "--ignore-paths", str(signed / "README.md"),
            "--ignore-paths", str(signed / "evidence"),
            "--certificate_chain", str(certified.authority),
        ],
        check=True,
    )  # fmt: skip


@pytest.mark.parametrize("variant", ["openvino-int4-awq", "genai-dml-int4"])
def test_the_bill_of_materials_validates_strictly(pipeline: Checkout, variant: str) -> None:
    release = pipeline.release(variant)
    text = (release / "evidence/sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    model = bill["metadata"]["component"]
    manifest = json.loads((release / "MANIFEST.json").read_text())
    assert model["type"] == "machine-learning-model"
    assert model["modelCard"]["modelParameters"]["architectureFamily"] == "phi3"
    assert model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert model["licenses"][0]["license"]["id"] == "MIT"
    ancestor = model["pedigree"]["ancestors"][0]
    assert ancestor["components"][0]["name"] == "model.safetensors"
    purls = {component["purl"] for component in bill["components"]}
    assert purls >= {
        f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
        for name, version in manifest["toolchain"].items()
    }
    files = {one["name"]: one["hashes"][0]["content"] for one in model["components"]}
    assert files == {
        line[66:]: line[:64] for line in (release / "SHA256SUMS").read_text().splitlines()
    } | {"SHA256SUMS": sha256_file(release / "SHA256SUMS")}


def test_the_same_release_has_the_same_bill(pipeline: Checkout, signed: Path) -> None:
    name = "evidence/sbom.cdx.json"
    assert (pipeline.release(VARIANT) / name).read_bytes() == (signed / name).read_bytes()


def test_in_totos_library_accepts_every_statement(pipeline: Checkout) -> None:
    release = pipeline.release("openvino-int4")
    for path in sorted(release.rglob("*.dsse.json")):
        statement = statement_in(path)
        message = ParseDict(statement, StatementMessage())
        Statement.copy_from_pb(message).validate()
        kind = Provenance if path.name == "provenance.dsse.json" else Result
        ParseDict(statement["predicate"], kind())
        if kind is Provenance:
            key = keys.load_public(shipped_key(release).read_text())
        else:
            receipt = json.loads(path.with_name(path.name.replace(".dsse", "")).read_text())
            key = keys.load_public(receipt["signer"]["public_key"])
        public = SSlibKey.from_crypto(key.public, key.keyid)
        Envelope.from_dict(json.loads(path.read_text())).verify([public], 1)


def test_the_provenance_says_what_from_what_and_by_what(pipeline: Checkout) -> None:
    release = pipeline.release("openvino-int4")
    statement = statement_in(release / "evidence/provenance.dsse.json")
    definition = statement["predicate"]["buildDefinition"]
    dependencies = {one["name"]: one for one in definition["resolvedDependencies"]}
    source = json.loads((pipeline.folder / "artifacts/source/phi3-tiny/SOURCE.json").read_text())
    for entry in source["files"]:
        digest = dependencies[f"source/{entry['path']}"]["digest"]["sha256"]
        assert digest == sha256_file(ROOT / "models/phi3-tiny" / entry["path"])
    lock = sha256_file(pipeline.folder / "envs/main.lock")
    assert dependencies["envs/main.lock"]["digest"]["sha256"] == lock
    head = pipeline.run("git", "rev-parse", "HEAD").stdout.strip()
    assert dependencies["phiforge"]["digest"]["gitCommit"] == head
    assert dependencies["phiforge"]["annotations"] == {"clean": True}
    fp16 = dependencies["phi3-tiny/openvino-fp16"]["digest"]["sha256"]
    assert fp16 == sha256_file(pipeline.release("openvino-fp16") / "SHA256SUMS")
    block = yaml.safe_load((ROOT / "config/variants.yaml").read_text())["openvino-int4"]
    assert definition["externalParameters"]["recipe"]["options"] == block["options"]
    assert str(pipeline.folder) not in json.dumps(statement)


def test_other_bytes_under_a_version_are_refused(pipeline: Checkout, tmp_path: Path) -> None:
    into = tmp_path / "phi3-tiny" / "one-name"
    stage(pipeline, "genai-dml-int4", into)
    before = sorted(path.name for path in into.iterdir())
    done = stage(pipeline, VARIANT, into, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "version 0.1.0 exists with other bytes" in done.stderr
    assert "raise 'version'" in done.stderr
    assert sorted(path.name for path in into.iterdir()) == before
    stage(pipeline, VARIANT, into, version="0.2.0")
    ledger = tmp_path / "phi3-tiny/versions.json"
    assert list(read_record(ledger)["versions"]["one-name"]) == ["0.1.0", "0.2.0"]
    ledger.unlink()  # a killed run leaves none, and its release remembers
    done = stage(pipeline, "genai-dml-int4", into, version="0.2.0", check=False)
    assert "version 0.2.0 exists with other bytes" in done.stderr
    stage(pipeline, VARIANT, into, version="0.3.0")
    assert list(read_record(ledger)["versions"]["one-name"]) == ["0.2.0", "0.3.0"]
    changes = read_record(ledger)["changes"]["one-name"]
    assert changes["0.3.0"] == {"after": "0.2.0", "changes": []}


def test_a_revoked_version_is_never_released_again(pipeline: Checkout, tmp_path: Path) -> None:
    into = tmp_path / "release/phi3-tiny" / VARIANT
    stage(pipeline, VARIANT, into)
    why = ("--reason", "answers in verse only")
    revoke = command("revoke", f"phi3-tiny/{VARIANT}", "0.1.0", *why, "--root", tmp_path)
    assert "revocations.json" in pipeline.run(*revoke).stdout
    for version in ("0.1.0", "0.2.0"):
        again = stage(pipeline, VARIANT, into, version=version, check=False)
        assert again.returncode == 1 and "answers in verse only" in again.stderr


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (flipped("openvino_model.bin"), "changed-file"),
        (write("weights\u202enib\x1b.exe"), "hostile-name"),
        (pipe("config.json"), "not-a-regular-file"),
    ],
)
def test_the_one_file_verifier_refuses_what_was_changed(
    verifier: Verifier, received: Path, certified: Certified, edit: Edit, finding: str
) -> None:
    """The whole table of edits is in tests/verify."""
    edit(received)
    done = verifier.run(received, "--key", str(certified.public))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"refused {finding}: " in done.stdout, done.stdout + done.stderr
    assert done.stdout.isascii() and "\x1b" not in done.stdout


def test_nobody_without_the_key_replaces_what_its_owner_signed(
    pipeline: Checkout, verifier: Verifier, tmp_path: Path
) -> None:
    private, public = tmp_path / "owner.pem", tmp_path / "owner.pub"
    keys.new_key(private, public, kind="ecdsa")
    into = tmp_path / "m" / VARIANT
    stage(pipeline, VARIANT, into, PHIFORGE_SIGNING_KEY=str(private))
    done = stage(pipeline, VARIANT, into)
    assert "kept" in done.stdout
    assert verifier.findings(into, "--key", str(public)) == []


@pytest.mark.parametrize("changed", ["version", "key"])
def test_a_new_version_or_key_makes_releases_again_and_nothing_else(
    pipeline: Checkout, certified: Certified, changed: str
) -> None:
    options = ["--config", "version=0.2.0"] if changed == "version" else []
    key = {"PHIFORGE_SIGNING_KEY": str(certified.key)} if changed == "key" else {}
    done = pipeline.snakemake("-n", "--cores", "4", "all", *options, **key)
    jobs = planned_jobs(done.stdout + done.stderr)
    releases = {f"release phi3-tiny {variant}" for variant in available_variants()}
    assert jobs == {*releases, "index phi3-tiny", "page of all models"}


def test_the_verifier_is_the_same_file_twice_and_says_what_it_needs(
    pipeline: Checkout, verifier: Verifier, tmp_path: Path
) -> None:
    again = tmp_path / "again.pyz"
    pipeline.run(*command("verifier", "--into", again))
    assert again.read_bytes() == verifier.program.read_bytes()
    bare = Verifier(minimal_environment(tmp_path / "bare", packages=()), again)
    done = bare.run(pipeline.release(VARIANT))
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: phiforge-verify needs the package 'cryptography', 45 or newer"
    )


def test_a_certificate_without_its_chain_is_refused_in_one_line(certified: Certified) -> None:
    signing = certified.signing()
    del signing["certificate_chain"]
    with pytest.raises(SigningError, match="names a certificate and no 'certificate_chain'"):
        release_key(signing)
