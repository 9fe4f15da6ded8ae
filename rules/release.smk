rule release:
    """Payload, card and evidence appear together; a failure leaves the old release in place."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        verdict="artifacts/gates/{model}/{variant}.json",
        receipts=receipts_of,
        modules=module_files("phiforge.release.stage"),
        template="phiforge/release/card.md.j2",
        snippet=snippet_file,
    output:
        # update(): Snakemake would delete the old release's manifest before the job starts.
        manifest=update("artifacts/release/{model}/{variant}/MANIFEST.json"),
    log:
        "artifacts/logs/release/{model}.{variant}.log",
    resources:
        mem_mb=500,
    params:
        into=subpath(output.manifest, parent=True),
        summary=variant_summary,
        notice=variant_notice,
        version=release_version,
        recipe=variant_block,
        builder=SETTINGS.builder,
        is_signed=is_signed,
    message:
        "release {wildcards.model} {wildcards.variant}"
    shell:
        "python -m phiforge.release stage --build {input.build:q} --verdict {input.verdict:q}"
        " --summary {params.summary:q} {params.notice:q} --snippet {input.snippet:q} --into {params.into:q}"
        " --version {params.version:q} --recipe {params.recipe:q} --builder {params.builder:q}"
        " {input.receipts:q} > {log:q} 2>&1"


rule verifier:
    """One file that checks a release folder, for teams that have nothing else of phiforge."""
    input:
        modules=module_files("phiforge.verify.command"),
        writer=module_files("phiforge.release.verifier"),
    output:
        program="artifacts/phiforge-verify.pyz",
    log:
        "artifacts/logs/verifier.log",
    resources:
        mem_mb=200,
    message:
        "write the verifier"
    shell:
        "python -m phiforge.release verifier --into {output.program:q} > {log:q} 2>&1"
