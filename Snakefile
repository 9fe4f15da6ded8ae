# phiforge: a pinned Phi-3 in, validated release artifacts for AI PCs out.
from snakemake.utils import min_version

min_version("9.27.1")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/devices.smk"
include: "rules/fetch.smk"
include: "rules/reference.smk"
include: "rules/convert.smk"
include: "rules/check.smk"
include: "rules/kit.smk"
include: "rules/gate.smk"
include: "rules/release.smk"
include: "rules/promote.smk"
include: "rules/reproduce.smk"
include: "rules/publish.smk"
include: "rules/index.smk"


localrules:
    all,
    receipts,
    stable,
    reproduce,
    publish,


rule all:
    default_target: True
    input:
        release_manifests(),
        wanted_receipts(),
        indexes(),


rule receipts:
    input:
        wanted_receipts(),


rule reproduce:
    """Every variant built twice; ends non-zero naming those whose bytes differ."""
    input:
        records=reproduced_records(),
    log:
        "artifacts/logs/reproduce.log",
    shell:
        "python -m phiforge.reproduce require {input.records:q} 2>&1 | tee {log:q}"


onsuccess:
    shell("python -m phiforge.release summary {SUMMARY_ARGUMENTS:q}")


onerror:
    shell("python -m phiforge.release summary {SUMMARY_ARGUMENTS:q}")
