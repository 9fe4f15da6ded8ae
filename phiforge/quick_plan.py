"""Spare Snakemake what it does again for every job of a plan, or only to print it.

What it plans and prints stays as it is: tests/pipeline/test_quick_plan.py plans with this and
without. benchmarks/planning.py measures what it is worth, of Snakemake 9.27.
"""

import atexit
import gc
import inspect
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any


def plan_quickly(output: Any) -> None:
    """Spare Snakemake, before it reads the rules, what makes a plan of many jobs slow.

    Args:
        output: Snakemake's ``output_settings``. ``workflow.dryrun`` is not set so early.
    """
    leave_garbage()
    inspect_once()
    expand_once()
    find_wildcards_once()
    compare_with_folders_only()
    if output.dryrun and output.printshellcmds:
        format_commands_once()
    elif output.dryrun:
        log_what_is_printed(output)


def leave_garbage() -> None:
    """Look for garbage rarely, and at the end not at all: a plan leaves next to none.

    Python would walk through all jobs again and again, and once more when it ends.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    atexit.register(gc.freeze)


def inspect_once() -> None:
    """Inspect once the method that Snakemake asks for each resource of a job."""
    from snakemake.resources import Resource

    with_parameters(Resource.evaluate, inspect.signature(Resource.evaluate))


def with_parameters(function: Any, signature: inspect.Signature) -> None:
    """Tell Snakemake a function's parameters (snakemake.common.overwrite_function_params)."""
    function._overwrite_params = signature.parameters


def expand_once() -> None:
    """Take from a job what it has.

    `Job.is_valid` expands its log and benchmark again. `Job.conda_env_spec` expands all params, of
    a rule without a conda environment too.
    """
    from snakemake.jobs import Job

    environment_of = Job.conda_env_spec.fget

    def is_valid(job: Any) -> None:
        _ = job.benchmark, job.log

    def conda_env_spec(job: Any) -> Any:
        return environment_of(job) if job.rule._conda_env is not None else None

    Job.is_valid = is_valid
    Job.conda_env_spec = property(conda_env_spec)


def find_wildcards_once() -> None:
    """Look once for the wildcards of a pattern, instead of once for each job."""
    from snakemake import io, rules
    from snakemake.exceptions import WildcardError

    @lru_cache(maxsize=1024)
    def parts(pattern: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        found = list(io.WILDCARD_REGEX.finditer(pattern))
        ends = [0, *(one.end() for one in found)]
        starts = [*(one.start() for one in found), len(pattern)]
        between = (pattern[end:start] for end, start in zip(ends, starts, strict=True))
        return tuple(between), tuple(one["name"] for one in found)

    def apply_wildcards(pattern: Any, wildcards: Mapping[str, Any]) -> str:
        text = str(pattern)
        if "{" not in text:
            return text
        between, names = parts(text)
        try:
            values = [str(wildcards[name]) for name in names]
        except KeyError as error:
            raise WildcardError(str(error)) from None
        return "".join(chain.from_iterable(zip(between, [*values, ""], strict=True)))

    io.apply_wildcards = rules.apply_wildcards = apply_wildcards


def compare_with_folders_only() -> None:
    """Look for an output inside another only where one is another's folder.

    `DAG.check_directory_outputs` makes each output an absolute path and sorts them all.
    """
    from snakemake.dag import DAG

    compare = DAG.check_directory_outputs

    def check_directory_outputs(dag: Any) -> None:
        outputs = {str(output) for job in dag.jobs for output in job.output}
        folders = {output.rpartition("/")[0] for output in outputs}
        if not outputs.isdisjoint(chain.from_iterable(map(_with_parents, folders))):
            compare(dag)

    DAG.check_directory_outputs = check_directory_outputs


def _with_parents(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def format_commands_once() -> None:
    """Format the command that a dry run prints once, not three times."""
    from snakemake.jobs import Job

    Job.shellcmd = property(lru_cache(maxsize=1)(Job.shellcmd.fget))


def log_what_is_printed(output: Any) -> None:
    """Log what a dry run prints of a job that has a message: that, and why it runs.

    Snakemake formats commands, files and resources as well, and each message with all that a
    command may name; ours name wildcards. What a dry run frees of the scheduler's resources, it
    has never taken.

    Args:
        output: Snakemake's ``output_settings``; loggers that someone adds are told everything.
    """
    from snakemake.jobs import Job
    from snakemake.logging import logger
    from snakemake.scheduling.job_scheduler import JobScheduler
    from snakemake.utils import format as format_text
    from snakemake_interface_logger_plugins.common import LogEvent

    log_everything = Job.log_info

    def message(job: Any) -> str | None:
        text = job.rule.message
        return format_text(text, wildcards=job.wildcards) if text else None

    def log_info(job: Any, indent: bool = False, printshellcmd: bool = True) -> None:
        if job.rule.message is None or output.log_handler_settings:
            log_everything(job, indent, printshellcmd)
            return
        number = job.dag.jobid(job)
        printed = {
            "event": LogEvent.JOB_INFO,
            "jobid": number,
            "rule_msg": job.message,
            "reason": str(job.dag.reason(job)),
            "indent": indent,
        }
        logger.info(f" Rule: {job.rule.name}, Jobid: {number}", extra=printed)

    Job.shellcmd = property(lambda job: None)
    Job.message = property(message)
    Job.log_info = log_info
    JobScheduler._free_resources = lambda scheduler, job: None
