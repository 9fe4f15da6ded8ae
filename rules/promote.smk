rule promote:
    """A release whose device receipts satisfy the policy gets a signed promotion."""
    input:
        release=outside_storage("artifacts/released/{model}/{variant}.json"),
        build="artifacts/build/{model}/{variant}/BUILD.json",
    output:
        record=outside_storage("artifacts/promotions/{model}/{variant}.json"),
    log:
        "artifacts/logs/promote/{model}.{variant}.log",
    resources:
        mem_mb=200,
    params:
        job=param(JOBS.promote),
        code=modules_digest("phiforge.release.promotion"),
    message:
        "promote {wildcards.model} {wildcards.variant}"
    shell:
        "python -m phiforge promote {params.job.file:q} --build {input.build:q}"
        " --release artifacts/release/{wildcards.model:q}/{wildcards.variant:q}"
        " --record {output.record:q} 2>&1 | tee {log:q}"


rule stable:
    """Says what is stable; fails, naming each missing receipt, where something is not."""
    input:
        promotions=outside_storage(JOBS.targets.promotions()),
    log:
        "artifacts/logs/stable.log",
    params:
        job=param(JOBS.stable),
    message:
        "stable: what was promoted, and what the others lack"
    shell:
        "python -m phiforge stable {params.job.file:q} {input.promotions:q} 2>&1 | tee {log:q}"
