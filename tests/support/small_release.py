"""A variant of a few bytes with real receipts, gate, evidence and signatures, in milliseconds."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from phiforge.artifact.manifest import write_manifest
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.jobs import Row, RowPolicy
from phiforge.receipts.gates import Metrics
from phiforge.receipts.receipt import (
    Basis,
    CheckResult,
    CompileEvidence,
    Subject,
    blocked,
    compiled,
    judged,
)
from phiforge.receipts.signed_receipt import write_signed
from phiforge.release.evidence import lay_out_evidence
from phiforge.release.gate import gate
from phiforge.release.signing import ReleaseKey
from phiforge.trust import keys
from phiforge.verify.verification import Verification
from validators.code_digest import validator_digest
from validators.golden import load_golden

MODEL, VARIANT = "phi3-tiny", "openvino-int4"
PROMPTS = [
    {"id": "capital", "text": "Capital of Norway?", "max_new_tokens": 8, "expected": "Oslo."},
    {"id": "sum", "text": "One and two?", "max_new_tokens": 8, "must_contain": "three"},
]
ANSWERS = {"capital": "Oslo.", "sum": "That is three."}
REFERENCE = {
    "simulated": {"bfloat16": {"answers_mean_kl": 1e-3}},
    "left_out": [],
    "sliding_window": None,
    "prompts": [
        {"id": "capital", "prompt_ids": [5] * 4, "answer_ids": [6], "stop_id": 2},
        {"id": "sum", "prompt_ids": [5] * 9, "answer_ids": [7] * 2, "stop_id": 2},
    ],
}
ACCEPTANCE = """
fp16: &gates
  top1_agreement: {worst_honest: 1.0, mildest_sabotage: 0.5, gate: 0.75}
  mean_kl: {worst_honest: 1.0e-4, mildest_sabotage: 1.0e-2, gate: 1.0e-3}
  max_kl: {worst_honest: 1.0, mildest_sabotage: 1.1, reported_only: too near}
  perplexity_ratio: {worst_honest: 1.0, mildest_sabotage: 2.0, gate: 1.4}
