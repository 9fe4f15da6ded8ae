"""Run by the tests with the Python of ``.venv-npu-library``; prints one JSON line at the end.

npu_library_process.py library SOURCE DTYPE,… TEXT…    the library's own models of the source
npu_library_process.py artifact PAYLOAD,… TEXT…        payloads, opened as a check opens them
npu_library_process.py open PAYLOAD…                   what opening each says, nothing is run
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from intel_npu_acceleration_library.backend import runtime

from validators.contract import ArtifactError
from validators.runtimes import npu_library

NEW_TOKENS = 12


def answers(model: Any, tokenizer: Any, texts: list[str]) -> list[dict[str, Any]]:
    """Greedy tokens, and the last position's logits, by transformers' own loop."""
    found = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        mask = torch.ones_like(ids)
        with torch.no_grad():
            tokens = model.generate(
                ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False
            )
            logits = model(input_ids=ids, attention_mask=mask).logits[0, -1]
        found.append({"tokens": tokens[0].tolist(), "logits": logits.tolist()})
    return found


def library(source: str, dtype: str, texts: list[str]) -> list[dict[str, Any]]:
    """The guide's call; ``dtype=torch.float32`` is what transformers did by default then."""
    import intel_npu_acceleration_library as npu
    from intel_npu_acceleration_library.compiler import CompilerConfig
    from transformers import AutoTokenizer

    dtypes = {"int8": npu.int8, "int4": npu.int4, "fp16": npu.float16}
    model = npu.NPUModelForCausalLM.from_pretrained(
        source,
        use_cache=True,
        config=CompilerConfig(dtype=dtypes[dtype]),
        attn_implementation="sdpa",
        export=False,
        dtype=torch.float32,
    ).eval()
    return answers(model, AutoTokenizer.from_pretrained(source), texts)


def artifact(payload: str, texts: list[str]) -> list[dict[str, Any]]:
    opened: Any = npu_library.open_runtime(Path(payload), settings={})
    return answers(opened.model, opened._tokenizer, texts)


def opening(payload: str) -> str:
    try:
        npu_library.open_runtime(Path(payload), settings={})
    except ArtifactError as error:
        return f"{error.name}: {error}"
    return "opened"


def each(one: Callable[[str], object], names: Iterable[str]) -> Iterator[object]:
    """One after the other: the library's cache of compiled matrices takes uint8 for int8."""
    for name in names:
        runtime.clear_cache()
        yield one(name)


if __name__ == "__main__":
    mode, *rest = sys.argv[1:]
    if mode == "library":
        source, dtypes, *texts = rest
        found = each(lambda dtype: library(source, dtype, texts), dtypes.split(","))
    elif mode == "artifact":
        payloads, *texts = rest
        found = each(lambda payload: artifact(payload, texts), payloads.split(","))
    else:
        found = map(opening, rest)
    print(json.dumps(list(found)))
