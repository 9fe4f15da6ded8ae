"""What the Makefile does by itself: real make, in a folder that has only what the target needs."""

import shutil
import subprocess
from pathlib import Path

from support.checkout import ROOT


def test_clean_never_removes_what_no_run_makes_again(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    artifacts = tmp_path / "artifacts"
    kept = [
        "README.md",
        "inbox/brought.zip",
        "release/m/versions.json",
        "release/m/revocations.json",
        "release/m/a-stable/weights.bin",
        "release/m/a-stable/evidence/promotion.dsse.json",
    ]
    removed = [
        "build/m/v/BUILD.json",
        "checks/m/v/cpu.json",
        "release/m/index.json",
        "release/m/README.md",
        "release/m/candidate/weights.bin",
    ]
    for name in kept + removed:
        (artifacts / name).parent.mkdir(parents=True, exist_ok=True)
        (artifacts / name).write_text("x")
    (artifacts / "release/m/candidate/weights.bin").chmod(0o444)
    for _ in range(2):
        done = subprocess.run(
            ["make", "clean"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert "kept: artifacts/release/m/a-stable/ (stable)" in done.stdout
        left = [path for path in artifacts.rglob("*") if path.is_file()]
        assert sorted(str(path.relative_to(artifacts)) for path in left) == sorted(kept)
    shutil.rmtree(artifacts)
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=True)
