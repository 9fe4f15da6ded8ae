# The configuration, read once, and the named functions that the rules ask.
import json
import shlex
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from phiforge.settings.modules import module_files, pinned_toolchain
from phiforge.settings.plan import (
    availability,
    check_memory_mb,
    convert_memory_mb,
    plan,
    reference_memory_mb,
    release_signing,
    row_settings,
    runtime_availability,
    standing,
    stands_signed,
    variant_availability,
)
from phiforge.settings.models import LocalSource
from phiforge.settings.settings import load
from phiforge.errors import PhiforgeError
from phiforge.remote import inbox
from validators.code_digest import check_modules

try:
    SETTINGS = load(config)
    INBOX, INBOX_NOTES = inbox.scan()
except PhiforgeError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
for note in INBOX_NOTES:
    print(f"note: {note}", file=sys.stderr)

# Which key signs: where its file is, not the key. Told to the jobs in their environment and not as
# params: who runs this without the key is no reason to sign again.
SIGNING = release_signing(SETTINGS)

# Nor where a lab host is: one that moves changes nothing that a receipt says.
LABS = {name: row.ssh.model_dump(mode="json") for name, row in SETTINGS.devices.items() if row.ssh}

# Jobs run in the environment that Snakemake runs in, activated or not. A prefix replaces Snakemake's
# own strict mode, without which `| tee` hides that a job failed; and Snakemake formats its text.
PREFIX = (
    f"set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    f" PHIFORGE_SIGNING={shlex.quote(json.dumps(SIGNING, sort_keys=True))}"
    f" PHIFORGE_LABS={shlex.quote(json.dumps(LABS, sort_keys=True))}; "
)
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))

AVAILABILITY = {name: availability(row) for name, row in SETTINGS.devices.items()}
VARIANT_AVAILABILITY = {
    name: variant_availability(variant, SETTINGS) for name, variant in SETTINGS.variants.items()
}

PLAN = plan(SETTINGS, INBOX)
SUMMARY_ARGUMENTS = [f"{model}/{variant}" for model, variant in PLAN.checks]
BLOCKED_MEMORY_MB = 200
TRANSFER_MEMORY_MB = 300


wildcard_constraints:
    model="|".join(map(re.escape, SETTINGS.models)),
    variant="|".join(map(re.escape, SETTINGS.variants)),
    device="|".join(map(re.escape, SETTINGS.devices)),


def release_manifests():
    return [
        f"artifacts/release/{model}/{variant}/MANIFEST.json" for model, variant in PLAN.releases
    ]


def releases_to_publish():
    """Promoted first, where only what is stable is published."""
    stable = SETTINGS.publish.channel == "stable"
    return release_manifests() + (promotions() if stable else [])


def indexes():
    models = dict.fromkeys(model for model, _ in PLAN.releases)
    return [f"artifacts/release/{model}/index.json" for model in models]


def releases_of_model(wildcards):
    return [
        f"artifacts/release/{model}/{variant}/MANIFEST.json"
        for model, variant in PLAN.releases
        if model == wildcards.model
    ]


def blocked_variants(wildcards):
    arguments = []
    for model, variant in PLAN.checks:
        found = VARIANT_AVAILABILITY[variant]
        if model == wildcards.model and not found.available:
            arguments += ["--blocked", variant, found.reason, found.remedy]
    return arguments


def standing_releases(wildcards):
    """What may change in the folder without a new release: promotions and revocations."""
    return standing(wildcards.model)


def model_title(wildcards):
    return model_of(wildcards).title


def model_license(wildcards):
    return model_of(wildcards).license


def model_of(wildcards):
    return SETTINGS.models[wildcards.model]


def variant_of(wildcards):
    return SETTINGS.variants[wildcards.variant]


def model_source(wildcards):
    return json.dumps(model_of(wildcards).source.plain(), sort_keys=True)


def local_source_files(wildcards):
    """A local source's own files; what is missing is reported by fetch, by name."""
    source = model_of(wildcards).source
    if not isinstance(source, LocalSource):
        return []
    folder = source.path
    names = [source.checksums]
    if (folder / source.checksums).is_file():
        listing = (folder / source.checksums).read_text(encoding="utf-8")
        names += [line[66:].strip() for line in listing.splitlines() if line.strip()]
    return [str(folder / name) for name in names if (folder / name).is_file()]


