"""From the source to an FP16 IR: optimum traces the graph, the weights enter as it is written.

optimum-cli's ``--weight-format fp16`` rounds every constant of the graph to fp16: RoPE's inverse
frequencies, LongRoPE's factors, the attention scale, norm weights. Here only the matrices are
fp16; every other constant keeps the float32 value that optimum's own INT4 and INT8 exports have.
The matrices stay mapped from the safetensors files and are rounded one at a time while the IR is
written, so memory is that of the largest one.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import openvino as ov
import torch
from openvino.utils import make_postponed_constant
from optimum.exporters.openvino import convert as optimum_convert
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from converters.contract import BuildRecord, ConvertError
from converters.openvino.ir import (
    number_nodes,
    read_ir,
    replace_constant,
    weight_constants,
    writing,
)
from converters.source_files import copy_source_files
from phiforge.artifact.payload_files import OPENVINO_IR, TOKENIZER_IRS

TOOLCHAIN = (
    "numpy",
    "openvino",
    "openvino-tokenizers",
    "optimum",
    "optimum-intel",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
TASK = "text-generation-with-past"
_ROUNDED = (ov.Type.f16, ov.Type.bf16)
_ROWS = 64
_SMALLEST_NORMAL = torch.finfo(torch.float16).smallest_normal


def export(source: Path, into: Path) -> BuildRecord:
    """Write the FP16 payload of the model in ``source`` into ``into``.

    Raises:
        ConvertError: a weight exceeds fp16's range, or the exporter's result is not an IR with
            fp16 matrices and float32 elsewhere.
    """
    os.environ["OPENVINO_DYNAMO_EXPORT"] = "false"  # else a caller's setting changes the graph
    torch.set_num_threads(1)  # rounding is bound by memory; more threads wait for one another
    model = AutoModelForCausalLM.from_pretrained(
        source,
        dtype="auto",
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    weights = _Fp16Weights(model)
    with _before_saving(weights.enter):
        optimum_convert.export_from_model(
            model=model,
            output=into,
            task=TASK,
            stateful=True,
            preprocessors=[],
            device="cpu",
            trust_remote_code=False,
            patch_16bit_model=True,
        )
    weights.refuse_overflow()
    _check_types(into / OPENVINO_IR)
    _export_tokenizer(source, into)
    copy_source_files(source, into)
    return BuildRecord(
        toolchain={name: version(name) for name in TOOLCHAIN},
        recipe={
            "tool": "optimum.exporters.openvino.export_from_model",
            "task": TASK,
            "stateful": True,
            "weight_format": "fp16",
            "other_constants": "f32",
            "source_dtype": str(model.dtype).removeprefix("torch."),
            "tokenizer": "openvino_tokenizers.convert_tokenizer",
            "padding_side": "left",
        },
        notes=_notes(weights.near_zero_rows),
    )


class _Fp16Weights:
    """The matrices of one model on their way to fp16, and what that does to them."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._parameters = dict(model.named_parameters(remove_duplicate=False))
        self.near_zero_rows: dict[str, int] = {}
        """By matrix: rows with no value in fp16's normal range; fp16 changes all they have."""
        self._overflowing: list[str] = []
        self._narrow_float32(model)

    def enter(self, graph: ov.Model) -> None:
        """Let each bf16 weight of ``graph`` become an fp16 one at the moment it is written."""
        for name, constant in weight_constants(graph):
            if constant.get_element_type() == ov.Type.bf16:
                maker = self._maker(name, self._parameters[name])
                replace_constant(
                    constant, make_postponed_constant(ov.Type.f16, constant.shape, maker)
                )
        graph.validate_nodes_and_infer_types()

    def refuse_overflow(self) -> None:
        """Raise `ConvertError`, naming the matrices, where fp16 cannot hold the source."""
        if self._overflowing:
            raise ConvertError(
                f"weights exceed fp16's range: {', '.join(sorted(self._overflowing))}",
                expected="finite values of at most 65504 in magnitude",
                found="infinity or NaN as fp16",
                remedy="this model has no faithful FP16 variant; take the openvino variants out",
            )

    def _narrow_float32(self, model: PreTrainedModel) -> None:
        """Round a float32 source's matrices before the trace, which keeps 16-bit weights only."""
        for path, module in model.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
                for name, parameter in module.named_parameters(prefix=path, recurse=False):
                    if parameter.dtype == torch.float32:
                        half = torch.empty(parameter.shape, dtype=torch.float16)
                        self._round(name, parameter.data, half)
                        parameter.data = half

    def _maker(self, name: str, weight: torch.Tensor) -> Callable[[], ov.Tensor]:
        def make() -> ov.Tensor:
            # openvino must own the memory: it reads it after this function's locals are gone
            tensor = ov.Tensor(ov.Type.f16, weight.shape)
            self._round(name, weight.detach(), torch.from_numpy(tensor.data))
            return tensor

        return make

    def _round(self, name: str, weight: torch.Tensor, half: torch.Tensor) -> None:
        """Fill ``half`` with ``weight``, a few rows at a time so that they stay in the cache."""
        overflowing, near_zero_rows = False, 0
        for exact, rounded in zip(
            torch.split(weight, _ROWS), torch.split(half, _ROWS), strict=True
        ):
            rounded.copy_(exact.float())  # torch casts bf16 to fp16 one by one, these by vectors
            largest = rounded.reshape(len(rounded), -1).abs().amax(dim=1)
            overflowing |= not bool(torch.isfinite(largest).all())
            for row in (largest < _SMALLEST_NORMAL).nonzero().flatten().tolist():
                near_zero_rows += not torch.equal(rounded[row].to(exact.dtype), exact[row])
        if overflowing:
            self._overflowing.append(name)
        if near_zero_rows:
            self.near_zero_rows[name] = near_zero_rows


