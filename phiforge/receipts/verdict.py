"""Describe the gate's verdict: which receipts were judged, and by what policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from phiforge.decoding import Digest
from phiforge.receipts.policy import Policy

GATE = "evidence/gate.json"
GATE_SCHEMA: Literal["phiforge/gate/2"] = "phiforge/gate/2"


@dataclass(frozen=True)
class JudgedReceipt:
    """A receipt as the gate read it; ``signer`` is a key id, None: blocked, not signed."""

    kind: str
    verdict: str
    signer: Digest | None
    sha256: Digest


@dataclass(frozen=True)
class Verdict:
    """The gate's verdict on a variant that may be released.

    Attributes:
        receipts: by row.
        missing_for_stable: device rows that keep it from being stable.
    """

    schema: Literal["phiforge/gate/2"]
    model: str
    variant: str
    channel: str
    artifact_sha256: Digest
    receipts: Mapping[str, JudgedReceipt]
    missing_for_stable: tuple[str, ...]
    policy: Policy
