"""What a compilation is about: the IR by its digests, and every option that shapes the blob.

Light enough for parse time.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.manifest import MANIFEST, read_checksums

PIPELINE_OPTIONS = ("MAX_PROMPT_LEN", "MIN_RESPONSE_LEN", "PREFILL_HINT", "GENERATE_HINT")
RESULT = "RESULT.json"
WEIGHTS = "openvino_model.bin"


def compile_job(options: Mapping[str, Any], weights_sha256: str, made_for: str) -> dict[str, Any]:
    """The job of `converters.npu_blob.compile`, without its folders.

    Args:
        options: of the variant.
        weights_sha256: of the IR's weights.
        made_for: ``NPU``; tests say ``CPU``.
    """
    return {
        "platform": options["platform"],
        "cache_mode": options["cache_mode"],
        "pipeline_options": {name: options[name] for name in PIPELINE_OPTIONS},
        # NPUW shares weights of equal names within a process, so the name is the weights' own.
        "weights_bank": f"phiforge-{weights_sha256[:32]}",
        "made_for": made_for,
    }


def subject(job: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """What a result must say that it is of, to be this job's.

    Args:
        base: payload with the IR, sealed; nothing but its SHA256SUMS is read.

    Raises:
        PayloadError: it has none.
    """
    return {"ir": ir_digests(base), **job}


def ir_digests(base: Path) -> dict[str, str]:
    """Every file of the IR's payload to its SHA-256, as it was sealed; not the seal's own."""
    listed = read_checksums(base)
    return {name: listed[name] for name in sorted(listed) if name != MANIFEST}
