rule rebuild:
    """The same conversion under other circumstances: folder, home, locale, threads, processor."""
    input:
        source="artifacts/source/{model}/SOURCE.json",
        base=rebuilt_base,
        modules=converter_modules,
        own=module_files("phiforge.reproduce.rebuild"),
    output:
        record="artifacts/rebuild/{model}/{variant}/BUILD.json",
    log:
        "artifacts/logs/rebuild/{model}.{variant}.log",
    threads: 2
    resources:
        mem_mb=convert_memory,
    params:
        variant=variant_block,
        facts=model_facts,
        toolchain=converter_toolchain,
        tools=variant_tools,
        into=subpath(output.record, parent=True),
    message:
        "rebuild {wildcards.model} to {wildcards.variant}"
    shell:
        "python -m phiforge.reproduce rebuild"
        " --source {input.source:q} --base {input.base:q} --into {params.into:q}"
        " --model {wildcards.model:q} --name {wildcards.variant:q}"
        " --facts {params.facts:q} --variant {params.variant:q}"
        " --memory-mb {resources.mem_mb} --tools {params.tools:q} > {log:q} 2>&1"


rule compare:
    """Two builds side by side; where bytes differ, which files and tensors."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        rebuilt="artifacts/rebuild/{model}/{variant}/BUILD.json",
        modules=module_files("phiforge.reproduce.identity"),
    output:
        record="artifacts/reproduced/{model}/{variant}.json",
    log:
        "artifacts/logs/compare/{model}.{variant}.log",
    resources:
        mem_mb=1000,
    message:
        "compare {wildcards.model} {wildcards.variant} with its second build"
    shell:
        "python -m phiforge.reproduce compare --build {input.build:q} --rebuilt {input.rebuilt:q}"
        " --into {output.record:q} > {log:q} 2>&1"
