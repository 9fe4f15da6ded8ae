"""One compilation, in a process of ``.venv-npu-library``.

    .venv-npu-library/bin/python -m converters.npu_library.compilation JOB.json

The job names ``source``, ``into`` and ``options``; ``RESULT.json`` beside it, written last, says
with which versions and arguments it was done, and what was mended. Every weight passes through the
library unchanged in value: neural-compressor rounds each matrix in float32 whatever precision it
was loaded in (``rtn_quantize``), so the source is loaded in its own, at half the memory.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import intel_npu_acceleration_library as npu_library
import torch
from intel_npu_acceleration_library.compiler import CompilerConfig
from intel_npu_acceleration_library.nn import Linear, QuantizedLinear
from safetensors.torch import save_file

from converters.contract import ConvertError
from converters.npu_library import RESULT
from converters.npu_library.layout import layout
from phiforge.artifact.payload_files import NPU_LIBRARY_LAYOUT
from phiforge.artifact.record import write_record
from phiforge.child import PickleRefused, die_with_parent, refuse_pickles
from phiforge.errors import run_command
from phiforge.sources.weights import as_float32, mapped_source_weights, tensor_of

ENVIRONMENT = "npu-library"
TOOLCHAIN = (
    "intel-npu-acceleration-library",
    "neural-compressor",
    "torch",
    "transformers",
    "safetensors",
)
DTYPES = {"int8": npu_library.int8, "int4": npu_library.int4, "fp16": npu_library.float16}
_EMBEDDING = "model.embed_tokens.weight"
_LIBRARY_TENSORS = ("weight", "scale", "bias")
_LARGEST_FILE = 2_000_000_000
TIED = (
    "the model's LM head is its embedding, which neural-compressor rounds in place with it; the "
    "embedding is put back as the source has it"
)


def main() -> None:
    die_with_parent()
    forbid_pickles()
    job_file = Path(sys.argv[1])
    job = json.loads(job_file.read_text(encoding="utf-8"))
    into = Path(job["into"])
    options = job["options"]
    arguments = {
        "use_cache": True,
        "attn_implementation": options.get("attn_implementation", "sdpa"),
        "export": False,
    }
    model = npu_library.NPUModelForCausalLM.from_pretrained(
        job["source"],
        config=CompilerConfig(dtype=DTYPES[options["dtype"]]),
        local_files_only=True,
        **arguments,
    )
    modules = library_modules(model)
    if not modules:
        raise ConvertError("the library put none of its modules into this model")
    notes = [TIED] if exact_embedding(model, Path(job["source"])) else []
    save(tensors_of(model, modules), into)
    classes = {name: type(module).__name__ for name, module in modules.items()}
    write_record(into / NPU_LIBRARY_LAYOUT, layout(options["dtype"], options, classes))
    compiler = {"use_to": False, "training": False}
    recipe = {"class": "NPUModelForCausalLM", **options, **arguments, **compiler}
    toolchain = {name: version(name) for name in TOOLCHAIN}
    result = {"toolchain": toolchain, "recipe": recipe, "notes": notes}
    write_record(job_file.with_name(RESULT), result)


def forbid_pickles() -> None:
    """The library saves and loads its models as pickles; here nothing can, whoever calls."""
    refuse_pickles()
    torch.save = torch.load = _no_pickle


def _no_pickle(*_arguments: Any, **_options: Any) -> NoReturn:
    raise PickleRefused("torch.save or torch.load was called, which would use a pickle")


def library_modules(model: Any) -> dict[str, Any]:
    """The modules that the library put in place, by name."""
    kinds = (Linear, QuantizedLinear)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def exact_embedding(model: Any, source: Path) -> bool:
    """Put back the source's embedding where the LM head's rounding has changed it; say whether."""
    if not model.config.tie_word_embeddings:
        return False
    with mapped_source_weights(source) as tensors:
        exact = as_float32(tensor_of(_EMBEDDING, tensors, source), slice(None))
    embedding = model.get_input_embeddings()
    weights = torch.from_numpy(exact).to(embedding.weight.dtype)
    if torch.equal(weights, embedding.weight):
        return False
    embedding.weight = torch.nn.Parameter(weights, requires_grad=False)
    return True


def tensors_of(model: Any, modules: Mapping[str, Any]) -> dict[str, Any]:
    """Every tensor that the payload holds, by name; copied only if it shares another's memory."""
    tensors = dict(model.state_dict())
    for name, module in modules.items():
        for part in _LIBRARY_TENSORS:
            tensor = getattr(module, part, None)
            if tensor is not None:
                tensors[f"{name}.{part}"] = tensor.detach().contiguous()
    seen: set[int] = set()
    for name in sorted(tensors):
        address = tensors[name].data_ptr()
        if address in seen:  # tied embeddings, where the library leaves a large lm_head alone
            tensors[name] = tensors[name].clone()
        seen.add(address)
    return tensors


def save(tensors: Mapping[str, Any], into: Path) -> None:
    """Write files of at most 2 GB each, or of one larger tensor: saving copies a file's tensors."""
    files = list(_split(tensors))
    for number, part in enumerate(files, start=1):
        name = f"model-{number:05}-of-{len(files):05}.safetensors"
        save_file(part, into / name, metadata={"format": "pt"})
        (into / name).chmod(0o644)  # safetensors makes it readable for its owner only


def _split(tensors: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    part: dict[str, Any] = {}
    size = 0
    for name in sorted(tensors):
        needed = tensors[name].nbytes
        if part and size + needed > _LARGEST_FILE:
            yield part
            part, size = {}, 0
        part[name] = tensors[name]
        size += needed
    yield part


if __name__ == "__main__":
    run_command(main)
