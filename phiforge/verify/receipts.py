"""Judge the receipts of a release again, by the policy that its signature covers."""

from collections.abc import Iterator, Mapping
from typing import Any

from phiforge.receipts.coverage import DeviceState, device_states
from phiforge.receipts.golden import golden_digest
from phiforge.receipts.policy import Base, check_channel, check_receipt, check_rows
from phiforge.receipts.receipt import Receipt
from phiforge.receipts.receipt_files import ENVELOPE
from phiforge.receipts.signed_receipt import open_receipt
from phiforge.receipts.verdict import GATE, Verdict
from phiforge.trust import TrustError
from phiforge.trust.document import MAX_DOCUMENT, member, parse_record
from phiforge.verify.findings import Finding
from phiforge.verify.folder import Folder
from phiforge.verify.payload import MANIFEST, Payload

RECEIPTS = "evidence/receipts/"


def check_receipts(folder: Folder, payload: Payload, channel: str) -> Iterator[Finding]:
    """Hold every receipt against the gate's verdict and policy, and all against ``channel``."""
    verdict = parse_record(Verdict, folder.read(GATE), GATE)
    policy = verdict.policy
    yield from _check_verdict(verdict, payload)
    names = folder.below(RECEIPTS)
    rows = {name[len(RECEIPTS) : -len(".json")] for name in names if not name.endswith(ENVELOPE)}
    for name in names:
        if name.endswith(ENVELOPE) and name.removesuffix(ENVELOPE) + ".json" not in names:
            yield Finding("missing-receipt", "an envelope without its receipt", name)
    believed = []
    for row in sorted(rows | verdict.receipts.keys() | policy.rows.keys()):
        name = f"{RECEIPTS}{row}.json"
        if row not in policy.rows or row not in verdict.receipts:
            yield Finding("extra-receipt", "the gate did not judge it", name)
        elif row not in rows:
            yield Finding("missing-receipt", "the gate judged it, and it is missing", name)
        elif verdict.receipts[row].sha256 != folder.sha256(name, MAX_DOCUMENT):
            yield Finding("changed-receipt", "is not the receipt that the gate judged", name)
        else:
            try:
                receipt = _open(folder, name)
            except TrustError as error:
                yield Finding.of(error)
                continue
            believed.append(receipt)
            for violation in check_receipt(receipt, row, policy, payload.digests):
                yield Finding(violation.name, violation.what, name)
    for violation in check_channel(believed, channel, policy.rows):
        if violation.name != "missing-receipt":
            yield Finding("policy", str(violation), GATE)


def _check_verdict(verdict: Verdict, payload: Payload) -> Iterator[Finding]:
    policy, manifest = verdict.policy, payload.manifest
    artifact = (manifest["model"], manifest["variant"], payload.artifact_sha256)
    for judged in (verdict, policy):
        if (judged.model, judged.variant, judged.artifact_sha256) != artifact:
            yield Finding("inconsistent-gate", "judged another artifact", GATE)
    for name, row in policy.rows.items():
        if row.base is not None and row.base != _base_of(manifest):
            what = f"{name} ran another artifact than the one that this was compiled from"
            yield Finding("other-ir", what, GATE)
    for violation in check_rows(policy.rows, payload.digests):
        yield Finding(violation.name, violation.what, GATE)
    if policy.precision != manifest["precision"]:
        yield Finding("inconsistent-gate", "judged by the gates of another precision", GATE)
    if golden_digest(policy.golden.prompts) != policy.golden.digest:
        yield Finding("inconsistent-gate", "its golden prompts are not its digest's", GATE)


def _base_of(manifest: Mapping[str, Any]) -> Base | None:
    """The artifact that a manifest says the payload was made from."""
    if "derived_from" not in manifest:
        return None
    variant = member(manifest, str, "derived_from", "variant", where=MANIFEST)
    digest = member(manifest, str, "derived_from", "artifact_sha256", where=MANIFEST)
    return Base(variant, digest)


def read_device_states(folder: Folder) -> dict[str, DeviceState]:
    """Return what the receipts say of each device (`device_states`); nothing is verified.

    Raises:
        TrustError: a receipt cannot be read.
    """
    names = [name for name in folder.below(RECEIPTS) if not name.endswith(ENVELOPE)]
    return device_states(parse_record(Receipt, folder.read(name), name) for name in names)


def _open(folder: Folder, name: str) -> Receipt:
    envelope = name.removesuffix(".json") + ENVELOPE
    signed = folder.read(envelope) if envelope in folder.sizes else None
    return open_receipt(folder.read(name), signed, name)
