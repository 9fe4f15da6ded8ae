"""Jobs: one frozen type a rule, with everything that shapes the rule's result.

A rule passes its job as one parameter. The process that does the work, the kit that a courier
carries, the second build and the tests all read the same object. What does not shape the result
stays out, so that changing it reruns nothing: lab hosts, keys and signing identities are in the
environment, files and limits are options of the command.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from phiforge.artifact.record import read_record
from phiforge.decoding import DecodeError, decode
from phiforge.errors import PhiforgeError

T = TypeVar("T")
KIT_SCHEMA = "phiforge/kit/1"
# Variables of a job's process: by row, how a lab host is reached, and what a node must have.
LABS, NODES = "PHIFORGE_LABS", "PHIFORGE_NODES"


class JobError(PhiforgeError):
    """A job's file does not hold the job that a command needs."""


@dataclass(frozen=True)
class Blocked:
    """Why something cannot be done here, and what to do about it."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class Recipe:
    """The part of a variant that shapes its bytes.

    Attributes:
        base: the variant that it is derived from; None: the source.
    """

    converter: str
    format: str
    precision: str
    base: str | None
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A device row, with its runtime for one format.

    Attributes:
        kind: ``device``, ``standin`` or ``compiler``.
        runner: how the device is reached: ``local``, ``ssh``, ``cluster`` or ``courier``.
        executes: the device that must have done the work, for the receipt to pass; of a compiler,
            the device that its code is for.
        stands_for: the device rows that a stand-in or a compiler speaks for; a device has none.
        runtime: name of the module in ``validators/runtimes``.
        environment: the locked environment that the runtime needs; None: the main one.
    """

    name: str
    kind: str
    runner: str
    executes: str
    stands_for: tuple[str, ...]
    runtime: str
    environment: str | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """How long a prompt a variant takes on a row; a longer one is left out and named, not failed.

    Attributes:
        prompt_tokens: longest prompt; None: no limit.
        row_prompt_tokens: longest prompt that the row takes; None: no limit.
        total_tokens: longest prompt with its answer; None: no limit.
        answer_tokens: longest answer of the reference; None: no limit.
        full_attention: every token attends to all before it. A variant of a source with a sliding
            window is then faithful only up to the window's length.
    """

    prompt_tokens: int | None = None
    row_prompt_tokens: int | None = None
    total_tokens: int | None = None
    answer_tokens: int | None = None
    full_attention: bool = False


NO_LIMITS = Limits()


@dataclass(frozen=True)
class RowPolicy:
    """A row as it is configured, for judging its receipt.

    Attributes:
        available: the row can run here, so its receipt must not be ``blocked``.
        key: PEM file of the public key that must sign the receipt; None: no key is named.
        required: stable needs this device row.
        base: the variant whose receipt it is, from which this one was compiled; None: its own.
        limits: what the variant that ran there declares.
    """

    row: Row
    available: bool
    key: str | None
    required: bool = True
    base: str | None = None
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class Fetch:
    """Get a model's source tree.

    Attributes:
        source: ``{repo, revision[, sha256]}``, ``{path, checksums}``, or ``{model, layers}``: the
            first layers of another model.
    """

    model: str
    source: Mapping[str, Any]


@dataclass(frozen=True)
class Reference:
    """Answer a model's golden prompts with transformers.

    Attributes:
        positions: how many token positions are scored, over all prompts.
        check_tokens: a longer prompt is cut from the check, in tokens.
        synthetic: the weights are random; prompts are scored, answers are not compared.
        answered: a synthetic model answers all the same.
    """

    model: str
    positions: int
    check_tokens: int
    synthetic: bool
    answered: bool = False


@dataclass(frozen=True)
class Place:
    """Measure what each form costs each of a model's matrices, and choose.

    Attributes:
        bits: what the layers' weights may have on average, one choice each.
    """

    model: str
    bits: tuple[float, ...]


