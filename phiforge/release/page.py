"""Write the pages that people look at: one a model, one over all models.

Each is a single file that loads nothing, made of ``index.json`` alone. What came from elsewhere
(names, reasons, receipts) is escaped by the template engine.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge.artifact.record import read_record, write_text
from phiforge.receipts.coverage import DeviceState
from phiforge.release.card import readable_size
from phiforge.release.chart import LEAST_KL, frontier_svg
from phiforge.release.ranking import Build, frontier
from phiforge.release.templates import fill_in
from phiforge.release.tracking import link_record

PAGE = "index.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--releases", required=True, type=Path, help="artifacts/release")
    parser.add_argument("--record", type=Path, help="link to make to the page")


def run(arguments: argparse.Namespace) -> None:
    write_overview(arguments.releases)
    if arguments.record is not None:
        link_record(arguments.releases / PAGE, arguments.record)


def write_page(index: Mapping[str, Any], into: Path) -> None:
    """Write a model's page.

    Args:
        index: as ``index.json`` holds it.
    """
    facts = {
        "index": index,
        "variants": {one["variant"]: one for one in index["variants"]},
        "groups": comparable(index),
        "speeds": _speeds(index),
        "matrix": _matrix(index),
        "loads": _loads(index),
        "least": LEAST_KL,
    }
    write_text(into, fill_in("page.html.j2", _FILTERS, **facts))


def write_overview(releases: Path) -> None:
    """Write the page over all models below ``releases`` that have an index."""
    found = [read_record(path) for path in sorted(releases.glob("[!.]*/index.json"))]
    write_text(releases / PAGE, fill_in("overview.html.j2", _FILTERS, models=found))


def comparable(index: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Gather the variants' figures by the positions that they were scored on, most variants first.

    Each variant counts once, by the receipt that compares it with the most others; of equal ones
    a device's before a stand-in's. An artifact that another one's receipt speaks for has no
    figures of its own.
    """
    told = {
        one["variant"]: [
            r for r in one["receipts"] if r["fidelity"] and r["variant"] == one["variant"]
        ]
        for one in index["variants"]
        if one["revoked"] is None
    }
    often = Counter(of for own in told.values() for of in {r["compared_on"] for r in own})
    groups: dict[str, list[tuple[Any, Any]]] = {}
    for one in index["variants"]:
        if own := told.get(one["variant"]):
            best = min(own, key=lambda r: (-often[r["compared_on"]], r["kind"] != "device"))
            groups.setdefault(best["compared_on"], []).append((one, best))
    return [_group(found) for found in sorted(groups.values(), key=lambda found: -len(found))]


def _group(found: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    builds = [
        Build(
            one["variant"],
            one["size"],
            receipt["compared_on"],
            receipt["fidelity"]["top1_agreement"],
            receipt["fidelity"]["mean_kl"],
        )
        for one, receipt in found
    ]
    first = found[0][1]
    formats = {one["variant"]: one["format"] for one, _ in found}
    return {
        "positions": first["fidelity"]["positions"],
        "left_out": first["left_out"],
        "answers": first["answers"] and first["answers"]["answers"],
        "rows": sorted(found, key=lambda pair: (pair[0]["size"], pair[0]["variant"])),
        "frontier": frontier(builds),
        "largest": max(build.size for build in builds),
        "chart": frontier_svg(builds, formats) if len(builds) > 1 else None,
    }


def _speeds(index: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Gather what was timed on one device row with the same prompts: only that compares."""
    groups: dict[str, list[tuple[Any, Any]]] = {}
    for one in index["variants"]:
        for receipt in one["receipts"]:
            if receipt["speed"] and receipt["variant"] == one["variant"]:
                groups.setdefault(receipt["speed"]["compared_on"], []).append((one, receipt))
    found = sorted(
        groups.values(), key=lambda of: (of[0][1]["kind"] != "device", of[0][1]["row"], -len(of))
    )
    return [
        {
            "receipt": timed[0][1],
            "timed": sorted(timed, key=lambda pair: -(pair[1]["speed"]["tokens_per_s"] or 0.0)),
            "most": {
                what: max(pair[1]["speed"][what] or 0.0 for pair in timed)
                for what in ("first_token_ms", "tokens_per_s")
            },
        }
        for timed in found
    ]


def _matrix(index: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out every receipt: by variant, and by the device that it is about."""
    devices = sorted({row for one in index["variants"] for row in one["devices"]})
    cells = {}
    for one in index["variants"]:
        of = {}
        for row, known in one["devices"].items():
            about = [r for r in one["receipts"] if row == r["row"] or row in r["stands_for"]]
            about.sort(key=lambda receipt: (receipt["kind"] != "device", receipt["row"]))
            of[row] = {"state": DeviceState(**known), "receipts": about}
        cells[one["variant"]] = of
    return {"devices": devices, "cells": cells}


def _loads(index: Mapping[str, Any]) -> dict[str, list[str]]:
    loads: dict[str, list[str]] = {}
    for one in index["variants"]:
        loads.setdefault(one["load"], []).append(one["variant"])
    return loads


def _brief(value: float | None) -> str:
    """Write a figure with three digits.

    >>> _brief(None), _brief(0.00123456), _brief(1234.5), _brief(37.28)
    ('-', '0.00123', '1,234', '37.3')
    """
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    """Write a share in percent; only what is whole is 100 %.

    >>> _share(1.0), _share(0.99987), _share(0.9)
    ('100 %', '99.9 %', '90.0 %')
    """
    if value is None:
        return "-"
    return "100 %" if value == 1 else f"{min(value * 100, 99.9):.1f} %"


def _width(value: float | None, largest: float) -> str:
    """Write the length of a bar, in percent of the largest."""
    return "0%" if not value or not largest else f"{100 * value / largest:.1f}%"


_FILTERS: Mapping[str, Callable[..., str]] = {
    "size": readable_size,
    "brief": _brief,
    "share": _share,
    "width": _width,
}
