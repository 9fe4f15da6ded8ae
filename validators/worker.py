"""The check's child process: the only one that loads a runtime.

    python -m validators.worker JOB.json

A native runtime may abort, run out of memory or never return on a bad artifact; the check must
live to say so. What the child is doing is written to ``DOING`` before it is done, so that the
check can name the step at which it died. Exit code 0: a result was written, whatever it says;
anything else: there is none.
"""

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from phiforge.artifact.record import RecordError, read_record, write_record
from phiforge.child import die_with_parent
from phiforge.errors import PhiforgeError, run_command
from phiforge.jobs import NO_LIMITS, Limits
from phiforge.receipts.golden import GoldenSet
from validators.contract import ArtifactError, CheckError, OpenRuntime, Runtime
from validators.golden import load_golden
from validators.left_out import left_out
from validators.lint.detokenizer import judge_decoding, judge_streaming
from validators.lint.tokenizer import encode_corpus
from validators.metrics import truncate_top_k
from validators.performance import LONGEST_ANSWER, RUNS, performance
from validators.redact import redact_paths
from validators.reference_tree import RECORD, Reference, ReferencePrompt, load_reference
from validators.run_result import (
    PromptResult,
    RunResult,
    RuntimeFailure,
    write_run_result,
)
from validators.usage import Use, uses_of

DOING = "DOING"
TOOLCHAIN_FILE = "TOOLCHAIN.json"
_LONGEST_MESSAGE = 400
_EDITIONS: Mapping[str, Sequence[str]] = {
    "onnxruntime-genai": (
        "onnxruntime-genai-winml",
        "onnxruntime-genai-directml",
        "onnxruntime-genai-cuda",
    ),
    "onnxruntime": ("onnxruntime-directml", "onnxruntime-gpu", "onnxruntime-webgpu"),
}


def main() -> None:
    die_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    into = Path(job["into"])
    module = _runtime_module(job["module"])
    toolchain = installed_versions(module.TOOLCHAIN) | pinned_elsewhere(module, job["settings"])
    write_record(into / TOOLCHAIN_FILE, toolchain)  # a crash must not hide what crashed
    payload, settings = Path(job["payload"]), job["settings"]
    reference, doing = load_reference(Path(job["reference"])), into / DOING
    golden = load_golden(Path(job["golden"]))
    limits = Limits(**job["limits"])
    skipped = left_out(read_record(Path(job["reference"]) / RECORD), limits)
    run = run_prompts(
        module.open_runtime, toolchain, payload, settings, reference, golden, doing,
        skipped=skipped, limits=limits,
    )  # fmt: skip
    if run.failure is None:
        run = add_performance(module, run, payload, settings, reference, doing)
    write_run_result(into, run)


def _runtime_module(name: str) -> Any:
    try:
        return importlib.import_module(f"validators.runtimes.{name}")
    except ImportError as error:
        raise CheckError(
            f"runtime '{name}' cannot be imported: {error}",
            where=f"validators/runtimes/{name}.py",
            remedy="install the row's locked environment (envs/)",
        ) from None


