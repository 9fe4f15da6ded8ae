"""From candidate to stable: a signed statement beside a payload that is not touched.

A release is **stable** when its receipts meet the policy of `phiforge.receipts.policy` for that
channel. The policy is the gate's verdict in the release's evidence, which the release's signature
covers; `verify` must accept the release before it is promoted. The promotion is an in-toto
statement with SLSA's verification summary (https://slsa.dev/spec/v1.1/verification_summary) in
``evidence/promotion.dsse.json``: the policy and the envelopes that satisfied it, each by digest,
signed by the release's own key. A promoted release is frozen: nothing of it is changed any more,
and one of another artifact does not take its place (`load_promotion`).
"""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.record import canonical, read_record, write_into, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import PhiforgeError
from phiforge.jobs import Promote, read_job
from phiforge.receipts.coverage import Device, device_of
from phiforge.receipts.policy import (
    Policy,
    Violation,
    check_channel,
    is_promoted,
    required_rows,
)
from phiforge.receipts.receipt import Receipt
from phiforge.receipts.receipt_files import envelope_path
from phiforge.receipts.signed_receipt import read_signed
from phiforge.receipts.verdict import GATE, Verdict
from phiforge.release.signing import release_key
from phiforge.trust.document import parse_record
from phiforge.trust.envelope import open_envelope, sign
from phiforge.trust.keys import SIGNING, SIGNING_KEY, PublicKey, Signer
from phiforge.trust.statement import VERIFICATION_SUMMARY, descriptor, statement
from phiforge.verify.folder import survey
from phiforge.verify.payload import read_payload
from phiforge.verify.promotion import DEVICES, PROMOTION, check_promotion
from phiforge.verify.trust import RELEASE, ReleaseRecord, Trust, find_signer
from phiforge.verify.verification import verify

VERIFIER = "urn:phiforge:release.promotion"


