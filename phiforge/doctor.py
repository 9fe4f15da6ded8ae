"""Say what this machine can make, check and release of what is configured, before it begins.

What is wrong for `snakemake all` is a FAIL, and the exit code is 1 then: environment, memory, disk,
a source that cannot be had, a key that cannot be read. What is only left out (a device, an optional
tool) is a note. Nothing is written, and only the Hub is asked, once for each model to be fetched.
"""

import argparse
import os
import shutil
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from phiforge.artifact.lock_file import read_lock
from phiforge.checkout import ROOT
from phiforge.errors import PhiforgeError
from phiforge.memory import machine_memory_mb
from phiforge.remote import inbox
from phiforge.rule_params import refuse_missing_keys, refuse_unwritable
from phiforge.rules import Jobs
from phiforge.settings import cost
from phiforge.settings.command_line import add_configuration, configuration
from phiforge.settings.models import HubSource, Model
from phiforge.settings.plan import blocked_row, blocked_variant, release_signing
from phiforge.settings.settings import load

ARTIFACTS = Path("artifacts")
_WIDTH = 80
_SPARE_BYTES = 500_000_000
_LONG_S = 1800
_ELSEWHERE = {
    "ssh": "a lab host; it is asked in the run",
    "cluster": "a cluster's node; it is asked in the run",
}
_MARKS = {"ok": "ok  ", "note": "note", "fail": "FAIL"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: what: ``memory``, ``hub``, …
        mark: ``ok``; ``note``: something is left out; ``fail``: `all` cannot end well.
        remedy: what to do about it; empty: nothing.
    """

    area: str
    mark: str
    what: str
    remedy: str = ""

    def lines(self) -> list[str]:
        """Return the finding as it is printed."""
        text = f"{_MARKS[self.mark]}  {self.area}: {self.what}"
        if self.remedy:
            text += f". Remedy: {self.remedy}"
        return textwrap.wrap(
            text, _WIDTH, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)


def run(arguments: argparse.Namespace) -> int:
    brought, _ = inbox.scan()
    jobs = Jobs(load(configuration(arguments)), brought)
    findings: list[Finding] = []
    for finding in examine(jobs):
        findings.append(finding)
        print("\n".join(finding.lines()), flush=True)
    failed = dict.fromkeys(finding.area for finding in findings if finding.mark == "fail")
    if failed:
        print(f"\n'snakemake --cores 4 all' cannot end well here: {', '.join(failed)}")
        return 1
    print("\n'snakemake --cores 4 all' can end well here")
    return 0


def examine(jobs: Jobs) -> Iterator[Finding]:
    """Yield what there is to say, the machine first."""
    yield _environment()
    yield _attempt("artifacts", lambda: refuse_unwritable(ARTIFACTS), "can be written")
    yield from _sources(jobs)
    todo = pending(jobs)
    yield from _machine(todo)
    yield _signing(jobs)
    yield from _left_out(jobs)


def _attempt(area: str, what: Callable[[], Any], said: str) -> Finding:
    try:
        what()
    except PhiforgeError as error:
        return Finding(area, "fail", str(error))
    return Finding(area, "ok", said)


def _environment() -> Finding:
    wrong = []
    locked = read_lock(ROOT / "envs/main.lock")
    for name, pin in locked.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found != pin.version:
            wrong.append(f"{name} {found} instead of {pin.version}")
    if not wrong:
        return Finding("environment", "ok", f"{len(locked)} packages as envs/main.lock has them")
    what = f"not as envs/main.lock: {', '.join(wrong[:3])}"
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return Finding("environment", "fail", what + more, "make .venv/.installed")


def _sources(jobs: Jobs) -> Iterator[Finding]:
    for name in jobs.settings.chosen_models:
        model = jobs.settings.models[name]
        if model.whole is not None:
            continue
        if _is_here(name):
            yield Finding("source", "ok", f"{name}: it is here")
        elif isinstance(model.source, HubSource):
            yield _hub(name, model)
        else:
            there = model.source.path / model.source.checksums
            mark, what = ("ok", "here") if there.is_file() else ("fail", f"missing: {there}")
            yield Finding("source", mark, f"{name}: its folder is {what}")


def _hub(name: str, model: Model) -> Finding:
    """Ask for the commit's listing: whether it can be had, with this token, and how large it is."""
    # The client takes half a second to import, and a local folder does not need it.
    from phiforge.sources.checkpoint import choose_files
    from phiforge.sources.client import HubCommit, token
    from phiforge.sources.source import parse_source

    try:
        commit = HubCommit(parse_source(model.source.plain()))  # type: ignore[arg-type]
        listing = commit.listing(repetitions=0)
        choose_files([path for path in listing if "/" not in path], commit.where)
        size = sum(file.size for path, file in listing.items() if path.endswith(".safetensors"))
    except PhiforgeError as error:
        return Finding("hub", "fail", f"{name}: {error}")
    asked = "with the token in HF_TOKEN" if token() else "without a token"
    return Finding("hub", "ok", f"{name}: {size / 1e9:.1f} GB to fetch, {asked}")


def pending(jobs: Jobs) -> cost.Cost:
    """Add up what a run still has to do; what is only out of date is not counted."""
    todo, settings = cost.Cost(), jobs.settings
    for name in settings.chosen_models:
        model, names = settings.models[name], SimpleNamespace(model=name)
        if not _is_here(name):
            todo.add(f"fetch {name}", cost.fetch_s(model), 300, cost.source_bytes(model))
        if not (ARTIFACTS / "reference" / name / "REFERENCE.json").is_file():
            memory = jobs.reference_memory(names)
            todo.add(f"reference {name}", cost.reference_s(model), memory)
    for name, variant in jobs.plan.builds:
        model, block = settings.models[name], settings.variants[variant]
        built = (ARTIFACTS / "build" / name / variant / "BUILD.json").is_file()
        if built or blocked_variant(block, settings) is not None:
            continue
        memory = jobs.convert_memory(SimpleNamespace(model=name, variant=variant))
        disk = cost.payload_bytes(model, block)
        todo.add(f"convert {name} to {variant}", cost.convert_s(model), memory, disk)
    for name, variant in jobs.plan.checks:
        model, block = settings.models[name], settings.variants[variant]
        for row in block.devices:
            names = SimpleNamespace(model=name, variant=variant, device=row)
            receipt = ARTIFACTS / "checks" / name / variant / f"{row}.json"
            if receipt.is_file() or jobs.check(names).blocked is not None:
                continue
            module = settings.devices[row].runtimes[block.format].module
            memory = jobs.check_memory(names)
            todo.add(f"check {name} {variant} on {row}", cost.check_s(model, module), memory)
    return todo


def long_work(jobs: Jobs) -> Iterator[str]:
    """Yield what a run that takes long will take, for the person who starts it."""
    todo = pending(jobs)
    if todo.wall_s(_processors()) < _LONG_S:
        return
    fetched = sum(
        cost.source_bytes(model)
        for model in map(jobs.settings.models.__getitem__, jobs.settings.chosen_models)
        if isinstance(model.source, HubSource) and model.whole is None and not _is_here(model.name)
    )
    parts = [
        _work(todo),
        f"{todo.peak_mb / 1e3:.1f} GB of memory at most",
        f"{todo.disk / 1e9:.1f} GB of disk",
        *([f"{fetched / 1e9:.1f} GB of them to fetch"] if fetched else []),
    ]
    yield f"to do: {', '.join(parts)} ('phiforge doctor' says what stands against it)"


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _work(todo: cost.Cost) -> str:
    minutes = todo.wall_s(_processors()) / 60
    time = f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
    return f"{todo.jobs} jobs, about {time} on {_processors()} processors"


def _is_here(name: str) -> bool:
    return (ARTIFACTS / "source" / name / "SOURCE.json").is_file()


def _machine(todo: cost.Cost) -> Iterator[Finding]:
    if not todo.jobs:
        yield Finding("work", "ok", "everything was made once; what is out of date is made again")
        return
    yield Finding("work", "ok", f"to do: {_work(todo)}")
    has, peak = machine_memory_mb(), todo.peak_mb
    what = f"{peak / 1e3:.1f} GB at most ({todo.largest}), {has / 1e3:.1f} GB are here"
    remedy = "a larger machine, or leave the variant out with --config variants="
    yield Finding("memory", "ok", what) if peak <= has else Finding("memory", "fail", what, remedy)
    there = next(folder for folder in (ARTIFACTS, Path()) if folder.is_dir())
    free = shutil.disk_usage(there).free
    what = f"about {todo.disk / 1e9:.1f} GB needed, {free / 1e9:.1f} GB are free"
    fits = todo.disk + _SPARE_BYTES <= free
    remedy = "free space, or put artifacts/ on a larger disk"
    yield Finding("disk", "ok", what) if fits else Finding("disk", "fail", what, remedy)


def _signing(jobs: Jobs) -> Finding:
    from phiforge.release.signing import release_key

    try:
        refuse_missing_keys()
        key = release_key(release_signing(jobs.settings))
    except PhiforgeError as error:
        return Finding("signing", "fail", str(error))
    if not key.ephemeral:
        return Finding("signing", "ok", f"releases are signed by {key.keyid[:16]}…")
    what = "no release key: candidates only, and nobody can tell who made them"
    return Finding("signing", "note", what, "phiforge new-key --kind ecdsa (docs/releases.md)")


def _left_out(jobs: Jobs) -> Iterator[Finding]:
    """What is not made and not checked here, and how to get it; each reason once."""
    settings = jobs.settings
    reasons: dict[tuple[str, str, str], list[str]] = {}
    made = []
    for variant in dict.fromkeys(variant for _, variant in jobs.plan.checks):
        blocked = blocked_variant(settings.variants[variant], settings)
        if blocked is None:
            made.append(variant)
        else:
            reasons.setdefault(("builds", blocked.reason, blocked.remedy), []).append(variant)
    yield Finding("builds", "ok", f"{len(made)} variants are made here: {', '.join(made) or '-'}")
    rows = dict.fromkeys(row for variant in made for row in settings.variants[variant].devices)
    here = []
    for row in rows:
        blocked = blocked_row(settings.devices[row], settings.tools)
        elsewhere = _ELSEWHERE.get(settings.devices[row].runner)
        if elsewhere is not None:
            reasons.setdefault(("devices", elsewhere, ""), []).append(row)
        elif blocked is None:
            here.append(row)
        else:
            reasons.setdefault(("devices", blocked.reason, blocked.remedy), []).append(row)
    yield Finding("devices", "ok", f"checked here: {', '.join(here) or '-'}")
    for (area, reason, remedy), names in reasons.items():
        yield Finding(area, "note", f"{', '.join(names)}: {reason}", remedy)
