"""Say which golden prompts a variant may leave out on a row: by what it declares, nothing else."""

from collections.abc import Mapping
from typing import Any

from phiforge.jobs import Limits

# OpenVINO GenAI's defaults, where a variant or its profile leaves them out.
NPU_LENGTHS = {"MAX_PROMPT_LEN": 1024, "MIN_RESPONSE_LEN": 128}


def declared_limits(options: Mapping[str, Any], settings: Mapping[str, Any]) -> Limits:
    """Read the limits of a variant's ``options`` and a row's ``settings``.

    >>> declared_limits({"npu": {"MAX_PROMPT_LEN": 64}}, {}).total_tokens
    192
    """
    limits: dict[str, Any] = {
        "answer_tokens": settings.get("answer_tokens"),
        "row_prompt_tokens": settings.get("prompt_tokens"),
    }
    npu = options.get("npu", options if NPU_LENGTHS.keys() & options.keys() else None)
    if npu is not None:
        lengths = {name: int(npu.get(name, default)) for name, default in NPU_LENGTHS.items()}
        limits["prompt_tokens"] = lengths["MAX_PROMPT_LEN"]
        limits["total_tokens"] = sum(lengths.values())
    elif "max_length" in options:
        limits["total_tokens"] = int(options["max_length"])
    # The model builder leaves a sliding window out of DirectML's builds.
    return Limits(**limits, full_attention=options.get("execution_provider") == "dml")