class PromotionError(PhiforgeError):
    """A release cannot be promoted, or the promotion that it has does not hold."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule promote writes it")
    parser.add_argument("--build", required=True, type=Path, help="BUILD.json")
    parser.add_argument("--release", required=True, type=Path, help="the release folder")
    parser.add_argument("--record", required=True, type=Path, help="where the outcome goes")


def run(arguments: argparse.Namespace) -> None:
    read_job(Promote, arguments.job)
    signer = release_signer(json.loads(os.environ.get(SIGNING, "{}")))
    record = promote(arguments.release, read_record(arguments.build), signer)
    write_record(arguments.record, record)
    outcome = "stable" if record["promoted"] else "not promoted"
    print(f"{record['model']} {record['variant']}: {outcome}")


@dataclass(frozen=True)
class Promotion:
    """A release's promotion.

    Attributes:
        since: when, in UTC (RFC 3339).
        keyid: of the key that signed it.
        policy_sha256: of the gate's verdict, which holds the policy.
        devices: the generations and drivers that it rests on.
    """

    artifact_sha256: str
    since: str
    keyid: str
    policy_sha256: str
    devices: tuple[Device, ...]


def promote(release: Path, build: Mapping[str, Any], signer: Signer | None) -> dict[str, Any]:
    """Promote ``release`` if its receipts allow it, and return the record of the outcome.

    A promotion that it has already is held against its evidence and kept.

    Args:
        build: BUILD.json.
        signer: the release key; None: there is none, and that is one thing missing.

    Returns:
        ``promoted``, since when and by which key, and what is ``missing``: for each row, what
        and how to get it.

    Raises:
        PromotionError: the folder holds another artifact, a promotion that does not hold, or
            what `verify` refuses.
    """
    record = {"model": build["model"], "variant": build["variant"]}
    artifact = sha256_file(release / CHECKSUMS)
    if artifact != build["artifact_sha256"]:
        raise PromotionError(
            "the release is of another artifact than the build",
            where=release,
            expected=build["artifact_sha256"],
            found=artifact,
            remedy="run 'snakemake --cores 4 all' again",
        )
    key = signer.public_key if signer else None
    promotion = load_promotion(release, key)
    if promotion is None:
        policy = parse_record(Verdict, (release / GATE).read_bytes(), GATE).policy
        missing = _missing(release, policy) or _missing_key(release, signer)
        if missing or signer is None:
            return {**record, "promoted": False, "artifact_sha256": artifact, "missing": missing}
        _refuse_unverified(release, signer.public_key)
        envelope = sign(_summary(release, policy), signer)
        write_into(release, PROMOTION, canonical(envelope))
        promotion = load_promotion(release, key)
        assert promotion is not None
    return {**record, "promoted": True, **asdict(promotion), "missing": []}


def load_promotion(release: Path, key: PublicKey | None = None) -> Promotion | None:
    """Return the promotion of a release folder; None: it has none.

    Args:
        key: whose promotion is believed; None: the release's own signer's.

    Raises:
        PromotionError: there is one, and it does not hold.
    """
    if not is_promoted(release):
        return None
    try:
        folder, findings = survey(release)
        signer = find_signer(
            folder, parse_record(ReleaseRecord, folder.read(RELEASE), RELEASE), Trust()
        )
        keys = signer.accepted if key is None else (key,)
        payload = read_payload(folder)
        findings += check_promotion(folder, payload, keys)
        if findings:
            raise PromotionError(findings[0].what)
        signed, by = open_envelope(folder.json(PROMOTION), keys, PROMOTION)
        predicate = signed["predicate"]
        return Promotion(
            payload.artifact_sha256,
            str(predicate.get("timeVerified")),
            by.keyid,
            predicate["policy"]["digest"]["sha256"],
            tuple(Device(**one) for one in predicate[DEVICES]),
        )
    except PhiforgeError as error:
        raise PromotionError(
            f"this promotion does not hold: {error}",
            where=release,
            remedy=f"find out who changed it; delete {PROMOTION} to have a candidate again",
        ) from None


def refuse_other_artifact(release: Path, artifact_sha256: str) -> bool:
    """Return whether the folder holds a promoted release of this very artifact: it is kept.

    Raises:
        PromotionError: it holds a promoted release of another artifact, or a promotion that does
            not hold.
    """
    promotion = load_promotion(release)
    if promotion is None:
        return False
    if promotion.artifact_sha256 != artifact_sha256:
        raise PromotionError(
            f"this folder holds a stable release (since {promotion.since}), and the build is "
            "another artifact; what is stable is not replaced by a candidate",
            where=release,
            expected=promotion.artifact_sha256,
            found=artifact_sha256,
            remedy="go back to what built it; or, if others have what they need of it, move the "
            "folder away and run again",
        )
    return True


def _missing(release: Path, policy: Policy) -> list[dict[str, str]]:
    """What stable still needs of the device rows, and how to get it."""
    receipts = {
        row: read_signed(release / "evidence/receipts" / f"{row}.json") for row in policy.rows
    }
    return [
        {
            "row": violation.row or "no device row",
            "what": violation.what,
            "how": _how(violation, policy, receipts),
        }
        for violation in check_channel(receipts.values(), "stable", policy.rows)
    ]


def _how(violation: Violation, policy: Policy, receipts: Mapping[str, Receipt]) -> str:
    row = violation.row
    if violation.name == "no-key":
        receipt = f"artifacts/checks/{policy.model}/{policy.variant}/{row}.json"
        return (
            "make one (phiforge new-key), name its public half as "
            f"'{row}.key' in the file of the row, then delete {receipt} and run again with "
            "PHIFORGE_RUNNER_KEY naming the private half"
        )
    if violation.name == "device-blocked":
        return receipts[row].remedy or "run it where the device is"
    return "see the receipt" if row else "name a device row in the variant's 'devices'"


def _missing_key(release: Path, signer: Signer | None) -> list[dict[str, str]]:
    what, how = "", ""
    if signer is None:
        what = "every receipt is good, but no key to sign with"
        how = f"name its file in the variable {SIGNING_KEY} or in the configuration (signing: key:)"
    elif _release_signer(release) != signer.public_key.keyid:
        what = "the release itself is signed by another key than the promotion would be"
        how = f"delete {release / 'MANIFEST.json'} and run again with the release key"
    return [{"row": "release key", "what": what, "how": how}] if what else []


def _release_signer(release: Path) -> str:
    path = release / RELEASE
    return parse_record(ReleaseRecord, path.read_bytes(), str(path)).signer.keyid


def _refuse_unverified(release: Path, key: PublicKey) -> None:
    """Nothing is promoted that its readers would refuse, the payload's bytes included."""
    verification = verify(release, Trust((key,)))
    against = [finding.line() for finding in verification.findings if finding.refuses]
    if against:
        raise PromotionError(
            f"verify refuses the release: {'; '.join(against)}",
            where=release,
            remedy="repair what it names (docs/releases.md) and run again",
        )


def _summary(release: Path, policy: Policy) -> dict[str, Any]:
    receipts = [Path(f"evidence/receipts/{name}.json") for name in required_rows(policy.rows)]
    rests_on = [envelope_path(receipt).as_posix() for receipt in receipts]
    devices = [device_of(read_signed(release / receipt)) for receipt in receipts]
    return statement(
        {f"{policy.model}/{policy.variant}": policy.artifact_sha256},
        VERIFICATION_SUMMARY,
        {
            "verifier": {"id": VERIFIER},
            "timeVerified": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "resourceUri": f"urn:phiforge:{policy.model}/{policy.variant}",
            "policy": _reference(release, GATE),
            DEVICES: list(map(asdict, devices)),
            "inputAttestations": [_reference(release, name) for name in rests_on],
            "verificationResult": "PASSED",
            "verifiedLevels": ["SLSA_BUILD_LEVEL_UNEVALUATED", "PHIFORGE_STABLE"],
            "slsaVersion": "1.1",
        },
    )


def _reference(release: Path, name: str) -> dict[str, Any]:
    digest = descriptor(name, sha256_file(release / name))["digest"]
    return {"uri": name, "digest": digest}


def release_signer(settings: Mapping[str, Any]) -> Signer | None:
    """Return the release key that the environment or the configuration names; None: neither.

    Args:
        settings: config key ``signing``.

    Raises:
        TrustError, SigningError: it cannot be used.
    """
    key = release_key(settings)
    return None if key.ephemeral else key.signer
