"""Give Snakemake what it asks of Python: jobs as text, and functions that it inspects quickly."""

import inspect
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from phiforge.cache import CACHE
from phiforge.errors import PhiforgeError
from phiforge.jobs import LABS, to_json
from phiforge.quick_plan import with_parameters
from phiforge.settings.documents import ConfigurationError
from phiforge.settings.models import LocalSource, Model
from phiforge.settings.settings import Settings
from phiforge.trust.keys import RUNNER_KEY, SIGNING, SIGNING_KEY

_STAY = ("inbox", "placement", "released", "indexed", "promotions")


class Names(Protocol):
    """The wildcards of a job; a rule without ``{device}`` has no ``device``."""

    @property
    def model(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def device(self) -> str: ...


class JobText(str):
    """A job as JSON, which Snakemake compares with that of the last run.

    A command line shows the `file` that holds it.
    """

    __slots__ = ("dry_run", "path")  # a plan holds thousands
    path: str
    dry_run: Callable[[], bool]

    @property
    def file(self) -> str:
        """Path of the job's file, written now; only named in a dry run.

        It is written in place: a kill can only leave one that the next run writes again.
        """
        path = Path(self.path)
        if not self.dry_run() and not (path.is_file() and path.read_text("utf-8") == self):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self, encoding="utf-8")
        return self.path


def job_param(
    build: Callable[[Any], Any], folder: Path, dry_run: Callable[[], bool]
) -> Callable[[Any], JobText]:
    """Return the function of a rule param: the job that ``build`` builds, as text.

    Args:
        folder: where jobs' files go, by rule.
        dry_run: whether Snakemake only says what it would do; then no file is written.
    """

    def parameter(wildcards: Any) -> JobText:
        job = build(wildcards)
        text = JobText(to_json(job))
        rule = type(job).__name__.lower()
        text.path = f"{folder}/{rule}/{'.'.join(wildcards) or rule}.json"
        text.dry_run = dry_run
        return text

    return with_signature(parameter)


