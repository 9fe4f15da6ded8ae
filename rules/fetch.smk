rule fetch:
    """A pinned Hub commit or a local folder becomes a verified, immutable source tree."""
    input:
        local=local_source_files,
        modules=module_files("phiforge.sources.__main__"),
    output:
        record="artifacts/source/{model}/SOURCE.json",
    log:
        "artifacts/logs/fetch/{model}.log",
    benchmark:
        "artifacts/benchmarks/fetch/{model}.tsv"
    resources:
        mem_mb=500,
    params:
        source=model_source,
        into=subpath(output.record, parent=True),
        toolchain=pinned_toolchain("phiforge.sources.__main__"),
    message:
        "fetch {wildcards.model}"
    shell:
        "python -m phiforge.sources --model {wildcards.model:q} --source {params.source:q}"
        " --into {params.into:q} 2>&1 | tee {log:q}"
