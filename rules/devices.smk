# What the rules ask about device rows, what stands in for them, and the kits for devices elsewhere.
from types import SimpleNamespace


def wanted_receipts():
    return [
        f"artifacts/checks/{model}/{variant}/{row}.json"
        for model, variant in PLAN.checks
        for row in SETTINGS.variants[variant].devices
    ]


def receipts_of(wildcards):
    return [
        f"artifacts/checks/{wildcards.model}/{wildcards.variant}/{row}.json"
        for row in variant_of(wildcards).devices
    ]


def row_block(wildcards):
    return row_settings(SETTINGS.devices[wildcards.device], variant_of(wildcards))


def row_json(wildcards):
    return json.dumps(row_block(wildcards), sort_keys=True)


def row_policies(wildcards):
    """The variant's rows as they are configured now; receipts are held against them."""
    variant = variant_of(wildcards)
    rows = {}
    for name in variant.devices:
        row = SETTINGS.devices[name]
        job = SimpleNamespace(model=wildcards.model, variant=wildcards.variant, device=name)
        rows[name] = {
            **row_settings(row, variant),
            "available": not blocked_arguments(job),
            "key": None if row.key is None else str(row.key),
        }
    return json.dumps(rows, sort_keys=True)


def row_keys(wildcards):
    rows = [SETTINGS.devices[name] for name in variant_of(wildcards).devices]
    return sorted({str(row.key) for row in rows if row.key is not None})


def blocked_arguments(wildcards):
    """A variant that was not made is blocked on every row."""
    return refusal(
        VARIANT_AVAILABILITY[wildcards.variant],
        runtime_availability(SETTINGS.devices[wildcards.device], variant_of(wildcards)),
        AVAILABILITY[wildcards.device],
    )


def check_threads(wildcards):
    elsewhere = blocked_arguments(wildcards) or SETTINGS.devices[wildcards.device].ssh
    return 1 if elsewhere else 2


def runtime_modules(wildcards):
    return module_files(*check_modules(row_block(wildcards)["module"]))


def runtime_toolchain(wildcards):
    if SETTINGS.devices[wildcards.device].ssh:
        return {}  # the device's own lock is an input
    return pinned_toolchain(*check_modules(row_block(wildcards)["module"]))


def runner_modules(wildcards):
    """What brings a check to a device elsewhere, or its receipt back."""
    elsewhere = SETTINGS.devices[wildcards.device].ssh or inbox_files(wildcards)
    return module_files("phiforge.remote.__main__") if elsewhere else []


def kit_lock(wildcards):
    return SETTINGS.devices[wildcards.device].lock(variant_of(wildcards).format) or []


def device_lock(wildcards):
    """The environment of a device that is elsewhere; here it is this environment."""
    return kit_lock(wildcards) if SETTINGS.devices[wildcards.device].ssh else []


def device_key(wildcards):
    return SETTINGS.devices[wildcards.device].key or []


def inbox_files(wildcards):
    """What a courier brought for a row that cannot run here."""
    if AVAILABILITY[wildcards.device].available:
        return []
    found = INBOX.get((wildcards.model, wildcards.variant, wildcards.device), [])
    return [file for path in found for file in inbox.companions(path)]
