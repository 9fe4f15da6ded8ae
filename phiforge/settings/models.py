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
REPO = "^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"


class HubSource(Block):
    """A pinned commit of a repository on the Hugging Face Hub.

    Attributes:
        repo: owner/name on the Hugging Face Hub; e.g. microsoft/Phi-3-mini-4k-instruct
        revision: the full commit id, 40 hex digits (a branch or tag moves, a commit does not); e.g.
            f39ac1d28e925b323eae81227eaba4464caced4e
        sha256: extra pins: file name to the SHA-256 that the file must have; e.g. {"config.json":
            "4c49…"}
    """

    repo: str = Field(pattern=REPO)
    revision: str = Field(pattern="^[0-9a-f]{40}$")
    sha256: dict[str, Sha256] = Field({})


class LocalSource(Block):
    """A folder with a checkpoint and its recorded checksums.

    Attributes:
        path: folder of the checkpoint, relative to this file; e.g. weights
        checksums: name of the folder's own checksum file, as sha256sum writes it; e.g. SHA256SUMS
    """

    path: RelativePath
    checksums: Text


def _kind_of_source(value: Any) -> str:
    is_local = isinstance(value, LocalSource) or (isinstance(value, dict) and "path" in value)
    return LocalSource.__name__ if is_local else HubSource.__name__


Source = Annotated[
    Annotated[HubSource, Tag(HubSource.__name__)]
    | Annotated[LocalSource, Tag(LocalSource.__name__)],
    Discriminator(_kind_of_source),
]


class Model(Block):
    """One file of config/models/ or of `model_files`.

    Attributes:
        name: kebab-case name, used in paths; e.g. my-phi
        title: the name people know the model by; e.g. My fine-tuned Phi-3
        license: SPDX identifier of the model's licence; e.g. MIT
        languages: languages that it knows, as ISO 639-1 codes or `multilingual`; for the card; e.g.
            ["en", "de"]
        base_model: owner/name on the Hub of what a local checkpoint was fine-tuned from, for the
            card; e.g. microsoft/Phi-3-mini-4k-instruct
        parameters: number of weights; memory estimates follow from it; e.g. 3821079552
        source: a pinned Hub commit (repo, revision) or a local folder with recorded checksums
            (path, checksums)
        golden: file with the golden prompts, relative to this file; e.g. golden.yaml
        calibration: file with the texts that `snakemake placement` measures with, relative to this
            file; null: none; e.g. calibration.yaml
        placement: file that `snakemake placement` writes and variants with `placed` follow,
            relative to this file; they are left out while it is not there; e.g. placement.yaml
        version: semantic version of this model's releases; null: the run's; e.g. 1.2.0
        check_tokens: longest golden prompt that is run, in tokens; a longer one is left out and
            named in the receipt
        minimum_validated_tokens: an artifact must have run a golden prompt of at least this many
            tokens, its answer included, or its check fails as too-short-validation
        synthetic: true for random weights: converted and scored, never released
        variants: names of the variants this model is built as; null: all; e.g. ["openvino-int4"]
    """

    whole: SkipJsonSchema[str | None] = None
    """The model whose first ``layers`` this one is (`phiforge.settings.first_layers`)."""
    layers: SkipJsonSchema[int | None] = None

    name: str = Field(pattern="^[a-z0-9]+([.-][a-z0-9]+)*$")
    title: Text
    license: Text
    languages: Annotated[Items[str], Field(min_length=1)] = ("en",)
    base_model: str | None = Field(None, pattern=REPO)
    parameters: int = Field(ge=1)
    source: Source
    golden: Annotated[RelativePath, existing_file("correct the path or add the file")]
    calibration: Annotated[RelativePath, existing_file("correct the path")] | None = None
    placement: RelativePath | None = None
    version: str | None = Field(None, pattern=VERSION)
    check_tokens: int = Field(2560, ge=64)
    minimum_validated_tokens: int = Field(64, ge=1)
    synthetic: bool = False
    variants: Annotated[Items[str], Field(min_length=1)] | None = None
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
