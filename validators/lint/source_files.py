"""Hold a payload's small files to the source's bytes, and its list of files to what is expected."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST
from phiforge.artifact.payload_files import (
    CONFIGURATION,
    GENAI_CONFIG,
    LICENSE,
    NPU_LIBRARY_LAYOUT,
    NPU_PROFILE,
    ONNX_GRAPH,
    ONNX_WEIGHTS,
    OPENVINO_DETOKENIZER,
    OPENVINO_IR,
    OPENVINO_TOKENIZER,
    TOKENIZER_FILES,
)
from phiforge.artifact.record import read_record
from phiforge.artifact.tree import files_under
from phiforge.receipts.receipt import Failure
from validators.contract import some
from validators.lint.architecture import Architecture

_IRS = tuple(
    name.replace(".xml", end)
    for name in (OPENVINO_IR, OPENVINO_TOKENIZER, OPENVINO_DETOKENIZER)
    for end in (".xml", ".bin")
)
_OF_FORMAT: Mapping[str, tuple[str, ...]] = {
    "openvino": _IRS,
    "npu-blob": (*_IRS, NPU_PROFILE, "npu-blob.json", "openvino_model.blob"),
    "onnx-genai": (ONNX_GRAPH, ONNX_WEIGHTS, GENAI_CONFIG),
    "npu-library": (NPU_LIBRARY_LAYOUT,),
}
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_PROVIDER_OPTIONS: Mapping[str, list[dict[str, Any]]] = {
    "cpu": [],
    "cuda": [{"cuda": {"enable_cuda_graph": "0"}}],
    "dml": [{"dml": {"enable_graph_capture": "1"}}],
    "webgpu": [{"webgpu": {"enableGraphCapture": "0", "validationMode": "basic"}}],
}
_SEARCH: Mapping[str, Any] = {
    "diversity_penalty": 0.0,
    "early_stopping": True,
    "length_penalty": 1.0,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "past_present_share_buffer": True,
    "repetition_penalty": 1.0,
}
"""What the model builder writes for every model."""
_SAMPLING: Mapping[str, Any] = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
"""What it takes from generation_config.json, with transformers' defaults."""


def lint_files(payload: Path, source: Path, variant: Mapping[str, Any]) -> list[Failure]:
    """Compare the files that come from the source byte by byte, and name those that do not belong.

    Only ``auto_map`` is taken out of config.json: a release points to no remote code.

    Args:
        variant: ``format`` and ``options`` are read.
    """
    carried = [name for name in (*CONFIGURATION, *TOKENIZER_FILES) if (source / name).is_file()]
    own = {*_OF_FORMAT[variant["format"]]} | (
        {NPU_PROFILE} if "npu" in variant["options"] else set()
    )
    present = {str(name) for name in files_under(payload)} - {MANIFEST, CHECKSUMS}
    shards = {name for name in present if _SHARD.fullmatch(name)}
    if variant["format"] == "npu-library":
        own |= shards
    wanted = {*carried, LICENSE, *own}
    found = []
    if missing := sorted(wanted - present):
        found.append(Failure("missing-file", f"the payload lacks {some(missing)}"))
    if unexpected := sorted(present - wanted):
        found.append(Failure("unexpected-file", f"the payload has {some(unexpected)} besides"))
    changed = [name for name in carried if name in present and _differs(name, payload, source)]
    licences = sorted(source.glob("LICENSE*"))
    if licences and LICENSE in present:
        changed += [LICENSE] * ((payload / LICENSE).read_bytes() != licences[0].read_bytes())
    if changed:
        found.append(Failure("other-files", f"not the source's bytes: {some(changed)}"))
    return found


def _differs(name: str, payload: Path, source: Path) -> bool:
    if (payload / name).read_bytes() == (source / name).read_bytes():
        return False
    if name != CONFIGURATION[0]:
        return True
    expected = read_record(source / name)
    return expected.pop("auto_map", None) is None or read_record(payload / name) != expected


def lint_genai_config(
    payload: Path, source: Path, architecture: Architecture, provider: str
) -> list[Failure]:
    """Compare genai_config.json with what source and execution provider imply."""
    stated, config = read_record(payload / GENAI_CONFIG), architecture.config
    model, search = stated.get("model", {}), stated.get("search", {})
    decoder = model.get("decoder", {})
    generation = source / "generation_config.json"
    defaults = read_record(generation) if generation.is_file() else {}
    length = config["max_position_embeddings"]
    sampling = {key: defaults.get(key, value) for key, value in _SAMPLING.items()}
    tokens = {key: config[key] for key in ("bos_token_id", "pad_token_id") if config.get(key)}
    expected = {
        **{key: (model, value) for key, value in tokens.items()},
        "context_length": (model, length),
        "vocab_size": (model, config["vocab_size"]),
        "type": (model, "phi3"),
        "head_size": (decoder, architecture.head_size),
        "hidden_size": (decoder, architecture.hidden),
        "num_attention_heads": (decoder, architecture.heads),
        "num_hidden_layers": (decoder, architecture.layers),
        "num_key_value_heads": (decoder, architecture.kv_heads),
        "max_length": (search, length),
        **{key: (search, value) for key, value in {**_SEARCH, **sampling}.items()},
    }
    wrong = [
        f"{key} {place.get(key)}, not {value}"
        for key, (place, value) in expected.items()
        if place.get(key) != value or isinstance(place[key], bool) != isinstance(value, bool)
    ]
    if "eos_token_id" in defaults and _ids(model.get("eos_token_id")) != _ids(
        defaults["eos_token_id"]
    ):
        wrong.append(f"eos_token_id {model.get('eos_token_id')}, not {defaults['eos_token_id']}")
    session = decoder.get("session_options", {})
    options = session.get("provider_options")
    if options != _PROVIDER_OPTIONS[provider]:
        wrong.append(f"provider_options {options}, not {_PROVIDER_OPTIONS[provider]}")
    names = {**decoder.get("inputs", {}), **decoder.get("outputs", {})}
    wrong += [
        f"tensor {given} for {key}"
        for key, given in sorted(names.items())
        if given != _CACHES.get(key, key)
    ]
    for what, found, known in (
        ("key", stated, {"model", "search"}),
        ("model key", model, _MODEL),
        ("decoder key", decoder, _DECODER),
        ("session option", session, {"log_id", "provider_options"}),
        ("search option", search, {*_SEARCH, *_SAMPLING, "max_length"}),
    ):
        wrong += [f"{what} {key}" for key in sorted(found.keys() - known)]
    return [Failure("other-configuration", f"{GENAI_CONFIG}: {some(wrong)}")] if wrong else []


_MODEL = {
    "bos_token_id", "context_length", "decoder", "eos_token_id", "pad_token_id", "type",
    "vocab_size",
}  # fmt: skip
_DECODER = {
    "filename", "head_size", "hidden_size", "inputs", "num_attention_heads", "num_hidden_layers",
    "num_key_value_heads", "outputs", "session_options",
}  # fmt: skip
_CACHES = {
    f"{when}_{kind}_names": f"{prefix}.%d.{kind}"
    for when, prefix in (("past", "past_key_values"), ("present", "present"))
    for kind in ("key", "value")
}


def _ids(value: Any) -> set[int]:
    return set(value) if isinstance(value, list) else {value}
