rule reference:
    """transformers answers the golden prompts once per model, in float32: the ground truth."""
    input:
        source="artifacts/source/{model}/SOURCE.json",
        golden=golden_file,
        modules=module_files("validators.reference"),
    output:
        record="artifacts/reference/{model}/REFERENCE.json",
    log:
        "artifacts/logs/reference/{model}.log",
    benchmark:
        "artifacts/benchmarks/reference/{model}.tsv"
    resources:
        mem_mb=reference_memory,
    params:
        source=subpath(input.source, parent=True),
        into=subpath(output.record, parent=True),
        positions=SETTINGS.score_positions,
        check_tokens=check_tokens,
        synthetic=synthetic_flag,
        toolchain=pinned_toolchain("validators.reference"),
    message:
        "reference {wildcards.model}: transformers, float32"
    shell:
        "python -m validators.reference --source {params.source:q}/files"
        " --golden {input.golden:q} --into {params.into:q}"
        " --positions {params.positions} --check-tokens {params.check_tokens}"
        " {params.synthetic:q} > {log:q} 2>&1"
