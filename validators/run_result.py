"""What a run of an artifact showed, as it passes from the child process to the check.

One JSON file; nothing is judged here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from validators.contract import ExecutionEvidence, Generation, Proof
from validators.lint.tokenizer import CorpusEncodings
from validators.metrics import TopKDistribution

RESULT = "RESULT.json"


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
        generation: the answer; None where there is none to give, or if `failure` came first.
        distribution: the artifact's predictions at the reference's positions.
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
        performance: how fast it answered (`validators.performance`), in the receipt's form.
        corpus: what the runtime's tokenizer made of the corpus; None if `failure` came first.
        findings: what is wrong with the text that the runtime makes of ids, and with the artifact
            as users run it.
    """

    prompts: tuple[PromptResult, ...]
    evidence: ExecutionEvidence | None
    toolchain: Mapping[str, str]
    failure: RuntimeFailure | None = None
    performance: Mapping[str, Any] | None = None
    corpus: CorpusEncodings | None = None
    findings: tuple[RuntimeFailure, ...] = ()


def write_run_result(folder: Path, result: RunResult) -> None:
    """Write ``RESULT.json``; floats keep all their bits, and may be infinite."""
    text = json.dumps(asdict(result), default=lambda array: array.tolist())
    (folder / RESULT).write_text(text, encoding="utf-8")


def read_run_result(folder: Path) -> RunResult:
    """Read what `write_run_result` wrote."""
    value = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    evidence, failure, corpus = value["evidence"], value["failure"], value["corpus"]
    if evidence is not None:
        proof = tuple(Proof(**entry) for entry in evidence["proof"])
        evidence = ExecutionEvidence(**{**evidence, "proof": proof})
    if corpus is not None:
        other = {int(index): _ids(ids) for index, ids in corpus["other"].items()}
        corpus = CorpusEncodings(corpus["texts"], other)
    return RunResult(
        prompts=tuple(_prompt(entry) for entry in value["prompts"]),
        evidence=evidence,
        toolchain=value["toolchain"],
        failure=failure and RuntimeFailure(**failure),
        performance=value["performance"],
        corpus=corpus,
        findings=tuple(RuntimeFailure(**entry) for entry in value["findings"]),
    )


def _prompt(value: dict[str, Any]) -> PromptResult:
    generation, distribution = value["generation"], value["distribution"]
    if generation is not None:
        generation = Generation(**{**generation, "token_ids": _ids(generation["token_ids"])})
    if distribution is not None:
        arrays = {name: np.array(values) for name, values in distribution.items()}
        distribution = TopKDistribution(**arrays)
    return PromptResult(
        id=value["id"],
        not_run=value["not_run"],
        own_encoding=_ids(value["own_encoding"]),
        generation=generation,
        distribution=distribution,
        failure=value["failure"] and RuntimeFailure(**value["failure"]),
    )


def _ids(value: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)
