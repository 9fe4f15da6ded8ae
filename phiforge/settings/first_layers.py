"""Add the models that are the first layers of one that a row here is too slow for."""

from dataclasses import replace
from typing import Any

from phiforge.settings.devices import Device
from phiforge.settings.models import Model
from phiforge.settings.plan import blocked_model, blocked_row
from phiforge.settings.settings import Settings

GOLDEN = "golden/first-layers.yaml"
# An upper bound for the estimates of memory: two layers of Phi-3-mini with its embedding and head
# have 11 % of its parameters, of Phi-4-mini, whose vocabulary is six times as large, 21 %.
_SHARE = 4


def first_layers(model: Model, device: Device) -> str | None:
    """Name the model that is checked on the row for one that it is too slow for; None: none is."""
    if device.layers is None or blocked_model(device, model) is None:
        return None
    return f"{model.name}-{device.layers}-layers"


def source_block(model: Model) -> dict[str, Any]:
    """Return where a model comes from, as `phiforge.sources.source.parse_source` reads it."""
    if model.whole is None:
        return model.source.plain()
    return {"model": model.whole, "layers": model.layers}


def with_first_layers(settings: Settings) -> Settings:
    """Add the first layers of the chosen models for every row that is here and checks them.

    They are synthetic: what two layers answer means nothing, so they are scored and not released.
    """
    added: dict[str, Model] = {}
    for model in map(settings.models.__getitem__, settings.chosen_models):
        for row, device in settings.devices.items():
            name = first_layers(model, device)
            if name is None or blocked_row(device, settings.tools) is not None:
                continue
            checked = {
                variant for variant, block in settings.variants.items() if row in block.devices
            }
            checked &= {*(model.variants or settings.variants)}
            if name in added:  # another row's cut
                checked |= {*(added[name].variants or ())}
            added[name] = model.model_copy(
                update={
                    "name": name,
                    "title": f"The first {device.layers} layers of {model.title}",
                    "parameters": model.parameters // _SHARE,
                    "golden": settings.acceptance.parent / GOLDEN,
                    "synthetic": True,
                    "variants": tuple(one for one in settings.variants if one in checked),
                    "whole": model.name,
                    "layers": device.layers,
                }
            )
    return replace(
        settings,
        models={**settings.models, **added},
        chosen_models=(*settings.chosen_models, *added),
    )
