"""Evaluate a run: failures by name, golden answers, metrics.

**Golden answers.** Where the golden prompt gives ``expected``, the decoded answer must be that
text, whatever the precision. Where it does not (real models: nobody can know the words), the
reference's greedy answer is expected, and

- an FP16 artifact must give the reference's tokens: its weights are the source's but for
  rounding;
- an INT8 or INT4 artifact may leave them at a close call and be none the worse for it. It is
  judged by the prompt's ``must_contain`` fact and by the teacher-forced metrics, which do not
  drift after a first difference. Where the tokens diverge, and how sure the reference was at that
  token, is recorded.

**Device.** A row says what must execute its artifacts (``executes``). Another device is the
failure ``wrong-device``; an observation that does not hold, or none at all, is
``unproven-device`` or has a name of its own (``fell-back``).

**Synthetic models** have random weights, or the first layers of another model. Answers and metrics
are reported but not judged, the arithmetic is (``execution_kl``): other gates were calibrated on
models that know something.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from phiforge.receipts.gates import Gates, Metrics
from phiforge.receipts.golden import GoldenPrompt, GoldenSet
from phiforge.receipts.receipt import CheckResult, Failure, Note
from validators.contract import UNPROVEN, ExecutionEvidence, Generation
from validators.execution import Own
from validators.lint.detokenizer import same_text
from validators.lint.tokenizer import judge_corpus
from validators.metrics import compare, concatenate, kl_divergence
from validators.reference_tree import Reference, ReferencePrompt
from validators.run_result import PromptResult, RunResult

_CYCLES = 4  # so many equal periods at the end are no accident
_CYCLIC_TOKENS = 16


def evaluate(
    run: RunResult,
    reference: Reference,
    golden: GoldenSet,
    *,
    precision: str,
    executor: str,
    gates: Gates,
    own: Own | None = None,
) -> CheckResult:
    """Compare a run with the reference, the golden prompts and the gates.

    Args:
        executor: what must have executed it; the row's ``executes``.
        own: the predictions of the artifact's own weights in float32; None: they are not at hand.
    """
    tokenizer = Tokenizer.from_file(str(reference.tokenizer))
    results = {prompt.id: prompt for prompt in run.prompts}
    known = {prompt.id: prompt for prompt in reference.prompts}
    failures: list[Failure] = []
    entries = []
    if run.failure is not None:
        failures.append(Failure(run.failure.name, run.failure.what))
    for prompt in golden.prompts:
        result = results.get(prompt.id, PromptResult(prompt.id))
        found, entry = _evaluate_prompt(
            prompt, result, known.get(prompt.id), reference, precision, tokenizer
        )
        failures += found
        entries.append(entry)
    ran = [prompt for prompt in run.prompts if prompt.not_run is None]
    if not ran and run.failure is None:
        failures.append(Failure("nothing-ran", "no golden prompt fits what the artifact takes"))
    metrics = metrics_of(ran, reference, own)
    if metrics is not None and not metrics.is_finite:
        failures.append(Failure("infinite-metric", f"no finite value: {metrics}"))
        metrics = None
    longest = max((len(known[prompt.id].sequence) for prompt in ran), default=0)
    if metrics is not None:
        failures += _broken_gates(metrics, gates)
        failures += _too_short(longest, gates.minimum_validated_tokens, run.prompts)
    notes: tuple[Note, ...] = ()
    if run.corpus is not None:
        permuted, notes = judge_corpus(run.corpus, reference.tokenizer)
        failures += permuted
    failures += [Failure(one.name, one.what) for one in run.findings]
    if run.evidence is not None:
        failures += judge_device(run.evidence, executor)
    return CheckResult(
        failures=tuple(failures),
        golden=tuple(entries),
        metrics=metrics,
        validated_tokens=longest if metrics is not None else 0,
        notes=notes,
    )


def metrics_of(
    ran: Sequence[PromptResult], reference: Reference, own: Own | None
) -> Metrics | None:
    """Compare what prompts predict with the reference, and with the artifact's own weights.

    Args:
        own: what float32 arithmetic with these weights predicts; None: it is not at hand.

    Returns:
        None: not all of the prompts were scored.
    """
    wanted = [prompt for prompt in ran if reference.scored[prompt.id].positions]
    parts = [prompt.distribution for prompt in wanted if prompt.distribution is not None]
    if not parts or len(parts) < len(wanted):
        return None
    against = concatenate([reference.scored[prompt.id].distribution for prompt in wanted])
    found = compare(against, concatenate(parts))
    if own is None:
        return found
    prompts = {prompt.id: prompt for prompt in reference.prompts}
    divergences, costs = [], []
    of_answers: list[bool] = []
    for prompt, part in zip(wanted, parts, strict=True):
        if (exact := own.predictions.get(prompt.id)) is not None:
            count, known = len(exact.first), reference.scored[prompt.id]
            divergences.append(kl_divergence(exact, part.beginning(count)))
            costs.append(kl_divergence(known.distribution.beginning(count), exact))
            asked = prompts[prompt.id]
            of_answers += map(asked.is_answer_after, known.positions[:count])
    if not divergences:
        return found  # what was compared is among what failed
    divergence, chosen = np.concatenate(divergences), np.array(of_answers)
    judged = divergence[chosen] if chosen.any() else divergence  # a synthetic model has no answers
    return replace(
        found,
        execution_kl=float(judged.mean()),
        weights_kl=float(np.concatenate(costs).mean()),
    )


def _broken_gates(metrics: Metrics, gates: Gates) -> list[Failure]:
    return [
        Failure(
            name.replace("_", "-"),
            f"{name.replace('_', ' ')} is {value:.4g}, the gate is {gate:.4g}",
        )
        for name, (value, gate) in gates.broken(metrics).items()
    ]


def _too_short(longest: int, minimum: int, prompts: Sequence[PromptResult]) -> list[Failure]:
    """Refuse a short check: it says nothing of long prompts, where conversions may go wrong."""
    if longest >= minimum:
        return []
    left_out = [f"'{prompt.id}': {prompt.not_run}" for prompt in prompts if prompt.not_run]
    what = f"the longest sequence that ran has {longest} tokens, the model asks for {minimum}"
    what += f" (not run: {'; '.join(left_out)})" if left_out else ""
    what += "; add a longer golden prompt, or lower minimum_validated_tokens in the model's file"
    return [Failure("too-short-validation", what)]


def judge_device(evidence: ExecutionEvidence, executor: str) -> list[Failure]:
    """Return what contradicts that ``executor`` did the work; empty: it is proven."""
    found = []
    if evidence.device != executor:
        what = f"{evidence.device} executed it, {executor} must have ({evidence.how})"
        found.append(Failure("wrong-device", what))
    if not evidence.proof:
        found.append(Failure(UNPROVEN, f"nothing shows that {evidence.device} executed it"))
    return found + [
        Failure(proof.failure, f"{proof.what}: {proof.observed}")
        for proof in evidence.proof
        if proof.failure is not None
    ]


def _evaluate_prompt(
    prompt: GoldenPrompt,
    result: PromptResult,
    known: ReferencePrompt | None,
    reference: Reference,
    precision: str,
    tokenizer: Tokenizer,
) -> tuple[list[Failure], Mapping[str, Any]]:
    """Return the failures of one prompt, and its entry in the receipt."""
    found: list[Failure] = []
    answer, output, expected = result.generation, None, None
    if known is not None:
        if not reference.synthetic:
            expected = known.text if prompt.expected is None else prompt.expected
        if result.own_encoding is not None and result.own_encoding != known.prompt_ids:
            what = _first_difference(result.own_encoding, known.prompt_ids)
            found.append(Failure("prompt-encoding", what, prompt.id))
    if result.failure is not None:
        found.append(Failure(result.failure.name, result.failure.what, prompt.id))
    entry: dict[str, Any] | None = None
    if known is not None and answer is not None:
        output = tokenizer.decode(list(answer.token_ids), skip_special_tokens=True)
        if not reference.synthetic:
            found += _judge_answer(prompt, answer, output, known, precision)
        first_token_s = answer.first_token_s
        entry = {
            "tokens": len(answer.token_ids),
            "stopped": answer.stopped,
            "own_text": None if answer.text == output else answer.text,
            "diverges_at": _divergence(answer, known, reference),
            "first_token_s": None if first_token_s is None else round(first_token_s, 4),
            "total_s": round(answer.total_s, 4),
        }
    return found, {
        "id": prompt.id,
        "prompt": prompt.text,
        "output": output,
        "expected": expected,
        "passed": not found if (entry and not reference.synthetic) or found else None,
        "not_run": result.not_run,
        "answer": entry,
    }


def _judge_answer(
    prompt: GoldenPrompt,
    answer: Generation,
    output: str,
    known: ReferencePrompt,
    precision: str,
) -> list[Failure]:
    found = []
    if not same_text(answer.text, output):
        what = f"the runtime's own text is {answer.text[:120]!r}, its tokens say {output[:120]!r}"
        found.append(Failure("wrong-text", what, prompt.id))
    if known.answer_ids and not output.strip():
        found.append(Failure("empty-output", "the answer is empty", prompt.id))
    elif not answer.stopped and cyclic(answer.token_ids) and not cyclic(known.answer_ids):
        what = f"the answer ends in a cycle: {output[-60:]!r}"
        found.append(Failure("endless-repetition", what, prompt.id))
    found += _judge_end(prompt, answer, known)
    if prompt.expected is not None:
        if output != prompt.expected:
            what = f"answers {output[:120]!r}, {prompt.expected[:120]!r} is expected"
            found.append(Failure("wrong-answer", what, prompt.id))
    elif precision == "fp16" and answer.token_ids != known.answer_ids:
        what = _first_difference(answer.token_ids, known.answer_ids)
        found.append(Failure("wrong-tokens", f"answer: {what}", prompt.id))
    if prompt.must_contain is not None and prompt.must_contain not in output:
        what = f"the answer {output[:120]!r} lacks {prompt.must_contain!r}"
        found.append(Failure("missing-fact", what, prompt.id))
    return found


def _judge_end(prompt: GoldenPrompt, answer: Generation, known: ReferencePrompt) -> list[Failure]:
    """Refuse an answer that the reference's stop token does not end: a chat would never stop.

    Its text may be right all the same, where only special tokens follow.
    """
    if known.stop_id is None:
        return []
    if known.stop_id in answer.token_ids:
        what = f"the answer goes on after token {known.stop_id}, where the reference stops"
    elif not answer.stopped and (prompt.must_stop or prompt.expected is not None):
        what = f"no stop token in {len(answer.token_ids)} tokens"
    else:
        return []
    return [Failure("no-stop", what, prompt.id)]


def cyclic(token_ids: Sequence[int]) -> bool:
    """Return whether the last tokens repeat: 4 equal periods, at least 16 tokens.

    >>> cyclic([9, *[1, 2, 3] * 6]), cyclic([1, 2] * 4), cyclic(list(range(40)))
    (True, False, False)
    """
    for period in range(1, len(token_ids) // _CYCLES + 1):
        cycles = max(_CYCLES, -(-_CYCLIC_TOKENS // period))
        tail = tuple(token_ids[-period * cycles :])
        if len(tail) == period * cycles and tail == tail[:period] * cycles:
            return True
    return False


def _first_difference(found: Sequence[int], expected: Sequence[int]) -> str:
    index = _difference_index(found, expected)
    left, right = (ids[index] if index < len(ids) else "the end" for ids in (found, expected))
    return f"token {index} is {left}, the reference has {right}"


def _difference_index(found: Sequence[int], expected: Sequence[int]) -> int:
    pairs = zip(found, expected, strict=False)
    shorter = min(len(found), len(expected))
    return next((index for index, (left, right) in enumerate(pairs) if left != right), shorter)


def _divergence(
    answer: Generation, known: ReferencePrompt, reference: Reference
) -> Mapping[str, Any] | None:
    if answer.token_ids == known.answer_ids and answer.stopped == (known.stop_id is not None):
        return None
    index = _difference_index(answer.token_ids, known.answer_ids)
    scored = reference.scored[known.id]
    position = len(known.prompt_ids) + index - 1
    margin = None
    if position in scored.positions:
        top = scored.distribution.top[scored.positions.index(position)]
        margin = float(np.subtract(top[0], top[1]))
    return {"token": index, "reference_margin": margin}
