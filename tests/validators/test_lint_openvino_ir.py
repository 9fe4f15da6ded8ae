"""An IR's description is read as text and believed only where it can be seen."""

from pathlib import Path
from typing import Any

import pytest

from validators.contract import ArtifactError
from validators.lint.openvino_ir import Ir, lint_ir, read_ir

INT4 = {"weight_format": "int4", "symmetric": True, "group_size": 128, "ratio": 0.6}
METADATA = {"mode": "int4_sym", "group_size": "128", "ratio": "0.6"}


def constant(module: str, kind: str, *shape: int, beside: str = "") -> str:
    lengths = ", ".join(map(str, shape))
    return (
        f'<layer id="{module}{beside}" type="Const" '
        f'name="self.{module}._openvino_orig_weight{beside}">'
        f'<data element_type="{kind}" offset="0" shape="{lengths}" size="1" /></layer>'
    )


def ir(folder: Path, *constants: str, metadata: dict[str, str] | None = None) -> Ir:
    entries = "".join(f'<{key} value="{value}" />' for key, value in (metadata or {}).items())
    written = folder / "openvino_model.xml"
    written.write_text(
        f'<?xml version="1.0"?><net><layers>{"".join(constants)}</layers><rt_info><nncf>'
        f"<weight_compression>{entries}</weight_compression></nncf></rt_info></net>"
    )
    return read_ir(written)


def layers(*kinds: str, outer: str = "u8") -> list[str]:
    """Equal matrices, between an embedding and a head of another type."""
    inner = [
        constant(f"model.layers.{index}.mlp", kind, *((64, 2, 128) if "4" in kind else (64, 256)))
        for index, kind in enumerate(kinds)
    ]
    return [
        constant("model.embed_tokens", outer, 32, 256),
        *inner,
        constant("lm_head", outer, 32, 256),
    ]


def names(found: Ir, **options: object) -> set[str]:
    return {finding.name for finding in lint_ir(found, {**INT4, **options})}


def test_scales_and_vectors_are_no_matrices(tmp_path: Path) -> None:
    found = ir(
        tmp_path,
        *layers("i4", "i4", "i4", "u8", "u8"),
        constant("model.layers.0.mlp", "f16", 64, 2, 1, beside="/scale"),
        constant("model.norm", "f32", 1, 1, 256),
        metadata=METADATA,
    )
    assert set(found.matrices) == {
        "model.embed_tokens.weight",
        "lm_head.weight",
        *(f"model.layers.{index}.mlp.weight" for index in range(5)),
    }
    assert names(found) == set()


@pytest.mark.parametrize(
    ("kinds", "options", "expected"),
    [
        (("i4", "i4", "u8", "u8", "u8"), {}, set()),  # the next would have passed the ratio
        (("i4", "u8", "u8", "u8", "u8"), {}, {"int4-ratio"}),
        (("i4", "i4", "i4", "i4", "u8"), {}, {"int4-ratio"}),
        (("i4", "i4", "i4", "f16", "u8"), {}, {"stored-types"}),
        (("i4", "i4", "i4", "u4", "u8"), {}, {"asymmetric-weights", "int4-ratio"}),
        (("i4", "i4", "i4", "i8", "i8"), {"backup_mode": "int8_sym"}, {"stored-types"}),
        (("i4", "i4", "i4", "u8", "u8"), {"group_size": 64}, {"group-size", "nncf-metadata"}),
    ],
)
def test_what_is_stored_is_held_against_the_options(
    tmp_path: Path, kinds: tuple[str, ...], options: dict[str, object], expected: set[str]
) -> None:
    assert names(ir(tmp_path, *layers(*kinds), metadata=METADATA), **options) == expected


NF4 = {"weight_format": "nf4", "group_size": -1, "ratio": 1.0}


@pytest.mark.parametrize(
    ("matrices", "expected"),
    [
        (("nf4", 64, 256), set()),
        (("i4", 64, 256), {"stored-types"}),
        (("u8", 64, 256), {"stored-types", "nf4-ratio"}),
        (("nf4", 64, 2, 128), {"group-size"}),
    ],
)
def test_nf4_is_a_type_of_its_own(
    tmp_path: Path, matrices: tuple[Any, ...], expected: set[str]
) -> None:
    stored = [constant(f"model.layers.{index}.mlp", *matrices) for index in range(2)]
    metadata = {"mode": "nf4", "group_size": "-1", "ratio": "1.0"}
    found = ir(tmp_path, *layers(), *stored, metadata=metadata)
    assert {finding.name for finding in lint_ir(found, NF4)} == expected


def test_symmetric_codes_with_zero_points_beside_them_are_asymmetric(tmp_path: Path) -> None:
    hidden = constant("model.layers.0.mlp", "i4", 64, 2, 1, beside="/zero_point")
    found = ir(tmp_path, *layers("i4", "i4", "i4", "u8", "u8"), hidden, metadata=METADATA)
    assert names(found) == {"asymmetric-weights"}


def test_an_ir_without_metadata_or_with_another_is_named(tmp_path: Path) -> None:
    kinds = layers("i4", "i4", "i4", "u8", "u8")
    assert names(ir(tmp_path, *kinds)) == {"nncf-metadata"}
    other = {**METADATA, "mode": "int4_asym"}
    assert names(ir(tmp_path, *kinds, metadata=other)) == {"nncf-metadata"}


@pytest.mark.parametrize(
    "text",
    [
        "<net>",
        "",
        '<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><net>&b;</net>',
        '<net><layer type="Const"><data shape="many" /></layer></net>',
    ],
    ids=["cut", "empty", "entities", "no number"],
)
def test_what_is_no_ir_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "openvino_model.xml").write_text(text)
    with pytest.raises(ArtifactError) as refused:
        read_ir(tmp_path / "openvino_model.xml")
    assert refused.value.name == "unreadable-ir"