def pinned_elsewhere(module: ModuleType, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of what a runtime loads from a tree of its own (its ``installed``)."""
    named = getattr(module, "installed", None)
    return {} if named is None else dict(named(settings))


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of the installed distributions among ``names``, or of their editions.

    A device has its own edition of a runtime: onnxruntime-genai-winml gives the modules of
    onnxruntime-genai and bundles onnxruntime, of which there is no distribution then.
    """
    present = {
        str(found.metadata["Name"]).lower().replace("_", "-"): found.version
        for found in distributions()
    }
    return {
        found: present[found]
        for name in names
        for found in sorted(present)
        if found == name or (name not in present and found in _EDITIONS.get(name, ()))
    }


def run_prompts(
    open_runtime: OpenRuntime,
    toolchain: Mapping[str, str],
    payload: Path,
    settings: Mapping[str, Any],
    reference: Reference,
    golden: GoldenSet,
    doing: Path,
    *,
    skipped: Mapping[str, str],
    limits: Limits = NO_LIMITS,
) -> RunResult:
    """Answer every prompt, then score every prompt; stop at the first failure.

    What users do besides (`validators.usage`) is asked for and compared on the way; where it goes
    wrong, the run goes on.

    Args:
        doing: a file that names each step before it is taken.
        skipped: prompt id to why it is left out (`validators.left_out`).
        limits: what the variant declares.

    Raises:
        CheckError: the runtime was asked for something that it does not know.
    """
    results = {
        prompt.id: PromptResult(prompt.id, not_run=skipped.get(prompt.id))
        for prompt in golden.prompts
    }

    def add(prompt: ReferencePrompt, **values: Any) -> None:
        results[prompt.id] = replace(results[prompt.id], **values)

    def step(what: str) -> None:
        doing.write_text(what, encoding="utf-8")

    findings: list[RuntimeFailure] = []

    def used(use: Use, act: Callable[..., Any], *given: Any) -> list[Any]:
        """Return what came back, in a list; empty: it went wrong."""
        step(use.what)
        try:
            return [act(*given)]
        except Exception as error:
            found = _failure(error, doing, payload)
            own = use.failure if found.name == "runtime-error" else found.name
            findings.append(replace(found, name=own))
            return []

    evidence = corpus = None
    failure: RuntimeFailure | None = None
    try:
        step("opening the artifact")
        runtime = open_runtime(payload, settings=settings)
        prompts = {prompt.id: prompt for prompt in golden.prompts}
        running = [prompt for prompt in reference.prompts if prompt.id not in skipped]
        for prompt in running:
            step(f"encoding prompt '{prompt.id}'")
            add(prompt, own_encoding=tuple(runtime.encode(prompts[prompt.id].text)))
        step("encoding the tokenizer corpus")
        corpus = encode_corpus(runtime.encode, reference.tokenizer)
        if runtime.decodes:
            step("decoding the tokenizer corpus")
            tokenizer = Tokenizer.from_file(str(reference.tokenizer))
            found = (
                *judge_decoding(runtime.decode, tokenizer),
                *judge_streaming(runtime.decode, runtime.stream, tokenizer),
            )
            findings += [RuntimeFailure(*one) for one in found]
        for prompt in running:
            if reference.synthetic and not prompt.answer_ids:
                continue
            step(f"answering prompt '{prompt.id}'")
            room = (limits.total_tokens or sys.maxsize) - len(prompt.prompt_ids)
            length = min(prompts[prompt.id].max_new_tokens, room)
            add(prompt, generation=runtime.generate(prompt.prompt_ids, length))
        greedy = {one.id: one.generation for one in results.values() if one.generation}
        uses = [
            (use, used(use, use.answer))
            for use in uses_of(runtime, reference, running, greedy, limits)
        ]
        for prompt in running:
            step(f"scoring prompt '{prompt.id}'")
            add(prompt, **_score(runtime, prompt, reference))
        for use, answered in uses:
            used(use, use.compare, *answered) if answered else None
        step("asking what executed")
        evidence = runtime.executed_on()
    except Exception as error:
        failure = _failure(error, doing, payload)
    prompts_seen = tuple(results.values())
    return RunResult(
        prompts_seen, evidence, toolchain, failure, corpus=corpus, findings=tuple(findings)
    )


def add_performance(
    module: Any,
    run: RunResult,
    payload: Path,
    settings: Mapping[str, Any],
    reference: Reference,
    doing: Path,
) -> RunResult:
    """Add how fast the artifact answered, as users run it where the module can (``AS_USED``).

    What fails only with the numerics of users is the artifact's failure as well. There the answer
    that warms up is made with nothing overridden, neither numerics nor search.
    """
    ids = {prompt.id: prompt.prompt_ids for prompt in reference.prompts}
    answers = [
        (ids[prompt.id], prompt.generation)
        for prompt in run.prompts
        if prompt.generation is not None
    ]
    pinned = run.evidence is not None and bool(run.evidence.pinned)
    as_used = getattr(module, "AS_USED", None)
    if pinned and as_used is not None and answers:
        doing.write_text("answering with the runtime's own numerics", encoding="utf-8")
        try:
            runtime: Runtime = module.open_runtime(payload, settings={**settings, **as_used})
            (first, greedy), *rest = answers[: RUNS + 1]
            warm_up = runtime.generate(first, LONGEST_ANSWER, greedy=False)
            answers = [
                (first, warm_up),
                *(
                    (token_ids, runtime.generate(token_ids, LONGEST_ANSWER))
                    for token_ids, _ in rest
                ),
            ]
        except Exception as error:
            return replace(run, failure=_failure(error, doing, payload))
        pinned = False
        ends = greedy.stopped and len(greedy.token_ids) < LONGEST_ANSWER
        if ends and not warm_up.stopped and not reference.sampling:
            what = "with nothing overridden the first prompt's answer does not end"
            wrong = RuntimeFailure("wrong-defaults", f"{what}: {warm_up.text[-60:]!r}")
            run = replace(run, findings=(*run.findings, wrong))
    lengths = [(len(token_ids), answer) for token_ids, answer in answers]
    return replace(run, performance=performance(lengths, "pinned" if pinned else "default"))


def _failure(error: Exception, doing: Path, payload: Path) -> RuntimeFailure:
    """Return what an exception says against the artifact.

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
    message = redact_paths(message, payload)[:_LONGEST_MESSAGE]  # a path cut in half would stay
    return RuntimeFailure("runtime-error", f"{_while(doing)}: {message}")


def _while(doing: Path) -> str:
    return f"while {doing.read_text(encoding='utf-8')}"


def _score(runtime: Runtime, prompt: ReferencePrompt, reference: Reference) -> dict[str, Any]:
    """Return ``distribution`` or ``failure`` of a prompt; neither, if it has no positions."""
    scored = reference.scored[prompt.id]
    if not scored.positions:
        return {}
    following = np.array([prompt.sequence[position + 1] for position in scored.positions])
    try:
        scores = runtime.score(prompt.sequence, scored.positions)
        return {"distribution": truncate_top_k(scores, scored.distribution.top_ids, following)}
    except ArtifactError as error:
        return {"failure": RuntimeFailure(error.name, f"prompt '{prompt.id}': {error}")}


if __name__ == "__main__":
    run_command(main)
