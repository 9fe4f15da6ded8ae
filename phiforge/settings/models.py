"""Model files: where a model comes from, what it answers, and what is made of it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag
from pydantic.json_schema import SkipJsonSchema

from phiforge.settings.blocks import (
    Block,
    Items,
    RelativePath,
    Sha256,
    Text,
    existing_file,
    read_block,
)
from phiforge.settings.documents import ConfigurationError, read_yaml

VERSION = r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"


class HubSource(Block):
    """A pinned commit of a repository on the Hugging Face Hub."""

    repo: str = Field(
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="owner/name on the Hugging Face Hub",
        examples=["microsoft/Phi-3-mini-4k-instruct"],
    )
    revision: str = Field(
        pattern="^[0-9a-f]{40}$",
        description="the full commit id, 40 hex digits (a branch or tag moves, a commit does not)",
        examples=["f39ac1d28e925b323eae81227eaba4464caced4e"],
    )
    sha256: dict[str, Sha256] = Field(
        {},
        description="extra pins: file name to the SHA-256 that the file must have",
        examples=[{"config.json": "4c49…"}],
    )


class LocalSource(Block):
    """A folder with a checkpoint and its recorded checksums."""

    path: RelativePath = Field(
        description="folder of the checkpoint, relative to this file", examples=["weights"]
    )
    checksums: Text = Field(
        description="name of the folder's own checksum file, as sha256sum writes it",
        examples=["SHA256SUMS"],
    )


def _kind_of_source(value: Any) -> str:
    is_local = isinstance(value, LocalSource) or (isinstance(value, dict) and "path" in value)
    return LocalSource.__name__ if is_local else HubSource.__name__


Source = Annotated[
    Annotated[HubSource, Tag(HubSource.__name__)]
    | Annotated[LocalSource, Tag(LocalSource.__name__)],
    Discriminator(_kind_of_source),
]


class Gates(Block):
    """A model's own gates for one precision; what is left out is config/acceptance.yaml's."""

    top1_agreement: float | None = Field(
        None,
        ge=0,
        le=1,
        description="smallest accepted share of positions with the reference's first choice",
        examples=[0.97],
    )
    mean_kl: float | None = Field(
        None, gt=0, description="largest accepted mean KL divergence, in nats", examples=[0.02]
    )
    max_kl: float | None = Field(
        None,
        gt=0,
        description="largest accepted KL divergence at any position, in nats",
        examples=[0.5],
    )
    perplexity_ratio: float | None = Field(
        None,
        ge=1,
        description="largest accepted perplexity, as a multiple of the reference's",
        examples=[1.05],
    )


class Acceptance(Block):
    """Gates that differ from config/acceptance.yaml, by precision of the weights."""

    fp16: Gates = Field(default_factory=Gates, description="gates of variants with FP16 weights")
    int8: Gates = Field(default_factory=Gates, description="gates of variants with INT8 weights")
    int4: Gates = Field(default_factory=Gates, description="gates of variants with INT4 weights")


class Model(Block):
    """One file of config/models/ or of `model_files`."""

    name: str = Field(
        pattern="^[a-z0-9]+([.-][a-z0-9]+)*$",
        description="kebab-case name, used in paths",
        examples=["my-phi"],
    )
    title: Text = Field(
        description="the name people know the model by", examples=["My fine-tuned Phi-3"]
    )
    license: Text = Field(description="SPDX identifier of the model's licence", examples=["MIT"])
    parameters: int = Field(
        ge=1,
        description="number of weights; memory estimates follow from it",
        examples=[3821079552],
    )
    source: Source = Field(
        description="a pinned Hub commit (repo, revision) or a local folder with recorded "
        "checksums (path, checksums)"
    )
    golden: Annotated[RelativePath, existing_file("correct the path or add the file")] = Field(
        description="file with the golden prompts, relative to this file", examples=["golden.yaml"]
    )
    version: str | None = Field(
        None,
        pattern=VERSION,
        description="semantic version of this model's releases; null: the run's",
        examples=["1.2.0"],
    )
    check_tokens: int = Field(
        2560,
        ge=64,
        description="longest golden prompt that is run, in tokens; a longer one is left out and "
        "named in the receipt",
    )
    minimum_validated_tokens: int = Field(
        64,
        ge=1,
        description="an artifact must have run a golden prompt of at least this many tokens, its "
        "answer included, or its check fails as too-short-validation",
    )
    synthetic: bool = Field(
        False, description="true for random weights: converted and scored, never released"
    )
    variants: Annotated[Items[str], Field(min_length=1)] | None = Field(
        None,
        description="names of the variants this model is built as; null: all",
        examples=[["openvino-int4"]],
    )
    acceptance: Acceptance = Field(
        default_factory=Acceptance,
        description="gates that differ from config/acceptance.yaml: precision to metric to gate",
    )
    file: SkipJsonSchema[Path]


def load_models(files: Iterable[Path]) -> dict[str, Model]:
    """Read model files.

    Raises:
        ConfigurationError: the first thing that is wrong, or two models of the same name.
    """
    models: dict[str, Model] = {}
    for path in files:
        model = read_block(Model, read_yaml(path), path, file=path)
        if model.name in models:
            raise ConfigurationError(
                f"key 'name' has the value '{model.name}', which {models[model.name].file} has too",
                where=path,
                remedy="give one of the two another name",
            )
        models[model.name] = model
    return models
