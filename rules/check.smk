rule check:
    """A receipt says what ran where, and whether it is what the reference says it should be."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        source="artifacts/source/{model}/SOURCE.json",
        reference="artifacts/reference/{model}/REFERENCE.json",
        golden=JOBS.golden,
        acceptance=SETTINGS.acceptance,
        lock=JOBS.lab_lock,
        key=JOBS.row_key,
        inbox=JOBS.brought,
        first_layers=JOBS.first_layers,
    output:
        receipt="artifacts/checks/{model}/{variant}/{device}.json",
    log:
        "artifacts/logs/check/{model}.{variant}.{device}.log",
    benchmark:
        "artifacts/benchmarks/check/{model}.{variant}.{device}.tsv"
    priority: JOBS.check_memory  # the largest first: what is small fits beside
    threads: JOBS.check_threads
    resources:
        mem_mb=JOBS.check_memory,
    params:
        job=param(JOBS.check),
        code=JOBS.check_code,
        toolchain=JOBS.check_toolchain,
        memory_mb=JOBS.check_needs_memory,
        artifact=subpath(input.build, parent=True),
        source=subpath(input.source, parent=True),
        reference=subpath(input.reference, parent=True),
    message:
        "check {wildcards.model} {wildcards.variant} on {wildcards.device}"
    shell:
        "python -m phiforge check {params.job.file:q} --artifact {params.artifact:q}"
        " --source {params.source:q}/files --reference {params.reference:q}"
        " --golden {input.golden:q} --acceptance {input.acceptance:q}"
        " --memory-mb {params.memory_mb} --key {input.key:q} --lock {input.lock:q}"
        " --inbox {input.inbox:q} --first-layers {input.first_layers:q} --receipt {output.receipt:q} > {log:q} 2>&1"
