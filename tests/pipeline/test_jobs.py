"""Jobs: what a rule decides is what its command reads, and nothing that shapes no result."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from phiforge.jobs import Check, JobError, Kit, read_job, to_json
from phiforge.rule_params import job_param
from phiforge.rules import Jobs
from phiforge.settings.documents import ConfigurationError
from phiforge.settings.settings import load
from support.checkout import ROOT, Checkout
from support.jobs import CONFIG, JOBS, SETTINGS, Names, check_job, run, write_job
from support.model_files import model_file

NAMES = Names(variant="openvino-int4", device="cpu")
BUILDERS = ("fetch", "reference", "convert", "check", "blocked_rows", "kit", "release",
            "promote", "stable", "index", "publish")  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
def test_a_job_is_read_as_it_was_built(name: str, tmp_path: Path) -> None:
    job = getattr(JOBS, name)(NAMES)
    assert read_job(type(job), write_job(tmp_path, job)) == job


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (lambda job: job.pop("row"), "'job' lacks row"),
        (lambda job: job.update(shade="red"), "'job' holds unknown shade"),
        (lambda job: job["row"].update(kind=1), "'job.row.kind' is not right; expected a text"),
        (lambda job: job.update(recipe=[]), "'job.recipe' is not right; expected an object"),
        (lambda job: job.update(synthetic=None), "'job.synthetic' is not right"),
    ],
)
def test_another_job_is_refused_in_one_line(edit: Any, line: str, tmp_path: Path) -> None:
    document = asdict(check_job("openvino-int4", "cpu"))
    edit(document)
    (tmp_path / "job.json").write_text(json.dumps(document))
    with pytest.raises(JobError, match=line):
        read_job(Check, tmp_path / "job.json")
    done = run("convert", tmp_path / "absent.json", "--source", "x", "--into", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/absent.json: record is missing")


def test_a_parameter_writes_its_file_when_a_command_names_it_and_not_in_a_dry_run(
    tmp_path: Path,
) -> None:
    path = tmp_path / "check/phi3-tiny.openvino-int4.cpu.json"
    for dry_run in (True, False):
        text = job_param(JOBS.check, tmp_path, lambda dry_run=dry_run: dry_run)(NAMES)
        assert text == to_json(JOBS.check(NAMES))
        assert text.file == str(path)
        assert path.is_file() is not dry_run
    assert read_job(Check, path) == JOBS.check(NAMES)


def test_hosts_and_keys_are_in_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHIFORGE_SIGNING_KEY", str(tmp_path / "release.pem"))
    signed = Jobs(SETTINGS)
    for name in BUILDERS:
        assert str(tmp_path) not in to_json(getattr(signed, name)(NAMES))
    assert str(tmp_path) in signed.environment["PHIFORGE_SIGNING"]
    assert signed.release(NAMES) != JOBS.release(NAMES), "a key that appears signs"


def test_a_kit_holds_the_job_that_its_row_has_here() -> None:
    assert JOBS.kit(NAMES) == Kit(JOBS.check(NAMES), payload=True)


@pytest.mark.parametrize("key", ["golden", "source"])
def test_a_path_that_snakemake_takes_for_a_wildcard_is_refused(key: str, tmp_path: Path) -> None:
    folder = tmp_path / "{model}"
    shutil.copytree(ROOT / "models/phi3-tiny", folder)
    paths = {"golden": ROOT / "models/phi3-tiny", "source": ROOT / "models/phi3-tiny", key: folder}
    source = {"path": str(paths["source"]), "checksums": "SHA256SUMS"}
    file = model_file(
        tmp_path, "braces", golden=str(paths["golden"] / "golden.yaml"), source=source
    )
    config = {**CONFIG, "model_files": [str(file)], "models": ["braces"]}
    with pytest.raises(ConfigurationError, match="which has braces in it"):
        Jobs(load(config, ROOT / "config"))


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        ("acceptance.yaml", "max_kl: {", "maxkl: {", "unknown key 'fp16.maxkl'"),
        ("golden/phi-3.yaml", "max_new_tokens: ", "max_tokens: ", "write 'max_new_tokens'"),
    ],
)
def test_a_mistake_in_gates_or_golden_prompts_is_found_before_the_first_job(
    file: str, old: str, new: str, line: str, tmp_path: Path
) -> None:
    folder = tmp_path / "config"
    shutil.copytree(ROOT / "config", folder)
    (tmp_path / "models").symlink_to(ROOT / "models")
    text = (folder / file).read_text()
    (folder / file).write_text(text.replace(old, new, 1))
    settings = load({**CONFIG, "models": "phi-3-mini-4k"}, folder)
    with pytest.raises(ConfigurationError, match=line):
        Jobs(settings)


def test_publishing_with_nothing_configured_says_so_before_it_builds(pipeline: Checkout) -> None:
    assert pipeline.planned("publish") == {"publish"}
    done = pipeline.snakemake("--cores", "1", "publish", check=False)
    assert done.returncode != 0
    assert "there is nowhere to publish to" in done.stdout + done.stderr


def test_braces_in_the_configuration_are_no_wildcards(pipeline: Checkout, tmp_path: Path) -> None:
    hub = {"repo": "acme/{model}-{variant}"}
    config = {"builder": "urn:{model}", "publish": {"channel": "candidate", "hub": hub}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    jobs = pipeline.planned("publish", "--configfile", str(tmp_path / "config.yaml"))
    assert "publish" in jobs
    assert jobs - {"publish"} == {job for job in jobs if job.startswith("release")}