@dataclass(frozen=True)
class Convert:
    """Make a variant's payload.

    Attributes:
        tools: tool to how it is named (`Settings.tools`), for variants that name one in
            ``requires``.
        blocked: nothing is converted, and BUILD.json says why.
    """

    model: str
    variant: str
    title: str
    license: str
    recipe: Recipe
    tools: Mapping[str, Any]
    blocked: Blocked | None


@dataclass(frozen=True)
class Check:
    """Check a variant's payload on a device row.

    Attributes:
        limits: what the variant declares; which prompts are left out follows from it.
        gates: ``minimum_validated_tokens`` of the model.
        tools: what is set up here for the row, as `Convert.tools`; a compiler row compiles with it.
        blocked: nothing is run, and the receipt says why.
    """

    model: str
    variant: str
    recipe: Recipe
    row: Row
    limits: Limits
    gates: Mapping[str, Any]
    tools: Mapping[str, Any]
    synthetic: bool
    blocked: Blocked | None


@dataclass(frozen=True)
class BlockedRows:
    """Say of a variant's rows that cannot run here why not.

    Attributes:
        checks: the check of each row, all of them blocked.
    """

    checks: tuple[Check, ...]

    def pairs(self) -> list[tuple[Check, Blocked]]:
        return [(check, check.blocked) for check in self.checks if check.blocked is not None]


@dataclass(frozen=True)
class Kit:
    """Pack a check for a courier.

    Attributes:
        payload: the payload travels too; else the release folder is at hand there.
    """

    check: Check
    payload: bool


@dataclass(frozen=True)
class Gate:
    """Judge a variant's receipts for a channel.

    Attributes:
        rows: the variant's rows by name.
    """

    channel: str
    gates: Mapping[str, Any]
    rows: Mapping[str, RowPolicy]


@dataclass(frozen=True)
class Release:
    """Lay out a release folder, if the gate lets its variant through.

    Attributes:
        summary: the card's first sentence.
        notice: what users must know before they take it; empty: nothing.
        version: semantic version of the release.
        builder: URI of who runs this.
        languages: that the model knows, for the card.
        base_model: on the Hub, that a local checkpoint was tuned from; None: not told.
        signed: a release key is configured, or has signed the release that is there.
    """

    model: str
    variant: str
    summary: str
    notice: str
    version: str
    recipe: Recipe
    builder: str
    languages: tuple[str, ...]
    base_model: str | None
    signed: bool
    gate: Gate


@dataclass(frozen=True)
class Promote:
    """Promote a release if its device receipts allow it.

    Attributes:
        signed: a release key is configured; without one nothing can be promoted.
    """

    model: str
    variant: str
    signed: bool


@dataclass(frozen=True)
class Stable:
    """Report which releases are stable.

    Attributes:
        blocked: ``model/variant`` to why it is not built here.
    """

    blocked: Mapping[str, Blocked]


@dataclass(frozen=True)
class Index:
    """Write a model's index.

    Attributes:
        blocked: variant to why it is not built here.
        promoted: variants whose release is promoted.
        revoked: ``variant version`` of each revoked version.
    """

    model: str
    title: str
    license: str
    blocked: Mapping[str, Blocked]
    promoted: tuple[str, ...]
    revoked: tuple[str, ...]


@dataclass(frozen=True)
class Publish:
    """Publish releases.

    Attributes:
        policy: config key ``publish``.
        releases: ``model/variant`` of each.
    """

    policy: Mapping[str, Any]
    releases: tuple[str, ...]


def to_json(job: Any) -> str:
    """Write a job on one line, the same text for the same job."""
    return json.dumps(job, default=vars, sort_keys=True)


def read_job(kind: type[T], path: Path) -> T:
    """Read the job of type ``kind`` from a rule's file, or from a kit's under the type's name.

    Raises:
        RecordError: the file is missing or holds no JSON object.
        JobError: a field is missing, unknown or of another type.
    """
    document = read_record(path)
    if document.get("schema") == KIT_SCHEMA:
        document = document[kind.__name__.lower()]
    try:
        return decode(kind, document, "job")
    except DecodeError as error:
        raise JobError(
            f"{error}, which is not what this command needs",
            where=path,
            remedy="run the rule again; it writes the job of this checkout",
        ) from None
