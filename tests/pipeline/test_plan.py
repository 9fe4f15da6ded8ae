"""What a fresh checkout plans, and what it says when it cannot."""

import re
import shutil
from pathlib import Path

import pytest

from support.checkout import ROOT, Checkout, make_checkout, receipts_of
from support.model_files import model_file


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return make_checkout(tmp_path_factory.mktemp("fresh") / "phiforge")


def test_a_narrowed_run_plans_what_it_needs_and_nothing_else(fresh: Checkout) -> None:
    jobs = fresh.planned("all", "--config", "variants=openvino-int4")
    rows = ("cpu", "gpu", "gpu-software", "gpu-standin")
    assert receipts_of(jobs) == {f"phi3-tiny openvino-int4 on {row}" for row in rows}
    assert {job for job in jobs if not job.startswith(("check", "blocked"))} == {
        "fetch phi3-tiny",
        "reference phi3-tiny: transformers, float32",
        "convert phi3-tiny to openvino-fp16",
        "convert phi3-tiny to openvino-int4",
        "release phi3-tiny openvino-int4",
        "index phi3-tiny",
        "page of all models",
    }


def test_a_dry_run_shows_commands_where_they_are_asked_for(fresh: Checkout) -> None:
    target = "artifacts/build/phi3-tiny/openvino-fp16/BUILD.json"
    shown, plain = (fresh.snakemake("-n", *option, target).stdout for option in (["-p"], []))
    command = "python -m phiforge convert artifacts/jobs/convert/phi3-tiny.openvino-fp16.json"
    assert command in shown and "python -m" not in plain
    for message in ("fetch phi3-tiny", "convert phi3-tiny to openvino-fp16"):
        assert message in shown and message in plain
    # Each takes longer to format than all else of its job to plan.
    with fresh.edited("rules/fetch.smk", lambda text: text.replace("{log:q}", "{absent:q}")):
        assert fresh.snakemake("-n", target, check=False).returncode == 0
        assert fresh.snakemake("-n", "-p", target, check=False).returncode != 0


def test_a_real_model_is_one_option_away(fresh: Checkout) -> None:
    planned = fresh.planned("all", "--config", "models=phi-3-mini-4k", "variants=genai-dml-int4")
    assert "fetch phi-3-mini-4k" in planned
    assert "release phi-3-mini-4k genai-dml-int4" in planned
    assert not any("phi3-tiny" in job for job in planned)


def test_a_blocked_variant_needs_no_base_and_has_no_release(fresh: Checkout) -> None:
    head = "openvino-int8:\n"
    needy = head + "  requires: {files: [toolchain/here], remedy: install it}\n"
    with fresh.edited("config/variants.yaml", lambda text: text.replace(head, needy)):
        blocked = fresh.planned("all", "--config", "variants=openvino-int8")
        (fresh.folder / "toolchain").mkdir()
        (fresh.folder / "toolchain/here").touch()
        unblocked = fresh.planned("all", "--config", "variants=openvino-int8")
    rows = "cpu, gpu, gpu-software, gpu-standin"
    always = {"fetch phi3-tiny", "convert phi3-tiny to openvino-int8"}
    blocked_rows = f"blocked phi3-tiny openvino-int8 on {rows}"
    assert blocked == {*always, blocked_rows}, "nothing asks for a reference"
    assert receipts_of(unblocked) == receipts_of({blocked_rows})
    assert {job for job in unblocked if not job.startswith(("check", "blocked"))} == always | {
        "reference phi3-tiny: transformers, float32",
        "convert phi3-tiny to openvino-fp16",
        "release phi3-tiny openvino-int8",
        "index phi3-tiny",
        "page of all models",
    }


def test_a_synthetic_model_is_checked_and_never_released(fresh: Checkout, tmp_path: Path) -> None:
    golden = str(ROOT / "models/phi3-tiny/golden.yaml")
    file = model_file(tmp_path, "random", golden=golden, synthetic=True)
    planned = fresh.planned("all", "--config", f"model_files={file}", "models=random")
    assert any(job.startswith("check random") for job in planned)
    assert not any(job.startswith(("release", "index")) for job in planned)


