"""The pipelines of ci/: their syntax by the services' own schemas, and what their steps run."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from support.checkout import ROOT, Checkout
from support.reader import install

PROGRAMS = Path(sys.executable).parent
# As its own hooks run it: https://check-jsonschema.readthedocs.io/en/stable/precommit_usage.html
SCHEMAS = {
    "github.yml": "vendor.github-workflows",
    "azure-pipelines.yml": "vendor.azure-pipelines --data-transform azure-pipelines"
    " --regex-variant nonunicode",
    "gitlab.yml": "vendor.gitlab-ci --data-transform gitlab-ci --regex-variant nonunicode",
}


def pipeline_of(name: str) -> Any:
    # YAML 1.1, as GitHub's key `on` is no boolean there.
    return yaml.load((ROOT / "ci" / name).read_text(), Loader=yaml.BaseLoader)


def commands(name: str) -> list[str]:
    """The command lines of a pipeline's steps, in their order."""
    document = pipeline_of(name)
    if name == "gitlab.yml":
        return document["release"]["script"] + document["release"]["after_script"]
    jobs = document["jobs"]
    (release,) = [jobs["release"]] if name == "github.yml" else jobs
    found = (step.get("run") or step.get("bash") for step in release["steps"])
    return [one for one in found if one]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_pipeline_is_what_its_service_takes(name: str, tmp_path: Path) -> None:
    def check(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).write_text(text)
        return subprocess.run(
            [PROGRAMS / "check-jsonschema", "--builtin-schema", *SCHEMAS[name].split(),
             tmp_path / name],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    text = (ROOT / "ci" / name).read_text()
    done = check(text)
    assert done.returncode == 0, done.stdout
    misspelt = {"github.yml": "runs-on", "azure-pipelines.yml": "pool", "gitlab.yml": "artifacts"}
    assert check(text.replace(f"{misspelt[name]}:", f"{misspelt[name]}x:")).returncode != 0


def test_the_pipelines_run_the_same_commands_and_keep_the_same_things() -> None:
    for name in SCHEMAS:
        assert commands(name) == ["make all", "make status"]
        text = (ROOT / "ci" / name).read_text()
        for kept in ("artifacts/status.xml", "artifacts/release", "artifacts/logs", "main.lock"):
            assert kept in text, (name, kept)


def test_a_failing_golden_prompt_is_a_failing_test(copy: Checkout) -> None:
    """The commands of a pipeline, where everything is built and one answer is wrong."""
    install(copy.folder / ".venv")
    run = [copy.run(*shlex.split(line)) for line in commands("gitlab.yml")]
    assert all("genai-cpu-int4" in done.stdout for done in run), "each prints the table"
    assert cases(copy, "failure") == cases(copy, "error") == []
    skipped = cases(copy, "skipped")
    assert any("npu-4000" in name and "no " in why for name, why in skipped), "blocked rows"
    suites = ElementTree.parse(copy.folder / "artifacts/status.xml").getroot()
    assert int(suites.get("tests", 0)) > 200

    receipt = copy.folder / "artifacts/checks/phi3-tiny/genai-cpu-int4/cpu.json"
    wrong = json.loads(receipt.read_text())
    golden = wrong["golden"][0]
    golden |= {"passed": False, "output": "Lyon \x07 <b>"}
    what = "the answer lacks 'Paris'"
    wrong |= {
        "verdict": "failed",
        "reason": what,
        "failures": [{"name": "wrong-answer", "what": what, "prompt": golden["id"]}],
    }
    receipt.unlink()
    receipt.write_text(json.dumps(wrong))
    copy.run("make", "status")
    failed = dict(cases(copy, "failure"))
    of = "phi3-tiny.genai-cpu-int4.cpu"
    assert failed == {
        f"{of} golden prompt {golden['id']}": f"wrong-answer: {what}",
        f"{of} verdict": what,
    }


def cases(checkout: Checkout, tag: str) -> list[tuple[str, str]]:
    """Name and message of each test of the report that has the tag."""
    root = ElementTree.parse(checkout.folder / "artifacts/status.xml").getroot()
    return [
        (f"{case.get('classname')} {case.get('name')}", said.get("message", ""))
        for case in root.iter("testcase")
        for said in case.iter(tag)
    ]
