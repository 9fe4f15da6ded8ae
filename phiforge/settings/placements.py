"""The file beside a model that says which of its matrices get INT8 where the others have INT4."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from phiforge.jobs import Place
from phiforge.settings.blocks import Block, Sha256, Text, read_block
from phiforge.settings.documents import ConfigurationError, read_yaml
from phiforge.settings.models import Model
from phiforge.settings.variants import Variant


class Matrix(Block):
    """What a matrix becomes.

    Attributes:
        option: int4 or int8
        kl: mean KL divergence where this matrix alone has INT4, in nats
    """

    option: Literal["int4", "int8"]
    kl: float = Field(ge=0)


class Placement(Block):
    """One file, as `snakemake placement` writes it (converters/openvino/placement.py).

    Attributes:
        model: that it is about
        source_sha256: digest of the files that were measured
        calibration_sha256: digest of the file with the texts
        positions: how many tokens were predicted
        group_size: how many INT4 weights share a scale
        ratio: the share of the layers' weights that was to keep INT4
        matrices: each matrix of the layers, by its name in the source
    """

    model: Text
    source_sha256: Sha256
    calibration_sha256: Sha256
    positions: int = Field(ge=1)
    group_size: int
    ratio: float
    matrices: dict[str, Matrix] = Field(min_length=1)


def unplaced(model: Model, variant: Variant) -> bool:
    """Whether a variant needs a placement that the model does not have."""
    placed = bool(variant.options.get("placed"))
    return placed and (model.placement is None or not model.placement.is_file())


def placed_options(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the converter is told: the matrices that get INT8, and INT4 for all others.

    Raises:
        ConfigurationError: the placement is of another model or of another recipe.
    """
    if not options.get("placed") or model.placement is None:
        return dict(options)
    placement = _read(model.placement)
    stated = (placement.model, placement.group_size, placement.ratio)
    wanted = (model.whole or model.name, options["group_size"], options["ratio"])
    if stated != wanted:
        raise ConfigurationError(
            "this placement is of another model or recipe",
            where=model.placement,
            expected="model {}, group_size {}, ratio {}".format(*wanted),
            found="model {}, group_size {}, ratio {}".format(*stated),
            remedy="delete it and measure anew: snakemake placement",
        )
    chosen = [
        name
        for name, matrix in placement.matrices.items()
        if matrix.option == "int8" and (model.layers is None or _layer(name) < model.layers)
    ]
    left = {key: value for key, value in options.items() if key != "placed"}
    return {**left, "ratio": 1.0, "int8_matrices": chosen}


def calibration(models: Mapping[str, Model], names: Any) -> list[str]:
    """Name the texts that a model's placement is measured with; empty: none are named."""
    texts = models[names.model].calibration
    return [str(texts)] if texts else []


def place(variants: Mapping[str, Variant], names: Any) -> Place:
    """Return the job that measures a model for the variants with ``placed``."""
    options = next(one.options for one in variants.values() if one.options.get("placed"))
    return Place(names.model, options["group_size"], options["ratio"])


def _layer(name: str) -> int:
    return int(name.split(".")[2])


@cache
def _read(path: Path) -> Placement:
    return read_block(Placement, read_yaml(path), path)
