"""Hold a variant's receipts against the channel's policy."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge.artifact.npu_blob import MADE_FOR_CPU, not_made_for_npu, read_label
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import PhiforgeError
from phiforge.jobs import Gate, RowPolicy, read_job
from phiforge.receipts.policy import NOTHING_RAN, judge, missing_for_stable
from phiforge.release import policy_inputs
from phiforge.release.scrutiny import expect, scrutinize


class GateError(PhiforgeError):
    """A variant must not be released; the message names every receipt that stands against it."""


def _unfit(build: Mapping[str, Any], payload: Path) -> tuple[str, ...]:
    """What the payload itself says against any release, whatever its receipts say."""
    if build.get("format") != "npu-blob":
        return ()
    objection = not_made_for_npu(payload, read_label(payload))
    return () if objection is None else (f"{MADE_FOR_CPU}: {objection}",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    policy_inputs.add_arguments(parser)
    parser.add_argument("--verdict", required=True, type=Path, help="where the verdict goes")
    parser.add_argument("receipts", nargs="+", type=Path, help="the variant's receipts")


def run(arguments: argparse.Namespace) -> None:
    job = read_job(Gate, arguments.job)
    inputs = policy_inputs.policy_inputs(arguments, job)
    gate(arguments.build, arguments.receipts, job.channel, arguments.verdict, **inputs)


def gate(
    build_path: Path,
    receipt_paths: Sequence[Path],
    channel: str,
    verdict: Path,
    *,
    golden: Path,
    reference: Path,
    acceptance: Path,
    overrides: Mapping[str, Any],
    rows: Mapping[str, RowPolicy],
) -> None:
    """Write the verdict of a variant that may be released.

    Raises:
        GateError: it may not; no verdict is written.
    """
    build = read_record(build_path)
    receipts: list[Mapping[str, Any]] = []
    against: list[str] = []
    if "blocked" not in build:
        against += _unfit(build, build_path.parent / "payload")
        expected = expect(
            build,
            golden=golden,
            reference=reference,
            acceptance=acceptance,
            overrides=overrides,
            rows=rows,
        )
        for path in receipt_paths:
            receipt, refusals = scrutinize(path, expected.rows[path.stem], expected)
            against += map(str, refusals)
            if receipt is not None and not refusals:
                receipts.append(receipt)
    # Where a receipt is refused, that nothing passed is told already.
    against += [reason for reason in judge(build, receipts) if not against or reason != NOTHING_RAN]
    if against:
        raise GateError(
            f"{build['model']} {build['variant']} is not released to {channel}: "
            + "; ".join(against),
            remedy=f"read {receipt_paths[0].parent}/ and the logs of its checks; "
            "a receipt that was deleted is made again",
        )
    write_record(
        verdict,
        {
            "model": build["model"],
            "variant": build["variant"],
            "channel": channel,
            "artifact_sha256": build["artifact_sha256"],
            "receipts": {
                receipt["device"]: {
                    "kind": receipt["kind"],
                    "verdict": receipt["verdict"],
                    "signer": receipt["signer"] and receipt["signer"]["keyid"],
                    "sha256": sha256_file(path),
                }
                for receipt, path in zip(receipts, receipt_paths, strict=True)
            },
            "missing_for_stable": list(missing_for_stable(receipts)),
        },
    )
