"""Load the source model in float32 arithmetic, in the memory that is free.

Where float32 weights do not fit, the weights stay in the checkpoint's own 16-bit dtype and every
matrix is widened to float32 just before it is multiplied. A 16-bit float widens exactly, so the
arithmetic is that of a float32 model; only time is lost, and the gates mean the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from phiforge.artifact.safetensors_header import read_header
from phiforge.control_groups import limit_of_container
from validators.contract import CheckError, LogProbabilities
from validators.metrics import log_probabilities

TOOLCHAIN = ("torch", "transformers", "safetensors")

_SPARE_BYTES = 1_500_000_000  # libraries, activations and the logits of a long prompt


@dataclass(frozen=True)
class Float32Model:
    """A model that computes in float32.

    Attributes:
        weights_held_in: ``float32``, or the checkpoint's dtype where memory forbade float32.
        reason: why, in words.
    """

    model: PreTrainedModel
    weights_held_in: str
    reason: str


class _Widened(nn.Module):
    """A Linear whose weight stays narrow and is widened for each product."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.float()
        return nn.functional.linear(inputs, self.weight.float(), bias)


def load(source: Path, *, hold: str = "auto") -> Float32Model:
    """Load the checkpoint below ``source`` for inference; safetensors only, no remote code.

    Args:
        hold: ``float32``, ``checkpoint``, or ``auto``: float32 if it fits into free memory.

    Raises:
        CheckError: neither fits, or transformers cannot load the checkpoint.
    """
    parameters, stored = _size(source)
    free = _free_bytes()
    wide = parameters * 4 + _SPARE_BYTES
    narrow = stored + _SPARE_BYTES
    if hold == "auto":
        hold = "float32" if wide <= free else "checkpoint"
        if hold == "checkpoint" and narrow > free:
            raise CheckError(
                "not enough memory for the reference model",
                where=source,
                expected=f"{narrow / 1e9:.1f} GB",
                found=f"{free / 1e9:.1f} GB free",
                remedy="end other jobs or run this on a larger machine",
            )
    model = pretrained(source, torch.float32 if hold == "float32" else "auto")
    if hold == "float32":
        return Float32Model(model, "float32", "they fit into free memory")
    held = str(model.dtype).removeprefix("torch.")
    _widen(model)
    return Float32Model(
        model, held, f"float32 weights need {wide / 1e9:.1f} GB, more than was free"
    )


def pretrained(source: Path, dtype: Any) -> Any:
    """Load the checkpoint below ``source`` for inference in ``dtype``, ``auto``: its own.

    Raises:
        CheckError: transformers cannot load it.
    """
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            attn_implementation="sdpa",
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise CheckError(
            f"transformers cannot load the model: {error}",
            where=source,
            remedy="fetch the source again; the architecture must be one of transformers' own",
        ) from None
    return model.eval()


def teacher_forced(
    model: Any, sequence: Sequence[int], positions: Sequence[int]
) -> LogProbabilities:
    """Return the log-probabilities of the token after each of ``positions``, in one pass."""
    with torch.inference_mode():
        # Logits of the chosen positions only: 2,560 positions of a vocabulary are large.
        logits = model(
            torch.tensor([list(sequence)]),
            use_cache=False,
            logits_to_keep=torch.tensor(list(positions), dtype=torch.long),
        ).logits[0]
    return log_probabilities(logits.float().numpy())


def _widen(model: nn.Module) -> None:
    """Make every product of ``model`` a float32 one; its matrices stay as they are."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, _Widened(child))
            elif isinstance(child, nn.Embedding):
                child.register_forward_hook(lambda module, inputs, output: output.float())
            elif not list(child.children()):
                child.float()  # norms and rotary constants: small


def _size(source: Path) -> tuple[int, int]:
    """Return the number of parameters and their bytes as stored."""
    headers = (read_header(path) for path in source.glob("*.safetensors"))
    tensors = [tensor for header in headers for tensor in header.values()]
    parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    stored = sum(tensor.size for tensor in tensors)
    if not parameters:
        raise CheckError(
            "no safetensors weights here", where=source, remedy="fetch the source again"
        )
    return parameters, stored


def _free_bytes() -> int:
    """Return the free memory of this machine or of the control group that we run in."""
    free = psutil.virtual_memory().available
    return min(free, limit_of_container() or free)
