"""Compare two releases of a variant: what changed, and whether the new one is worse.

Compared are the manifests (source, recipe, toolchain, files) and, row by row, the receipts in
``evidence/receipts`` (verdict, fidelity on equal positions, speed, a compiled blob's interface).
What counts as worse is in the limits file (``config/regression.yaml``); a verdict that is no longer
``passed`` or ``compiled`` always does, and so does a row that is gone.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST, PayloadError
from phiforge.artifact.record import read_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import PhiforgeError
from phiforge.receipts.receipt_files import receipts_in
from phiforge.release.comparison import scored_on, short_digest
from phiforge.settings.blocks import read_block
from phiforge.settings.documents import read_yaml
from phiforge.settings.regression import Regression

LIMITS = Path("config/regression.yaml")
_RECORDED = (
    "title",
    "license",
    "format",
    "precision",
    "converter",
    "source",
    "recipe",
    "toolchain",
)
_HEADINGS = ("part", "what", "old", "new", "regression")


class RegressionError(PhiforgeError):
    """The new release is worse than the old one, beyond the limits."""


@dataclass(frozen=True)
class Change:
    """One thing that differs.

    Attributes:
        part: ``source``, ``recipe``, ``toolchain``, ``size``, ``receipts``, ``fidelity``, …
        old: the old value, as text; empty: there was none.
        regression: why it is a change for the worse; empty: it is not.
    """

    part: str
    what: str
    old: str
    new: str
    regression: str = ""


# Numbers of a receipt that may get worse: part, path, limit, and 1 where larger is worse, else -1.
_NUMBERS = (
    ("fidelity", ("metrics", "mean_kl"), "mean_kl", 1),
    ("fidelity", ("metrics", "max_kl"), "max_kl", 1),
    ("speed", ("performance", "first_token_ms", "p50"), "first_token_ms", 1),
    ("speed", ("performance", "tokens_per_s", "p50"), "tokens_per_s", -1),
)


def diff(old: Path, new: Path, limits: Mapping[str, float]) -> tuple[Change, ...]:
    """List the changes from the release folder ``old`` to ``new``, of one model and variant.

    Raises:
        RegressionError: the two are not comparable.
        PayloadError: a folder is no release.
    """
    before, after = _manifest(old), _manifest(new)
    for key in ("model", "variant"):
        if before[key] != after[key]:
            raise RegressionError(
                f"these are releases of another {key}",
                where=new,
                expected=before[key],
                found=after[key],
                remedy="compare two releases of one variant",
            )
    return (
        *_recorded(before, after),
        *_sizes(before, after, limits["size"]),
        *_receipts(old, new, limits),
    )


def read_limits(path: Path) -> dict[str, float]:
    """Read the configured limits.

    Raises:
        ConfigurationError: the file is not valid.
    """
    return read_block(Regression, read_yaml(path), path).model_dump()


def _manifest(release: Path) -> dict[str, Any]:
    if not (release / MANIFEST).is_file():
        raise PayloadError(
            "this is not a release folder",
            where=release,
            expected=f"a folder with {MANIFEST}",
            found="none",
            remedy="name artifacts/release/<model>/<variant>, or a copy of one",
        )
    return read_record(release / MANIFEST)


def _recorded(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for part in _RECORDED:
        old, new = dict(_leaves(before.get(part))), dict(_leaves(after.get(part)))
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                yield Change(part, name or part, old.get(name, ""), new.get(name, ""))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping) and "path" in value[0]:
        for entry in value:
            yield f"{name}.{entry['path']}", str(entry.get("sha256", ""))
    elif value is not None:
        yield name, str(value)


def _sizes(before: Mapping[str, Any], after: Mapping[str, Any], limit: float) -> Iterator[Change]:
    old, new = ({entry["path"]: entry for entry in record["files"]} for record in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield Change("files", name, _file(old.get(name)), _file(new.get(name)))
    sizes = [sum(entry["size"] for entry in files.values()) for files in (old, new)]
    if sizes[0] != sizes[1]:
        worse = _beyond(sizes[0], sizes[1], limit, 1)
        yield Change("size", "payload", f"{sizes[0]:,} B", f"{sizes[1]:,} B", worse)


def _file(entry: Mapping[str, Any] | None) -> str:
    return "" if entry is None else f"{entry['size']:,} B, {entry['sha256'][:12]}"


def _receipts(old: Path, new: Path, limits: Mapping[str, float]) -> Iterator[Change]:
    before, after = (_read_receipts(folder) for folder in (old, new))
    for row in sorted(before.keys() | after.keys()):
        receipts = before.get(row, {}), after.get(row, {})
        verdicts = [str(receipt.get("verdict", "")) for receipt in receipts]
        if verdicts[0] != verdicts[1]:
            good = verdicts[0] in ("passed", "compiled")
            worse = f"no longer {verdicts[0]}" if good else ""
            yield Change("receipts", row, verdicts[0], verdicts[1], worse)
        interfaces = [str((one.get("compiled") or {}).get("interface", "")) for one in receipts]
        if interfaces[0] != interfaces[1]:  # a driver that knows the one may not know the other
            yield Change("receipts", f"{row} interface", *interfaces)
        positions = [_positions(receipt) for receipt in receipts]
        if all(positions) and positions[0] != positions[1]:  # their figures say nothing together
            yield Change("fidelity", f"{row} scored on", *positions)
        for part, path, limit, sign in _NUMBERS:
            was, now = (_number(receipt, path) for receipt in receipts)
            if part == "fidelity" and positions[0] != positions[1]:
                continue
            if was is not None and now is not None and was != now:
                worse = _beyond(was, now, limits[limit], sign)
                yield Change(part, f"{row} {'.'.join(path[1:])}", f"{was:.4g}", f"{now:.4g}", worse)


def _read_receipts(release: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: read_record(path) for path in receipts_in(release / "evidence/receipts")}


def _positions(receipt: Mapping[str, Any]) -> str:
    """Name the positions that were scored; empty: none were."""
    scored = scored_on(receipt)
    return f"{scored[-1]} positions, {short_digest(*scored)}" if scored[-1] else ""


def _number(receipt: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = receipt
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _beyond(old: float, new: float, limit: float, sign: int) -> str:
    """Say by how much ``new`` is worse than ``old`` where that is beyond the limit; else nothing.

    Args:
        limit: the largest change for the worse, as a fraction of ``old``.
        sign: 1 where a larger number is worse, -1 where a smaller one is.

    >>> _beyond(100, 103, 0.02, 1)
    '+3.0 %, limit +2.0 %'
    >>> _beyond(100, 70, 0.33, -1)
    ''
    """
    if old <= 0 or sign * (new / old - 1) <= limit:
        return ""
    return f"{new / old - 1:+.1%}, limit {sign * limit:+.1%}".replace("%", " %")


def markdown(changes: Sequence[Change], old: Path, new: Path) -> str:
    """Write the changes as a table for release notes."""
    facts = read_record(new / MANIFEST)
    lines = [
        f"### {facts['model']} {facts['variant']}",
        "",
        f"`{_digest(old)}` → `{_digest(new)}`",
        "",
    ]
    if not changes:
        return "\n".join([*lines, "Nothing changed.", ""])
    lines += [f"| {' | '.join(_HEADINGS)} |", "|" + "---|" * len(_HEADINGS)]
    lines += [f"| {' | '.join(map(_cell, _cells(change)))} |" for change in changes]
    return "\n".join([*lines, ""])


def _digest(release: Path) -> str:
    return sha256_file(release / CHECKSUMS)[:12]


def _cells(change: Change) -> tuple[str, ...]:
    return change.part, change.what, change.old, change.new, change.regression


def _cell(text: str) -> str:
    return text.replace("|", "\\|") or "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, help="the old release folder")
    parser.add_argument("new", type=Path, help="the new release folder")
    parser.add_argument("--limits", type=Path, default=LIMITS, help="what counts as a regression")
    parser.add_argument("--markdown", type=Path, help="write the table for release notes here")


def run(arguments: argparse.Namespace) -> None:
    report(arguments.old, arguments.new, arguments.limits, arguments.markdown)


def report(old: Path, new: Path, limits_file: Path, into: Path | None) -> None:
    """Print the changes as a table, write them as Markdown, and fail on a regression.

    Raises:
        RegressionError: naming each regression.
    """
    changes = diff(old, new, read_limits(limits_file))
    table = Table(*_HEADINGS, title=f"{old} → {new}", title_justify="left")
    for change in changes:
        style = "red" if change.regression else None
        table.add_row(*_cells(change), style=style)
    console = Console()
    Console(width=max(console.width, 132)).print(table if changes else "nothing changed")
    if into is not None:
        into.write_text(markdown(changes, old, new), encoding="utf-8")
    worse = [change for change in changes if change.regression]
    if worse:
        raise RegressionError(
            "the new release is worse: "
            + "; ".join(f"{change.part} {change.what}: {change.regression}" for change in worse),
            where=new,
            remedy=f"find the cause, or raise the limit in {limits_file}",
        )
