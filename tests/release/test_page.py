"""The page that people look at: complete, alone, harmless whatever its sources hold, and fast."""

import json
import shutil
import subprocess
import time
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from phiforge.artifact.record import read_record
from phiforge.jobs import Blocked, Index
from phiforge.release.index import write_index
from phiforge.release.page import comparable, write_overview, write_page
from phiforge.release.ranking import AGREEMENT, Build, frontier, ranked
from support.checkout import ROOT, Checkout
from support.html_page import Page, parse, text_of
from support.small_release import MODEL, SmallVariant

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
HOSTILE = "<script>alert(1)</script><img src=http://203.0.113.1/x onerror=alert(1)>'\"&{{ 7*7 }}"


def links(page: Page) -> list[str]:
    return [unquote(one["href"]) for one in page.of("a")]


def assert_alone(page: Page) -> None:
    """One whole file that loads nothing, each of whose own links leads somewhere."""
    assert page.unclosed == [] and page.loads() == []
    ids = Counter(one["id"] for _, one in page.elements if "id" in one)
    assert [name for name, count in ids.items() if count > 1] == []
    assert {one[1:] for one in links(page) if one.startswith("#")} <= ids.keys()
    policy = next(one["content"] for one in page.of("meta") if "http-equiv" in one)
    assert policy.startswith("default-src 'none';")


def test_the_page_shows_every_release_and_leads_to_every_receipt(pipeline: Checkout) -> None:
    folder = pipeline.release()
    page, index = parse(folder / "index.html"), read_record(folder / "index.json")
    assert_alone(page)
    assert (folder / "index.html").stat().st_size < 2_000_000
    targets = [one for one in links(page) if not one.startswith("#")]
    assert [one for one in targets if not (folder / one).exists()] == []
    for one in index["variants"]:
        for receipt in one["receipts"]:
            name = f"./{one['variant']}/evidence/receipts/{receipt['row']}.json"
            assert name in targets, name
        assert f"./{one['variant']}/README.md" in targets
    text = text_of(folder / "index.html")
    assert index["rule"] in text
    for group in comparable(index):
        assert f"Scored at {group['positions']} positions" in text
    overview = parse(folder.parent / "index.html")
    assert_alone(overview)
    assert "./phi3-tiny/index.html" in links(overview)


def test_the_page_of_the_whole_model_takes_less_than_three_seconds(
    pipeline: Checkout, tmp_path: Path
) -> None:
    index = read_record(pipeline.release() / "index.json")
    started = time.process_time()
    write_page(index, tmp_path / "index.html")
    assert time.process_time() - started < 3


def test_only_equal_positions_stand_in_one_table(pipeline: Checkout) -> None:
    index = read_record(pipeline.release() / "index.json")
    groups = comparable(index)
    for group in groups:
        found = {receipt["fidelity"]["positions"] for _, receipt in group["rows"]}
        assert found == {group["positions"]}
        assert len({receipt["compared_on"] for _, receipt in group["rows"]}) == 1
        assert {receipt["answers"]["answers"] for _, receipt in group["rows"]} == {group["answers"]}
    named = [one["variant"] for group in groups for one, _ in group["rows"]]
    blobs = [one["variant"] for one in index["variants"] if one["format"] == "npu-blob"]
    assert sorted(named + blobs) == [one["variant"] for one in index["variants"]]


