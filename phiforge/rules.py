"""Decide what each rule's job is, what it reads, and what it needs to run.

Rules only ask: every method below is the value of one directive, for the names (wildcards) of one
job. Methods that are named like a type of `phiforge.jobs` build that job.
"""

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge import cluster, jobs, rule_params
from phiforge.blocked_rows import Rows, Target
from phiforge.cache import PAYLOADS
from phiforge.jobs import Blocked
from phiforge.judged_rows import JudgedRows
from phiforge.project import PROJECT, project_state
from phiforge.remote import inbox
from phiforge.rule_params import Names
from phiforge.settings.first_layers import first_layers, source_block, with_first_layers
from phiforge.settings.limits import declared_limits
from phiforge.settings.models import LocalSource, Model
from phiforge.settings.modules import made_with, modules_digest
from phiforge.settings.placements import placed_options
from phiforge.settings.plan import (
    Plan,
    blocked_model,
    blocked_row,
    blocked_runtime,
    blocked_variant,
    check_memory_mb,
    convert_memory_mb,
    kept_versions,
    left_out,
    plan,
    promoted_and_revoked,
    reference_memory_mb,
    release_signing,
    row_of,
    stands_signed,
)
from phiforge.settings.settings import Settings, load
from phiforge.settings.variants import Variant
from phiforge.sources.local_digests import local_digests
from phiforge.targets import Targets
from validators.acceptance import read_acceptance
from validators.code_digest import check_modules
from validators.golden import load_golden

BLOCKED_MEMORY_MB = 200
TRANSFER_MEMORY_MB = 300


