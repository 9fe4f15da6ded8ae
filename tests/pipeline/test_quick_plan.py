"""A plan is made in less time, and is the plan that Snakemake makes."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.checkout import ROOT, Checkout, make_checkout

CALL = "quick_plan.plan_quickly(workflow.output_settings)\n"
HEAD = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom phiforge import quick_plan\n"
PLAIN_RULE = """
rule make:
    output: "{name}.txt"
    log: "{name}.log"
    message: "make {wildcards.name}"
    shell: "touch {output}"
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return make_checkout(tmp_path_factory.mktemp("fresh") / "phiforge")


def printed(text: str) -> Counter[str]:
    """Count what a dry run prints; which job comes first is left to the order of sets."""
    lines = (re.sub(r"\b(Job|jobid:) \d+", r"\1", line) for line in text.splitlines())
    same = (line for line in lines if not re.match(r"\[|  (Date|Workflow ID):", line))
    return Counter(" ".join(sorted(re.split(r"[ ,;]+", line))) for line in same)


@pytest.mark.parametrize("options", [[], ["-p"], ["--quiet", "reason"]])
def test_a_dry_run_prints_what_snakemake_prints(fresh: Checkout, options: list[str]) -> None:
    quick = fresh.snakemake("-n", "all", *options)
    with fresh.edited("rules/common.smk", lambda text: text.replace(CALL, "")):
        plain = fresh.snakemake("-n", "all", *options)
    assert len(quick.stdout.splitlines()) > 200
    assert printed(quick.stdout) == printed(plain.stdout)


def plan(folder: Path, rules: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "Snakefile").write_text(HEAD + rules, encoding="utf-8")
    command = [str(Path(sys.executable).parent / "snakemake"), "-n", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("needs", "error"), [("{absent}.in", "WildcardError"), ("absent.in", "MissingInputException")]
)
def test_a_mistake_is_refused_as_snakemake_refuses_it(
    tmp_path: Path, needs: str, error: str
) -> None:
    rules = PLAIN_RULE.replace("    log", f'    input: "{needs}"\n    log')
    quick, plain = (plan(tmp_path, call + rules, "a.txt") for call in (CALL, "\n"))
    assert error in quick.stdout and quick.returncode == plain.returncode == 1
    assert printed(quick.stdout) == printed(plain.stdout)


@pytest.mark.parametrize("inside", ["a/b.txt", "a/c/d/b.txt"])
def test_an_output_in_anothers_folder_is_refused(tmp_path: Path, inside: str) -> None:
    rules = f"""
rule all:
    input: "a", "a-b.txt", "{inside}"
rule folder:
    output: directory("a")
    shell: "mkdir a"
rule inside:
    output: "{inside}"
    shell: "touch {{output}}"
rule beside:
    output: "a-b.txt"
    shell: "touch {{output}}"
"""
    done = plan(tmp_path, CALL + rules)
    assert done.returncode == 1 and "ChildIOException" in done.stdout + done.stderr
    assert plan(tmp_path, CALL + rules, "a", "a-b.txt").returncode == 0


def test_a_dry_run_does_not_make_what_it_does_not_print(tmp_path: Path) -> None:
    """Each of these takes longer than all else of a plan of thousands of jobs."""
    asking = "    params: what=failing\n    resources: mem_mb=failing\n    shell"
    rules = PLAIN_RULE.replace("    shell", asking).replace("{output}", "{absent}")
    functions = """
from snakemake.rules import Rule
def failing(wildcards):
    raise ValueError("this was asked for")
expand_log = Rule.expand_log
def counted(rule, wildcards):
    print("the log is expanded")
    return expand_log(rule, wildcards)
Rule.expand_log = counted
"""
    quiet = plan(tmp_path, CALL + functions + rules, "a.txt")
    assert quiet.returncode == 0, quiet.stdout + quiet.stderr
    assert "make a\n" in quiet.stdout
    assert quiet.stdout.count("the log is expanded") == 1
    shown = plan(tmp_path, CALL + functions + rules, "-p", "a.txt")
    assert shown.returncode == 1 and "this was asked for" in shown.stdout + shown.stderr


def test_loggers_that_someone_adds_are_told_everything(tmp_path: Path) -> None:
    told = """
from snakemake.jobs import Job
told = lambda job, indent, printshellcmd: print("everything of", job)
Job.log_info = told
workflow.output_settings.log_handler_settings = {"mine": None}
"""
    done = plan(tmp_path, told + CALL + PLAIN_RULE, "a.txt")
    assert "everything of make" in done.stdout, done.stdout + done.stderr
