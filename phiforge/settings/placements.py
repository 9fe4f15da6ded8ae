"""The file beside a model that says which form each of its matrices gets."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from phiforge.jobs import Place
from phiforge.settings.blocks import Block, Sha256, Text, read_block
from phiforge.settings.documents import ConfigurationError, read_yaml
from phiforge.settings.models import Model
from phiforge.settings.variants import Variant


@dataclass(frozen=True)
class Form:
    """INT4 in one of the ways that every OpenVINO device but the NPU runs."""

    symmetric: bool
    group_size: int

    @property
    def bits(self) -> float:
        """Bits a weight, with its share of the FP16 scale and of the zero point."""
        return 4 + (16 if self.symmetric else 20) / self.group_size


INT8 = "int8"
FORMS: Mapping[str, Form] = {"sym64": Form(True, 64), "asym32": Form(False, 32)}
"""What is measured beside INT8, whose cost is taken as none: it was a hundredth of INT4's."""


class Matrix(Block):
    """What a matrix becomes.

    Attributes:
        kl: about the mean KL divergence where it alone has that form, in nats, by form
        forms: the one that it gets, for each of the placement's `bits`
    """

    kl: dict[Literal["sym64", "asym32"], float]
    forms: list[Literal["sym64", "asym32", "int8"]]


class Placement(Block):
    """One file, as `snakemake placement` writes it (converters/openvino/placement.py).

    Attributes:
        model: that it is about
        source_sha256: digest of the files that were measured
        calibration_sha256: digest of the file with the texts
        positions: how many tokens were predicted
        bits: what the layers' weights may have on average, one for each of the choices
        matrices: each matrix of the layers, by its name in the source
    """

    model: Text
    source_sha256: Sha256
    calibration_sha256: Sha256
    positions: int = Field(ge=1)
    bits: list[float]
    matrices: dict[str, Matrix] = Field(min_length=1)


def unplaced(model: Model, variant: Variant) -> bool:
    """Whether a variant needs a placement that the model does not have."""
    placed = bool(variant.options.get("placed"))
    return placed and (model.placement is None or not model.placement.is_file())


def placed_options(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the converter is told: which matrices get which INT4; all others get INT8.

    Raises:
        ConfigurationError: the placement is of another model or of another recipe.
    """
    if not options.get("placed") or model.placement is None:
        return dict(options)
    placement = _read(model.placement)
    name, bits = model.whole or model.name, options["placed"]
    counts = {len(matrix.forms) for matrix in placement.matrices.values()}
    if placement.model != name or bits not in placement.bits or counts != {len(placement.bits)}:
        known = ", ".join(map(str, placement.bits))
        raise ConfigurationError(
            "this placement is of another model or of other variants",
            where=model.placement,
            expected=f"model {name}, with a choice for {bits} bits",
            found=f"model {placement.model}, with choices for {known}",
            remedy="delete it and measure anew: snakemake placement",
        )
    place = placement.bits.index(bits)
    chosen: dict[str, list[str]] = {form: [] for form in (*FORMS, INT8)}
    for matrix, one in placement.matrices.items():
        if model.layers is None or _layer(matrix) < model.layers:
            chosen[one.forms[place]].append(matrix)
    return {
        **{key: value for key, value in options.items() if key != "placed"},
        "int4_matrices": [
            {"symmetric": form.symmetric, "group_size": form.group_size, "names": chosen[name]}
            for name, form in FORMS.items()
            if chosen[name]
        ],
    }


def calibration(models: Mapping[str, Model], names: Any) -> list[str]:
    """Name the texts that a model's placement is measured with; empty: none are named."""
    texts = models[names.model].calibration
    return [str(texts)] if texts else []


def place(variants: Mapping[str, Variant], names: Any) -> Place:
    """Return the job that measures a model for the variants with ``placed``."""
    placed = {one.options["placed"] for one in variants.values() if one.options.get("placed")}
    return Place(names.model, tuple(sorted(placed)))


def _layer(name: str) -> int:
    return int(name.split(".")[2])


@cache
def _read(path: Path) -> Placement:
    return read_block(Placement, read_yaml(path), path)
