rule index:
    """What is released of a model, and which to choose on which hardware."""
    input:
        manifests=releases_of_model,
        modules=module_files("phiforge.release.index"),
        template="phiforge/release/index.md.j2",
        hardware="config/hardware.yaml",
    output:
        # update(): the old one stands until the new one is written.
        record=update("artifacts/release/{model}/index.json"),
    log:
        "artifacts/logs/index/{model}.log",
    resources:
        mem_mb=200,
    params:
        into=subpath(output.record, parent=True),
        title=model_title,
        license=model_license,
        blocked=blocked_variants,
        # A promotion or a revocation is no new manifest; it is a reason to write again.
        standing=standing_releases,
    message:
        "index {wildcards.model}"
    shell:
        "python -m phiforge.release.index --title {params.title:q} --license {params.license:q}"
        " {params.blocked:q} --into {params.into:q} > {log:q} 2>&1"