int8: *gates
int4: *gates
nf4: *gates
"""
SOURCE = {"path": "model.safetensors", "sha256": "c" * 64}
MINIMUM = {"minimum_validated_tokens": 12}


NPU, COMPILER = "npu-4000", "npu-4000-compiler"


def row(name: str, kind: str, executes: str, stands_for: tuple[str, ...] = ()) -> RowPolicy:
    """A device row as the gate is given it."""
    settings = {"platform": name.split("-")[1]} if executes == "NPU" else {"device": executes}
    runtime = Row(name, kind, "local", executes, stands_for, "openvino_npu", None, settings)
    return RowPolicy(runtime, available=executes == "CPU", key=None)


def npu_rows() -> dict[str, RowPolicy]:
    """A generation of the NPU and its compiler."""
    return {NPU: row(NPU, "device", "NPU"), COMPILER: row(COMPILER, "compiler", "NPU", (NPU,))}


@dataclass
class SmallVariant:
    """What a gate reads of one variant, to be edited by tests.

    Attributes:
        rows: as `phiforge.release.gate.gate` takes them.
        signers: row to the key that signs its receipts; others sign with ephemeral keys.
    """

    folder: Path
    rows: dict[str, RowPolicy] = field(
        default_factory=lambda: {
            "cpu": row("cpu", "device", "CPU"),
            **npu_rows(),
            "npu-standin": row("npu-standin", "standin", "CPU", (NPU,)),
        }
    )
    signers: dict[str, keys.Signer] = field(default_factory=dict)
    variant: str = VARIANT
    format: str = "openvino"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.golden.write_text(yaml.safe_dump({"prompts": PROMPTS}))
        self.acceptance.write_text(ACCEPTANCE)
        write_record(self.reference, REFERENCE)
        self.payload.mkdir(parents=True)
        facts = {
            "model": MODEL,
            "variant": self.variant,
            "title": "Phi-3 tiny",
            "license": "MIT",
            "format": self.format,
            "precision": "int4",
            "converter": "openvino",
            "source": {
                "kind": "local",
                "files": [{"path": "model.safetensors", "sha256": "c" * 64}],
            },
            "recipe": {},
            "toolchain": {},
            "notes": [],
            **self.fill_payload(),
        }
        artifact = write_manifest(self.payload, facts)
        write_record(self.build, {**facts, "artifact_sha256": artifact, "project": {}})
        for name, one in self.rows.items():
            if one.base is None and one.available:
                self.put(name, self.passed(name))
            elif one.base is None:
                self.block(name)

    def fill_payload(self) -> dict[str, Any]:
        """Write what a runtime loads; what the manifest says besides."""
        (self.payload / "weights.bin").write_bytes(bytes(range(256)) * 8)
        (self.payload / "config.json").write_text("{}\n")
        (self.payload / "LICENSE").write_text("MIT\n")
        return {}

    golden = property(lambda self: self.folder / "golden.yaml")
    acceptance = property(lambda self: self.folder / "acceptance.yaml")
    reference = property(lambda self: self.folder / "REFERENCE.json")
    build = property(lambda self: self.folder / "build/BUILD.json")
    payload = property(lambda self: self.folder / "build/payload")
    verdict = property(lambda self: self.folder / "gate.json")

    def receipt(self, name: str) -> Path:
        return self.folder / "checks" / f"{name}.json"

    def subject(self, name: str) -> Subject:
        one = self.rows[name].row
        return Subject(
            model=MODEL,
            variant=self.variant,
            device=name,
            kind=one.kind,
            stands_for=one.stands_for,
            format=self.format,
            precision="int4",
            runtime=one.runtime,
            settings=one.settings,
            synthetic=False,
            artifact_sha256=read_record(self.build)["artifact_sha256"],
        )

    def basis(self, name: str) -> Basis:
        return Basis(
            sha256_file(self.reference),
            load_golden(self.golden).digest,
            sha256_file(self.acceptance),
            validator_digest(self.rows[name].row.runtime),
        )

    def passed(self, name: str, **changes: Any) -> dict[str, Any]:
        """An honest receipt of a row, with some keys changed."""
        answers = tuple(_answer(prompt) for prompt in PROMPTS)
        receipt = judged(
            self.subject(name),
            self.basis(name),
            CheckResult((), answers, Metrics(10, 1.0, 1e-5, 1e-4, 1.0, 1e-5, 1e-5), 12),
            executed_on=self.executed_on(name),
            thresholds={
                "top1_agreement": 0.75,
                "mean_kl": 1e-3,
                "perplexity_ratio": 1.4,
                "validated_tokens": 12,
                "execution_kl": 4e-3,
            },
            toolchain={"openvino": "1"},
        )
        return {**receipt, **changes}

    def executed_on(self, name: str) -> dict[str, Any]:
        """Where a row's device says that an artifact ran."""
        row = self.rows[name].row
        generation = row.settings.get("platform")
        npu = {"DEVICE_ARCHITECTURE": generation, "NPU_DRIVER_VERSION": "32.0.100"}
        return executed_on(row.executes, **(npu if generation else {}))

    def compiled(self, name: str, **changes: Any) -> dict[str, Any]:
        """An honest receipt of a compiler's row, with some keys changed."""
        generation = self.rows[name].row.settings["platform"]
        evidence = CompileEvidence(
            compiler="Intel's NPU compiler of OpenVINO 2026.4.1",
            openvino="2026.4.1",
            platform=generation,
            interface="11.4.10",
            submodels=3,
            options={"NPU_PLATFORM": generation},
            ir={"weights.bin": sha256_file(self.payload / "weights.bin")},
            blob_sha256="b" * 64,
            blob_bytes=2048,
        )
        toolchain = {"openvino": "2026.4.1"}
        receipt = compiled(self.subject(name), self.basis(name), evidence, toolchain)
        return {**receipt, **changes}

    def block(self, name: str) -> None:
        """Say that the row cannot be checked here."""
        self.put(name, blocked(self.subject(name), "no NPU here", "run it where one is"))

    def put(self, name: str, receipt: Mapping[str, Any], signer: keys.Signer | None = None) -> None:
        """Sign a receipt and put it in the row's place."""
        write_signed(
            self.receipt(name), receipt, signer or self.signers.get(name) or keys.ephemeral()
        )

    def name_key(self, name: str, signer: keys.Signer) -> None:
        """Let a row name this key, and its receipt be signed with it."""
        path = self.folder / f"{name}.pub"
        path.write_text(signer.public_key.pem)
        self.change(name, key=str(path))
        self.signers[name] = signer
        self.appear(name)

    def appear(self, name: str) -> None:
        """Let a row be here, and its honest receipt be what it should."""
        self.change(name, available=True)
        here = self.compiled if self.rows[name].row.kind == "compiler" else self.passed
        self.put(name, here(name))

    def change(self, name: str, **changes: Any) -> None:
        """Configure a row otherwise."""
        self.rows[name] = replace(self.rows[name], **changes)

    def gate(self, channel: str = "candidate") -> dict[str, Any]:
        """Judge the receipts; the verdict."""
        receipts = [self.receipt(name) for name in self.rows]
        gate(self.build, receipts, channel, self.verdict, **self.present())
        return read_record(self.verdict)

    def present(self) -> dict[str, Any]:
        return {
            "golden": self.golden,
            "reference": self.reference,
            "acceptance": self.acceptance,
            "overrides": MINIMUM,
            "rows": self.rows,
        }

    def release(self, key: ReleaseKey | None = None, into: Path | None = None) -> Path:
        """Lay out a release of what the gate lets through."""
        self.gate()
        release = into or self.folder / "release" / MODEL / VARIANT
        shutil.copytree(self.payload, release)
        (release / "README.md").write_text("---\nlicense: mit\n---\n# a card\n")
        build = read_record(self.build)
        digests = {name: sha256_file(release / name) for name in _names(self.payload)}
        receipts = {path: read_record(path) for path in map(self.receipt, self.rows)}
        lay_out_evidence(
            release,
            build,
            receipts,
            self.verdict,
            digests=digests,
            recipe={key: build[key] for key in ("converter", "format", "precision")},
            version="0.1.0",
            channel="candidate",
            builder="urn:test:builder",
            key=key or ReleaseKey(keys.ephemeral("ecdsa")),
        )
        return release


def executed_on(device: str, failure: str | None = None, **observed: str) -> dict[str, Any]:
    """What a receipt says of where an artifact ran, and what spoke against it."""
    proof = [{"what": "devices", "observed": device, "failure": failure}]
    proof += [{"what": what, "observed": one, "failure": None} for what, one in observed.items()]
    return {"device": device, "how": "it said so", "proof": proof, "pinned": {}, "details": {}}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _answer(prompt: Mapping[str, Any]) -> dict[str, Any]:
    text = ANSWERS[prompt["id"]]
    return {
        "id": prompt["id"],
        "prompt": prompt["text"],
        "output": text,
        "expected": prompt.get("expected", text),
        "passed": True,
        "not_run": None,
        "answer": None,
    }


def refusals(verification: Verification) -> list[str]:
    """Names of what stands against a release; each is one line of plain text."""
    for finding in verification.findings:
        assert finding.line().isascii() and "\n" not in finding.line()
    return [finding.name for finding in verification.findings if finding.refuses]
