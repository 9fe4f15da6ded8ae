"""What is built: decided once, at parse time, from the configuration and from which files exist.

No runtime is imported and no network touched here.
"""

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.jobs import Blocked, Row, RowPolicy
from phiforge.settings.devices import Detect, Device
from phiforge.settings.limits import declared_limits
from phiforge.settings.models import Model
from phiforge.settings.placements import unplaced
from phiforge.settings.settings import Settings
from phiforge.settings.variants import Requires, Variant

GIGABYTE_MB = 1000


@dataclass(frozen=True)
class Plan:
    """Every (model, variant) pair to build, ancestors included, and what is wanted of each.

    Attributes:
        builds: pairs that are converted.
        checks: pairs that are checked, on each of the variant's rows.
        releases: pairs that are released; synthetic models, variants that cannot be made here
            and variants that nothing can execute yet are not.
    """

    builds: tuple[tuple[str, str], ...]
    checks: tuple[tuple[str, str], ...]
    releases: tuple[tuple[str, str], ...]


def plan(settings: Settings, brought: Collection[tuple[str, str, str]] = ()) -> Plan:
    """Decide what the chosen models and variants need.

    Args:
        brought: model, variant and row of receipts that came from a device elsewhere.
    """
    builds: dict[tuple[str, str], None] = {}
    checks: dict[tuple[str, str], None] = {}
    releases: dict[tuple[str, str], None] = {}
    for model_name in settings.chosen_models:
        model = settings.models[model_name]
        for name in settings.chosen_variants:
            if model.variants is not None and name not in model.variants:
                continue
            if unplaced(model, settings.variants[name]):
                continue
            checks[model_name, name] = None
            rows = {row for *about, row in brought if about == [model_name, name]}
            if not model.synthetic and _releasable(settings.variants[name], settings, rows):
                releases[model_name, name] = None
            for ancestor in ancestry(settings.variants, name):
                builds[model_name, ancestor] = None
    return Plan(tuple(builds), tuple(checks), tuple(releases))


def _releasable(variant: Variant, settings: Settings, brought: Collection[str]) -> bool:
    """A candidate needs a row that can say something of it: one that runs or compiles it here, or
    whose receipt was brought."""
    return blocked_variant(variant, settings) is None and any(
        row in brought or blocked_row(settings.devices[row], settings.tools) is None
        for row in variant.devices
    )


def ancestry(variants: Mapping[str, Variant], name: str) -> tuple[str, ...]:
    """The variant and what it is derived from, itself first."""
    chain = [name]
    while (base := variants[chain[-1]].base) is not None:
        chain.append(base)
    return tuple(chain)


def blocked_row(device: Device, tools: Mapping[str, object]) -> Blocked | None:
    """Say why a row cannot run here, by files and packages only; nothing is connected to.

    A lab host and a cluster's node never are: one that does not answer, or has no device, is an
    error.

    Args:
        tools: as `Settings.tools`.
    """
    if device.runner in ("ssh", "cluster"):
        return None
    if device.runner == "courier":
        return Blocked(f"{device.summary}: no receipt came back yet", _remedy(device))
    missing = missing_here(device.summary, device.detect, tools)
    return None if missing is None else Blocked(missing, _remedy(device))


def blocked_runtime(device: Device, variant: Variant) -> Blocked | None:
    """Say that a row has no runtime for the variant."""
    if variant.format not in device.lacks:
        return None
    return Blocked(
        f"{device.summary}: its row has no runtime for {variant.format}",
        f"add {variant.format} to '{device.name}.runtimes' in {device.file.name}",
    )


def blocked_model(device: Device, model: Model) -> Blocked | None:
    """Say that a row is too slow for the model."""
    fits = device.parameters is None or model.parameters <= device.parameters
    if device.parameters is None or fits or model.layers is not None:
        return None
    return Blocked(
        f"{device.summary}: too slow for {model.parameters / 1e6:.0f} million parameters, "
        f"it takes up to {device.parameters / 1e6:.0f} million",
        "check it on the device (docs/devices.md)",
    )


