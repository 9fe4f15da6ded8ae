rule reference:
    """transformers answers the golden prompts once per model, in float32: the ground truth."""
    input:
        source="artifacts/source/{model}/SOURCE.json",
        golden=outside_storage(JOBS.golden),
    output:
        record="artifacts/reference/{model}/REFERENCE.json",
    log:
        "artifacts/logs/reference/{model}.log",
    benchmark:
        "artifacts/benchmarks/reference/{model}.tsv"
    resources:
        mem_mb=JOBS.requests.memory(JOBS.reference_memory),
        runtime=JOBS.requests.reference_minutes,
    params:
        job=param(JOBS.reference),
        code=modules_digest("validators.reference"),
        toolchain=pinned_toolchain("validators.reference"),
        source=subpath(input.source, parent=True),
        into=subpath(output.record, parent=True),
    message:
        "reference {wildcards.model}: transformers, float32"
    shell:
        # what passes over every weight makes and frees large arrays; see rules/convert.smk
        "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"
        " python -m phiforge reference {params.job.file:q} --source {params.source:q}/files"
        " --golden {input.golden:q} --into {params.into:q} > {log:q} 2>&1"