def golden_file(wildcards):
    return str(model_of(wildcards).golden)


def synthetic_flag(wildcards):
    return ["--synthetic"] if model_of(wildcards).synthetic else []


def base_build(wildcards):
    """What a variant is derived from; one that is blocked is derived from nothing."""
    base = variant_of(wildcards).base
    if not VARIANT_AVAILABILITY[wildcards.variant].available:
        return []
    return f"artifacts/build/{wildcards.model}/{base}/BUILD.json" if base else []


def variant_block(wildcards):
    """What the converter is told: everything of the variant's block that shapes its bytes."""
    variant = variant_of(wildcards)
    block = {
        "converter": variant.converter,
        "format": variant.format,
        "precision": variant.precision,
        "from": variant.base,
        "options": dict(variant.options),
    }
    return json.dumps(block, sort_keys=True)


def variant_tools(wildcards):
    """What the configuration names for the variant's making."""
    requires = variant_of(wildcards).requires
    key = requires and requires.config
    return json.dumps({key: SETTINGS.tools[key]} if key else {}, sort_keys=True)


def refusal(*found):
    """Why a job cannot do its work here; as params, so that what appears reruns its own jobs."""
    for one in found:
        if not one.available:
            return ["--blocked", one.reason, "--remedy", one.remedy]
    return []


def blocked_variant(wildcards):
    return refusal(VARIANT_AVAILABILITY[wildcards.variant])


def rebuilt_base(wildcards):
    base = variant_of(wildcards).base
    return f"artifacts/rebuild/{wildcards.model}/{base}/BUILD.json" if base else []


def reproduced_records():
    return [
        f"artifacts/reproduced/{model}/{variant}.json"
        for model, variant in PLAN.builds
        if VARIANT_AVAILABILITY[variant].available
    ]


def model_facts(wildcards):
    model = model_of(wildcards)
    return json.dumps({"title": model.title, "license": model.license}, sort_keys=True)


def converter_modules(wildcards):
    return module_files("converters.__main__", f"converters.{variant_of(wildcards).converter}")


def converter_toolchain(wildcards):
    return pinned_toolchain(f"converters.{variant_of(wildcards).converter}")


def convert_memory(wildcards):
    if blocked_variant(wildcards):
        return BLOCKED_MEMORY_MB
    return convert_memory_mb(model_of(wildcards), variant_of(wildcards))


def reference_memory(wildcards):
    return reference_memory_mb(model_of(wildcards))


def check_memory(wildcards):
    if blocked_arguments(wildcards):
        return BLOCKED_MEMORY_MB
    if SETTINGS.devices[wildcards.device].ssh:
        return TRANSFER_MEMORY_MB
    runtime = row_block(wildcards)["module"]
    return check_memory_mb(model_of(wildcards), variant_of(wildcards), runtime)


def acceptance_overrides(wildcards):
    model = model_of(wildcards)
    minimum = {"minimum_validated_tokens": model.minimum_validated_tokens}
    return json.dumps({**model.acceptance.plain(), **minimum}, sort_keys=True)


def promotions():
    return [f"artifacts/promotions/{model}/{variant}.json" for model, variant in PLAN.releases]


def not_built():
    """Variants that would be released and cannot be built here, with the reason."""
    arguments = []
    for model, variant in PLAN.checks:
        found = VARIANT_AVAILABILITY[variant]
        if not found.available and not SETTINGS.models[model].synthetic:
            arguments += ["--blocked", f"{model}/{variant}", f"{found.reason}. {found.remedy}"]
    return arguments


def is_signed(wildcards):
    """As params, so that a key that is named signs what stands unsigned."""
    return "key" in SIGNING or stands_signed(wildcards.model, wildcards.variant)


def check_tokens(wildcards):
    return model_of(wildcards).check_tokens


def snippet_file(wildcards):
    return str(variant_of(wildcards).snippet)


def variant_summary(wildcards):
    return variant_of(wildcards).summary


def release_version(wildcards):
    return model_of(wildcards).version or SETTINGS.version


def variant_notice(wildcards):
    notice = variant_of(wildcards).notice
    return ["--notice", notice] if notice else []
