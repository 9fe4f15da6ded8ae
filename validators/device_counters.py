"""Read counters of a device that must rise while it works.

A runtime may report NPU and use the CPU; the counters of the device's driver do not follow suit.
Two kinds are used:

- busy: time or cycles spent working, which only grow. Intel's NPU driver counts for the device
  (``/sys/class/accel/accel*/device/npu_busy_time_us``, Linux 6.10); a GPU's driver counts for the
  process (``drm-engine-*`` and ``drm-cycles-*`` in ``/proc/self/fdinfo``,
  https://docs.kernel.org/gpu/drm-usage-stats.html).
- held: memory allocated on the device, more than before the artifact was opened. OpenVINO reports
  it, where there is no busy counter (Windows).

No such device was at hand: the files' names and the properties come from the drivers' documents.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from validators.contract import Proof, shown

Read = Callable[[], int | None]
"""Reads a counter; None: this machine does not have it."""

_ROOT = Path("/")
_NPU_BUSY = "sys/class/accel/accel*/device/npu_busy_time_us"


class DeviceCounters:
    """How far counters rose during each thing that a runtime did."""

    def __init__(
        self, *, busy: Mapping[str, Read] | None = None, held: Mapping[str, Read] | None = None
    ) -> None:
        self._busy, self._held = busy or {}, held or {}
        self._idle = {name: read() for name, read in self._held.items()}
        self._rises: dict[str, dict[str, int | None]] = {}

    @contextmanager
    def watch(self, doing: str) -> Iterator[None]:
        """Add what the counters rise by in the block to ``doing``."""
        before = {name: read() for name, read in self._busy.items()}
        yield
        rises = self._rises.setdefault(doing, {})
        for name, read in self._busy.items():
            rises[name] = _more(rises.get(name), _rise(before[name], read()), sum)
        for name, read in self._held.items():
            rises[name] = _more(rises.get(name), _rise(self._idle[name], read()), max)

    def proof(self) -> tuple[Proof, ...]:
        """Prove for each thing done that some counter rose; nothing done proves nothing."""
        if not self._rises:
            return (shown("counters of the device", "nothing was watched", holds=False),)
        return tuple(
            shown(
                f"counters of the device while {doing}",
                ", ".join(_described(name, rise) for name, rise in rises.items())
                or "no counter is known",
                any(rise is not None and rise > 0 for rise in rises.values()),
            )
            for doing, rises in self._rises.items()
        )


def _rise(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _more(known: int | None, rise: int | None, join: Callable[[list[int]], int]) -> int | None:
    present = [number for number in (known, rise) if number is not None]
    return join(present) if present else None


def _described(name: str, rise: int | None) -> str:
    return f"{name} is missing" if rise is None else f"{name} rose by {rise}"


def npu_busy_time_us(root: Path = _ROOT) -> int | None:
    """Return the microseconds that the machine's NPUs have worked since they were started."""
    files = sorted(root.glob(_NPU_BUSY))
    return sum(int(file.read_text(encoding="ascii")) for file in files) if files else None


def gpu_busy(root: Path = _ROOT) -> int | None:
    """Return nanoseconds and cycles that GPUs worked for this process; 0: it holds no GPU.

    A GPU opened through several descriptors counts once (``drm-client-id``).
    """
    folder = root / "proc/self/fdinfo"
    if not folder.is_dir():
        return None
    clients: dict[tuple[str, str], int] = {}
    for file in folder.iterdir():
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError:  # closed since the folder was listed
            continue
        keys = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "drm-client-id" in keys:
            counted = [
                int(value.split()[0])
                for name, value in keys.items()
                if name.startswith(("drm-engine-", "drm-cycles-"))
                and not name.startswith("drm-engine-capacity-")
            ]
            clients[keys.get("drm-pdev", ""), keys["drm-client-id"]] = sum(counted)
    return sum(clients.values())


def held_memory(core: Any, device: str, name: str) -> int | None:
    """Return the bytes allocated on ``device`` by OpenVINO's property ``name``."""
    try:
        value = core.get_property(device, name)
    except RuntimeError:  # no such device, or its plugin does not know the property
        return None
    return sum(value.values()) if isinstance(value, dict) else int(value)
