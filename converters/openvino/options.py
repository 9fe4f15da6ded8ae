"""Options of the OpenVINO converter: the precision of an IR's matrices."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from phiforge.settings.blocks import Block, mistake

_REQUIRED = {"int4": ("symmetric", "group_size", "ratio"), "nf4": ("group_size", "ratio")}
_PLACED = {"weight_format", "placed", "backup_mode"}
_Forms = Mapping[str, tuple[tuple[float, ...], str]]
# What the NPU's documented forms have, and how to get there.
_NPU: _Forms = {
    "ratio": ((1.0,), "every layer has 4 bits: say 1.0, or take the npu block out"),
    "all_layers": ((False,), "embedding and LM head stay in INT8: say false"),
}
_NPU_FORMS: Mapping[str, _Forms] = {
    "int4": {
        "symmetric": ((True,), "say true, or take the npu block out"),
        "group_size": ((128, -1), "take groups of 128, or -1 for channel by channel"),
        **_NPU,
    },
    "nf4": {"group_size": ((-1,), "NF4 is documented channel by channel: say -1"), **_NPU},
}


class PipelineOptions(Block):
    """Options of ``openvino_genai.LLMPipeline(folder, "NPU", **options)``.

    Attributes:
        MAX_PROMPT_LEN: longest prompt in tokens; the NPU's graph is compiled for this length; e.g.
            1024
        MIN_RESPONSE_LEN: room for at least so many generated tokens; e.g. 128
        PREFILL_HINT: how the prompt is processed: DYNAMIC in chunks, STATIC at full length
        GENERATE_HINT: what compilation favours for generation: FAST_COMPILE or BEST_PERF (slower to
            compile)
    """

    MAX_PROMPT_LEN: int = Field(ge=1)
    MIN_RESPONSE_LEN: int = Field(ge=1)
    PREFILL_HINT: Literal["DYNAMIC", "STATIC"]
    GENERATE_HINT: Literal["FAST_COMPILE", "BEST_PERF"]


class Options(Block):
    """Every `weight_format` but fp16 is derived from the payload that `from:` names.

    Attributes:
        weight_format: fp16: exported from the source; int8: asymmetric, channel by channel; int4:
            16 equal steps; nf4: 16 levels that lie closer around zero, without zero points; both by
            the options below, which fp16 and int8 do not have
        symmetric: int4, required: scales without zero points (i4); false: with zero points (u4),
            which the NPU cannot run; e.g. true
        group_size: int4, nf4, required: how many weights along the input side share a scale; -1: a
            whole row (channel by channel)
        ratio: int4, nf4, required: the share of the layers' weights that gets 4 bits; the most
            sensitive rest takes backup_mode; e.g. 0.6
        placed: int4, instead of symmetric, group_size and ratio: the bits that the layers' weights
            have on average, scales and zero points included; each matrix has the form that the
            model's placement names, as `snakemake placement` has measured it; e.g. 5.67
        all_layers: int4, nf4: also the embedding and the LM head get 4 bits, which else take
            backup_mode
        awq: int4: scale by each channel's magnitude before rounding (data-free AWQ)
        backup_mode: int4, nf4: what the weights that do not get 4 bits become
        npu: int4, nf4: write npu-profile.json with these options of
            openvino_genai.LLMPipeline(folder, "NPU", **options), and hold the weights to what the
            NPU can run; nf4 needs Lunar Lake or later
    """

    weight_format: Literal["fp16", "int8", "int4", "nf4"]
    symmetric: bool | None = None
    group_size: Literal[-1, 32, 64, 128] | None = None
    ratio: float | None = Field(None, gt=0, le=1)
    placed: float | None = Field(None, ge=4.25, le=8)
    all_layers: bool = False
    awq: bool = False
    backup_mode: Literal["int8_asym", "int8_sym"] = "int8_asym"
    npu: PipelineOptions | None = None

    @model_validator(mode="after")
    def _fits_its_weight_format(self) -> "Options":
        every = set(type(self).model_fields)
        meaning = {"int4": every, "nf4": every - {"awq", "placed", "symmetric"}}
        known = meaning.get(self.weight_format, {"weight_format"})
        for key in sorted(self.model_fields_set - known):
            raise mistake(
                f"has no meaning for weight_format {self.weight_format}",
                "remove it, or take weight_format int4",
                key=key,
            )
        if self.placed is not None:
            for key in sorted(self.model_fields_set - _PLACED):
                raise mistake(
                    "has no meaning beside 'placed'",
                    "remove it: the placement says what each matrix gets",
                    key=key,
                )
            return self
        for key in _REQUIRED.get(self.weight_format, ()):
            if getattr(self, key) is None:
                description = type(self).model_fields[key].description
                raise mistake("is missing", f"add it: {description}", key=key)
        if self.npu is not None:
            for key, (values, remedy) in _NPU_FORMS[self.weight_format].items():
                if (value := getattr(self, key)) not in values:
                    raise mistake(f"has a value that the NPU cannot run ({value})", remedy, key=key)
        return self
