"""From candidate to stable: a signed statement beside a payload that is not touched.

A release is **stable** when, for every device row of its variant, its evidence holds a receipt
that passed, is about this artifact, these golden prompts, this validator and these gates
(`phiforge.release.scrutiny`), and is signed by the key that the row names. The promotion is an
in-toto statement with SLSA's verification summary
(https://slsa.dev/spec/v1.1/verification_summary) in
``evidence/promotion.dsse.json``: the policy and the envelopes that satisfied it, each by digest,
signed by a release key. A promoted release is frozen: nothing of it is changed any more, and one
of another artifact does not take its place (`standing`).
"""

import argparse
import base64
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.record import canonical, read_record, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import PhiforgeError
from phiforge.jobs import Promote, read_job
from phiforge.receipts.policy import PROMOTION
from phiforge.receipts.receipt_files import envelope_path
from phiforge.release import policy_inputs
from phiforge.release.scrutiny import Expected, Row, expect, scrutinize
from phiforge.release.signing import release_key
from phiforge.trust.envelope import peek, sign, verify
from phiforge.trust.keys import SIGNING, SIGNING_KEY, PublicKey, Signer
from phiforge.trust.statement import VERIFICATION_SUMMARY, statement
from validators.code_digest import validator_digest

VERIFIER = "urn:phiforge:release.promotion"
_DATA = "data:application/json;base64,"


class PromotionError(PhiforgeError):
    """A release cannot be promoted, or the promotion that it has does not hold."""


def promote(release: Path, expected: Expected, signer: Signer | None) -> dict[str, Any]:
    """Promote ``release`` if its receipts allow it; the record says what came of it.

    A promotion that it has already is held against its evidence and kept.

    Args:
        signer: the release key; None: there is none, and that is one thing missing.

    Returns:
        ``promoted``, since when and by which key, and what is ``missing``: for each row, what
        and how to get it.

    Raises:
        PromotionError: the folder holds another artifact, or a promotion that does not hold.
    """
    found = {"model": expected.model, "variant": expected.variant}
    artifact = sha256_file(release / CHECKSUMS)
    if artifact != expected.artifact_sha256:
        raise PromotionError(
            "the release is of another artifact than the build",
            where=release,
            expected=expected.artifact_sha256,
            found=artifact,
            remedy="run 'snakemake --cores 4 all' again",
        )
    promoted = standing(release, signer.public_key if signer else None)
    if promoted is None:
        missing = _missing(release, expected)
        if not missing:
            missing = _missing_key(release, signer)
        if missing or signer is None:
            return {**found, "promoted": False, "artifact_sha256": artifact, "missing": missing}
        made = _summary(release, expected)
        write_record(release / "evidence" / PROMOTION, sign(made, signer))
        promoted = standing(release, signer.public_key)
        assert promoted is not None
    return {**found, "promoted": True, **promoted, "missing": []}


def standing(release: Path, key: PublicKey | None = None) -> dict[str, Any] | None:
    """The promotion of a release folder: ``artifact_sha256``, ``since``, ``keyid``; None: none.

    Args:
        key: whose promotion is believed; None: whoever's, its digests are still checked.

    Raises:
        PromotionError: there is one, and it does not hold.
    """
    path = release / "evidence" / PROMOTION
    if not path.is_file():
        return None
    try:
        envelope = read_record(path)
        told, signers = peek(envelope)
        if key is not None:
            verify(envelope, [key])
        predicate = told["predicate"]
        artifact = told["subject"][0]["digest"]["sha256"]
        if told["predicateType"] != VERIFICATION_SUMMARY:
            raise PromotionError(f"it is no {VERIFICATION_SUMMARY}")
        for one in predicate["inputAttestations"]:
            if sha256_file(release / one["uri"]) != one["digest"]["sha256"]:
                raise PromotionError(f"{one['uri']} is not the one that it rests on")
        if sha256_file(release / CHECKSUMS) != artifact:
            raise PromotionError("it is about another artifact")
        return {
            "artifact_sha256": artifact,
            "since": predicate["timeVerified"],
            "keyid": signers[0],
            "policy_sha256": predicate["policy"]["digest"]["sha256"],
        }
    except (PhiforgeError, OSError, LookupError, TypeError) as error:
        raise PromotionError(
            f"this promotion does not hold: {error}",
            where=path,
            remedy="find out who changed it; delete it to have a candidate again",
        ) from None


def refuse_other_artifact(release: Path, artifact_sha256: str) -> bool:
    """Whether a promoted release of this very artifact stands, which is then left as it is.

    Raises:
        PromotionError: a promoted release of another artifact stands, or one that does not hold.
    """
    promoted = standing(release)
    if promoted is None:
        return False
    if promoted["artifact_sha256"] != artifact_sha256:
        raise PromotionError(
            f"a stable release stands here (since {promoted['since']}), and the build is another "
            "artifact; what is stable is not replaced by a candidate",
            where=release,
            expected=promoted["artifact_sha256"],
            found=artifact_sha256,
            remedy="go back to what built it; or, if others have what they need of it, move the "
            "folder away and run again",
        )
    return True


