"""A release or an index that fails leaves the old one as it was, however its job is run."""

from pathlib import Path

import pytest

from phiforge.artifact.tree import files_under
from support.checkout import Checkout

VARIANT = "genai-cpu-int4"
RELEASED = f"artifacts/released/phi3-tiny/{VARIANT}.json"
INDEXED = "artifacts/indexed/phi3-tiny.json"
CHOSEN = ("--config", f"variants={VARIANT}")
RECEIPT = f"artifacts/checks/phi3-tiny/{VARIANT}/cpu.json"


def content(folder: Path) -> dict[Path, bytes]:
    return {name: (folder / name).read_bytes() for name in files_under(folder)}


# Of a job on a cluster three Snakemakes clean up, each in its own mode.
@pytest.mark.parametrize("mode", ["default", "subprocess", "remote"])
def test_what_fails_leaves_the_old_one(copy: Checkout, mode: str) -> None:
    forced = ("--cores", "1", "--mode", mode, "--nolock", *CHOSEN, "--force")
    releases = copy.release()
    index = (releases / "index.json").read_bytes()
    card = f"artifacts/release/phi3-tiny/{VARIANT}/README.md"
    with copy.edited(card, lambda text: text.replace("```python", "```")):
        done = copy.snakemake(*forced, INDEXED, check=False)
        log = copy.folder / "artifacts/logs/index/phi3-tiny.log"
        assert done.returncode != 0 and "no loading snippet" in log.read_text()
    assert (releases / "index.json").read_bytes() == index
    assert copy.planned("all", *CHOSEN) == {"index phi3-tiny", "page of all models"}

    release = content(releases / VARIANT)
    verdict = '"verdict": "passed"'
    with copy.edited(RECEIPT, lambda text: text.replace(verdict, verdict.replace("pass", "fail"))):
        done = copy.snakemake(*forced, RELEASED, check=False)
        log = copy.folder / f"artifacts/logs/release/phi3-tiny.{VARIANT}.log"
        assert done.returncode != 0 and "is not released to candidate: cpu: " in log.read_text()
    assert not (copy.folder / RELEASED).exists()
    assert content(releases / VARIANT) == release
    assert copy.planned("all", *CHOSEN) == {
        f"release phi3-tiny {VARIANT}",
        "index phi3-tiny",
        "page of all models",
    }
    copy.snakemake("--cores", "1", "all", *CHOSEN)
