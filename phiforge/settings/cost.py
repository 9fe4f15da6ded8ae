"""Estimate what jobs take, from the measurements in benchmarks/.

Processor time is a job's share for every parameter and what it takes for a model of none. The
first is from Phi-3-mini's shape (benchmarks/full_size, compare and npu_compiler),
the second from phi3-tiny (Snakemake's benchmark files of a run of all). Memory is in
`phiforge.settings.plan`.
"""

from dataclasses import dataclass

from phiforge.settings.models import Model
from phiforge.settings.variants import Variant

# CPU seconds: of any model, and for a billion parameters.
_FETCH = (0, 3)
_REFERENCE = (7, 25)
_CONVERT = (6, 10)
_CHECKS = {
    "onnx_genai": (8, 22),
    "onnx_genai_directml": (106, 100),
    "openvino": (16, 16),
    "openvino_npu": (31, 53),
    "npu_compiler": (6, 21),
    "npu_library": (30, 53),
}
_OTHER_CHECK = (31, 53)
_KEPT_BUSY = 0.76
"""Share of two processors that a run keeps busy (benchmarks/compare, ``checks.all``)."""
_SLOWER = 20
"""How many times longer a job may take on a cluster's node than its processor time here."""

# Bytes of a payload for a parameter (benchmarks/compare, ``size_mb``), and what else lies in it.
_PAYLOAD_BYTES = {"fp16": 2.0, "int8": 1.05, "int4": 0.73, "nf4": 0.73}
_BESIDE_WEIGHTS = 4_000_000
_SOURCE_BYTES = 2.0
"""Bytes of a checkpoint for a parameter: bfloat16."""


@dataclass
class Cost:
    """What is still to be done takes.

    Attributes:
        jobs: how many.
        cpu_s: processor time, in seconds.
        disk: bytes that it leaves on the disk.
        peak_mb: the memory of the largest job, in 1e6 bytes.
        largest: that job, in words.
    """

    jobs: int = 0
    cpu_s: float = 0.0
    disk: int = 0
    peak_mb: int = 0
    largest: str = ""

    def add(self, job: str, cpu_s: float, memory_mb: int, disk: int = 0) -> None:
        """Add one job."""
        self.jobs, self.cpu_s, self.disk = self.jobs + 1, self.cpu_s + cpu_s, self.disk + disk
        if memory_mb > self.peak_mb:
            self.peak_mb, self.largest = memory_mb, job

    def wall_s(self, processors: int) -> float:
        """Return the time that it takes, in seconds."""
        return self.cpu_s / (processors * _KEPT_BUSY)


def source_bytes(model: Model) -> int:
    """Return about how large a checkpoint is."""
    return int(model.parameters * _SOURCE_BYTES)


def payload_bytes(model: Model, variant: Variant) -> int:
    """Return about how large a variant's payload is."""
    return int(model.parameters * _PAYLOAD_BYTES[variant.precision]) + _BESIDE_WEIGHTS


def fetch_s(model: Model) -> float:
    """Return the processor time of a fetch, without the network's."""
    return _of(_FETCH, model)


def reference_s(model: Model) -> float:
    """Return the processor time of a reference."""
    return _of(_REFERENCE, model)


def convert_s(model: Model) -> float:
    """Return the processor time of a conversion."""
    return _of(_CONVERT, model)


def check_s(model: Model, module: str) -> float:
    """Return the processor time of a check with a runtime's ``module``."""
    return _of(_CHECKS.get(module, _OTHER_CHECK), model)


def limit_min(cpu_s: float) -> int:
    """Return the minutes after which a scheduler may end a job: a slow node may be loaded as well.

    Args:
        cpu_s: what the job takes where it was measured.
    """
    return 30 + int(cpu_s * _SLOWER / 60)


def _of(cost: tuple[int, int], model: Model) -> float:
    fixed, for_a_billion = cost
    return fixed + for_a_billion * model.parameters / 1e9
