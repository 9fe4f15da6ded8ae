"""Say why a golden prompt is not run: the reference's words, or the variant's declared limits."""

from collections.abc import Mapping
from typing import Any

from phiforge.jobs import Limits


def left_out(record: Mapping[str, Any], limits: Limits) -> dict[str, str]:
    """Return prompt id to reason, for each that is not to be run.

    Args:
        record: REFERENCE.json (`validators.reference_tree`).
    """
    reasons = {entry["id"]: entry["reason"] for entry in record["left_out"]}
    for prompt in record["prompts"]:
        reason = _too_long(prompt, limits, record["sliding_window"])
        if reason is not None:
            reasons[prompt["id"]] = reason
    return reasons


def _too_long(prompt: Mapping[str, Any], limits: Limits, window: int | None) -> str | None:
    length, answer = len(prompt["prompt_ids"]), len(prompt["answer_ids"])
    total = length + answer + (prompt["stop_id"] is not None)
    if limits.prompt_tokens is not None and length > limits.prompt_tokens:
        return f"{length} tokens, the variant takes prompts of {limits.prompt_tokens}"
    if limits.row_prompt_tokens is not None and length > limits.row_prompt_tokens:
        return f"{length} tokens, this row takes prompts of up to {limits.row_prompt_tokens}"
    if limits.total_tokens is not None and total > limits.total_tokens:
        return f"{total} tokens with its answer, the variant holds {limits.total_tokens}"
    if limits.answer_tokens is not None and answer > limits.answer_tokens:
        return f"its answer has {answer} tokens, this row answers up to {limits.answer_tokens}"
    if limits.full_attention and window is not None and total > window:
        return (
            f"{total} tokens with its answer; the variant attends to all of them, the source to "
            f"the last {window}"
        )
    return None
