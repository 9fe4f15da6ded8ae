"""Say what a job asks a cluster's scheduler for, and give a node what the plan decided.

On a node Snakemake reads the Snakefile again, twice for a job: once for the scheduler's job, once
for its step. Both are a part of what the job needs.
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from phiforge.jobs import NODES, Blocked, to_json
from phiforge.rule_params import Names, with_signature
from phiforge.settings import cost
from phiforge.settings.devices import Device
from phiforge.settings.settings import Settings

SNAKEMAKES_MB = 300
"""What the two Snakemakes around a job hold: 256 MB with a job that does next to nothing."""
_BLOCKED = "PHIFORGE_BLOCKED"
_NODE_KEYS = {"slurm_partition": "partition", "constraint": "constraint", "gres": "gres"}

BlockedByName = Mapping[str, Blocked | None]


def is_used(workflow: Any) -> bool:
    """Return whether jobs go to a cluster."""
    return workflow.resource_settings.nodes is not None


def lift_memory_budget(workflow: Any) -> None:
    """Let jobs ask a scheduler for more memory than one machine has.

    Snakemake joins profiles/default, which has that budget, to every other profile, and asks for no
    more than it.
    """
    workflow.register_resource("mem_mb", None)


def payload_storage(workflow: Any) -> dict[str, Any] | None:
    """Return where payloads travel through; None: the machines share a file system.

    Snakemake then keeps copies of the records below a folder of its own, named like the storage. A
    link makes that ``artifacts/``, so that every file is where it is without a storage.
    """
    provider = workflow.storage_registry.default_storage_provider
    if provider is None:
        return None
    prefix = workflow.storage_settings.default_storage_prefix.rstrip("/")
    copies = provider.object(f"{prefix}/artifacts").local_path()
    Path("artifacts").mkdir(exist_ok=True)
    copies.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        copies.symlink_to(os.path.relpath("artifacts", copies.parent))
    options = {
        name: value
        for name in ("endpoint_url", "region")
        if (value := getattr(provider.settings, name, None))
    }
    return {"url": f"{prefix}/payloads", "options": options}


def environment(
    devices: Mapping[str, Device], blocked: Mapping[str, BlockedByName]
) -> dict[str, str]:
    """Return the variables of every job that say what is asked of a node, and what was decided.

    Args:
        blocked: ``rows`` and ``variants`` by name, each with why it is blocked.
    """
    nodes = {
        name: {
            "summary": row.summary,
            "detect": row.detect.model_dump(mode="json"),
            "runner_key": row.slurm.runner_key,
        }
        for name, row in devices.items()
        if row.slurm
    }
    return {NODES: json.dumps(nodes, sort_keys=True), _BLOCKED: to_json(blocked)}


def blocked_by_plan() -> Mapping[str, BlockedByName] | None:
    """Return `environment`'s ``blocked`` of the Snakemake that made the plan; None: it gave none.

    A node has other devices than the machine of the plan, and must not plan otherwise.
    """
    decided = json.loads(os.environ.get(_BLOCKED, "null"))
    return decided and {
        kind: {name: why and Blocked(**why) for name, why in of.items()}
        for kind, of in decided.items()
    }


class Requests:
    """The resources of jobs, as functions of their names.

    Args:
        blocked: model, variant and row to why that check cannot run.
        on_cluster: whether Snakemakes run around each job.
    """

    def __init__(
        self,
        settings: Settings,
        blocked: Callable[[str, str, str], Blocked | None],
        on_cluster: bool,
    ) -> None:
        self._settings, self._blocked = settings, blocked
        self._around_mb = SNAKEMAKES_MB if on_cluster else 0

    def memory(self, needed: Callable[[Any], int]) -> Callable[[Any], int]:
        """Return the megabytes of a job that needs so many, with what is around it."""
        return with_signature(lambda names: needed(names) + self._around_mb)

    @property
    def reference_minutes(self) -> Callable[[Any], int]:
        return self._minutes(lambda names: cost.reference_s(self._settings.models[names.model]))

    @property
    def convert_minutes(self) -> Callable[[Any], int]:
        return self._minutes(lambda names: cost.convert_s(self._settings.models[names.model]))

    @property
    def check_minutes(self) -> Callable[[Any], int]:
        return self._minutes(self._check_s)

    def _check_s(self, names: Names) -> float:
        runtimes = self._settings.devices[names.device].runtimes
        module = runtimes[self._settings.variants[names.variant].format].module
        return cost.check_s(self._settings.models[names.model], module)

    @staticmethod
    def _minutes(cpu_s: Callable[[Any], float]) -> Callable[[Any], int]:
        return with_signature(lambda names: cost.limit_min(cpu_s(names)))

    @property
    def nodes(self) -> dict[str, Callable[[Any], str | None]]:
        """Slurm's resources of a check; none, where no row names nodes."""
        if not any(device.slurm for device in self._settings.devices.values()):
            return {}
        return {
            resource: with_signature(partial(self._node, key))
            for resource, key in _NODE_KEYS.items()
        }

    def _node(self, key: str, names: Names) -> str | None:
        if self._blocked(names.model, names.variant, names.device) is not None:
            return None
        return getattr(self._settings.devices[names.device].slurm, key, None)
