"""config/config.yaml: what is built, to which standard, who signs it and where it is published."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from phiforge.settings.blocks import Block, Items, Sha256, Text, mistake
from phiforge.settings.models import VERSION


def _expand_home(value: Any) -> Any:
    return str(Path(value).expanduser()) if value and isinstance(value, str) else value


def _split(value: Any) -> Any:
    """Split ``--config models=a,b``, which arrives as text; a YAML file gives a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _empty_for_null(value: Any) -> Any:
    return {} if value is None else value


def _is_file(path: str) -> str:
    # Named and not there is a mistake that must not wait for the job that reads it.
    if not Path(path).is_file():
        raise mistake(f"names {path}, which is not a file", "correct the path, or make the file")
    return path


File = Annotated[Text, BeforeValidator(_expand_home)]
KeyFile = Annotated[File, AfterValidator(_is_file)]
Names = Annotated[Items[str], BeforeValidator(_split), Field(min_length=1)]
# --config gives text for `true` and for every value inside {…}.
Flag = Annotated[bool, Field(strict=False)]
Files = Annotated[Items[File], BeforeValidator(_split)]


class Library(Block):
    """One library of Intel's NPU compiler.

    Attributes:
        path: absolute path of the file; e.g. /opt/openvino/libopenvino_intel_npu_compiler.so
        sha256: SHA-256 of the file as you trust it, 64 hex digits
    """

    path: str = Field(pattern="^/")
    sha256: Sha256

    @field_validator("path")
    @classmethod
    def _is_file(cls, path: str) -> str:
        # A configured library that is not there is a mistake; only null means 'not here'.
        if not Path(path).is_file():
            raise mistake(
                f"names {path}, which is not a file",
                "correct the path, or say 'npu_compiler: null'",
            )
        return path


class NPUCompiler(Block):
    """Two libraries of the same OpenVINO release as the wheel (docs/npu-blob.md).

    Attributes:
        loader: libopenvino_intel_npu_compiler_loader.so
        compiler: libopenvino_intel_npu_compiler.so
    """

    loader: Library
    compiler: Library


class Signing(Block):
    """The private release key and its certificate (docs/releases.md).

    Attributes:
        key: PEM file of the private release key (ECDSA P-256), outside artifacts/; relative to this
            checkout or to ~; PHIFORGE_SIGNING_KEY goes before it; e.g. ~/keys/release.pem
        certificate: PEM file of the certificate issued for that key; e.g. release.crt
        certificate_chain: PEM files of the certificates between it and its authority, in that
            order; e.g. ["intermediate.crt"]
        password_env: name of the environment variable that holds the key's password; e.g.
            RELEASE_KEY_PASSWORD
    """

    key: KeyFile | None = None
    certificate: KeyFile | None = None
    certificate_chain: Items[KeyFile] = ()
    password_env: str | None = Field(None, pattern="^[A-Za-z_][A-Za-z0-9_]*$")


class Hub(Block):
    """A Hugging Face Hub; the token comes from HF_TOKEN, the address from HF_ENDPOINT.

    Attributes:
        repo: owner/name of the repository, with {model} and {variant} in the name; e.g.
            acme/{model}-{variant}
        private: whether the repository is private
    """

    repo: str
    private: Flag = True

    @field_validator("repo")
    @classmethod
    def _holds_both_names(cls, repo: str) -> str:
        owner, _, name = repo.partition("/")
        letters = "[A-Za-z0-9._-]"
        well_formed = re.fullmatch(f"[A-Za-z0-9]{letters}*", owner) and re.fullmatch(
            rf"({letters}|\{{model\}}|\{{variant\}})+", name
        )
        if not well_formed or "{model}" not in name or "{variant}" not in name:
            raise mistake(
                "is not a repository for each variant",
                "write owner/name, with {model} and {variant} in the name",
                expected="acme/{model}-{variant}",
                found=repr(repo),
            )
        return repo


class Storage(Block):
    """A folder in a storage that fsspec reaches.

    Attributes:
        url: s3://bucket/folder, a path, or the URL of another file system that fsspec knows and
            whose package is installed; e.g. s3://bucket/releases
        options: options of that file system (s3: endpoint_url, region, retries); secrets come from
            its environment variables (s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY); e.g.
            {"region": "eu-central-1"}
    """

    url: Text
    options: dict[str, str | bool | int | float] = Field({})


