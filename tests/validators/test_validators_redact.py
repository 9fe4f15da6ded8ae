"""What a receipt calls this machine's folders."""

import sys
import tempfile
from pathlib import Path

import pytest

from phiforge.checkout import ROOT
from validators.redact import redact_paths
from validators.worker import _failure


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    folder = tmp_path / "build/payload"
    folder.mkdir(parents=True)
    return folder


def test_what_is_below_a_folder_stays_named(payload: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jo")
    for text, redacted in {
        f"cannot open '{payload}/config.json'": "cannot open 'ARTIFACT/config.json'",
        f"{payload}: damaged": "ARTIFACT: damaged",
        f"file://{payload}/a and {payload}": "file://ARTIFACT/a and ARTIFACT",
        f"{ROOT}/validators/worker.py:1": "CHECKOUT/validators/worker.py:1",
        f"{sys.base_prefix}/lib/x.py": "PYTHON/lib/x.py",
        f"{tempfile.gettempdir()}/phiforge-check-1/JOB.json": "TEMPORARY/phiforge-check-1/JOB.json",
        "/home/jo/cache, /home/joan/x, /srv/home/jo": "HOME/cache, /home/joan/x, /srv/home/jo",
        "a/b of 3/4 has 1 token": "a/b of 3/4 has 1 token",
    }.items():
        assert redact_paths(text, payload) == redacted


def test_a_folder_is_known_by_either_of_its_names(payload: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(payload)
    assert redact_paths(f"{link}/a, {payload}/b", link) == "ARTIFACT/a, ARTIFACT/b"


def test_a_root_for_a_home_means_nothing(payload: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert redact_paths("1/2 of /srv/x", payload) == "1/2 of /srv/x"


def test_a_long_message_is_not_cut_within_a_path(payload: Path, tmp_path: Path) -> None:
    doing = tmp_path / "DOING"
    doing.write_text("opening the artifact")
    for before in range(330, 400):
        error = OSError("x" * before + f" {payload}/config.json")
        what = _failure(error, doing, payload).what
        assert str(tmp_path)[:8] not in what
