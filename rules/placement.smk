from phiforge.settings.placements import calibration, place


rule place:
    """What INT4 costs each matrix of a model, measured; beside the model, which ones get INT8.

    A killed search goes on where it was.
    """
    input:
        source="artifacts/source/{model}/SOURCE.json",
        calibration=outside_storage(lambda names: calibration(SETTINGS.models, names)),
        golden=outside_storage(JOBS.golden),
    output:
        record=outside_storage("artifacts/placement/{model}/RECORD.json"),
    log:
        "artifacts/logs/place/{model}.log",
    benchmark:
        "artifacts/benchmarks/place/{model}.tsv"
    threads: 2
    resources:
        mem_mb=8000,
    params:
        job=param(lambda names: place(SETTINGS.variants, names)),
        code=modules_digest("converters.openvino.placement"),
        file=lambda names: SETTINGS.models[names.model].placement or "",
        source=subpath(input.source, parent=True),
        into=subpath(output.record, parent=True),
    message:
        "place the INT8 matrices of {wildcards.model}"
    shell:
        "OMP_WAIT_POLICY=PASSIVE python -m phiforge place {params.job.file:q} --source {params.source:q}"
        " --calibration {input.calibration:q} --golden {input.golden:q} --file {params.file:q}"
        " --into {params.into:q} 2>&1 | tee {log:q}"


rule placement:
    """Every chosen model's placement."""
    input:
        outside_storage(
            [
                f"artifacts/placement/{model}/RECORD.json"
                for model in SETTINGS.chosen_models
                if not SETTINGS.models[model].whole
            ]
        ),
