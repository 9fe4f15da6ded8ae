"""What a compressed IR says about itself, held against what was asked for."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import openvino as ov

from converters.contract import ConvertError
from converters.openvino.ir import weight_constants

_PRIMARY = {
    "int4_sym": ov.Type.i4,
    "int4_asym": ov.Type.u4,
    "int8_asym": ov.Type.u8,
}
_BACKUP = {"int8_asym": ov.Type.u8, "int8_sym": ov.Type.i8}
# nncf keeps these in the backup mode unless all_layers says otherwise
_ENDS = ("model.embed_tokens.weight", "lm_head.weight")


def lint(model: ov.Model, recipe: Mapping[str, Any]) -> None:
    """Check a compressed IR against its recipe.

    The NPU's compiler aborts on asymmetric INT4, and its stand-in on the CPU does not notice: the
    types are checked here, for every variant.

    Raises:
        ConvertError: a weight has another type than the recipe gives it, or the IR's own account
            (``rt_info``: ``nncf/weight_compression``) differs from the recipe.
    """
    _lint_account(model, recipe)
    primary = _PRIMARY[recipe["mode"]]
    backup = _BACKUP.get(recipe.get("backup_mode", "int8_asym"))
    at_ends = primary if recipe.get("all_layers") else backup
    types = {name: node.get_element_type() for name, node in weight_constants(model)}
    inner = {name: kind for name, kind in types.items() if name not in _ENDS}
    allowed = {primary} if recipe["ratio"] == 1.0 else {primary, backup}
    wrong = [name for name, kind in inner.items() if kind not in allowed]
    wrong += [name for name in _ENDS if types.get(name, at_ends) != at_ends]
    if wrong or primary not in inner.values():
        found = Counter(kind.get_type_name() for kind in types.values())
        raise ConvertError(
            f"weights have the wrong type: {', '.join(sorted(wrong)) or 'all of them'}",
            expected=f"{primary.get_type_name()} by the recipe",
            found=dict(sorted(found.items())),
            remedy="this is nncf's doing; do not ship the variant",
        )


def _lint_account(model: ov.Model, recipe: Mapping[str, Any]) -> None:
    for key in ("mode", "group_size", "ratio"):
        path = ["nncf", "weight_compression", key]
        found = model.get_rt_info(path).astype(str) if model.has_rt_info(path) else "nothing"
        if found != str(recipe[key]):
            raise ConvertError(
                f"the IR's own account of its {key} is wrong",
                expected=recipe[key],
                found=found,
                remedy="this is nncf's doing; do not ship the variant",
            )
