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
from validators.metrics import Lumped

RECORD = "OBSERVED.json"
SCORES = "observed.safetensors"
_FIELDS = ("top_ids", "top", "tail", "first", "following")


@dataclass(frozen=True)
class Trouble:
    """A failure that the runtime itself showed, by its own name."""

    name: str
    what: str


@dataclass(frozen=True)
class PromptObservation:
    """One golden prompt.

    Attributes:
        not_run: why the prompt was left out on this runtime; None: it ran.
        own_encoding: token ids by the runtime's own tokenizer.
        generation: the answer; None for a synthetic model, or if `trouble` came first.
        lumped: the artifact's distributions at the reference's positions.
        trouble: what went wrong with this prompt.
    """

    id: str
    not_run: str | None = None
    own_encoding: tuple[int, ...] | None = None
    generation: Generation | None = None
    lumped: Lumped | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Observation:
    """Everything that one run of one artifact showed.

    Attributes:
        evidence: what executed; None if `trouble` ended the run.
        trouble: what ended the run before all prompts were done.
        measures: how fast it answered (`validators.measures`), as the receipt tells it.
        corpus: what the runtime's tokenizer made of the corpus; None if `trouble` came first.
    """

    prompts: tuple[PromptObservation, ...]
    evidence: ExecutionEvidence | None
    toolchain: Mapping[str, str]
    trouble: Trouble | None = None
    measures: Mapping[str, Any] | None = None
    corpus: CorpusEncodings | None = None


def write_observation(folder: Path, observation: Observation) -> None:
    """Write the scores, then the record."""
    arrays = {
        f"{prompt.id}.{name}": np.ascontiguousarray(getattr(prompt.lumped, name))
        for prompt in observation.prompts
        if prompt.lumped is not None
        for name in _FIELDS
    }
    save_file(arrays, folder / SCORES)
    write_record(
        folder / RECORD,
        {
            "prompts": [_told(prompt) for prompt in observation.prompts],
            "evidence": None if observation.evidence is None else observation.evidence.record(),
            "toolchain": dict(observation.toolchain),
            "trouble": None if observation.trouble is None else asdict(observation.trouble),
            "measures": observation.measures,
            "corpus": None
            if observation.corpus is None
            else {
                "texts": observation.corpus.texts,
                "other": [[index, ids] for index, ids in observation.corpus.other.items()],
            },
        },
    )


def _told(prompt: PromptObservation) -> dict[str, Any]:
    return {
        "id": prompt.id,
        "not_run": prompt.not_run,
        "own_encoding": None if prompt.own_encoding is None else list(prompt.own_encoding),
        "generation": None if prompt.generation is None else asdict(prompt.generation),
        "trouble": None if prompt.trouble is None else asdict(prompt.trouble),
    }


def read_observation(folder: Path) -> Observation:
    """Read what `write_observation` wrote.

    Raises:
        RecordError: the record is missing or unreadable.
    """
    record = read_record(folder / RECORD)
    arrays = load_file(folder / SCORES)
    evidence = record["evidence"]
    return Observation(
        prompts=tuple(_heard(entry, arrays) for entry in record["prompts"]),
        evidence=None
        if evidence is None
        else ExecutionEvidence(
            **{**evidence, "proof": tuple(Proof(**proof) for proof in evidence["proof"])}
        ),
        toolchain=record["toolchain"],
        trouble=_trouble(record["trouble"]),
        measures=record["measures"],
        corpus=_corpus(record["corpus"]),
    )


def _corpus(value: Mapping[str, Any] | None) -> CorpusEncodings | None:
    if value is None:
        return None
    return CorpusEncodings(value["texts"], {index: _ids(ids) for index, ids in value["other"]})


def _heard(entry: Mapping[str, Any], arrays: Mapping[str, Any]) -> PromptObservation:
    generation = entry["generation"]
    scored = f"{entry['id']}.top" in arrays
    return PromptObservation(
        id=entry["id"],
        not_run=entry["not_run"],
        own_encoding=_ids(entry["own_encoding"]),
        generation=None
        if generation is None
        else Generation(**{**generation, "token_ids": tuple(generation["token_ids"])}),
        lumped=Lumped(**{name: arrays[f"{entry['id']}.{name}"] for name in _FIELDS})
        if scored
        else None,
        trouble=_trouble(entry["trouble"]),
    )


def _ids(value: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)


def _trouble(value: Mapping[str, str] | None) -> Trouble | None:
    return None if value is None else Trouble(**value)
