"""Read from the records of a run what became of each variant."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.manifest import MANIFEST
from phiforge.artifact.record import RecordError, read_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import printable
from phiforge.receipts.policy import is_promoted
from phiforge.receipts.receipt_files import receipts_in
from phiforge.release.card import readable_size
from phiforge.release.versions import RELEASE, versions_of


class States:
    """What became of some variants.

    Attributes:
        variants: by model.
        errors: in which jobs of the models themselves ended.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], root: Path) -> None:
        logs = _Logs(root / "logs")
        self.variants: dict[str, list[State]] = {}
        for model, variant in pairs:
            self.variants.setdefault(model, []).append(_state(root, model, variant, logs))
        self.errors = [error for model in self.variants for error in logs.errors(model)]


@dataclass(frozen=True)
class State:
    """What became of a variant of a model.

    Attributes:
        size: for people; ``payload_bytes`` is the same as a number.
        receipts: as JSON.
        errors: in which its jobs ended.
        lines: what is blocked or failed, each with its reason.
        missing: device rows that stable still needs.
        is_good: it is released by the receipts of today, or is not to be released, and nothing
            is wrong.
    """

    model: str
    variant: str
    size: str
    payload_bytes: int
    release: str
    receipts: list[dict[str, Any]]
    errors: list[str]
    lines: list[str]
    missing: list[str]
    is_good: bool


def _state(root: Path, model: str, variant: str, logs: "_Logs") -> State:
    gate = _read(root / "gates" / model / f"{variant}.json")
    receipts = _receipts(root / "checks" / model / variant, gate)
    blocked = _blocked_build(root / "build" / model / variant)
    payload_bytes = None if blocked else _payload_bytes(root / "build" / model / variant)
    size = "not built" if payload_bytes is None else readable_size(payload_bytes)
    release = _release(root, model, variant)
    verdicts = {receipt["verdict"] for receipt in receipts}
    errors = logs.errors(f"{model}.{variant}", below=True)
    current = release.startswith(("candidate ", "stable "))
    # Nothing could run here, or it is never released: random weights.
    unreleasable = verdicts == {"blocked"} or any(one.get("synthetic") for one in receipts)
    lines = []
    if blocked is not None:
        lines.append(f"{variant}: {blocked['reason']}. {blocked['remedy']}")
    for receipt in receipts if blocked is None else []:
        row, reason = receipt["device"], receipt["reason"]
        if receipt["verdict"] == "blocked":
            lines.append(f"{row}: {reason}. {receipt.get('remedy', '')}")
        if receipt["verdict"] == "failed":
            log = root / "logs/check" / f"{model}.{variant}.{row}.log"
            lines.append(f"{variant} on {row}: {reason} ({log})")
    return State(
        model,
        variant,
        size="blocked" if blocked else size,
        payload_bytes=payload_bytes or 0,
        release=release,
        receipts=receipts,
        errors=errors,
        lines=lines,
        missing=_missing_for_stable(gate, receipts),
        is_good=not errors and "failed" not in verdicts and (current or unreleasable),
    )


class _Logs:
    """The logs of a run, listed once: names of jobs are ``MODEL[.VARIANT[.ROW]]``."""

    def __init__(self, folder: Path) -> None:
        self._named: dict[str, list[Path]] = {}
        self._below: dict[str, list[Path]] = {}
        for log in sorted(folder.glob("*/*.log")):
            self._named.setdefault(log.stem, []).append(log)
            self._below.setdefault(log.stem.rpartition(".")[0], []).append(log)

    def errors(self, name: str, *, below: bool = False) -> list[str]:
        """Return the error in which each log ends, and its alarms; the next run writes it anew."""
        found = []
        for log in self._named.get(name, []) + (self._below.get(name, []) if below else []):
            with suppress(OSError):
                text = log.read_text("utf-8", "replace").rstrip()
                said = [one for one in text.split("\n") if one.startswith("alarm: ")]
                last = text.rpartition("\n")[2]
                stem = log.stem.replace(".", " ")
                found += [
                    f"{log.parent.name} {stem}: {printable(line)} ({log})"
                    for line in [*said, *([last] if last.startswith("error: ") else [])]
                ]
        return found


def _blocked_build(folder: Path) -> dict[str, str] | None:
    """Why the variant was not made here; None: it was, or nothing is known of it."""
    blocked: dict[str, str] | None = _read(folder / "BUILD.json").get("blocked")
    return blocked


def _read(path: Path) -> dict[str, Any]:
    """Read a record; one that is missing or damaged says nothing."""
    try:
        return read_record(path)
    except RecordError:
        return {}


def _receipts(folder: Path, gate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read a variant's receipts, without those of rows that it had before the gate judged it."""
    found = (_read(path) for path in receipts_in(folder))
    known = gate.get("receipts")
    return [one for one in found if one and (known is None or one["device"] in known)]


def _missing_for_stable(gate: Mapping[str, Any], receipts: Iterable[dict[str, Any]]) -> list[str]:
    """What the gate found missing; not judged: device rows that no lasting key says have passed."""
    if "missing_for_stable" in gate:
        return list(gate["missing_for_stable"])
    return [
        receipt["device"]
        for receipt in receipts
        if receipt["kind"] == "device"
        and (receipt["verdict"] != "passed" or receipt["signer"].get("ephemeral", True))
    ]


def _payload_bytes(build: Path) -> int | None:
    """Return the size of a build's payload; None: it is not built."""
    payload = build / "payload"
    if not payload.is_dir():
        return None
    return sum(path.stat().st_size for path in payload.rglob("*") if path.is_file())


def _release(root: Path, model: str, variant: str) -> str:
    folder = root / "release" / model / variant
    build = root / "build" / model / variant / "BUILD.json"
    if not (folder / MANIFEST).is_file():
        return "none"
    stable = is_promoted(folder)
    version = read_record(folder / RELEASE)["version"]
    if versions_of(folder.parent, variant)[version]["revoked"] is not None:
        return f"revoked {version}"
    verdict = root / "gates" / model / f"{variant}.json"
    if not _judged(verdict, build, root / "checks" / model / variant):
        return f"{'old, stable' if stable else 'old'} {version}"
    return f"{'stable' if stable else 'candidate'} {version}"


def _receipt_of(row: str, gate: Mapping[str, Any], checks: Path) -> Path:
    base = gate["policy"]["rows"][row]["base"]
    return (checks.with_name(base["variant"]) if base else checks) / f"{row}.json"


def _judged(verdict: Path, build: Path, checks: Path) -> bool:
    """Whether the gate let these very receipts of this build through."""
    try:
        gate = read_record(verdict)
        return bool(
            gate["artifact_sha256"] == read_record(build)["artifact_sha256"]
            and all(
                sha256_file(_receipt_of(row, gate, checks)) == receipt["sha256"]
                for row, receipt in gate["receipts"].items()
            )
        )
    except (RecordError, OSError, LookupError):
        return False
