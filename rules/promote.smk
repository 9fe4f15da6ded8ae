rule promote:
    """A release whose device receipts satisfy the policy gets a signed promotion."""
    input:
        manifest="artifacts/release/{model}/{variant}/MANIFEST.json",
        build="artifacts/build/{model}/{variant}/BUILD.json",
        reference="artifacts/reference/{model}/REFERENCE.json",
        golden=golden_file,
        acceptance=SETTINGS.acceptance,
        public_keys=row_keys,
        modules=module_files("phiforge.release.promotion"),
    output:
        record="artifacts/promotions/{model}/{variant}.json",
    log:
        "artifacts/logs/promote/{model}.{variant}.log",
    resources:
        mem_mb=200,
    params:
        release=subpath(input.manifest, parent=True),
        rows=row_policies,
        overrides=acceptance_overrides,
        # A release key that appears is a reason to try again.
        key_is_named="key" in SIGNING,
    message:
        "promote {wildcards.model} {wildcards.variant}"
    shell:
        "python -m phiforge.release.promotion promote --release {params.release:q} --build {input.build:q}"
        " --golden {input.golden:q} --reference {input.reference:q} --acceptance {input.acceptance:q}"
        " --overrides {params.overrides:q} --rows {params.rows:q}"
        " --record {output.record:q} 2>&1 | tee {log:q}"


rule stable:
    """Says what is stable; fails, naming each missing receipt, where something is not."""
    input:
        promotions(),
    log:
        "artifacts/logs/stable.log",
    params:
        blocked=not_built(),
    message:
        "stable: what was promoted, and what the others lack"
    shell:
        "python -m phiforge.release.promotion report {input:q} {params.blocked:q} 2>&1 | tee {log:q}"
