"""The check's child process: the only one that loads a runtime.

    python -m validators.worker JOB.json

A native runtime may abort, run out of memory or never return on a bad artifact; the check must
live to say so. What the child is doing is written to ``DOING`` before it is done, so that the
check can name the step at which it died. Exit code 0: an observation was written, whatever it
says; anything else: there is none.
"""

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

from phiforge.artifact.record import RecordError, write_record
from phiforge.child import die_with_parent
from phiforge.errors import PhiforgeError, run_command
from phiforge.receipts.golden import GoldenSet
from validators.contract import ArtifactError, CheckError, Limits, OpenRuntime, Runtime
from validators.golden import load_golden
from validators.lint.tokenizer import encode_corpus
from validators.metrics import truncate_top_k
from validators.performance import LONGEST_ANSWER, RUNS, performance
from validators.redact import redact_paths
from validators.reference_tree import Reference, ReferencePrompt, load_reference
from validators.run_result import (
    PromptResult,
    RunResult,
    RuntimeFailure,
    write_run_result,
)

DOING = "DOING"
TOOLCHAIN_FILE = "TOOLCHAIN.json"
_LONGEST_MESSAGE = 400
_EDITIONS: Mapping[str, Sequence[str]] = {
    "onnxruntime-genai": (
        "onnxruntime-genai-winml",
        "onnxruntime-genai-directml",
        "onnxruntime-genai-cuda",
    ),
    "onnxruntime": ("onnxruntime-directml", "onnxruntime-gpu"),
}


def main() -> None:
    die_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    into = Path(job["into"])
    module = _runtime_module(job["module"])
    toolchain = installed_versions(module.TOOLCHAIN)
    write_record(into / TOOLCHAIN_FILE, toolchain)  # a crash must not hide what crashed
    payload, settings = Path(job["payload"]), job["settings"]
    reference, doing = load_reference(Path(job["reference"])), into / DOING
    golden = load_golden(Path(job["golden"]))
    seen = observe(module.open_runtime, toolchain, payload, settings, reference, golden, doing)
    if seen.failure is None:
        seen = measured(module, seen, payload, settings, reference, doing)
    write_run_result(into, seen)