def test_a_stable_release_of_another_version_is_noted(fresh: Checkout) -> None:
    release = fresh.release("openvino-int4")
    try:
        (release / "evidence").mkdir(parents=True)
        (release / "evidence/promotion.dsse.json").write_text("{}")
        (release / "evidence/release.json").write_text('{"version": "0.1.0"}')
        same, other = (
            fresh.snakemake("-n", "all", "--config", f"version={one}").stderr
            for one in ("0.1.0", "0.2.0")
        )
    finally:
        shutil.rmtree(release.parents[1])
    assert "note:" not in same
    told = "openvino-int4 is stable as 0.1.0 and stays so; to release 0.2.0, move the folder away"
    assert other.count(told) == 1


def test_work_that_does_not_fit_is_refused_before_it_begins(
    fresh: Checkout, tmp_path: Path
) -> None:
    """The estimate reaches the job, whatever budget Snakemake shares among jobs."""
    golden = str(ROOT / "models/phi3-tiny/golden.yaml")
    source = {"path": str(ROOT / "models/phi3-tiny"), "checksums": "SHA256SUMS"}
    file = model_file(tmp_path, "huge", golden=golden, source=source, parameters=10**14)
    build = "artifacts/build/huge/openvino-fp16/BUILD.json"
    options = ("--config", f"model_files={file}", "models=huge", "variants=openvino-fp16")
    done = fresh.snakemake("--cores", "1", build, *options, check=False)
    log = (fresh.folder / "artifacts/logs/convert/huge.openvino-fp16.log").read_text()
    assert done.returncode != 0 and len(log.splitlines()) == 1
    assert re.match("error: converting huge to openvino-fp16 does not fit this machine; exp", log)
    told = " ".join((done.stdout + done.stderr).split())
    assert told.count(log.split(";")[0]) == 1, "the reason, once"
    assert told.count("(artifacts/logs/convert/huge.openvino-fp16.log)") == 1
    assert max(map(len, done.stdout.splitlines())) <= 80
    source = fresh.snakemake("--cores", "1", "artifacts/source/huge/SOURCE.json", *options)
    assert "Nothing to be done" in source.stderr
    assert "not built" in source.stdout, "the table, of a run that had nothing to do"
    planned = fresh.snakemake("-n", "-p", "all", *options).stdout
    assert "not built" not in planned
    (needed,) = set(re.findall(r"phiforge check .*cpu.json.*? --memory-mb (\d+)", planned))
    assert int(needed) > 10**8


def test_files_of_another_time_are_not_fetched_again(fresh: Checkout, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models/phi3-tiny", tmp_path / "weights")
    file = model_file(tmp_path, "local", golden=str(ROOT / "models/phi3-tiny/golden.yaml"))
    target = "artifacts/source/local/SOURCE.json"
    options = ("--config", f"model_files={file}", "models=local")
    weights = tmp_path / "weights/model.safetensors"
    assert fresh.planned(target, *options) == {"fetch local"}
    fresh.snakemake("--cores", "1", target, *options)
    assert fresh.planned(target, *options) == set()
    for path in (tmp_path / "weights").iterdir():
        path.touch()
    assert fresh.planned(target, *options) == set()
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # of the same size
    assert fresh.planned(target, *options) == {"fetch local"}
    done = fresh.snakemake("--cores", "1", target, *options, check=False)
    assert done.returncode != 0 and "is not the file that SHA256SUMS records" in done.stdout
    weights.write_bytes(data)
    fresh.snakemake("--cores", "1", target, *options)
    weights.unlink()
    assert fresh.planned(target, *options) == {"fetch local"}


def test_lint_has_one_complaint_only(fresh: Checkout) -> None:
    """Shell rules without a container or conda environment: phiforge's is made by make."""
    done = fresh.snakemake("--lint", check=False)
    lines = (done.stdout + done.stderr).splitlines()
    complaints = {line.strip() for line in lines if line.strip().startswith("* ")}
    assert complaints == {"* Specify a conda environment or container for each rule.:"}