def environment(settings: Settings, signing: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of every job: where others and keys are, which shapes no result."""
    rows = settings.devices.items()
    labs = {name: row.ssh.model_dump(mode="json") for name, row in rows if row.ssh}
    cache = settings.cache and {**settings.cache.plain(), "builder": settings.builder}
    return {
        # Jobs run in the environment that Snakemake runs in, activated or not.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        SIGNING: json.dumps(signing, sort_keys=True),
        LABS: json.dumps(labs, sort_keys=True),
        CACHE: json.dumps(cache, sort_keys=True) if cache else "",
    }


def with_signature(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of a method that states its signature.

    Snakemake inspects what it asks again for every job, in a tenth of the time of a plan; where a
    function has this attribute it does not: snakemake.common.overwrite_function_params.
    """

    def function(*arguments: Any, **named: Any) -> Any:
        return method(*arguments, **named)

    signature = inspect.signature(method)
    function.__signature__ = signature  # type: ignore[attr-defined]
    with_parameters(function, signature)
    return function


def state_signatures(of: object) -> None:
    """Make functions of an object's public methods that state their signatures."""
    for name, _ in inspect.getmembers(type(of), inspect.isfunction):
        if not name.startswith("_"):
            setattr(of, name, with_signature(getattr(of, name)))


def outside_storage(files: Any) -> Any:
    """Mark files that no storage carries.

    A job elsewhere has what git tracks. What a courier brought, what is written into the checkout,
    and what follows from receipts stays where Snakemake runs; so do the jobs that read or write it.

    Args:
        files: a path, paths, or the function of a job's names that returns either.
    """
    from snakemake.io import local, sourcecache_entry

    if callable(files):
        return with_signature(lambda names: outside_storage(files(names)))
    if not isinstance(files, str | Path):
        return [outside_storage(one) for one in files]
    path = str(files)
    if not path.startswith("artifacts/"):
        return sourcecache_entry(path, path)
    return local(path) if path.split("/")[1] in _STAY else path


def look_for_jobs_once_a_second() -> None:
    """Let one timer at a time wake Snakemake's scheduler.

    For its limit of jobs a second it sets a timer whenever it looks for jobs, and each makes it
    look again: after a hundred jobs it looked a hundred times a second. See
    https://github.com/snakemake/snakemake/pull/3744
    """
    from snakemake.scheduling.job_scheduler import JobScheduler

    def wake_once(scheduler: Any, delay: float) -> None:
        def wake() -> None:
            scheduler.is_timer_set = False
            scheduler._open_jobs.release()

        if not getattr(scheduler, "is_timer_set", False):
            scheduler.is_timer_set = True
            timer = threading.Timer(delay, wake)
            timer.daemon = True  # a run that has ended waits for none
            timer.start()

    JobScheduler._schedule_reevalutation = wake_once


def begin(artifacts: Path, *, dry_run: bool) -> None:
    """Refuse a run that would come to nothing; forget the links to what was deleted.

    Raises:
        ConfigurationError: nothing can be written, or a variable names no key.
    """
    if not dry_run:
        refuse_unwritable(artifacts)
        refuse_missing_keys()
    forget_deleted(artifacts)


def refuse_unwritable(artifacts: Path) -> None:
    """Refuse a folder that cannot be written: Snakemake would end in a traceback.

    Raises:
        ConfigurationError: naming the folder.
    """
    here = artifacts.glob("[!.]*") if artifacts.is_dir() else ()
    folders = [artifacts, *(one for one in here if one.is_dir() or not one.suffix)]
    for folder in folders if artifacts.exists() else [Path()]:
        if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigurationError(
                "no job can write here" if folder.is_dir() else "this is not a folder",
                where=folder.absolute(),
                remedy="let the account that runs snakemake write there, on a disk that is mounted"
                " writable, or move what is there away",
            )


def refuse_missing_keys() -> None:
    """Refuse variables that name no key: the job that reads it may be an hour away.

    Raises:
        ConfigurationError: naming the variable.
    """
    for name in (SIGNING_KEY, RUNNER_KEY):
        path = os.environ.get(name)
        if path and not Path(path).is_file():
            raise ConfigurationError(
                "this variable names no file",
                where=name,
                found=path,
                expected="a private key",
                remedy="correct it, unset it, or make a key with 'phiforge new-key'",
            )


def forget_deleted(artifacts: Path) -> None:
    """Remove the links to releases and indexes that someone deleted, so that they are made again.

    Snakemake takes a link that leads nowhere for a file that another process has just deleted.
    """
    for record in (*artifacts.glob("released/*/*.json"), *artifacts.glob("indexed/*")):
        if not record.exists():
            record.unlink(missing_ok=True)


def tell_status(pairs: Sequence[tuple[str, str]]) -> None:
    """Print the table of a run, in this process: a command line may be too short for all names."""
    # Imported here: most of Snakemake's processes are jobs, which print none.
    from phiforge.release.status import status

    try:
        status(pairs, Path("artifacts"))
    except PhiforgeError as error:
        print(f"error: {error}", file=sys.stderr)


def tell_no_op(workflow: Any, pairs: Sequence[tuple[str, str]]) -> None:
    """Print the table of a run that had nothing to do: Snakemake calls no hook after it."""
    ran = workflow.is_main_process and not workflow.dryrun and workflow.scheduler is not None
    if ran and not len(workflow.dag):
        tell_status(pairs)


def refuse_wildcards(model: Model) -> None:
    """Snakemake takes text in braces for a wildcard, in the names of input files too."""
    folder = model.source.path if isinstance(model.source, LocalSource) else ""
    for key, path in (("golden", model.golden), ("source.path", folder)):
        if "{" in str(path):
            raise ConfigurationError(
                f"key '{key}' names {path}, which has braces in it",
                where=model.file,
                remedy="rename the file or the folder",
            )
