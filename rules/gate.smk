rule gate:
    """Fails, naming the receipts, where they do not meet the channel's policy."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        base=JOBS.judged_base,
        receipts=JOBS.receipts_of,
        reference="artifacts/reference/{model}/REFERENCE.json",
        golden=outside_storage(JOBS.golden),
        acceptance=outside_storage(SETTINGS.acceptance),
        public_keys=outside_storage(JOBS.public_keys),
    output:
        verdict=outside_storage("artifacts/gates/{model}/{variant}.json"),
    log:
        "artifacts/logs/gate/{model}.{variant}.log",
    resources:
        mem_mb=200,
    params:
        job=param(JOBS.gate),
        code=modules_digest("phiforge.release.gate"),
        channel=SETTINGS.channel,
    message:
        "gate {wildcards.model} {wildcards.variant} for {params.channel}"
    shell:
        "python -m phiforge gate {params.job.file:q} --build {input.build:q} --base {input.base:q}"
        " --golden {input.golden:q} --reference {input.reference:q}"
        " --acceptance {input.acceptance:q} --verdict {output.verdict:q}"
        " {input.receipts:q} > {log:q} 2>&1"