class Publish(Block):
    """Where `snakemake publish` takes releases (docs/publishing.md).

    Attributes:
        channel: the least that is published: stable, or candidate to let both through
        keys: PEM files of the public keys that a release must be signed with; e.g. ["release.pub"]
        authorities: PEM files of the authorities that a signing certificate must lead to; e.g.
            ["authority.crt"]
        subjects: whose certificates of those authorities may sign, as RFC 4514 writes a subject;
            e.g. ["CN=Releases,O=Acme"]
        keep: how many versions `phiforge prune` leaves of each variant
        hub: a Hugging Face Hub; null: none
        storage: folders in storages
    """

    channel: Literal["stable", "candidate"] = "stable"
    keys: Items[KeyFile] = ()
    authorities: Items[KeyFile] = ()
    subjects: Items[Text] = ()
    keep: int = Field(5, ge=1, strict=False)
    hub: Hub | None = None
    storage: Items[Storage] = ()


class Cache(Block):
    """What other agents have made, and what this one makes for them (docs/cache.md).

    Attributes:
        storage: where it is
        keys: PEM files of the public keys of those whose work is taken; none: nothing is taken;
            e.g. ["agent-1.pub"]
        write: whether what is made here is put there, signed with the key that PHIFORGE_RUNNER_KEY
            names
        time_limit_s: longest that a job waits for the storage, in seconds; then it goes on without
    """

    storage: Storage
    keys: Items[KeyFile] = ()
    write: Flag = False
    time_limit_s: int = Field(300, ge=1, strict=False)


class Config(Block):
    """config/config.yaml; each key can be given on the command line, `--config key=value`.

    Attributes:
        models: names of the models to build, from config/models/ or model_files, or patterns of
            names; e.g. ["phi-3-mini-4k", "acme-*"]
        variants: names of the variants to build; all: every variant of config/variants.yaml; e.g.
            ["openvino-int4", "genai-dml-int4"]
        model_files: model YAML files outside this repository, folders of them or patterns; the
            relative paths in a file are relative to it; e.g. ["/models/my-phi.yaml",
            "/models/*/model.yaml"]
        device_files: device YAML files outside this repository, a lab's own; a row of the same name
            replaces config/devices.yaml's; e.g. ["/lab/devices.yaml"]
        version: semantic version of the releases; a model's own goes before it, and other bytes
            need another version (docs/releases.md)
        channel: the standard a release must meet; stable comes by promotion, see docs/receipts.md
        stable_rows: device rows that stable asks for: of a variant's own, those that are named must
            pass, and all where none is; e.g. ["npu-4000"]
        score_positions: positions per model that are scored against the reference, spread over the
            golden prompts
        kit_payload: whether a kit for a device without a connection holds the payload, or only its
            manifest
        builder: URI of who runs this pipeline, the builder id of the provenance; no path or host of
            a machine; e.g. https://ci.example/phiforge
        npu_compiler: what compiles for the NPU: two libraries of the same OpenVINO release as the
            wheel (docs/npu-blob.md); null: the compiler of `make npu-compiler`, if it is installed
        signing: who signs releases; null: the key that PHIFORGE_SIGNING_KEY names, or an ephemeral
            one
        publish: where `snakemake publish` takes releases; null: nowhere
        cache: where agents share what they have made (docs/cache.md); null: nowhere
    """

    models: Names
    variants: Names = ("all",)
    model_files: Files = ()
    device_files: Files = ()
    version: str = Field("0.1.0", pattern=VERSION)
    channel: Literal["candidate"] = "candidate"
    stable_rows: Annotated[Items[str], BeforeValidator(_split)] = ()
    score_positions: int = Field(512, ge=16, le=65536)
    kit_payload: Flag = True
    builder: str = Field("urn:phiforge:builder:unnamed", pattern="^[a-z][a-z0-9+.-]*:[^ ]+$")
    npu_compiler: NPUCompiler | None = None
    signing: Annotated[Signing, BeforeValidator(_empty_for_null)] = Field(default_factory=Signing)
    publish: Annotated[Publish, BeforeValidator(_empty_for_null)] = Field(default_factory=Publish)
    cache: Cache | None = None
