"""Order the builds that fit one kind of hardware, by what was measured of them.

Figures of fidelity are compared on equal positions only: two receipts that scored other positions,
or against another reference, say nothing of each other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

AGREEMENT = 0.98
SAME_SIZE = 0.02
SAME_SPEED = 0.1
RULE = (
    f"First the builds whose most probable next token is the reference's at {AGREEMENT:.0%} of the"
    " scored positions or more, then the others. Within each, the smallest first; but a build that"
    " another beats comes behind. A build beats another if it is no larger (within"
    f" {SAME_SIZE:.0%}), its mean KL divergence is no larger on the same positions, it is no slower"
    f" (within {SAME_SPEED:.0%}) where that hardware itself has timed both with the same prompts,"
    " and it is better in one of the first two. Builds without a receipt that passed come last."
).replace("%", " %")


@dataclass(frozen=True)
class Build:
    """What was measured of a variant; None: nothing.

    Attributes:
        size: of the payload, in bytes.
        positions: names the positions that were scored, and what they were compared with.
        agreement: share of positions with the reference's most probable token first.
        mean_kl: KL(reference || variant), in nats.
        prompts: names the prompts that were timed on the hardware itself; None: none were.
        tokens_per_s: median over these.
    """

    variant: str
    size: int
    positions: str | None
    agreement: float | None
    mean_kl: float | None
    prompts: str | None = None
    tokens_per_s: float | None = None


def beats(one: Build, other: Build) -> bool:
    """Whether ``one`` leaves no reason for ``other``, by `RULE`.

    >>> small = Build("small", 10, "p", 1.0, 2e-5)
    >>> beats(small, Build("large", 20, "p", 1.0, 3e-5)), beats(small, Build("q", 20, "q", 1.0, 1))
    (True, False)
    """
    if one.positions is None or one.positions != other.positions:
        return False
    if one.mean_kl is None or other.mean_kl is None or one.mean_kl > other.mean_kl:
        return False
    if one.size > other.size * (1 + SAME_SIZE):
        return False
    timed = one.prompts is not None and one.prompts == other.prompts
    if timed and (one.tokens_per_s or 0.0) < (other.tokens_per_s or 0.0) * (1 - SAME_SPEED):
        return False
    return one.mean_kl < other.mean_kl or one.size < other.size


def frontier(builds: Sequence[Build]) -> tuple[str, ...]:
    """Name the measured builds that no other one beats, the smallest first."""
    left = [
        one
        for one in builds
        if one.mean_kl is not None and not any(beats(other, one) for other in builds)
    ]
    return tuple(one.variant for one in sorted(left, key=lambda one: (one.size, one.variant)))


def ranked(builds: Iterable[Build]) -> tuple[str, ...]:
    """Name the builds by `RULE`, the best first."""
    known = tuple(builds)
    unbeaten = frontier(known)

    def place(one: Build) -> tuple[bool, bool, bool, int, str]:
        faithful = one.agreement is not None and one.agreement >= AGREEMENT
        return (
            one.mean_kl is None,
            not faithful,
            one.variant not in unbeaten,
            one.size,
            one.variant,
        )

    return tuple(one.variant for one in sorted(known, key=place))
