# The configuration, read once. Rules ask JOBS (phiforge/rules.py), which decides.
import atexit
import os
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from phiforge import quick_plan, rule_params
from phiforge.doctor import long_work
from phiforge.errors import PhiforgeError
from phiforge.rules import Jobs
from phiforge.settings.documents import read_yaml
from phiforge.settings.modules import modules_digest, pinned_toolchain

try:
    # Snakemake names neither the line of a mistake nor a key that is given twice.
    read_yaml(Path("config/config.yaml"))
except PhiforgeError as error:
    sys.exit(f"error: {error}")


configfile: "config/config.yaml"


try:
    JOBS = Jobs.configured(config, workflow)
except PhiforgeError as error:
    sys.exit(f"error: {error}")
for note in (*JOBS.notes, *long_work(JOBS)):
    print(f"note: {note}", file=sys.stderr)

SETTINGS = JOBS.settings
PAGE_TEMPLATES = [
    f"phiforge/release/{name}"
    for name in ("base.html.j2", "overview.html.j2", "page.css", "page.html.j2")
]
param = JOBS.param
outside_storage = JOBS.outside_storage
os.environ.update(JOBS.environment)
quick_plan.plan_quickly(workflow.output_settings)
rule_params.look_for_jobs_once_a_second()
atexit.register(rule_params.tell_no_op, workflow, JOBS.plan.checks)


wildcard_constraints:
    model="|".join(map(re.escape, SETTINGS.models)),
    variant="|".join(map(re.escape, SETTINGS.variants)),
    device="|".join(map(re.escape, SETTINGS.devices)),
