rule check:
    """A receipt says what ran where, and whether it is what the reference says it should be."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        reference="artifacts/reference/{model}/REFERENCE.json",
        golden=golden_file,
        acceptance=SETTINGS.acceptance,
        modules=runtime_modules,
        runner=runner_modules,
        lock=device_lock,
        key=device_key,
        inbox=inbox_files,
    output:
        receipt="artifacts/checks/{model}/{variant}/{device}.json",
    log:
        "artifacts/logs/check/{model}.{variant}.{device}.log",
    benchmark:
        "artifacts/benchmarks/check/{model}.{variant}.{device}.tsv"
    priority: check_memory  # the largest first: what is small fits beside
    threads: check_threads
    resources:
        mem_mb=check_memory,
    params:
        row=row_json,
        variant=variant_block,
        blocked=blocked_arguments,
        overrides=acceptance_overrides,
        synthetic=synthetic_flag,
        toolchain=runtime_toolchain,
        artifact=subpath(input.build, parent=True),
        reference=subpath(input.reference, parent=True),
    message:
        "check {wildcards.model} {wildcards.variant} on {wildcards.device}"
    shell:
        "python -m phiforge.remote check --key {input.key:q} --lock {input.lock:q}"
        " --inbox {input.inbox:q} --model {wildcards.model:q} --variant {wildcards.variant:q}"
        " --row {wildcards.device:q} --row-config {params.row:q} --variant-config {params.variant:q}"
        " --artifact {params.artifact:q} --reference {params.reference:q} --golden {input.golden:q}"
        " --acceptance {input.acceptance:q} --overrides {params.overrides:q}"
        " {params.synthetic:q} {params.blocked:q} --receipt {output.receipt:q} > {log:q} 2>&1"
