rule gate:
    """Fails, naming the receipts, where they do not meet the channel's policy."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        receipts=receipts_of,
        modules=module_files("release.gate"),
    output:
        verdict="artifacts/gates/{model}/{variant}.json",
    log:
        "artifacts/logs/gate/{model}.{variant}.log",
    resources:
        mem_mb=200,
    params:
        channel=SETTINGS.channel,
    message:
        "gate {wildcards.model} {wildcards.variant} for {params.channel}"
    shell:
        "python -m release gate --channel {params.channel:q} --build {input.build:q}"
        " --verdict {output.verdict:q} {input.receipts:q} > {log:q} 2>&1"
