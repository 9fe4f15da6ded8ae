"""Read the gates: what a metric of an artifact must not pass, per precision of its weights.

``config/acceptance.yaml`` is written by ``benchmarks/calibrate_acceptance.py`` from measured
honest and sabotaged artifacts of phi3-tiny. A model that rounding costs more has wider ones, by
what was simulated with its source; nothing else widens a gate.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.tree import sha256_file
from phiforge.receipts.gates import Gates
from phiforge.settings.documents import ConfigurationError, read_yaml
from phiforge.settings.keys import Key, check_keys
from validators.contract import CheckError

FILE = {
    "fp16": Key(dict, "gates of variants with FP16 weights"),
    "int8": Key(dict, "gates of variants with INT8 weights"),
    "int4": Key(dict, "gates of variants with INT4 weights"),
    "nf4": Key(dict, "gates of variants with NF4 weights"),
}
PRECISION = {
    "top1_agreement": Key(
        dict,
        "share of positions with the reference's first choice; passes at or above the gate",
    ),
    "mean_kl": Key(
        dict, "mean KL divergence from the reference, in nats; passes at or below the gate"
    ),
    "max_kl": Key(
        dict, "largest KL divergence at any position, in nats; passes at or below the gate"
    ),
    "perplexity_ratio": Key(
        dict, "perplexity as a multiple of the reference's; passes at or below the gate"
    ),
}
METRIC = {
    "worst_honest": Key(
        float, "the worst value of any honest artifact on any row", example="0.00378"
    ),
    "mildest_sabotage": Key(float, "the best value of any sabotaged artifact", example="0.0391"),
    "gate": Key(float, "between the two: what a check accepts", required=False, example="0.0122"),
    "reported_only": Key(
        str,
        "instead of a gate: why this metric cannot separate honest from sabotaged, and so is not "
        "judged",
        required=False,
        example="the mildest sabotage gives 0.99",
    ),
}


ARITHMETIC_SHARE = 4.0
"""Of what simulated bfloat16 arithmetic costs a model: as much may an honest device be off."""
WEIGHTS_SHARES: Mapping[str, float] = {"mean_kl": 2.0, "max_kl": 4.0}
"""Of what its weights cost, rounded in simulation: as much may an honest conversion be off."""


def load_gates(
    path: Path, precision: str, overrides: Mapping[str, Any], simulated: Mapping[str, Any]
) -> Gates:
    """Read the gates of ``precision``, and widen them to what the model itself needs.

    Args:
        overrides: ``minimum_validated_tokens`` to a number.
        simulated: of REFERENCE.json (`validators.simulation`).

    Raises:
        ConfigurationError: the file is missing or says something unknown.
        CheckError: an unknown precision.
    """
    document = read_acceptance(path)
    if precision not in document:
        raise CheckError(
            f"no gates for precision '{precision}'",
            where=path,
            remedy=f"known are: {', '.join(sorted(document))}",
        )
    limits, costs = dict(document[precision]), simulated.get(precision, {})
    for metric, share in WEIGHTS_SHARES.items():
        if metric in limits and metric in costs:
            limits[metric] = max(limits[metric], float(f"{share * costs[metric]:.3g}"))
    arithmetic = simulated.get("bfloat16", {}).get("answers_mean_kl", 0.0)
    return Gates(
        limits,
        sha256_file(path),
        overrides.get("minimum_validated_tokens", 0),
        float(f"{ARITHMETIC_SHARE * arithmetic:.3g}"),
    )


def read_acceptance(path: Path) -> dict[str, dict[str, float]]:
    """Read an acceptance file as precision to metric to gate; a metric without one is left out.

    Raises:
        ConfigurationError: the file is missing or says something unknown.
    """
    document = check_keys(read_yaml(path), FILE, path)
    gates: dict[str, dict[str, float]] = {}
    for precision, metrics in document.items():
        check_keys(metrics, PRECISION, path, precision)
        gates[precision] = {}
        for name, metric in metrics.items():
            check_keys(metric, METRIC, path, precision, name)
            if ("gate" in metric) is ("reported_only" in metric):
                raise ConfigurationError(
                    f"key '{precision}.{name}' must have either 'gate' or 'reported_only'",
                    where=path,
                    remedy="measure again: python -m benchmarks.calibrate_acceptance gates",
                )
            if "gate" in metric:
                gates[precision][name] = float(metric["gate"])
    return gates
