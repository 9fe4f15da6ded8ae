"""Options of the OpenVINO converter: the precision of an IR's matrices."""

from typing import Literal

from pydantic import Field, model_validator

from phiforge.settings.blocks import Block, mistake


class PipelineOptions(Block):
    """Options of ``openvino_genai.LLMPipeline(folder, "NPU", **options)``."""

    MAX_PROMPT_LEN: int = Field(
        ge=1,
        description="longest prompt in tokens; the NPU's graph is compiled for this length",
        examples=[1024],
    )
    MIN_RESPONSE_LEN: int = Field(
        ge=1, description="room for at least so many generated tokens", examples=[128]
    )
    PREFILL_HINT: Literal["DYNAMIC", "STATIC"] = Field(
        description="how the prompt is processed: DYNAMIC in chunks, STATIC at full length"
    )
    GENERATE_HINT: Literal["FAST_COMPILE", "BEST_PERF"] = Field(
        description="what compilation favours for generation: FAST_COMPILE or BEST_PERF (slower "
        "to compile)"
    )


class Options(Block):
    """Every `weight_format` but fp16 is derived from the payload that `from:` names."""

    weight_format: Literal["fp16", "int8", "int4"] = Field(
        description="fp16: exported from the source; int8: asymmetric, channel by channel; int4: "
        "by the options below, which fp16 and int8 do not have"
    )
    symmetric: bool | None = Field(
        None,
        description="int4, required: scales without zero points (i4); false: with zero points "
        "(u4), which the NPU cannot run",
        examples=[True],
    )
    group_size: Literal[-1, 32, 64, 128] | None = Field(
        None,
        description="int4, required: how many weights along the input side share a scale; -1: a "
        "whole row (channel by channel)",
    )
    ratio: float | None = Field(
        None,
        gt=0,
        le=1,
        description="int4, required: the share of the layers' weights that becomes INT4; the most "
        "sensitive rest takes backup_mode",
        examples=[0.6],
    )
    all_layers: bool = Field(
        False,
        description="int4: also the embedding and the LM head become INT4, which else take "
        "backup_mode",
    )
    awq: bool = Field(
        False,
        description="int4: scale by each channel's magnitude before rounding (data-free AWQ)",
    )
    backup_mode: Literal["int8_asym", "int8_sym"] = Field(
        "int8_asym", description="int4: what the weights that do not become INT4 become"
    )
    npu: PipelineOptions | None = Field(
        None,
        description="int4: write npu-profile.json with these options of "
        'openvino_genai.LLMPipeline(folder, "NPU", **options), and hold the weights to what the '
        "NPU can run",
    )

    @model_validator(mode="after")
    def _fits_its_weight_format(self) -> "Options":
        if self.weight_format != "int4":
            for key in sorted(self.model_fields_set - {"weight_format"}):
                raise mistake(
                    f"has no meaning for weight_format {self.weight_format}",
                    "remove it, or take weight_format int4",
                    key=key,
                )
            return self
        for key in ("symmetric", "group_size", "ratio"):
            if getattr(self, key) is None:
                description = type(self).model_fields[key].description
                raise mistake("is missing", f"add it: {description}", key=key)
        if self.npu is not None:
            self._fit_the_npu()
        return self

    def _fit_the_npu(self) -> None:
        for key, fits, remedy in (
            (
                "symmetric",
                self.symmetric,
                "the NPU runs symmetric INT4 only: say true, or take the npu block out",
            ),
            (
                "group_size",
                self.group_size in (128, -1),
                "the NPU's documented forms are groups of 128 and channel by channel (-1)",
            ),
            (
                "ratio",
                self.ratio == 1,
                "the NPU's documented form has every layer in INT4: say 1.0, or take the npu "
                "block out",
            ),
            (
                "all_layers",
                not self.all_layers,
                "the NPU's documented form keeps embedding and LM head in INT8: say false",
            ),
        ):
            if not fits:
                found = repr(getattr(self, key))
                raise mistake(f"has a value that the NPU cannot run ({found})", remedy, key=key)
