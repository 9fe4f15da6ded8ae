rule index:
    """What is released of a model, and which to choose on which hardware."""
    input:
        releases=JOBS.releases_of,
        template="phiforge/release/index.md.j2",
        hardware="config/hardware.yaml",
    output:
        record="artifacts/indexed/{model}.json",
    log:
        "artifacts/logs/index/{model}.log",
    resources:
        mem_mb=200,
    params:
        job=param(JOBS.index),
        code=modules_digest("phiforge.release.index"),
    message:
        "index {wildcards.model}"
    shell:
        "python -m phiforge index {params.job.file:q} --hardware {input.hardware:q}"
        " --into artifacts/release/{wildcards.model:q} --record {output.record:q} > {log:q} 2>&1"
