"""What a runtime did with the golden prompts, as it passes from the child process to the check.

A folder with ``OBSERVED.json`` and ``observed.safetensors``; nothing is judged here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from phiforge.artifact.record import read_record, write_record
from validators.contract import ExecutionEvidence, Generation, Proof
from validators.lint.tokenizer import CorpusEncodings
from validators.metrics import TopKDistribution

RECORD = "OBSERVED.json"
SCORES = "observed.safetensors"
_FIELDS = ("top_ids", "top", "tail", "first", "following")


@dataclass(frozen=True)
class RuntimeFailure:
    """A failure that the runtime itself showed, by its own name."""

    name: str
    what: str


@dataclass(frozen=True)
class PromptResult:
    """One golden prompt.

    Attributes:
        not_run: why the prompt was left out on this runtime; None: it ran.
        own_encoding: token ids by the runtime's own tokenizer.
        generation: the answer; None for a synthetic model, or if `failure` came first.
        distribution: the artifact's distributions at the reference's positions.
        failure: what went wrong with this prompt.
    """

    id: str
    not_run: str | None = None
    own_encoding: tuple[int, ...] | None = None
    generation: Generation | None = None
    distribution: TopKDistribution | None = None
    failure: RuntimeFailure | None = None


@dataclass(frozen=True)
class RunResult:
    """Everything that one run of one artifact showed.

    Attributes:
        evidence: what executed; None if `failure` ended the run.
        failure: what ended the run before all prompts were done.
        performance: how fast it answered (`validators.performance`), as the receipt tells it.
        corpus: what the runtime's tokenizer made of the corpus; None if `failure` came first.
    """

    prompts: tuple[PromptResult, ...]
    evidence: ExecutionEvidence | None
    toolchain: Mapping[str, str]
    failure: RuntimeFailure | None = None
    performance: Mapping[str, Any] | None = None
    corpus: CorpusEncodings | None = None


def write_run_result(folder: Path, observation: RunResult) -> None:
    """Write the scores, then the record."""
    arrays = {
        f"{prompt.id}.{name}": np.ascontiguousarray(getattr(prompt.distribution, name))
        for prompt in observation.prompts
        if prompt.distribution is not None
        for name in _FIELDS
    }
    save_file(arrays, folder / SCORES)
    write_record(
        folder / RECORD,
        {
            "prompts": [_told(prompt) for prompt in observation.prompts],
            "evidence": None if observation.evidence is None else observation.evidence.record(),
            "toolchain": dict(observation.toolchain),
            "failure": None if observation.failure is None else asdict(observation.failure),
            "performance": observation.performance,
            "corpus": None
            if observation.corpus is None
            else {
                "texts": observation.corpus.texts,
                "other": [[index, ids] for index, ids in observation.corpus.other.items()],
            },
        },
    )


def _told(prompt: PromptResult) -> dict[str, Any]:
    return {
        "id": prompt.id,
        "not_run": prompt.not_run,
        "own_encoding": None if prompt.own_encoding is None else list(prompt.own_encoding),
        "generation": None if prompt.generation is None else asdict(prompt.generation),
        "failure": None if prompt.failure is None else asdict(prompt.failure),
    }


def read_run_result(folder: Path) -> RunResult:
    """Read what `write_run_result` wrote.

    Raises:
        RecordError: the record is missing or unreadable.
    """
    record = read_record(folder / RECORD)
    arrays = load_file(folder / SCORES)
    evidence = record["evidence"]
    return RunResult(
        prompts=tuple(_heard(entry, arrays) for entry in record["prompts"]),
        evidence=None
        if evidence is None
        else ExecutionEvidence(
            **{**evidence, "proof": tuple(Proof(**proof) for proof in evidence["proof"])}
        ),
        toolchain=record["toolchain"],
        failure=_failure(record["failure"]),
        performance=record["performance"],
        corpus=_corpus(record["corpus"]),
    )


def _corpus(value: Mapping[str, Any] | None) -> CorpusEncodings | None:
    if value is None:
        return None
    return CorpusEncodings(value["texts"], {index: _ids(ids) for index, ids in value["other"]})


def _heard(entry: Mapping[str, Any], arrays: Mapping[str, Any]) -> PromptResult:
    generation = entry["generation"]
    scored = f"{entry['id']}.top" in arrays
    return PromptResult(
        id=entry["id"],
        not_run=entry["not_run"],
        own_encoding=_ids(entry["own_encoding"]),
        generation=None
        if generation is None
        else Generation(**{**generation, "token_ids": tuple(generation["token_ids"])}),
        distribution=TopKDistribution(**{name: arrays[f"{entry['id']}.{name}"] for name in _FIELDS})
        if scored
        else None,
        failure=_failure(entry["failure"]),
    )


def _ids(value: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)


def _failure(value: Mapping[str, str] | None) -> RuntimeFailure | None:
    return None if value is None else RuntimeFailure(**value)
