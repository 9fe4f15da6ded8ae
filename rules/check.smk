rule check:
    """A receipt says what ran where, and whether it is what the reference says it should be."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        source="artifacts/source/{model}/SOURCE.json",
        reference="artifacts/reference/{model}/REFERENCE.json",
        golden=outside_storage(JOBS.golden),
        acceptance=outside_storage(SETTINGS.acceptance),
        beside=outside_storage(JOBS.check_beside),
        first_layers=JOBS.first_layers,
    output:
        receipt="artifacts/checks/{model}/{variant}/{device}.json",
    log:
        "artifacts/logs/check/{model}.{variant}.{device}.log",
    benchmark:
        "artifacts/benchmarks/check/{model}.{variant}.{device}.tsv"
    wildcard_constraints:
        model=JOBS.rows.checked(),
    priority: JOBS.check_memory  # the largest first: what is small fits beside
    threads: JOBS.check_threads
    resources:
        **JOBS.requests.nodes,
        mem_mb=JOBS.requests.memory(JOBS.check_memory),
        runtime=JOBS.requests.check_minutes,
    params:
        job=param(JOBS.check),
        made_with=JOBS.check_made_with,
        memory_mb=JOBS.check_needs_memory,
        beside=JOBS.check_options,
        artifact=subpath(input.build, parent=True),
        source=subpath(input.source, parent=True),
        reference=subpath(input.reference, parent=True),
        predictions="artifacts/predictions/{model}/{variant}",
    message:
        "check {wildcards.model} {wildcards.variant} on {wildcards.device}"
    shell:
        # what passes over every weight makes and frees large arrays; see rules/convert.smk
        "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"
        " python -m phiforge check {params.job.file:q} --artifact {params.artifact:q}"
        " --source {params.source:q}/files --reference {params.reference:q}"
        " --golden {input.golden:q} --acceptance {input.acceptance:q}"
        " --predictions {params.predictions:q} --memory-mb {params.memory_mb} {params.beside}"
        " --receipt {output.receipt:q} > {log:q} 2>&1"


for ROWS, MODELS in JOBS.rows.sets().items():

    rule:
        """The receipts of a variant's rows that cannot run here say why; nothing is run."""
        name:
            f"blocked_{'_'.join(ROWS)}"
        input:
            build="artifacts/build/{model}/{variant}/BUILD.json",
        output:
            receipts=[f"artifacts/checks/{{model}}/{{variant}}/{row}.json" for row in ROWS],
        log:
            "artifacts/logs/blocked/{model}.{variant}.log",
        wildcard_constraints:
            model=MODELS,
        localrule: True
        resources:
            mem_mb=200,
        params:
            job=param(JOBS.blocked_rows),
            code=modules_digest("validators.blocked"),
            artifact=subpath(input.build, parent=True),
            into="artifacts/checks/{model}/{variant}",
        message:
            f"blocked {{wildcards.model}} {{wildcards.variant}} on {', '.join(ROWS)}"
        shell:
            "python -m phiforge blocked {params.job.file:q} --artifact {params.artifact:q}"
            " --receipts {params.into:q} > {log:q} 2>&1"
