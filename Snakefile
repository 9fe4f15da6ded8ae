# phiforge: a pinned Phi-3 in, validated release artifacts for AI PCs out.
from snakemake.utils import min_version

min_version("9.27.1")


include: "rules/common.smk"
include: "rules/fetch.smk"
include: "rules/reference.smk"
include: "rules/convert.smk"
include: "rules/check.smk"
include: "rules/placement.smk"
include: "rules/kit.smk"
include: "rules/release.smk"
include: "rules/promote.smk"
include: "rules/reproduce.smk"
include: "rules/publish.smk"
include: "rules/index.smk"


# On a cluster these run where Snakemake runs: they take seconds, need the network or the release
# key, and a node would parse this file twice for each.
localrules:
    all,
    fetch,
    index,
    kit,
    page,
    placement,
    promote,
    publish,
    receipts,
    release,
    reproduce,
    stable,
    verifier,


rule all:
    """Everything that is configured, built, checked and released."""
    default_target: True
    input:
        outside_storage(JOBS.targets.results()),


rule receipts:
    """Every receipt, released or not."""
    input:
        JOBS.targets.receipts(),


onsuccess:
    rule_params.tell_status(JOBS.plan.checks)


onerror:
    rule_params.tell_status(JOBS.plan.checks)
