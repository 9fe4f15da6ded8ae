"""Digest everything that shapes the result of a job, as its rule's params and inputs name it."""

import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.record import canonical, read_record
from phiforge.artifact.tree import sha256_file
from phiforge.cache.work import PREDICTIONS, REFERENCE, SOURCE, Work
from phiforge.jobs import Check, Convert, Place, Reference, read_job
from phiforge.settings.modules import made_with
from validators.code_digest import check_modules
from validators.predictions import MODULES, follow_from

SCHEMA = "phiforge/cache/1"
_JOBS = {
    "convert": Convert,
    "reference": Reference,
    "check": Check,
    PREDICTIONS: Check,
    "place": Place,
}


@dataclass(frozen=True)
class Predict:
    """Compute what an artifact's own weights predict; part of its check on a device.

    Attributes:
        basis: of `validators.predictions.follow_from`.
    """

    model: str
    variant: str
    basis: Mapping[str, Any]


Job = Convert | Reference | Check | Place | Predict


def read_shared_job(work: Work) -> Job | None:
    """Read the job of ``work``; None: its result is of this machine, or says that it is blocked."""
    kind: Any = _JOBS[work.rule]
    job: Job = read_job(kind, work.options.job)
    if isinstance(job, Convert | Check) and job.blocked is not None:
        return None
    if isinstance(job, Check) and work.rule == PREDICTIONS:
        return _predict(work, job)
    if isinstance(job, Check):
        here = job.row.runner == "local"
        return job if here and work.options.first_layers is None else None
    return job


def _predict(work: Work, job: Check) -> Predict | None:
    options = work.options
    if not (options.source / "config.json").is_file():
        return None
    payload, reference = options.artifact / "payload", options.reference / REFERENCE
    basis = follow_from(payload, asdict(job.recipe), options.source, reference, job.limits)
    return Predict(job.model, job.variant, basis)


def modules(job: Job) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the modules whose code, and those whose pinned tools, shape the result."""
    if isinstance(job, Convert):
        converter = f"converters.{job.recipe.converter}"
        return ("converters.convert", converter), (converter,)
    if isinstance(job, Check):
        found = check_modules(job.row.runtime)
        return found, found
    if isinstance(job, Predict):
        return MODULES, MODULES
    one = "validators.reference" if isinstance(job, Reference) else "converters.openvino.placement"
    return (one,), (one,)


def cache_key(work: Work, job: Job) -> str:
    """Return the SHA-256 that an entry for ``job`` has for its name."""
    basis = {
        "schema": SCHEMA,
        "rule": work.rule,
        "job": json.loads(json.dumps(job, default=vars)),
        "made_with": made_with(*modules(job)),
        "python": f"{sys.version_info.major}.{sys.version_info.minor} on {platform.machine()}",
        "inputs": {} if isinstance(job, Predict) else dict(_inputs(work)),
    }
    return hashlib.sha256(canonical(basis).encode()).hexdigest()


def _inputs(work: Work) -> Iterator[tuple[str, str]]:
    options = work.options
    if options.source is not None:
        yield "source", sha256_file(source_record(work))
    if options.base is not None:
        yield "base", read_record(options.base)["artifact_sha256"]
    if options.artifact is not None:
        yield "artifact", sha256_file(options.artifact / "payload" / CHECKSUMS)
    if options.reference is not None:
        yield "reference", sha256_file(options.reference / REFERENCE)
    for name in ("golden", "acceptance", "calibration"):
        if (file := getattr(options, name)) is not None:
            yield name, sha256_file(file)


def source_record(work: Work) -> Path:
    """Return the SOURCE.json of the source that a command names in one of three ways."""
    source: Path = work.options.source
    if source.name == SOURCE:
        return source
    return (source.parent if source.name == "files" else source) / SOURCE


def pinned(job: Job) -> Mapping[str, set[str]]:
    """Return the versions that the locks have of each distribution that shapes the result."""
    versions: dict[str, set[str]] = {}
    for name, version in made_with(*modules(job))["toolchain"].items():
        versions.setdefault(name.partition(" (")[0], set()).add(version)
    return versions