def missing_here(summary: str, detect: Detect, tools: Mapping[str, object]) -> str | None:
    """Say what of ``detect`` is not on this machine; None: all of it is."""
    if detect.platform is not None and not sys.platform.startswith(detect.platform):
        return f"no {summary} here: it needs {detect.platform}, this is {sys.platform}"
    for pattern in detect.files:
        if not _matches(pattern, detect.containing):
            return f"no {summary} here: {pattern} is missing"
    for distribution in detect.distributions:
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            return f"{summary}: the package {distribution} is not installed"
    if detect.tool is not None and tools[detect.tool] is None:
        return f"{summary}: it is not installed here, or not as it is locked now"
    return None


def _remedy(device: Device) -> str:
    """The ways to this row's receipt; a kit needs the device's locked environment."""
    if device.kind != "device":
        return device.remedy
    ways = [] if device.runner == "courier" else [device.remedy, "name a lab host in its row (ssh)"]
    if any(runtime.lock for runtime in device.runtimes.values()):
        ways.append(
            f"carry artifacts/kits/MODEL/VARIANT/{device.name}.zip there and what it gives back "
            "to artifacts/inbox/"
        )
    return ", or ".join(filter(None, ways)) + " (docs/devices.md)"


def _anchor(pattern: str) -> Path:
    return Path("/") if pattern.startswith("/") else Path()


def _matches(pattern: str, containing: Collection[str]) -> bool:
    for path in _anchor(pattern).glob(pattern.lstrip("/")):
        if not containing:
            return True
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if any(one in text for one in containing):
            return True
    return False


def blocked_variant(variant: Variant, settings: Settings) -> Blocked | None:
    """Say what is missing here that the variant, or one that it is derived from, ``requires``."""
    for name in ancestry(settings.variants, variant.name):
        requires = settings.variants[name].requires
        missing = None if requires is None else _missing(requires, settings.tools)
        if requires is not None and missing is not None:
            what = missing if name == variant.name else f"'from: {name}' is blocked: {missing}"
            return Blocked(what, requires.remedy)
    return None


def _missing(requires: Requires, tools: Mapping[str, Mapping[str, Any] | None]) -> str | None:
    for pattern in requires.files:
        if not any(_anchor(pattern).glob(pattern.lstrip("/"))):
            return f"what makes it is not here: {pattern} is missing"
    if requires.tool is not None and tools[requires.tool] is None:
        return f"what makes it is not here: no {requires.tool.replace('_', ' ')} is installed"
    return None


def release_signing(settings: Settings) -> dict[str, Any]:
    """Config key ``signing``; the key file that PHIFORGE_SIGNING_KEY names goes before its own.

    The path goes into Snakemake's own records, below .snakemake/; the key does not.
    """
    named = os.environ.get("PHIFORGE_SIGNING_KEY")
    return {**settings.signing.plain(), **({"key": named} if named else {})}


