"""The source's matrices, by the names that the model builder gives them in its graph.

A Hugging Face checkpoint stores a Linear's weight as (out, in) rows, and Phi-3 fuses q, k, v and
gate, up by rows; the builder's DirectML graph has one (in, out) matrix for each of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from converters.contract import ConvertError
from phiforge.artifact.record import read_record
from phiforge.artifact.safetensors_header import read_header

_LAYER_MATRIX = re.compile(r"model\.layers\.(\d+)\.(attn|mlp)\.(\w+)\.MatMul\.weight")


@dataclass(frozen=True)
class Matrix:
    """Rows of one tensor of the source.

    Attributes:
        file: the safetensors file that holds it.
        tensor: its name there.
        first_row: where the rows of this matrix begin.
        dtype: safetensors' name of the element type, such as ``BF16``.
    """

    file: Path
    tensor: str
    first_row: int
    dtype: str

    def rows(self, numbers: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """The rows with these ``numbers``, exactly, in float32; only these are read."""
        with safe_open(self.file, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(self.tensor)
            chosen = tensor[torch.from_numpy(numbers + self.first_row)]
        values: npt.NDArray[np.float32] = chosen.to(torch.float32).numpy()
        return values


class Checkpoint:
    """The tensors of a source tree; each is read when it is used."""

    def __init__(self, source: Path) -> None:
        self.folder = source
        self.config: dict[str, Any] = read_record(source / "config.json")
        self._tensors = {
            name: (path, stored)
            for path in sorted(source.glob("*.safetensors"))
            for name, stored in read_header(path).items()
        }

    @property
    def window(self) -> int | None:
        """How many tokens attention reaches back, if that is less than the whole context."""
        window = self.config.get("sliding_window")
        if window is None or window >= self.config["max_position_embeddings"]:
            return None
        return int(window)

    def matrix(self, initializer: str) -> Matrix:
        """The source's rows behind the builder's MatMul weight ``initializer``.

        Raises:
            ConvertError: the source has no tensor of that name, fused or by itself.
        """
        for tensor, first_row in self._candidates(initializer):
            if tensor in self._tensors:
                path, stored = self._tensors[tensor]
                return Matrix(path, tensor, first_row, stored.dtype)
        raise ConvertError(
            f"no tensor of the source is known to be the graph's '{initializer}'",
            where=self.folder,
            remedy="teach converters/onnx_genai/checkpoint.py this architecture's names",
        )

    def _candidates(self, initializer: str) -> Iterator[tuple[str, int]]:
        if initializer == "lm_head.MatMul.weight":
            yield "lm_head.weight", 0
            yield "model.embed_tokens.weight", 0  # tied
        match = _LAYER_MATRIX.fullmatch(initializer)
        if match is None:
            return
        layer, block, projection = match.groups()
        module = f"model.layers.{layer}.{'self_attn' if block == 'attn' else block}"
        yield f"{module}.{projection}.weight", 0
        if projection in ("q_proj", "k_proj", "v_proj"):
            heads = int(self.config["num_attention_heads"])
            kv_heads = int(self.config.get("num_key_value_heads") or heads)
            size = int(self.config.get("head_dim") or self.config["hidden_size"] // heads)
            first_row = {"q": 0, "k": heads * size, "v": (heads + kv_heads) * size}[projection[0]]
            yield f"{module}.qkv_proj.weight", first_row
        if projection in ("gate_proj", "up_proj"):
            first_row = int(self.config["intermediate_size"]) if projection == "up_proj" else 0
            yield f"{module}.gate_up_proj.weight", first_row

    def refuse_beyond_float16(self) -> None:
        """Raise `ConvertError`, naming the first tensor with a value that float16 cannot hold."""
        limit = torch.finfo(torch.float16).max
        for name, (path, _) in self._tensors.items():
            with safe_open(path, framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(name)
                low, high = (float(value) for value in torch.aminmax(tensor))
            if not (-limit <= low and high <= limit):
                raise ConvertError(
                    f"tensor '{name}' does not fit float16",
                    where=path,
                    expected=f"finite values between -{limit:.0f} and {limit:.0f}",
                    found=f"values from {low} to {high}",
                    remedy="leave out the variants whose graph is float16",
                )

    def linears_of_vocabulary_size(self) -> list[str]:
        """Layer matrices with as many output features as the vocabulary has tokens."""
        vocabulary = int(self.config["vocab_size"])
        return [
            name
            for name, (_, stored) in sorted(self._tensors.items())
            if name.startswith("model.layers.") and stored.shape[:-1] == (vocabulary,)
        ]
