"""What the model builder must not be given in silence: a checkpoint's limits."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from converters.contract import ConvertError
from phiforge.artifact.record import read_record
from phiforge.artifact.safetensors_header import read_header


class Checkpoint:
    """The tensors of a source tree; each is read when it is used."""

    def __init__(self, source: Path) -> None:
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
