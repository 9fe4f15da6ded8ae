"""A check that does not fit this machine is an error, and leaves no receipt that says `failed`."""

from pathlib import Path

import psutil
import pytest

from phiforge.cli import main
from support.jobs import check_job, write_job


def test_a_check_that_does_not_fit_is_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = psutil.virtual_memory().total // 1_000_000 + 1
    receipt = tmp_path / "receipt.json"
    options = [
        f"--{name}={tmp_path / name}" for name in ("artifact", "reference", "golden", "acceptance")
    ]
    job = write_job(tmp_path, check_job("openvino-int4", "cpu"))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(job), *options, f"--receipt={receipt}", f"--memory-mb={needed}"])
    assert ended.value.code == 1 and not receipt.exists()
    told = "error: checking phi3-tiny openvino-int4 on cpu does not fit this machine; expected"
    assert capsys.readouterr().err.startswith(told)
