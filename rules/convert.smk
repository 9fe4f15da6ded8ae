rule convert:
    """A source tree, or an earlier variant, becomes a variant's payload.

    Where what makes it is not here, BUILD.json says so instead.
    """
    input:
        source="artifacts/source/{model}/SOURCE.json",
        base=JOBS.base_build,
    output:
        record="artifacts/build/{model}/{variant}/BUILD.json",
    log:
        "artifacts/logs/convert/{model}.{variant}.log",
    benchmark:
        "artifacts/benchmarks/convert/{model}.{variant}.tsv"
    priority: JOBS.convert_memory  # the largest first: what is small fits beside
    threads: 1  # what nncf takes beside is short; the rest waits for the disk as much as it works
    resources:
        mem_mb=JOBS.requests.memory(JOBS.convert_memory),
        runtime=JOBS.requests.convert_minutes,
    params:
        job=param(JOBS.convert),
        made_with=JOBS.converter_made_with,
        memory_mb=JOBS.convert_needs_memory,
        into=subpath(output.record, parent=True),
    message:
        "convert {wildcards.model} to {wildcards.variant}"
    shell:
        # Conversions allocate a matrix, write it and free it, thousands of times. By its defaults
        # glibc gives each back to the kernel, which then clears the same pages again.
        # https://www.gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html
        "GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4000000000"
        ":glibc.malloc.trim_threshold=4000000000"
        " python -m phiforge convert {params.job.file:q} --source {input.source:q}"
        " --base {input.base:q} --memory-mb {params.memory_mb} --into {params.into:q}"
        " > {log:q} 2>&1"
