rule rebuild:
    """The same conversion under varied conditions: folder, home, locale, threads, processor."""
    input:
        source="artifacts/source/{model}/SOURCE.json",
        base=JOBS.rebuilt_base,
    output:
        record="artifacts/rebuild/{model}/{variant}/BUILD.json",
    log:
        "artifacts/logs/rebuild/{model}.{variant}.log",
    threads: 2
    resources:
        mem_mb=JOBS.requests.memory(JOBS.convert_memory),
        runtime=JOBS.requests.convert_minutes,
    params:
        job=param(JOBS.convert),
        made_with=JOBS.converter_made_with,
        own=modules_digest("phiforge.reproduce.rebuild"),
        memory_mb=JOBS.convert_needs_memory,
        into=subpath(output.record, parent=True),
    message:
        "rebuild {wildcards.model} to {wildcards.variant}"
    shell:
        "python -m phiforge rebuild {params.job.file:q} --source {input.source:q}"
        " --base {input.base:q} --memory-mb {params.memory_mb} --into {params.into:q}"
        " > {log:q} 2>&1"


rule compare:
    """Two builds side by side; where bytes differ, which files and tensors."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        rebuilt="artifacts/rebuild/{model}/{variant}/BUILD.json",
    output:
        record="artifacts/reproduced/{model}/{variant}.json",
    log:
        "artifacts/logs/compare/{model}.{variant}.log",
    resources:
        mem_mb=1000,
    params:
        code=modules_digest("phiforge.reproduce.identity"),
    message:
        "compare {wildcards.model} {wildcards.variant} with its second build"
    shell:
        "python -m phiforge compare --build {input.build:q} --rebuilt {input.rebuilt:q}"
        " --into {output.record:q} > {log:q} 2>&1"


rule reproduce:
    """Every variant built twice; ends non-zero naming those whose bytes differ."""
    input:
        records=JOBS.targets.reproduced_records(),
    log:
        "artifacts/logs/reproduce.log",
    shell:
        "python -m phiforge reproduce {input.records:q} 2>&1 | tee {log:q}"
