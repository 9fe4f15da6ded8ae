"""Judge a variant's receipts by the configuration of today, and write down by what policy.

The verdict travels in the release's evidence (``evidence/gate.json``), so that promotion and
`verify` judge again by the same policy, without the configuration.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phiforge.artifact.manifest import read_checksums
from phiforge.artifact.npu_blob import MADE_FOR_CPU, not_made_for_npu, read_label
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import PhiforgeError
from phiforge.jobs import RowPolicy
from phiforge.receipts.policy import (
    Base,
    Policy,
    Row,
    check_channel,
    check_receipt,
    check_rows,
    missing_for_stable,
)
from phiforge.receipts.receipt import Receipt
from phiforge.receipts.signed_receipt import read_signed
from phiforge.receipts.verdict import GATE_SCHEMA, JudgedReceipt, Verdict
from phiforge.trust import TrustError
from phiforge.trust.keys import read_public
from validators.acceptance import load_gates
from validators.code_digest import validator_digest
from validators.golden import load_golden
from validators.left_out import left_out
from validators.lint.architecture import read_architecture


class GateError(PhiforgeError):
    """A variant must not be released; the message names every receipt that stands against it."""


def gate(
    build_path: Path,
    receipt_paths: Sequence[Path],
    channel: str,
    verdict_path: Path,
    *,
    golden: Path,
    reference: Path,
    acceptance: Path,
    overrides: Mapping[str, Any],
    rows: Mapping[str, RowPolicy],
    base_path: Path | None = None,
) -> None:
    """Write the verdict of a variant that may be released.

    Args:
        receipt_paths: one a row; those of a base's rows are in the base's own folder.
        golden: golden prompts (YAML).
        reference: REFERENCE.json.
        acceptance: gates (YAML).
        overrides: the model's ``minimum_validated_tokens``.
        rows: the variant's rows as they are configured, by name.
        base_path: BUILD.json of the variant that this one was compiled from, where ``rows`` has
            rows of it.

    Raises:
        GateError: it may not be released; no verdict is written.
    """
    build = read_record(build_path)
    if "blocked" in build:
        raise _refusal(build, channel, [f"it was not built ({build['blocked']['reason']})"])
    answered = read_record(reference)
    policy = Policy(
        model=build["model"],
        variant=build["variant"],
        precision=build["precision"],
        artifact_sha256=build["artifact_sha256"],
        reference_sha256=sha256_file(reference),
        golden=load_golden(golden),
        gates=load_gates(acceptance, build["precision"], overrides, answered["simulated"]),
        rows={name: _row(row, base_path, answered) for name, row in rows.items()},
    )
    payload = build_path.parent / "payload"
    digests = read_checksums(payload)
    against = [*_unfit(build, payload), *_other_ir(build, payload, base_path)]
    against += map(str, check_rows(policy.rows, digests))
    receipts: dict[Path, Receipt] = {}
    for path in receipt_paths:
        try:
            receipts[path] = read_signed(path)
            against += map(str, check_receipt(receipts[path], path.stem, policy, digests))
        except TrustError as error:
            against.append(f"{path.stem}: {error.what}")
    if not against:  # a receipt that is not believed says nothing about the channel
        against += map(str, check_channel(receipts.values(), channel, policy.rows))
        against += _not_held(payload, receipts.values())
    if against:
        raise _refusal(build, channel, against, receipt_paths[0].parent)
    verdict = Verdict(
        GATE_SCHEMA,
        build["model"],
        build["variant"],
        channel,
        build["artifact_sha256"],
        {one.device: _judged(one, path) for path, one in receipts.items()},
        missing_for_stable(policy, receipts.values()),
        policy,
    )
    write_record(verdict_path, asdict(verdict))


def _refusal(
    build: Mapping[str, Any], channel: str, against: Collection[str], folder: Path | None = None
) -> GateError:
    return GateError(
        f"{build['model']} {build['variant']} is not released to {channel}: {'; '.join(against)}",
        remedy=f"read {folder}/ and the logs of its checks; a receipt that was deleted is made "
        "again"
        if folder
        else None,
    )


def _row(policy: RowPolicy, base_path: Path | None, reference: Mapping[str, Any]) -> Row:
    row, base = policy.row, None
    if policy.base is not None and base_path is not None:
        base = Base(policy.base, read_record(base_path)["artifact_sha256"])
    return Row(
        kind=row.kind,
        stands_for=row.stands_for,
        runtime=row.runtime,
        settings=row.settings,
        executes=row.executes,
        available=policy.available,
        keyid=None if policy.key is None else read_public(Path(policy.key)).keyid,
        validator_sha256=validator_digest(row.runtime),
        required=policy.required,
        base=base,
        left_out=left_out(reference, policy.limits),
    )


def _unfit(build: Mapping[str, Any], payload: Path) -> tuple[str, ...]:
    """What the payload itself says against any release, whatever its receipts say."""
    if build.get("format") != "npu-blob":
        return ()
    objection = not_made_for_npu(payload, read_label(payload))
    return () if objection is None else (f"{MADE_FOR_CPU}: {objection}",)


def _not_held(payload: Path, receipts: Collection[Receipt]) -> Iterator[str]:
    """Say that no receipt held the weights to the source, although its kind is known."""
    ran = [one for one in receipts if one.verdict in ("passed", "compiled")]
    said = ["weights-not-held" in {note.name for note in one.lint} for one in ran]
    known = (payload / "config.json").is_file() and read_architecture(payload) is not None
    if known and said and all(said):
        yield (
            "weights-not-held: no receipt's check had the source, which is here; add a row that "
            "runs on this machine, such as a stand-in"
        )


def _other_ir(build: Mapping[str, Any], payload: Path, base_path: Path | None) -> Iterator[str]:
    """Say that an artifact was not compiled from the one whose stand-ins speak for it."""
    if base_path is None:
        return
    base, from_ = read_record(base_path), build.get("derived_from", {})
    if from_.get("artifact_sha256") != base["artifact_sha256"]:
        what = f"{str(from_.get('artifact_sha256'))[:16]}…, {base['variant']} is now"
        yield f"other-ir: it was compiled from {what} {base['artifact_sha256'][:16]}…"
    if build.get("format") == "npu-blob":
        files = read_checksums(base_path.parent / "payload")
        for one in read_label(payload)["ir"].values():
            if files.get(one["file"]) != one["sha256"]:
                what = f"the label names {one['sha256'][:16]}…, {base['variant']} has"
                yield f"other-ir: {one['file']}: {what} {str(files.get(one['file']))[:16]}…"


def _judged(receipt: Receipt, path: Path) -> JudgedReceipt:
    keyid = None if receipt.signer is None else receipt.signer.keyid
    return JudgedReceipt(receipt.kind, receipt.verdict, keyid, sha256_file(path))
