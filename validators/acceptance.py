"""Gates: what a metric of an artifact must not pass, per precision of its weights.

``config/acceptance.yaml`` is written by ``benchmarks/calibrate_acceptance.py`` from measured
honest and sabotaged artifacts; a model's own file may override single gates.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.tree import sha256_file
from phiforge.receipts.gates import Gates
from phiforge.settings.documents import read_yaml, validate
from validators.contract import CheckError


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
