rule gate:
    """Fails, naming the receipts, where they do not meet the channel's policy."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        receipts=receipts_of,
        reference="artifacts/reference/{model}/REFERENCE.json",
        golden=golden_file,
        acceptance=SETTINGS.acceptance,
        public_keys=row_keys,
        modules=module_files("phiforge.release.gate"),
    output:
        verdict="artifacts/gates/{model}/{variant}.json",
    log:
        "artifacts/logs/gate/{model}.{variant}.log",
    resources:
        mem_mb=200,
    params:
        channel=SETTINGS.channel,
        rows=row_policies,
        overrides=acceptance_overrides,
    message:
        "gate {wildcards.model} {wildcards.variant} for {params.channel}"
    shell:
        "python -m phiforge.release gate --channel {params.channel:q} --build {input.build:q}"
        " --golden {input.golden:q} --reference {input.reference:q} --acceptance {input.acceptance:q}"
        " --overrides {params.overrides:q} --rows {params.rows:q}"
        " --verdict {output.verdict:q} {input.receipts:q} > {log:q} 2>&1"
