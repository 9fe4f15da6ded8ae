rule publish:
    """Takes every release where the configuration says; apart from `all`, and again without effect.

    It has no output: whether a release is published is asked where it is published.
    """
    input:
        releases=outside_storage(JOBS.targets.releases_to_publish()),
    log:
        "artifacts/logs/publish.log",
    params:
        job=param(JOBS.publish),
    message:
        "publish"
    shell:
        "python -m phiforge publish --job {params.job.file:q} 2>&1 | tee {log:q}"
