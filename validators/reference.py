"""Answer the golden prompts with transformers in float32, once per model: the ground truth.

What is the same on every machine: the token ids of the prompts, which positions are scored, and
the greedy answers unless two candidates are nearly equal (``closest_choice`` in REFERENCE.json
says how close the closest was, in nats). What is not: the last bits of the log-probabilities.
Matrix products are summed in an order that depends on the processor and the number of threads;
between AVX2 and AVX-512 and between one thread and two they moved by less than 1e-4 nats (a KL
divergence below 1e-10, benchmarks/acceptance/reference-stability.json), far below any gate.

A synthetic model (random weights, or the first layers of another) has nothing to say: the prompts'
own tokens are scored, and answers, where there are any, serve to try the steps of decoding.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GenerationConfig

from phiforge.artifact.payload_files import TOKENIZER, TOKENIZER_IRS
from phiforge.artifact.record import canonical
from phiforge.artifact.tree import files_under, fresh_tree, sha256_file
from phiforge.jobs import Reference, read_job
from phiforge.receipts.golden import GoldenPrompt, GoldenSet
from validators.contract import CheckError
from validators.float32_model import load, teacher_forced
from validators.golden import load_golden
from validators.lint.tokenizer import chat_template, ir_digest
from validators.metrics import TOP, most_probable, truncate_top_k
from validators.positions import Span, select_positions
from validators.reference_tree import ReferencePrompt, Scored, write_reference
from validators.simulation import simulated_costs

TOOLCHAIN = (
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "safetensors",
    "openvino",
    "openvino-tokenizers",
    "optimum",
    "optimum-intel",
)
END_OF_TURN = "<|end|>"


def make_reference(
    source: Path,
    golden: GoldenSet,
    into: Path,
    *,
    positions: int = 256,
    check_tokens: int = 2560,
    synthetic: bool = False,
    answered: bool = False,
    hold: str = "auto",
) -> None:
    """Write the reference into ``into`` (see validators/reference_tree.py), whole or not at all.

    Args:
        source: a verified source tree (config.json, tokenizer, safetensors).
        positions: at most so many positions are scored, over all prompts.
        check_tokens: a longer prompt is left out and named in the record.
        answered: a synthetic model answers too.
        hold: how the weights are held, see `validators.float32_model.load`.

    Raises:
        CheckError: the model does not load, or a golden prompt contradicts the reference.
    """
    with fresh_tree(into) as folder:
        tokenizer = _tokenizer(source, folder / TOKENIZER)
        left_out, asked = [], []
        for prompt in golden.prompts:
            token_ids = tokenizer.encode(prompt.text).ids
            if len(token_ids) > check_tokens:
                reason = f"{len(token_ids)} tokens, check_tokens is {check_tokens}"
                left_out.append({"id": prompt.id, "reason": reason})
            else:
                asked.append((prompt, token_ids))
        held = load(source, hold=hold)
        stop_ids = _stop_ids(held.model, tokenizer)
        sampling = bool(held.model.generation_config.do_sample)
        prompts = [
            _unanswered(prompt, token_ids)
            if synthetic and not answered
            else _answer(held.model, tokenizer, prompt, token_ids, stop_ids)
            for prompt, token_ids in asked
        ]
        chosen = select_positions([_span(prompt) for prompt in prompts], positions)
        scored, closest = _score(held.model, prompts, chosen)
        window = getattr(held.model.config, "sliding_window", None)
        facts: dict[str, Any] = {
            "arithmetic": "float32",
            "chat_template": chat_template(source),
            "weights_held_in": held.weights_held_in,
            "weights_held_because": held.reason,
            "closest_choice": closest,
            "golden_sha256": golden.digest,
            "left_out": left_out,
            "position_limit": positions,
            "positions": sum(map(len, chosen)),
            "sliding_window": window,
            "source_sha256": source_digest(source),
            "sampling": sampling,
            "stop_ids": sorted(stop_ids),
            "synthetic": synthetic,
            "toolchain": {name: version(name) for name in TOOLCHAIN},
            "top": TOP,
        }
        del held  # its memory is needed
        started = time.monotonic()
        simulated = simulated_costs(source, prompts, scored)
        print(f"calibration: {time.monotonic() - started:.1f} s", flush=True)
        facts |= {"simulated": simulated, "tokenizer_irs": _tokenizer_irs(source)}
        write_reference(folder, prompts, scored, facts)


def source_digest(source: Path) -> str:
    """Return the SHA-256 of a tree: of its files' names, digests and sizes as canonical JSON."""
    files = [
        {
            "path": name.as_posix(),
            "sha256": sha256_file(source / name),
            "size": (source / name).stat().st_size,
        }
        for name in files_under(source)
    ]
    return hashlib.sha256(canonical({"files": files}).encode()).hexdigest()


def _tokenizer(source: Path, copy: Path) -> Tokenizer:
    """Save the tokenizer as transformers uses it, so that a check needs no transformers."""
    try:
        original: Any = AutoTokenizer.from_pretrained(
            source, trust_remote_code=False, local_files_only=True
        )
        backend = original.backend_tokenizer
    except (OSError, ValueError, AttributeError) as error:
        raise CheckError(
            f"transformers cannot load a fast tokenizer: {error}",
            where=source,
            remedy="fetch the source again; it must have a tokenizer.json",
        ) from None
    backend.no_padding()
    backend.no_truncation()
    copy.write_text(backend.to_str(), encoding="utf-8")
    return Tokenizer.from_file(str(copy))