def _runtime_module(name: str) -> Any:
    try:
        return importlib.import_module(f"validators.runtimes.{name}")
    except ImportError as error:
        raise CheckError(
            f"runtime '{name}' cannot be imported: {error}",
            where=f"validators/runtimes/{name}.py",
            remedy="install the row's locked environment (envs/)",
        ) from None


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of the installed distributions among ``names``, or of their editions.

    A device has its own edition of a runtime: onnxruntime-genai-winml gives the modules of
    onnxruntime-genai and bundles onnxruntime, of which there is no distribution then.
    """
    present = {
        str(one.metadata["Name"]).lower().replace("_", "-"): one.version for one in distributions()
    }
    return {
        found: present[found]
        for name in names
        for found in sorted(present)
        if found == name or (name not in present and found in _EDITIONS.get(name, ()))
    }


def observe(
    open_runtime: OpenRuntime,
    toolchain: Mapping[str, str],
    payload: Path,
    settings: Mapping[str, Any],
    reference: Reference,
    golden: GoldenSet,
    doing: Path,
) -> RunResult:
    """Let a runtime answer every prompt, then score every prompt; stop at the first failure.

    Raises:
        CheckError: the runtime was asked for something that it does not know.
    """
    prompts = {
        prompt.id: PromptResult(prompt.id, not_run=reference.left_out.get(prompt.id))
        for prompt in golden.prompts
    }
    evidence = corpus = None
    failure: RuntimeFailure | None = None
    try:
        doing.write_text("opening the artifact", encoding="utf-8")
        runtime: Runtime = open_runtime(payload, settings=settings)
        limits = runtime.limits()
        longest = {prompt.id: prompt.max_new_tokens for prompt in golden.prompts}
        texts = {prompt.id: prompt.text for prompt in golden.prompts}
        running = []
        for prompt in reference.prompts:
            too_long = _too_long(prompt, limits, reference.sliding_window)
            if too_long:
                prompts[prompt.id] = replace(prompts[prompt.id], not_run=too_long)
            else:
                running.append(prompt)
        for prompt in running:
            doing.write_text(f"encoding prompt '{prompt.id}'", encoding="utf-8")
            own = tuple(runtime.encode(texts[prompt.id]))
            prompts[prompt.id] = replace(prompts[prompt.id], own_encoding=own)
        doing.write_text("encoding the tokenizer corpus", encoding="utf-8")
        corpus = encode_corpus(runtime.encode, reference.tokenizer)
        for prompt in running if not reference.synthetic else []:
            doing.write_text(f"answering prompt '{prompt.id}'", encoding="utf-8")
            room = (limits.total_tokens or sys.maxsize) - len(prompt.prompt_ids)
            answer = runtime.generate(prompt.prompt_ids, min(longest[prompt.id], room))
            prompts[prompt.id] = replace(prompts[prompt.id], generation=answer)
        for prompt in running:
            doing.write_text(f"scoring prompt '{prompt.id}'", encoding="utf-8")
            prompts[prompt.id] = _score(runtime, prompt, reference, prompts[prompt.id])
        doing.write_text("asking what executed", encoding="utf-8")
        evidence = runtime.executed_on()
    except Exception as error:
        failure = _failure(error, doing, payload)
    return RunResult(tuple(prompts.values()), evidence, toolchain, failure, corpus=corpus)


def measured(
    module: Any,
    seen: RunResult,
    payload: Path,
    settings: Mapping[str, Any],
    reference: Reference,
    doing: Path,
) -> RunResult:
    """Add how fast the artifact answered, as users run it where the module can (``AS_USED``).

    What fails only with the numerics of users is the artifact's failure as well.
    """
    lengths = {prompt.id: len(prompt.prompt_ids) for prompt in reference.prompts}
    answers = [
        (lengths[prompt.id], prompt.generation)
        for prompt in seen.prompts
        if prompt.generation is not None
    ]
    pinned = seen.evidence is not None and bool(seen.evidence.pinned)
    as_used = getattr(module, "AS_USED", None)
    if pinned and as_used is not None and answers:
        doing.write_text("answering with the runtime's own numerics", encoding="utf-8")
        ids = {prompt.id: prompt.prompt_ids for prompt in reference.prompts}
        asked = [ids[prompt.id] for prompt in seen.prompts if prompt.generation is not None]
        try:
            runtime: Runtime = module.open_runtime(payload, settings={**settings, **as_used})
            answers = [
                (len(one), runtime.generate(one, LONGEST_ANSWER)) for one in asked[: RUNS + 1]
            ]
        except Exception as error:
            return replace(seen, failure=_failure(error, doing, payload))
        pinned = False
    return replace(seen, performance=performance(answers, "pinned" if pinned else "default"))


def _failure(error: Exception, doing: Path, payload: Path) -> RuntimeFailure:
    """What an exception says against the artifact.

    Raises:
        PhiforgeError: it says nothing against it.
    """
    if isinstance(error, ArtifactError):
        return RuntimeFailure(error.name, str(error))
    if isinstance(error, RecordError):
        return RuntimeFailure("unreadable-artifact", str(error))
    if isinstance(error, PhiforgeError):
        raise error
    if isinstance(error, MemoryError):
        return RuntimeFailure("out-of-memory", f"no memory left {_while(doing)}")
    # Whatever else a runtime raises on an artifact is the artifact's fault.
    message = " ".join(f"{type(error).__name__}: {error}".split())
    told = redact_paths(message, payload)[:_LONGEST_MESSAGE]  # first: half a path is no known one
    return RuntimeFailure("runtime-error", f"{_while(doing)}: {told}")


def _while(doing: Path) -> str:
    return f"while {doing.read_text(encoding='utf-8')}"


def _too_long(prompt: ReferencePrompt, limits: Limits, window: int | None) -> str | None:
    """Why ``prompt`` does not fit what the artifact was built for; None: it fits."""
    length, total = len(prompt.prompt_ids), len(prompt.sequence)
    if limits.prompt_tokens is not None and length > limits.prompt_tokens:
        return f"{length} tokens, the artifact takes prompts of {limits.prompt_tokens}"
    if limits.total_tokens is not None and total > limits.total_tokens:
        return f"{total} tokens with its answer, the artifact holds {limits.total_tokens}"
    if limits.full_attention and window is not None and total > window:
        return (
            f"{total} tokens with its answer; the artifact attends to all of them, the source to "
            f"the last {window}"
        )
    return None


def _score(
    runtime: Runtime, prompt: ReferencePrompt, reference: Reference, seen: PromptResult
) -> PromptResult:
    scored = reference.scored[prompt.id]
    if not scored.positions:
        return seen
    sequence = prompt.sequence
    following = np.array([sequence[position + 1] for position in scored.positions])
    try:
        scores = runtime.score(sequence, scored.positions)
        return replace(
            seen, distribution=truncate_top_k(scores, scored.distribution.top_ids, following)
        )
    except ArtifactError as error:
        what = f"prompt '{prompt.id}': {error}"
        return replace(seen, failure=RuntimeFailure(error.name, what))


if __name__ == "__main__":
    run_command(main)
