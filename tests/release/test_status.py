"""The table of a run: short for what is good, however many models, and in full for what is not."""

import json
import os
import shutil
from pathlib import Path

import pytest

from support.checkout import Checkout
from support.jobs import run

VARIANTS = ("genai-cpu-int4", "openvino-int4", "openvino-int8")


@pytest.fixture(scope="module")
def fleet(pipeline: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of 50 models with three released variants: phi3-tiny's own, under other names."""
    root, source = tmp_path_factory.mktemp("fleet"), pipeline.folder / "artifacts"
    kept = ("gates", "checks", "build", "release")
    for model in (f"acme-{number:02}" for number in range(50)):
        for variant in VARIANTS:
            for kind in kept:
                of = Path(kind) / "phi3-tiny" / variant
                into = root / kind / model
                into.mkdir(parents=True, exist_ok=True)
                if kind == "gates":
                    shutil.copy(source / f"{of}.json", into)
                else:
                    shutil.copytree(source / of, into / variant, copy_function=os.link)
        shutil.copy(source / "release/phi3-tiny/versions.json", root / "release" / model)
    return root


def status_lines(fleet: Path) -> list[str]:
    pairs = [f"acme-{number:02}/{variant}" for number in range(50) for variant in VARIANTS]
    done = run("status", *pairs, "--root", fleet)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_fifty_good_models_take_a_line_each(fleet: Path) -> None:
    lines = status_lines(fleet)
    assert max(map(len, lines)) <= 80
    models = [line for line in lines if line.strip().startswith("acme-")]
    assert len(models) == 50
    assert all("3 candidate" in line and "passed" in line for line in models)
    assert len(lines) < 80, "and why some rows are blocked, once"


def test_what_is_not_good_is_named_in_full(fleet: Path) -> None:
    receipt = fleet / "checks/acme-07/openvino-int8/cpu.json"
    wrong = {**json.loads(receipt.read_text()), "verdict": "failed", "reason": "it said Lyon"}
    receipt.unlink()
    receipt.write_text(json.dumps(wrong))
    log = fleet / "logs/convert/acme-09.openvino-int4.log"
    log.parent.mkdir(parents=True)
    log.write_text("working\nerror: acme-09: no space left. Remedy: free some\n")
    fetch = fleet / "logs/fetch/acme-11.log"
    fetch.parent.mkdir()
    fetch.write_text("error: acme-11: no such commit\n")
    lines = [" ".join(line.split()) for line in status_lines(fleet)]
    seventh = lines.index("acme-07")
    assert lines[seventh + 1].startswith("openvino-int8 ")
    assert "cpu failed" in lines[seventh + 1]
    more = next(line for line in lines[seventh:] if line.startswith("2 more"))
    assert "2 candidate" in more
    assert lines.index("acme-09") > seventh
    text = " ".join(lines)
    assert "openvino-int8 on cpu: it said Lyon (" in text
    assert "convert acme-09 openvino-int4: error: acme-09: no space left" in text
    assert "fetch acme-11: error: acme-11: no such commit" in text
    assert sum(line.startswith("acme-") and "3 candidate" in line for line in lines) == 48
