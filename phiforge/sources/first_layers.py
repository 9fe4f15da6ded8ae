"""Make a checkpoint of another one's first layers: a model of its own, with embedding and head."""

import json
import re
from pathlib import Path
from typing import Any

from phiforge.artifact.safetensors_header import StoredTensor, read_header
from phiforge.artifact.tree import link_or_copy, sha256_file
from phiforge.sources.checkpoint import SINGLE_WEIGHTS, WEIGHTS_INDEX, check_checkpoint
from phiforge.sources.source import FirstLayers, SourceError
from phiforge.sources.tree import SourceFile, check_disk

_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_CHUNK = 16 << 20


def copy_first_layers(source: FirstLayers, whole: Path, scratch: Path) -> list[SourceFile]:
    """Fill ``scratch`` with the checkpoint of ``whole``'s first layers; no weight is changed.

    Args:
        whole: the verified files of the model whose layers they are.

    Raises:
        SourceError: it has no more layers than are asked for.
        SafetensorsError: a file of weights is damaged.
    """
    config = json.loads((whole / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(_shortened(config, source, whole), indent=2)
    (scratch / "config.json").write_text(text + "\n", encoding="utf-8")
    for path in sorted(whole.iterdir()):
        if path.name not in ("config.json", WEIGHTS_INDEX) and path.suffix != ".safetensors":
            link_or_copy(path, scratch / path.name)
    _write_weights(source.layers, whole, scratch)
    files = {path.name: path for path in sorted(scratch.iterdir())}
    check_checkpoint(files, str(whole))
    return [
        SourceFile(name, path.stat().st_size, sha256_file(path)) for name, path in files.items()
    ]


def _shortened(config: dict[str, Any], source: FirstLayers, whole: Path) -> dict[str, Any]:
    count = config.get("num_hidden_layers")
    if not isinstance(count, int) or count <= source.layers:
        raise SourceError(
            f"these are no first layers of {source.model}",
            where=whole / "config.json",
            expected=f"num_hidden_layers above {source.layers}",
            found=str(count),
        )
    # What is said of every layer, such as layer_types, is said of those that stay.
    of_each = {
        key: value[: source.layers]
        for key, value in config.items()
        if isinstance(value, list) and len(value) == count
    }
    return {
        **config,
        **of_each,
        "num_hidden_layers": source.layers,
    }


def _write_weights(layers: int, whole: Path, scratch: Path) -> None:
    """Copy the tensors of other names than those of later layers, one after the other."""
    kept: dict[str, tuple[Path, StoredTensor]] = {}
    for file in sorted(whole.glob("*.safetensors")):
        for name, tensor in read_header(file).items():
            layer = _LAYER.match(name)
            if layer is None or int(layer[1]) < layers:
                kept[name] = file, tensor
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (_, tensor) in kept.items():
        offsets = [end, end := end + tensor.size]
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
    check_disk(scratch, end)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (scratch / SINGLE_WEIGHTS).open("wb") as into:
        into.write(len(text).to_bytes(8, "little") + text)
        for file, tensor in kept.values():
            with file.open("rb") as weights:
                weights.seek(tensor.offset)
                for left in range(tensor.size, 0, -_CHUNK):
                    into.write(weights.read(min(left, _CHUNK)))
