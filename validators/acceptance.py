"""Gates: what a metric of an artifact must not pass, per precision of its weights.

``config/acceptance.yaml`` is written by ``benchmarks/calibrate_acceptance.py`` from measured
honest and sabotaged artifacts; a model's own file may override single gates.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.tree import sha256_file
from phiforge.settings.documents import read_yaml, validate
from validators.contract import CheckError
from validators.judgement import Metrics

HIGHER_IS_BETTER = frozenset({"top1_agreement"})


@dataclass(frozen=True)
class Gates:
    """The gates of one precision.

    Attributes:
        limits: metric to gate; a metric that is only reported is not among them.
        digest: SHA-256 of the acceptance file.
        minimum_validated_tokens: the longest sequence that ran must have so many tokens.
    """

    limits: Mapping[str, float]
    digest: str
    minimum_validated_tokens: int = 0

    @property
    def thresholds(self) -> dict[str, float]:
        """Everything that is judged by a number, as a receipt says it."""
        return {**self.limits, "validated_tokens": self.minimum_validated_tokens}

    def passed(self, name: str, value: float) -> bool:
        """Whether ``value`` of metric ``name`` is on the right side of its gate, or has none."""
        if name not in self.limits:
            return True
        gate = self.limits[name]
        return value >= gate if name in HIGHER_IS_BETTER else value <= gate

    def broken(self, metrics: Metrics) -> dict[str, tuple[float, float]]:
        """Metric to (value, gate), of every gate that ``metrics`` does not pass."""
        values: Mapping[str, float] = asdict(metrics)
        return {
            name: (values[name], gate)
            for name, gate in self.limits.items()
            if not self.passed(name, values[name])
        }


def load_gates(path: Path, precision: str, overrides: Mapping[str, Any]) -> Gates:
    """The gates of ``precision``, with a model's own in ``overrides``.

    ``overrides`` maps precision to metric to gate, and ``minimum_validated_tokens`` to a number.

    Raises:
        ConfigurationError: the file is missing or says something unknown.
        CheckError: an unknown precision.
    """
    document = read_yaml(path)
    validate(document, "acceptance", path)
    if precision not in document:
        raise CheckError(
            f"no gates for precision '{precision}'",
            where=path,
            remedy=f"known are: {', '.join(sorted(document))}",
        )
    limits = {
        name: float(entry["gate"]) for name, entry in document[precision].items() if "gate" in entry
    }
    limits.update(overrides.get(precision, {}))
    return Gates(limits, sha256_file(path), overrides.get("minimum_validated_tokens", 0))