def _tokenizer_irs(source: Path) -> dict[str, str]:
    """Convert the tokenizer as an export does, and return digests; empty: there is no way to."""
    # late: it may change what it imports, and nothing is computed after it
    from optimum.exporters.openvino.convert import export_tokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        source, trust_remote_code=False, local_files_only=True
    )
    with tempfile.TemporaryDirectory(prefix="phiforge-tokenizer-") as name:
        export_tokenizer(tokenizer, Path(name), task="text-generation-with-past")
        made = [Path(name) / one for one in TOKENIZER_IRS]
        return {path.name: ir_digest(path) for path in made if path.is_file()}


def _stop_ids(model: Any, tokenizer: Tokenizer) -> frozenset[int]:
    found: set[int] = set()
    for config in (model.generation_config, model.config):
        value = getattr(config, "eos_token_id", None)
        found.update([value] if isinstance(value, int) else value or [])
    end = tokenizer.token_to_id(END_OF_TURN)
    return frozenset(found if end is None else found | {end})


def _unanswered(prompt: GoldenPrompt, token_ids: list[int]) -> ReferencePrompt:
    return ReferencePrompt(prompt.id, tuple(token_ids), (), None, "")


def _answer(
    model: Any,
    tokenizer: Tokenizer,
    prompt: GoldenPrompt,
    token_ids: list[int],
    stop_ids: frozenset[int],
) -> ReferencePrompt:
    """Generate greedily; the golden prompt's own claims must hold for the reference's answer."""
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=prompt.max_new_tokens,
        eos_token_id=sorted(stop_ids),
        pad_token_id=min(stop_ids, default=0),
    )
    inputs = torch.tensor([token_ids])
    with torch.inference_mode():
        output = model.generate(inputs, attention_mask=torch.ones_like(inputs))
    new = output[0, len(token_ids) :].tolist()
    stop_id = new.pop() if new and new[-1] in stop_ids else None
    text = tokenizer.decode(new, skip_special_tokens=True)
    if prompt.expected is not None and text != prompt.expected:
        raise _contradiction(prompt, "expected", prompt.expected, text)
    if prompt.must_contain is not None and prompt.must_contain not in text:
        raise _contradiction(prompt, "must_contain", prompt.must_contain, text)
    if prompt.must_stop and stop_id is None:
        raise _contradiction(prompt, "must_stop", "a stop token", text)
    return ReferencePrompt(prompt.id, tuple(token_ids), tuple(new), stop_id, text)


_SHOWN = 120  # characters: a wrong answer can be as long as the prompt allows


def _contradiction(prompt: GoldenPrompt, key: str, expected: str, text: str) -> CheckError:
    return CheckError(
        f"golden prompt '{prompt.id}': the source model in float32 answers otherwise than '{key}'",
        expected=repr(shorten(expected, _SHOWN)),
        found=repr(shorten(text, _SHOWN)),
        remedy="correct the golden prompt, or the model's source",
    )


def _span(prompt: ReferencePrompt) -> Span:
    return Span(len(prompt.prompt_ids), len(prompt.sequence))


def _score(
    model: Any, prompts: Sequence[ReferencePrompt], chosen: Sequence[Sequence[int]]
) -> tuple[list[Scored], dict[str, Any] | None]:
    """Score each prompt in one teacher-forced pass; return also the closest call of an answer."""
    scored = []
    closest: dict[str, Any] | None = None
    for prompt, positions in zip(prompts, chosen, strict=True):
        sequence = prompt.sequence
        scores = teacher_forced(model, sequence, positions)
        following = np.array([sequence[position + 1] for position in positions], dtype=np.int64)
        scored.append(
            Scored(tuple(positions), truncate_top_k(scores, most_probable(scores), following))
        )
        for position, row in zip(positions, scored[-1].distribution.top, strict=True):
            index = position - len(prompt.prompt_ids) + 1
            margin = float(row[0] - row[1])
            if index >= 0 and (closest is None or margin < closest["margin"]):
                closest = {"prompt": prompt.id, "token": index, "margin": margin}
    return scored, closest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule reference writes it")
    parser.add_argument("--source", type=Path, required=True, help="verified source tree")
    parser.add_argument("--golden", type=Path, required=True, help="golden prompts (YAML)")
    parser.add_argument("--into", type=Path, required=True, help="artifacts/reference/MODEL")
    parser.add_argument(
        "--hold",
        choices=("auto", "float32", "checkpoint"),
        default="auto",
        help="how weights are held in memory; the arithmetic is float32 either way",
    )


def run(arguments: argparse.Namespace) -> None:
    job = read_job(Reference, arguments.job)
    make_reference(
        arguments.source,
        load_golden(arguments.golden),
        arguments.into,
        positions=job.positions,
        check_tokens=job.check_tokens,
        synthetic=job.synthetic,
        answered=job.answered,
        hold=arguments.hold,
    )
