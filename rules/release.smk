rule release:
    """Payload, card and evidence appear together, if the receipts meet the channel's policy.

    A failure leaves the old release in place: Snakemake tracks a link to the release's manifest, as
    it deletes what it tracks before a job and after a failed one.
    """
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        base=JOBS.judged.bases,
        receipts=JOBS.judged.receipts,
        reference="artifacts/reference/{model}/REFERENCE.json",
        golden=outside_storage(JOBS.golden),
        acceptance=outside_storage(SETTINGS.acceptance),
        public_keys=outside_storage(JOBS.judged.public_keys),
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
        code=modules_digest("phiforge.release.command"),
    message:
        "release {wildcards.model} {wildcards.variant}"
    shell:
        "python -m phiforge release {params.job.file:q} --build {input.build:q} --base {input.base:q}"
        " --golden {input.golden:q} --reference {input.reference:q}"
        " --acceptance {input.acceptance:q} --snippet {input.snippet:q}"
        " --verdict artifacts/gates/{wildcards.model:q}/{wildcards.variant:q}.json"
        " --into artifacts/release/{wildcards.model:q}/{wildcards.variant:q}"
        " --record {output.record:q} {input.receipts:q} > {log:q} 2>&1"


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
