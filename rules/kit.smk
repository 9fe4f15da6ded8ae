rule kit:
    """One zip for a device without a connection; its receipt comes back through the inbox."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        reference="artifacts/reference/{model}/REFERENCE.json",
        golden=outside_storage(JOBS.golden),
        acceptance=outside_storage(SETTINGS.acceptance),
        lock=outside_storage(JOBS.kit_lock),
    output:
        kit="artifacts/kits/{model}/{variant}/{device}.zip",
    log:
        "artifacts/logs/kit/{model}.{variant}.{device}.log",
    resources:
        mem_mb=200,
    params:
        job=param(JOBS.kit),
        code=JOBS.kit_code,
        artifact=subpath(input.build, parent=True),
        reference=subpath(input.reference, parent=True),
    message:
        "kit {wildcards.model} {wildcards.variant} for {wildcards.device}"
    shell:
        "python -m phiforge kit {params.job.file:q} --artifact {params.artifact:q}"
        " --reference {params.reference:q} --golden {input.golden:q}"
        " --acceptance {input.acceptance:q} --lock {input.lock:q} --into {output.kit:q}"
        " 2>&1 | tee {log:q}"