def _missing(release: Path, expected: Expected) -> list[dict[str, str]]:
    """What stable still needs of the device rows, and how to get it."""
    rows = [row for row in expected.rows.values() if row.kind == "device"]
    if not rows:
        return [_lacks("no device row", "a stand-in is not the device", "name a device row")]
    found = []
    for row in rows:
        lack = _missing_of(release, row, expected)
        if lack is not None:
            found.append(lack)
    return found


def _missing_of(release: Path, row: Row, expected: Expected) -> dict[str, str] | None:
    path = release / "evidence/receipts" / f"{row.name}.json"
    here = f"artifacts/checks/{expected.model}/{expected.variant}/{row.name}.json"
    again = f"delete {here} and run again with PHIFORGE_RUNNER_KEY naming the row's private key"
    receipt, refusals = scrutinize(path, row, expected, None if row.key is None else [row.key])
    if refusals:
        return _lacks(row.name, refusals[0].what, again)
    assert receipt is not None
    if receipt["verdict"] != "passed":
        what = f"{receipt['verdict']} ({receipt['reason']})"
        return _lacks(row.name, what, receipt["remedy"] or "see the receipt's failures")
    if row.key is None:
        return _lacks(
            row.name,
            "passed, but the row names no key, so nobody vouches for it",
            "make one (phiforge new-key), name its public half as "
            f"'{row.name}.key' in the file of the row, then {again}",
        )
    return None


def _missing_key(release: Path, signer: Signer | None) -> list[dict[str, str]]:
    if signer is None:
        how = f"name its file in the variable {SIGNING_KEY} or in the configuration (signing: key:)"
        return [_lacks("release key", "every receipt is here, but no key to sign with", how)]
    record = release / "evidence/release.json"
    if record.is_file():
        own = read_record(record).get("signer") or {}
        if own.get("keyid") != signer.public_key.keyid:
            what = "the release itself is signed by another key than the promotion would be"
            how = f"delete {release / 'MANIFEST.json'} and run again with the release key"
            return [_lacks("release key", what, how)]
    return []


def _lacks(row: str, what: str, how: str) -> dict[str, str]:
    return {"row": row, "what": what, "how": how}


def policy(expected: Expected) -> dict[str, Any]:
    """What a stable release of the variant must satisfy, in digests."""
    return {
        "channel": "stable",
        "acceptance_sha256": expected.gates.digest,
        "gates": expected.gates.thresholds,
        "golden_sha256": expected.golden.digest,
        "reference_sha256": expected.reference_sha256,
        "rows": {
            row.name: {
                "verdict": "passed",
                "executes": row.executes,
                "signer": row.key.keyid,
                "validator_sha256": validator_digest(row.runtime),
            }
            for row in expected.rows.values()
            if row.kind == "device" and row.key is not None
        },
    }


def _summary(release: Path, expected: Expected) -> dict[str, Any]:
    said = canonical(policy(expected)).encode()
    envelopes = [
        envelope_path(release / "evidence/receipts" / f"{row.name}.json")
        for row in expected.rows.values()
        if row.kind == "device"
    ]
    return statement(
        {f"{expected.model}/{expected.variant}": expected.artifact_sha256},
        VERIFICATION_SUMMARY,
        {
            "verifier": {"id": VERIFIER},
            "timeVerified": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "resourceUri": f"urn:phiforge:{expected.model}/{expected.variant}",
            # The policy itself: a reader needs no other file to see what was asked.
            "policy": {
                "uri": _DATA + base64.b64encode(said).decode(),
                "digest": {"sha256": hashlib.sha256(said).hexdigest()},
            },
            "inputAttestations": [
                {
                    "uri": path.relative_to(release).as_posix(),
                    "digest": {"sha256": sha256_file(path)},
                }
                for path in envelopes
            ],
            "verificationResult": "PASSED",
            "verifiedLevels": ["SLSA_BUILD_LEVEL_UNEVALUATED", "PHIFORGE_STABLE"],
            "slsaVersion": "1.1",
        },
    )


def release_signer(settings: Mapping[str, Any]) -> Signer | None:
    """The release key that the environment names, or else the configuration; None: neither.

    Args:
        settings: config key ``signing``.

    Raises:
        AttestationError, SigningError: it cannot be used.
    """
    key = release_key(settings)
    return None if key.occasional else key.signer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    policy_inputs.add_arguments(parser)
    parser.add_argument("--release", required=True, type=Path, help="the release folder")
    parser.add_argument("--record", required=True, type=Path, help="where the outcome goes")


def run(arguments: argparse.Namespace) -> None:
    job, build = read_job(Promote, arguments.job), read_record(arguments.build)
    expected = expect(build, **policy_inputs.policy_inputs(arguments, job))
    signer = release_signer(json.loads(os.environ.get(SIGNING, "{}")))
    record = promote(arguments.release, expected, signer)
    write_record(arguments.record, record)
    done = "stable" if record["promoted"] else "not promoted"
    print(f"{record['model']} {record['variant']}: {done}")