@contextmanager
def _before_saving(prepare: Callable[[ov.Model], None]) -> Iterator[None]:
    """Call ``prepare`` on each finished graph, just before the exporter writes it.

    The exporter has no hook there; it writes through this one name of its module.
    """
    official = optimum_convert.save_model

    def save(graph: ov.Model, *arguments: Any) -> None:
        prepare(graph)
        number_nodes(graph)
        with writing(Path(arguments[0])):
            official(graph, *arguments)

    optimum_convert.save_model = save
    try:
        yield
    finally:
        optimum_convert.save_model = official


def _check_types(path: Path) -> None:
    """Matrices must be f16, and nothing else may be rounded to 16 bits.

    Raises:
        ConvertError: naming the constants that are not as they should be.
    """
    graph = read_ir(path)
    weights = {node.get_friendly_name(): node for _, node in weight_constants(graph)}
    wrong = [name for name, node in weights.items() if node.get_element_type() != ov.Type.f16]
    for node in graph.get_ops():
        rounded = node.get_type_name() == "Constant" and node.get_element_type() in _ROUNDED
        if rounded and node.get_friendly_name() not in weights:
            wrong.append(node.get_friendly_name())
    if wrong or not weights:
        raise ConvertError(
            "the exported graph is not the one expected",
            where=path.name,
            expected="f16 matrices and f32 elsewhere",
            found=f"other types at {', '.join(sorted(wrong)) or 'no matrices'}",
            remedy="the exporter's naming changed; see converters/openvino/ir.py",
        )


def _export_tokenizer(source: Path, into: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(
        source, local_files_only=True, trust_remote_code=False
    )
    with _before_saving(lambda graph: None):
        optimum_convert.export_tokenizer(tokenizer, into, task=TASK)
    for name in TOKENIZER_IRS:  # the exporter only logs what it could not convert
        read_ir(into / name)


def _notes(near_zero_rows: Mapping[str, int]) -> tuple[str, ...]:
    notes = [
        "only matrices are fp16; every other constant (RoPE frequencies and factors, attention "
        "scale, norm weights) keeps its float32 value, which optimum-cli rounds to fp16",
        "tokenizer and configuration files are the source's own, not the exporter's rewritten "
        "ones; auto_map (remote code) is left out of config.json",
        "fp16 cannot hold every value of the source; variants derived from this one read the "
        "matrices from the source",
    ]
    if near_zero_rows:
        rows = ", ".join(f"{name} ({near_zero_rows[name]})" for name in sorted(near_zero_rows))
        notes.append(f"near-zero rows that fp16 changes, by matrix: {rows}")
    return tuple(notes)
