"""Choose the files of a safetensors checkpoint, and check that they belong together.

The layout is that of transformers: ``model.safetensors``, or numbered shards named by
``model.safetensors.index.json``. Nothing in a checkpoint is executed: pickles are refused, code
files are not fetched, and an ``auto_map`` in config.json stays, because nothing follows it.
"""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.safetensors_header import read_header
from phiforge.sources.source import SourceError, is_plain

SINGLE_WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

CONFIG = "config.json"
_CONFIGURATION = (CONFIG, "generation_config.json")
_OWN_CODE = {
    "phi3small": "Phi-3-small, whose attention is block-sparse",
    "phi4flash": "Phi-4-mini-flash, whose layers are partly state-space ones (Mamba)",
}
"""Models by ``model_type`` that only the code in their repositories can run."""
_TOKENIZER_MODELS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_TOKENIZER = (
    *_TOKENIZER_MODELS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
)
_LONGEST_JSON = 64 << 20  # bytes; an index of a thousand tensors has some hundred thousand
_LICENCE = re.compile(r"(LICENSE|NOTICE)([.\-_][\w.\-]*)?", re.ASCII)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

SELECTION = (
    *_CONFIGURATION,
    *_TOKENIZER,
    SINGLE_WEIGHTS,
    WEIGHTS_INDEX,
    _LICENCE.pattern,
)
"""The files taken from a source, as text: a tree made under another selection is made again."""


def is_pickle(name: str) -> bool:
    """Say whether a file name is that of a pickle, which runs code when it is loaded."""
    return name.lower().endswith(_PICKLES)


def check_architecture(config: Path, where: str) -> None:
    """Refuse a model that no official library runs, before its weights are fetched.

    Raises:
        SourceError: it is one, or ``config`` is not JSON.
    """
    kind = _read_json(config, CONFIG, where).get("model_type")
    if what := _OWN_CODE.get(str(kind)):
        raise SourceError(
            f"this is {what}; only code from its own repository can run it, which is never done",
            where=where,
            expected="an architecture of transformers, optimum-intel and the model builder (phi3)",
            found=kind,
            remedy="use a Phi-3-mini, Phi-3-medium, Phi-3.5-mini, Phi-4 or Phi-4-mini",
        )


def choose_files(names: Collection[str], where: str) -> list[str]:
    """Return the files of a checkpoint without its shards: configuration, tokenizer, licence, and
    ``model.safetensors`` or the index that names the shards.

    Args:
        names: files at the top of the repository or folder; deeper ones never belong to a
            checkpoint.
        where: the repository or folder, for messages.

    Raises:
        SourceError: a file that every checkpoint needs is missing.
    """
    if SINGLE_WEIGHTS in names:
        weights = SINGLE_WEIGHTS  # if both exist, transformers loads this one
    elif WEIGHTS_INDEX in names:
        weights = WEIGHTS_INDEX
    else:
        raise _no_weights(names, where)
    if CONFIG not in names:
        raise SourceError(f"there is no {CONFIG}", where=where)
    if not set(names) & set(_TOKENIZER_MODELS):
        raise SourceError(f"there is no tokenizer ({' or '.join(_TOKENIZER_MODELS)})", where=where)
    if not any(name.startswith("LICENSE") and _LICENCE.fullmatch(name) for name in names):
        raise SourceError(
            "there is no LICENSE file",
            where=where,
            remedy="a release carries its model's licence: use a source that has one",
        )
    wanted = {weights, *_CONFIGURATION, *_TOKENIZER}
    return sorted(name for name in names if name in wanted or _LICENCE.fullmatch(name))


def _no_weights(names: Collection[str], where: str) -> SourceError:
    pickles = sorted(filter(is_pickle, names))
    others = sorted(name for name in names if name.endswith(".safetensors"))
    if pickles and not others:
        return SourceError(
            f"there are only pickle checkpoints ({', '.join(pickles[:3])}), and loading a pickle "
            "runs code from it",
            where=where,
            remedy="pin a commit that has safetensors, or convert the weights to safetensors "
            "elsewhere and use them as a local source",
        )
    found = f"; found {', '.join(others[:3])}" if others else ""
    return SourceError(f"there is no {SINGLE_WEIGHTS} and no {WEIGHTS_INDEX}{found}", where=where)


def shards(index: Path, where: str) -> list[str]:
    """Return the shard names in a weights index, sorted.

    Raises:
        SourceError: it is not an index, or names a file that is not a plain ``*.safetensors``.
    """
    return sorted(set(_weight_map(index, where).values()))


def _weight_map(index: Path, where: str) -> dict[str, str]:
    weight_map = _read_json(index, WEIGHTS_INDEX, where).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise SourceError(f"{WEIGHTS_INDEX} has no weight_map", where=where)
    for shard in weight_map.values():
        if not isinstance(shard, str) or not is_plain(shard):
            raise SourceError(
                f"{WEIGHTS_INDEX} names a file outside its folder", where=where, found=repr(shard)
            )
        if not shard.endswith(".safetensors"):
            raise SourceError(
                f"{WEIGHTS_INDEX} names a file that is not safetensors", where=where, found=shard
            )
    return weight_map


def check_checkpoint(files: Mapping[str, Path], where: str) -> None:
    """Check that ``files`` (name to the path of its bytes) fit together and can be opened.

    Raises:
        SourceError: config.json is not JSON, or the index names a tensor that its shard does not
            hold.
        SafetensorsError: a safetensors file is truncated or damaged.
    """
    _read_json(files[CONFIG], CONFIG, where)
    tensors = {
        name: read_header(path, f"{where}: {name}")
        for name, path in files.items()
        if name.endswith(".safetensors")
    }
    if WEIGHTS_INDEX not in files:
        return
    for tensor, shard in sorted(_weight_map(files[WEIGHTS_INDEX], where).items()):
        if tensor not in tensors[shard]:
            raise SourceError(
                f"{WEIGHTS_INDEX} does not match the weights: {shard} holds no tensor {tensor}",
                where=where,
            )


def _read_json(path: Path, name: str, where: str) -> dict[str, Any]:
    if path.stat().st_size > _LONGEST_JSON:
        raise SourceError(f"{name} is larger than {_LONGEST_JSON} bytes", where=where)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{name} is not JSON ({error})", where=where) from None
    if not isinstance(value, dict):
        raise SourceError(f"{name} is not a JSON object", where=where)
    return value