def stands_signed(model: str, variant: str) -> bool:
    """Whether a release stands that a real key signed; one without it must not replace that."""
    record = Path("artifacts/release") / model / variant / "evidence/release.json"
    try:
        signer = json.loads(record.read_text(encoding="utf-8"))["signer"]
        return not signer["ephemeral"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def promoted_and_revoked(model: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the variants whose release is promoted, and ``variant version`` of what is revoked."""
    folder = Path("artifacts/release") / model
    promoted = sorted(path.parts[-3] for path in folder.glob("[!.]*/evidence/promotion.dsse.json"))
    try:
        ledger = json.loads((folder / "versions.json").read_text(encoding="utf-8"))["versions"]
        revoked = sorted(
            f"{variant} {version}"
            for variant, versions in ledger.items()
            for version, entry in versions.items()
            if entry["revoked"] is not None
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        revoked = []
    return tuple(promoted), tuple(revoked)


def left_out(settings: Settings) -> list[str]:
    """Say which chosen variants a model is not built as for want of its placement."""
    return [
        f"{name} is left out for {model}: {settings.models[model].placement or 'its placement'} "
        f"is not there; make it with 'snakemake placement --config models={model}'"
        for model in settings.chosen_models
        for name in settings.chosen_variants
        if unplaced(settings.models[model], settings.variants[name])
        and (settings.models[model].placement is not None or len(settings.chosen_variants) == 1)
    ]


def kept_versions(settings: Settings, planned: Plan) -> list[str]:
    """Say of which stable releases another version is configured: they stay as they are."""
    notes = []
    for model, variant in planned.releases:
        wanted = settings.models[model].version or settings.version
        release = Path("artifacts/release") / model / variant
        if not (release / "evidence/promotion.dsse.json").is_file():
            continue
        with suppress(OSError, ValueError, LookupError, TypeError):  # for verify to report
            record = (release / "evidence/release.json").read_text(encoding="utf-8")
            if (version := json.loads(record)["version"]) != wanted:
                notes.append(
                    f"{release} is stable as {version} and stays so; to release {wanted}, move the"
                    " folder away and run again"
                )
    return notes


def row_of(device: Device, variant: Variant) -> Row:
    """Build the row of a device with its runtime for the variant's format."""
    runtime = device.runtimes[variant.format]
    return Row(
        name=device.name,
        kind=device.kind,
        runner=device.runner,
        executes=device.executes,
        stands_for=device.stands_for,
        runtime=runtime.module,
        environment=runtime.environment,
        settings=runtime.settings,
    )


def row_policies(
    variant: Variant, settings: Settings, blocked: Callable[[str, str], Blocked | None]
) -> dict[str, RowPolicy]:
    """Build the policy of each row whose receipt is judged for a release of the variant.

    Where the variant is its base compiled (of another format, with the same weights) and has no
    stand-in that could run it, the base's stand-ins speak for it.

    Args:
        blocked: variant and row to why that check cannot run here.
    """
    devices = settings.devices
    real = {row for row in variant.devices if devices[row].kind == "device"}
    needed = real & {*settings.stable_rows} or real

    def policy(row: str, of: Variant) -> RowPolicy:
        key, described = devices[row].key, row_of(devices[row], of)
        return RowPolicy(
            row=described,
            available=blocked(of.name, row) is None,
            key=None if key is None else str(key),
            required=of is variant and row in needed,
            base=None if of is variant else of.name,
            limits=declared_limits(of.options, described.settings),
        )

    policies = {row: policy(row, variant) for row in variant.devices}
    base = variant if variant.base is None else settings.variants[variant.base]
    is_compiled = base.format != variant.format and base.precision == variant.precision
    if is_compiled and not any(devices[row].kind == "standin" for row in variant.devices):
        standins = (row for row in base.devices if devices[row].kind == "standin")
        policies |= {row: policy(row, base) for row in standins}
    return policies


def convert_memory_mb(model: Model, variant: Variant) -> int:
    """Peak resident memory of a conversion: its libraries and its share for every parameter.

    Mapped pages of the source count, although the kernel could take them back: a job without them
    is a slow one. Measured: benchmarks/compare, benchmarks/full_size.
    """
    return GIGABYTE_MB + int(model.parameters * variant.memory_bytes_per_parameter / 1e6)


def reference_memory_mb(model: Model) -> int:
    """Float32 weights and their activations (measured: benchmarks/full_size)."""
    return 2 * GIGABYTE_MB + int(model.parameters * 4.4 / 1e6)


# Bytes a parameter, by runtime and precision (benchmarks/compare; NF4: 4 % above INT4's on four
# layers of Phi-3-mini's shape).
_CHECK_BYTES = {
    "onnx_genai": {"fp16": 3.8, "int4": 0.8},
    "onnx_genai_directml": {"fp16": 2.2, "int4": 1.0},
    "openvino": {"fp16": 4.1, "int4": 1.4},
    "openvino_npu": {"int4": 5.9, "nf4": 6.2},
}
# Not measured: FP16 weights widened, 4-bit ones repacked by each of a pipeline's models.
_OTHER_CHECK_BYTES = {"fp16": 4.8, "int8": 3.3, "int4": 5.5, "nf4": 5.5}


# Measured: phi3-tiny, 14 prompts answered and scored in one process (benchmarks/directml.json).
_CHECK_FIXED_MB = {"onnx_genai_directml": 2 * GIGABYTE_MB}


def check_memory_mb(model: Model, variant: Variant, module: str) -> int:
    """Peak resident memory of a check with the float32 numerics of a runtime's ``module``."""
    known = _CHECK_BYTES.get(module, {})
    widened = known.get(variant.precision, _OTHER_CHECK_BYTES[variant.precision])
    fixed = _CHECK_FIXED_MB.get(module, GIGABYTE_MB)
    return fixed + int(model.parameters * widened / 1e6)
