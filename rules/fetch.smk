rule fetch:
    """A pinned Hub commit or a local folder becomes a verified, immutable source tree.

    So do the first layers of another source tree, for a row that is too slow for all of them.
    """
    input:
        whole=JOBS.whole_source,
    output:
        record="artifacts/source/{model}/SOURCE.json",
    log:
        "artifacts/logs/fetch/{model}.log",
    benchmark:
        "artifacts/benchmarks/fetch/{model}.tsv"
    resources:
        mem_mb=500,
    params:
        job=param(JOBS.fetch),
        code=modules_digest("phiforge.sources.fetch"),
        local=JOBS.local_source,
        toolchain=pinned_toolchain("phiforge.sources.fetch"),
        into=subpath(output.record, parent=True),
    message:
        "fetch {wildcards.model}"
    shell:
        "python -m phiforge fetch {params.job.file:q} --whole {input.whole:q} --into {params.into:q} 2>&1"
        " | tee {log:q}"
