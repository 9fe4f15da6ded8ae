rule kit:
    """One zip for a device without a connection; its receipt comes back through the inbox."""
    input:
        build="artifacts/build/{model}/{variant}/BUILD.json",
        reference="artifacts/reference/{model}/REFERENCE.json",
        golden=golden_file,
        acceptance=SETTINGS.acceptance,
        modules=runtime_modules,
        runner=module_files(
            "phiforge.remote.courier", "phiforge.remote.kit", "phiforge.remote.agent"
        ),
        lock=kit_lock,
    output:
        kit="artifacts/kits/{model}/{variant}/{device}.zip",
    log:
        "artifacts/logs/kit/{model}.{variant}.{device}.log",
    resources:
        mem_mb=200,
    params:
        row=row_json,
        variant=variant_block,
        overrides=acceptance_overrides,
        synthetic=synthetic_flag,
        payload="yes" if SETTINGS.kit_payload else "no",
        artifact=subpath(input.build, parent=True),
        reference=subpath(input.reference, parent=True),
    message:
        "kit {wildcards.model} {wildcards.variant} for {wildcards.device}"
    shell:
        "python -m phiforge.remote kit --lock {input.lock:q} --payload {params.payload} --into {output.kit:q}"
        " --model {wildcards.model:q} --variant {wildcards.variant:q}"
        " --row {wildcards.device:q} --row-config {params.row:q} --variant-config {params.variant:q}"
        " --artifact {params.artifact:q} --reference {params.reference:q} --golden {input.golden:q}"
        " --acceptance {input.acceptance:q} --overrides {params.overrides:q}"
        " {params.synthetic:q} --receipt {output.kit:q} 2>&1 | tee {log:q}"