def test_what_came_from_elsewhere_is_text(tmp_path: Path) -> None:
    """A model's title, a variant's name, a receipt's reason, a card's code and a revocation."""
    variant = SmallVariant(tmp_path / "variant")
    release = variant.release(into=tmp_path / MODEL / variant.variant)
    (release / "README.md").write_text(f"# a card\n\n```python\n{HOSTILE}\n```\n")
    job = Index(MODEL, HOSTILE, HOSTILE, {"x": Blocked(HOSTILE, HOSTILE)}, (), ())
    write_index(job, ROOT / "config/hardware.yaml", tmp_path / MODEL, tmp_path)
    index: dict[str, Any] = read_record(tmp_path / MODEL / "index.json")
    honest = index["variants"][0]
    honest["versions"][0] |= {
        "revoked": HOSTILE,
        "after": HOSTILE,
        "changes": [dict.fromkeys(("part", "what", "old", "new", "regression"), HOSTILE)],
    }
    forged = json.loads(json.dumps(honest).replace(honest["variant"], "javascript:$alert(1)$"))
    for receipt in forged["receipts"]:
        receipt |= {"row": HOSTILE, "verdict": "failed", "reason": HOSTILE, "left_out": [HOSTILE]}
    forged |= {"format": HOSTILE, "precision": HOSTILE, "missing_for_stable": [HOSTILE]}
    index["variants"].append(forged)
    index["hardware"][0] |= {"choose": [forged["variant"]], "title": HOSTILE, "when": HOSTILE}
    index["hardware"][0]["told_by"] = {forged["variant"]: None}
    page = tmp_path / MODEL / "index.html"
    write_page(index, page)
    parsed = parse(page)
    assert parsed.unclosed == [] and parsed.loads() == []
    assert {"script", "img"} & {name for name, _ in parsed.elements} == set()
    assert [one for _, one in parsed.elements if any(key.startswith("on") for key in one)] == []
    assert all(one.startswith(("./", "#", "../", "index.json")) for one in links(parsed))
    assert "alert(1)" in text_of(page) and "{{ 7*7 }}" in text_of(page)
    assert escape(HOSTILE)[:20] in page.read_text()
    shutil.copy(tmp_path / MODEL / "index.json", tmp_path / "kept.json")
    (tmp_path / MODEL / "index.json").write_text(json.dumps(index))
    write_overview(tmp_path)
    assert parse(tmp_path / "index.html").loads() == []


def build(variant: str, size: int, mean_kl: float | None, **more: Any) -> Build:
    agreement = None if mean_kl is None else more.pop("agreement", 1.0)
    return Build(variant, size, more.pop("positions", "p"), agreement, mean_kl, **more)


def test_the_rule_of_the_order() -> None:
    small, large = build("small", 100, 1e-3), build("large", 300, 1e-6)
    beaten, coarse = build("beaten", 200, 2e-3), build("coarse", 50, 1e-1, agreement=0.9)
    unknown = build("unknown", 10, None, positions=None)
    assert AGREEMENT > 0.9
    order = ("small", "large", "beaten", "coarse", "unknown")
    assert ranked([unknown, beaten, large, coarse, small]) == order
    assert frontier([beaten, large, small]) == ("small", "large")
    # Other positions say nothing of each other.
    elsewhere = build("beaten", 200, 2e-3, positions="q")
    assert ranked([elsewhere, large, small]) == ("small", "beaten", "large")
    # The same size within 2 %, and what the hardware itself has timed.
    nearly = build("nearly", 995, 1e-4)
    assert ranked([build("a", 990, 1e-3), nearly]) == ("nearly", "a")
    fast = build("a", 990, 1e-3, prompts="t", tokens_per_s=20.0)
    slow = build("nearly", 995, 1e-4, prompts="t", tokens_per_s=10.0)
    assert ranked([fast, slow]) == ("a", "nearly")


def asked_by(page: Path, scratch: Path) -> set[str]:
    """Show a page in Chromium; what it asked for beside files. Chromium's own questions are not."""
    assert CHROMIUM is not None
    log = scratch / "net.json"
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--timeout=3000",
         f"--user-data-dir={scratch}/profile", f"--log-net-log={log}", "--enable-logging=stderr",
         "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "</html>" in done.stdout and "CONSOLE" not in done.stderr
    events = [one.get("params", {}) for one in json.loads(log.read_text())["events"]]
    of_page = [one for one in events if one.get("network_isolation_key", "").startswith("file:")]
    return {one["url"] for one in of_page if not one.get("url", "file:").startswith("file:")}


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_the_page_and_asks_for_nothing(pipeline: Checkout, tmp_path: Path) -> None:
    control = tmp_path / "control.html"
    control.write_text('<img src="http://127.0.0.1:9/x.png">')
    assert asked_by(control, tmp_path) == {"http://127.0.0.1:9/x.png"}
    assert asked_by(pipeline.release() / "index.html", tmp_path) == set()