class Jobs:
    """The jobs of one configuration, on this machine.

    Args:
        inbox: (model, variant, row) to the files that a courier brought about it.
        dry_run: whether Snakemake only says what it would do; then no job's file is written.
        notes: what to tell the person before the run.
        on_cluster: whether jobs go to a cluster's nodes, each with Snakemakes around it.
        blocked: why rows and variants are blocked, as the Snakemake decided that made the plan:
            a node has other devices than it; None: decide.
        payloads: the storage that payloads travel through; None: machines share files.

    Raises:
        ConfigurationError: a path has a wildcard in it, or gates or golden prompts a mistake.
    """

    def __init__(
        self,
        settings: Settings,
        inbox: Mapping[inbox.Key, Sequence[str]] | None = None,
        dry_run: Callable[[], bool] = lambda: True,
        notes: Sequence[str] = (),
        on_cluster: bool = False,
        blocked: Mapping[str, Mapping[str, Blocked | None]] | None = None,
        payloads: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings = with_first_layers(settings)
        self.plan: Plan = plan(settings, inbox or ())
        self._checked, self._released = set(self.plan.checks), set(self.plan.releases)
        self.notes = (*notes, *kept_versions(settings, self.plan), *left_out(settings))
        self._inbox = inbox or {}
        self._dry_run, self._payloads = dry_run, payloads
        self._signing = release_signing(settings)
        rows, tools = settings.devices.items(), settings.tools
        self.blocked = blocked or {
            "rows": {name: blocked_row(row, tools) for name, row in rows},
            "variants": {
                name: blocked_variant(one, settings) for name, one in settings.variants.items()
            },
        }
        self._rows, self._variants = self.blocked["rows"], self.blocked["variants"]
        self.rows = Rows(settings, self._is_only_blocked)
        self.requests = cluster.Requests(settings, self._blocked, on_cluster)
        self.judged = JudgedRows(settings, self._blocked)
        self.targets = Targets(settings, self.plan, self._variants)
        for name in settings.chosen_models:
            rule_params.refuse_wildcards(settings.models[name])
        # Read here so that a mistake in them ends the run before its first job.
        read_acceptance(settings.acceptance)
        for model, one in self.plan.builds:
            placed_options(settings.models[model], settings.variants[one].options)
        for golden in {settings.models[name].golden for name in settings.chosen_models}:
            load_golden(golden)
        rule_params.state_signatures(self)

    @classmethod
    def configured(cls, config: Mapping[str, Any], workflow: Any) -> "Jobs":
        """Build the jobs of Snakemake's merged configuration, for its ``workflow``.

        Raises:
            PhiforgeError: the configuration or a file in the inbox is wrong.
        """
        brought, notes = inbox.scan()
        rule_params.begin(Path("artifacts"), dry_run=workflow.dryrun)
        on_cluster = cluster.is_used(workflow)
        if on_cluster:
            cluster.lift_memory_budget(workflow)
        return cls(
            load(config),
            brought,
            lambda: workflow.dryrun,
            notes,
            on_cluster=on_cluster,
            blocked=None if workflow.is_main_process else cluster.blocked_by_plan(),
            payloads=cluster.payload_storage(workflow),
        )

    def param(self, build: Callable[[Any], Any]) -> Callable[[Any], rule_params.JobText]:
        """Return the function that gives Snakemake a rule param: the job that ``build`` builds."""
        return rule_params.job_param(build, Path("artifacts/jobs"), self._dry_run)

    def outside_storage(self, files: Any) -> Any:
        """Mark files that no storage carries, if there is one; without, nothing is paid."""
        return rule_params.outside_storage(files) if self._payloads else files

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every job: where others and keys are, which shapes no result."""
        found = rule_params.environment(self.settings, self._signing)
        if self._payloads:
            state = project_state()
            here = {name: state[name] for name in ("commit", "clean")}
            found[PAYLOADS] = json.dumps(self._payloads)
            found[PROJECT] = os.environ.get(PROJECT) or json.dumps(here)
        return found | cluster.environment(self.settings.devices, self.blocked)

    # Models
    def _model(self, names: Names) -> Model:
        return self.settings.models[names.model]

    def fetch(self, names: Names) -> jobs.Fetch:
        return jobs.Fetch(names.model, source_block(self._model(names)))

    def whole_source(self, names: Names) -> list[str]:
        whole = self._model(names).whole
        return [f"artifacts/source/{whole}/SOURCE.json"] if whole else []

    def local_source(self, names: Names) -> dict[str, Any]:
        """Digest a local source's files: their times say nothing of what is in them."""
        source, into = self._model(names).source, Path("artifacts/source") / names.model
        if not isinstance(source, LocalSource) or self._model(names).whole:
            return {}
        return local_digests(source.path, source.checksums, into, keep=not self._dry_run())

    def golden(self, names: Names) -> str:
        return str(self._model(names).golden)

    def reference(self, names: Names) -> jobs.Reference:
        model, positions = self._model(names), self.settings.score_positions
        answered, about = model.whole is not None, (model.check_tokens, model.synthetic)
        return jobs.Reference(names.model, positions, *about, answered)

    def reference_memory(self, names: Names) -> int:
        return reference_memory_mb(self._model(names))

    # Variants

    def _variant(self, names: Names) -> Variant:
        return self.settings.variants[names.variant]

    def _recipe(self, names: Names) -> jobs.Recipe:
        one = self._variant(names)
        options = placed_options(self._model(names), one.options)
        return jobs.Recipe(one.converter, one.format, one.precision, one.base, options)

    def convert(self, names: Names) -> jobs.Convert:
        model, requires = self._model(names), self._variant(names).requires
        return jobs.Convert(
            model=names.model,
            variant=names.variant,
            title=model.title,
            license=model.license,
            recipe=self._recipe(names),
            tools=self._tools(requires.tool if requires else None),
            blocked=self._variants[names.variant],
        )

    def _tools(self, name: str | None) -> dict[str, Any]:
        return {name: self.settings.tools[name]} if name else {}

    def base_build(self, names: Names) -> list[str]:
        """Name the build that a variant is derived from; a blocked variant needs none."""
        base = self._variant(names).base
        if base is None or self._variants[names.variant] is not None:
            return []
        return [f"artifacts/build/{names.model}/{base}/BUILD.json"]

    def rebuilt_base(self, names: Names) -> list[str]:
        base = self._variant(names).base
        return [f"artifacts/rebuild/{names.model}/{base}/BUILD.json"] if base else []

    def converter_made_with(self, names: Names) -> Mapping[str, Any]:
        converter = f"converters.{self._variant(names).converter}"
        return made_with(("converters.convert", converter), (converter,))

    def convert_memory(self, names: Names) -> int:
        if self._variants[names.variant] is not None:
            return BLOCKED_MEMORY_MB
        return convert_memory_mb(self._model(names), self._variant(names))

    # Snakemake does not compare with the last run's what asks for ``resources``.
    def convert_needs_memory(self, wildcards: Names, resources: Any) -> int:
        return self.convert_memory(wildcards)

    def check_needs_memory(self, wildcards: Names, resources: Any) -> int:
        return self.check_memory(wildcards)

    # Checks

    def check(self, names: Names) -> jobs.Check:
        model, variant = self._model(names), self._variant(names)
        row = row_of(self.settings.devices[names.device], variant)
        return jobs.Check(
            model=names.model,
            variant=names.variant,
            recipe=self._recipe(names),
            row=row,
            limits=declared_limits(variant.options, row.settings),
            gates=self._gates(names),
            tools=self._tools(self.settings.devices[names.device].detect.tool),
            synthetic=model.synthetic,
            blocked=self._blocked(names.model, names.variant, names.device),
        )

    def _blocked(self, model: str, variant: str, row: str) -> Blocked | None:
        """Say why a check cannot run here; a variant that is not made is blocked on every row."""
        device = self.settings.devices[row]
        return (
            self._variants[variant]
            or blocked_runtime(device, self.settings.variants[variant])
            or self._rows[row]
            or blocked_model(device, self.settings.models[model])
        )

    def blocked_rows(self, names: Names) -> jobs.BlockedRows:
        rows = self.rows.blocked(names.model, names.variant)
        targets = (Target(names.model, names.variant, row) for row in rows)
        return jobs.BlockedRows(tuple(map(self.check, targets)))

    def _is_only_blocked(self, target: Target) -> bool:
        """Return whether the receipt of a row that is blocked holds only why."""
        is_blocked = self._blocked(*target) is not None
        return is_blocked and not self.brought(target) and not self.first_layers(target)

    def first_layers(self, names: Names) -> list[str]:
        """Name the receipt of the model that is checked instead of one too large for the row."""
        part = first_layers(self._model(names), self.settings.devices[names.device])
        receipt = f"artifacts/checks/{part}/{names.variant}/{names.device}.json"
        return [receipt] if part in self.settings.models else []

    def _gates(self, names: Names) -> dict[str, Any]:
        model = self._model(names)
        return {"minimum_validated_tokens": model.minimum_validated_tokens}

    def _runtime_modules(self, names: Names) -> tuple[str, ...]:
        device = self.settings.devices[names.device]
        return check_modules(device.runtimes[self._variant(names).format].module)

    def check_made_with(self, names: Names) -> Mapping[str, Any]:
        """Name the code and the versions of a check; a lab host's versions are in its lock."""
        modules, is_lab = self._runtime_modules(names), self.settings.devices[names.device].ssh
        elsewhere = ("phiforge.remote.check",) if is_lab or self.brought(names) else ()
        return made_with((*modules, *elsewhere), () if is_lab else modules)

    def check_beside(self, names: Names) -> list[str]:
        """Name what a check reads only if its row is elsewhere or has a key."""
        return [file for files in self._check_beside(names).values() for file in files]

    def check_options(self, names: Names) -> str:
        beside = self._check_beside(names)
        given = {**beside, "--first-layers": self.first_layers(names)}.items()
        return shlex.join(word for option, files in given if files for word in (option, *files))

    def _check_beside(self, names: Names) -> dict[str, list[str]]:
        is_lab = self.settings.devices[names.device].ssh
        return {
            "--lock": self.kit_lock(names) if is_lab else [],
            "--key": self.row_key(names),
            "--inbox": self.brought(names),
        }

    def kit_lock(self, names: Names) -> list[str]:
        lock = self.settings.devices[names.device].lock(self._variant(names).format)
        return [] if lock is None else [str(lock)]

    def row_key(self, names: Names) -> list[str]:
        key = self.settings.devices[names.device].key
        return [] if key is None else [str(key)]

    def brought(self, names: Names) -> list[str]:
        """Name what a courier brought for a row that cannot run here."""
        if self._rows[names.device] is None:
            return []
        files = self._inbox.get((names.model, names.variant, names.device), [])
        return [file for path in files for file in inbox.companions(path)]

    def check_memory(self, names: Names) -> int:
        if self._blocked(names.model, names.variant, names.device) is not None:
            return BLOCKED_MEMORY_MB
        device, variant = self.settings.devices[names.device], self._variant(names)
        if device.ssh:
            return TRANSFER_MEMORY_MB
        runtime = device.runtimes[variant.format].module
        return check_memory_mb(self._model(names), variant, runtime)

    def check_threads(self, names: Names) -> int:
        here = self._blocked(names.model, names.variant, names.device) is None
        return 2 if here and not self.settings.devices[names.device].ssh else 1

    def kit(self, names: Names) -> jobs.Kit:
        return jobs.Kit(self.check(names), self.settings.kit_payload)

    def kit_code(self, names: Names) -> str:
        modules = ("phiforge.remote.courier", "phiforge.remote.kit", "phiforge.remote.agent")
        return modules_digest(*self._runtime_modules(names), *modules)

    # Releases

    def snippet(self, names: Names) -> str:
        return str(self._variant(names).snippet)

    def release(self, names: Names) -> jobs.Release:
        model, variant = self._model(names), self._variant(names)
        return jobs.Release(
            model=names.model,
            variant=names.variant,
            summary=variant.summary,
            notice=variant.notice,
            version=model.version or self.settings.version,
            recipe=self._recipe(names),
            builder=self.settings.builder,
            languages=model.languages,
            base_model=model.base_model,
            # A key that is named signs what stands unsigned.
            signed="key" in self._signing or stands_signed(names.model, names.variant),
            gate=jobs.Gate(self.settings.channel, self._gates(names), self.judged.policies(names)),
        )

    def promote(self, names: Names) -> jobs.Promote:
        return jobs.Promote(names.model, names.variant, signed="key" in self._signing)

    def stable(self, names: object = None) -> jobs.Stable:
        blocked = {
            f"{model}/{variant}": why
            for model, variant in self.plan.checks
            if (why := self._variants[variant]) and not self.settings.models[model].synthetic
        }
        return jobs.Stable(blocked)

    def releases_of(self, names: Names) -> list[str]:
        of = (one for one in self.settings.chosen_variants if (names.model, one) in self._released)
        return [f"artifacts/released/{names.model}/{variant}.json" for variant in of]

    def index(self, names: Names) -> jobs.Index:
        model = self._model(names)
        blocked = {
            variant: why
            for variant in self.settings.chosen_variants
            if (why := self._variants[variant]) and (names.model, variant) in self._checked
        }
        promoted, revoked = promoted_and_revoked(names.model)
        return jobs.Index(names.model, model.title, model.license, blocked, promoted, revoked)

    def publish(self, names: object = None) -> jobs.Publish:
        releases = tuple(f"{model}/{variant}" for model, variant in self.plan.releases)
        return jobs.Publish(self.settings.publish.plain(), releases)
