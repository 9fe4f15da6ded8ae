"""Options of the ONNX Runtime GenAI converter, in its model builder's names without ``int4_``."""

from typing import Literal

from pydantic import Field, model_validator

from phiforge.settings.blocks import Block, mistake


class Options(Block):
    """INT4 options have no meaning for precision fp16.

    Attributes:
        precision: fp16: the builder's float16 graph (cuda, dml and webgpu); int4: its graph with
            INT4 matrices
        execution_provider: which of onnxruntime's execution providers runs it: cpu, cuda
            (NVIDIA), dml (DirectML) or webgpu
        block_size: int4: how many weights along the input side share a scale
        is_symmetric: int4: scales without zero points
        algo_config: int4: how codes are chosen, default (onnxruntime's round to nearest), rtn or
            k_quant
        accuracy_level: int4: least precision of activations in the product, 1 float32, 2 float16, 3
            bfloat16, 4 int8; null: not said, as DirectML needs it; e.g. 4
        matmul_mixed_precision: int4: last_matmul:int8 gives the LM head 8 bits in blocks of the
            same size; null: it has 4 as all others
    """

    precision: Literal["fp16", "int4"]
    execution_provider: Literal["cpu", "cuda", "dml", "webgpu"]
    block_size: Literal[16, 32, 64, 128, 256] = 32
    is_symmetric: bool = True
    algo_config: Literal["default", "rtn", "k_quant"] = "default"
    accuracy_level: int | None = Field(None, ge=1, le=4)
    matmul_mixed_precision: Literal["last_matmul:int8"] | None = None

    @model_validator(mode="after")
    def _fits_its_precision(self) -> "Options":
        if self.precision != "fp16":
            return self
        if self.execution_provider == "cpu":
            raise mistake(
                "is cpu, and the builder has no float16 graph for the CPU",
                "take cuda, dml or webgpu, or precision int4",
                key="execution_provider",
            )
        for key in sorted(self.model_fields_set - {"precision", "execution_provider"}):
            remedy = "float16 matrices have no other options: remove it, or take precision int4"
            raise mistake("has no meaning for precision fp16", remedy, key=key)
        return self
