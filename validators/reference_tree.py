"""The reference as it is stored: small enough to travel to a device, readable without torch.

``artifacts/reference/<model>/`` holds

- ``reference.safetensors``: per scored position, in the order of the prompts: ``top_ids`` (64
  most probable tokens), ``top`` (their log-probabilities), ``remainder`` (log-probability of all
  others together), ``following`` (log-probability of the token that really follows), all float64,
  and ``sequence`` and ``position`` (which prompt, which token);
- ``tokenizer.json``: the source's tokenizer as transformers uses it;
- ``REFERENCE.json``: token ids of every prompt and answer, digests, dtype, toolchain, and what
  coarser arithmetic and weights cost the model (`validators.simulation`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from phiforge.artifact.payload_files import TOKENIZER
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import sha256_file
from validators.contract import CheckError
from validators.metrics import TopKDistribution, concatenate

SCHEMA = "phiforge/reference/3"
RECORD = "REFERENCE.json"
SCORES = "reference.safetensors"

_STORED = ("top_ids", "top", "remainder", "following")


@dataclass(frozen=True)
class ReferencePrompt:
    """A golden prompt and what the reference made of it.

    Attributes:
        prompt_ids: the prompt's tokens, by the source's tokenizer.
        answer_ids: greedy tokens, without the stop token; a synthetic model may have none.
        stop_id: the token that ended the answer; None: it was cut at ``max_new_tokens``.
        text: the answer, decoded without special tokens.
    """

    id: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    stop_id: int | None
    text: str

    @property
    def sequence(self) -> tuple[int, ...]:
        """What is scored: prompt, answer and stop token."""
        end = () if self.stop_id is None else (self.stop_id,)
        return self.prompt_ids + self.answer_ids + end

    def is_answer_after(self, position: int) -> bool:
        """Return whether what a scored position predicts is a token of the answer, or its end."""
        return position >= len(self.prompt_ids) - 1


@dataclass(frozen=True)
class Scored:
    """The scored positions of one prompt, ascending, and the reference's distributions there."""

    positions: tuple[int, ...]
    distribution: TopKDistribution


@dataclass(frozen=True)
class Reference:
    """Everything that a check compares with.

    Attributes:
        prompts: in the golden set's order; prompts that were left out are not among them.
        scored: positions by prompt id.
        digest: SHA-256 of REFERENCE.json, which names the other files' digests.
        chat_template: the source's (`validators.lint.tokenizer.chat_template`); None: none.
        tokenizer_irs: what openvino_tokenizers makes of the source's tokenizer
            (`validators.lint.tokenizer.lint_irs`).
        stop_ids: tokens that end an answer.
        sampling: whether the source's own search defaults sample.
    """

    prompts: tuple[ReferencePrompt, ...]
    scored: Mapping[str, Scored]
    golden_sha256: str
    synthetic: bool
    digest: str
    tokenizer: Path
    chat_template: Any = None
    tokenizer_irs: Mapping[str, str] = field(default_factory=dict)
    stop_ids: frozenset[int] = frozenset()
    sampling: bool = False


def write_reference(
    folder: Path,
    prompts: Sequence[ReferencePrompt],
    scored: Sequence[Scored],
    facts: Mapping[str, Any],
) -> None:
    """Write the scores, then the record. ``tokenizer.json`` must already be in ``folder``."""
    joined = concatenate([part.distribution for part in scored])
    scores = save(
        {
            "sequence": np.concatenate(
                [np.full(len(part.positions), index) for index, part in enumerate(scored)]
            ).astype(np.int64),
            "position": np.concatenate([part.positions for part in scored]).astype(np.int64),
            **{name: getattr(joined, name) for name in _STORED},
        }
    )
    (folder / SCORES).write_bytes(scores)
    record = {
        **facts,
        "schema": SCHEMA,
        "files": {name: sha256_file(folder / name) for name in (SCORES, TOKENIZER)},
        "prompts": [asdict(prompt) for prompt in prompts],
    }
    write_record(folder / RECORD, record)


def load_reference(folder: Path) -> Reference:
    """Read a reference and verify its files against its record.

    Raises:
        RecordError: REFERENCE.json is missing or unreadable.
        CheckError: a file is missing or differs from its digest, or another version of phiforge
            wrote the record.
    """
    record = read_record(folder / RECORD)
    if record.get("schema") != SCHEMA:
        raise CheckError(
            "this reference has another format",
            where=folder / RECORD,
            expected=SCHEMA,
            found=record.get("schema"),
            remedy="run the rule reference again",
        )
    for name, digest in record["files"].items():
        path = folder / name
        found = sha256_file(path) if path.is_file() else "no such file"
        if found != digest:
            raise CheckError(
                "the reference's file is not what REFERENCE.json says",
                where=path,
                expected=digest,
                found=found,
                remedy="delete the folder and run the rule reference again",
            )
    prompts = tuple(
        ReferencePrompt(
            **{**entry, **{key: tuple(entry[key]) for key in ("prompt_ids", "answer_ids")}}
        )
        for entry in record["prompts"]
    )
    arrays = load_file(folder / SCORES)
    return Reference(
        prompts=prompts,
        scored={
            prompt.id: _scored(arrays, arrays["sequence"] == index)
            for index, prompt in enumerate(prompts)
        },
        golden_sha256=record["golden_sha256"],
        synthetic=record["synthetic"],
        digest=sha256_file(folder / RECORD),
        tokenizer=folder / TOKENIZER,
        chat_template=record.get("chat_template"),
        tokenizer_irs=record["tokenizer_irs"],
        stop_ids=frozenset(record["stop_ids"]),
        sampling=record["sampling"],
    )


def _scored(arrays: Mapping[str, Any], rows: Any) -> Scored:
    stored = {name: arrays[name][rows] for name in _STORED}
    return Scored(
        positions=tuple(int(position) for position in arrays["position"][rows]),
        distribution=TopKDistribution(**stored, first=stored["top_ids"][:, 0]),
    )
