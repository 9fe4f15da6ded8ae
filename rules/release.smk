rule release:
    """Payload, card and evidence appear together; a failure leaves the old release in place.

    Snakemake tracks a link to the release's manifest: it deletes what it tracks before a job and
    after a failed one.
    """
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        verdict=outside_storage("artifacts/gates/{model}/{variant}.json"),
        template=outside_storage("phiforge/release/card.md.j2"),
        snippet=outside_storage(JOBS.snippet),
    output:
        record=outside_storage("artifacts/released/{model}/{variant}.json"),
    log:
        "artifacts/logs/release/{model}.{variant}.log",
    resources:
        mem_mb=500,
    params:
        job=param(JOBS.release),
        receipts=JOBS.receipts_of,  # of the verdict, which is made again where one changes
        code=modules_digest("phiforge.release.stage"),
    message:
        "release {wildcards.model} {wildcards.variant}"
    shell:
        "python -m phiforge release {params.job.file:q} --build {input.build:q}"
        " --verdict {input.verdict:q} --snippet {input.snippet:q}"
        " --into artifacts/release/{wildcards.model:q}/{wildcards.variant:q}"
        " --record {output.record:q} {params.receipts:q} > {log:q} 2>&1"


rule verifier:
    """One file that checks a release folder, for teams that have nothing else of phiforge."""
    output:
        program="artifacts/phiforge-verify.pyz",
    log:
        "artifacts/logs/verifier.log",
    resources:
        mem_mb=200,
    params:
        code=modules_digest("phiforge.verify.command", "phiforge.release.verifier"),
    message:
        "write the verifier"
    shell:
        "python -m phiforge verifier --into {output.program:q} > {log:q} 2>&1"
