rule index:
    """What is released of a model, and which to choose on which hardware; the page that shows it."""
    input:
        releases=outside_storage(JOBS.releases_of),
        templates=outside_storage(PAGE_TEMPLATES),
        hardware=outside_storage("config/hardware.yaml"),
    output:
        record=outside_storage("artifacts/indexed/{model}.json"),
    log:
        "artifacts/logs/index/{model}.log",
    resources:
        mem_mb=300,
    params:
        job=param(JOBS.index),
        code=modules_digest("phiforge.release.index", "phiforge.release.chart"),
    message:
        "index {wildcards.model}"
    shell:
        "python -m phiforge index {params.job.file:q} --hardware {input.hardware:q}"
        " --benchmarks artifacts/benchmarks/convert --into artifacts/release/{wildcards.model:q}"
        " --record {output.record:q} > {log:q} 2>&1"


rule page:
    """One page over all models that are released here."""
    input:
        indexes=outside_storage(JOBS.targets.indexes()),
        templates=outside_storage(PAGE_TEMPLATES),
    output:
        record=outside_storage("artifacts/indexed/page.html"),
    log:
        "artifacts/logs/page.log",
    resources:
        mem_mb=200,
    params:
        code=modules_digest("phiforge.release.page"),
    message:
        "page of all models"
    shell:
        "python -m phiforge page --releases artifacts/release --record {output.record:q} > {log:q} 2>&1"
