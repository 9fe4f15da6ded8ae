"""Say what an artifact's receipts show of each device: a line of the matrix variant by device."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phiforge.receipts.receipt import Receipt

_GENERATION = "DEVICE_ARCHITECTURE"
_DRIVER = "NPU_DRIVER_VERSION"


@dataclass(frozen=True)
class Device:
    """A device that executed an artifact; None: its receipt does not tell.

    Attributes:
        row: its device row.
        generation: of an NPU, such as ``4000``.
        driver: its version.
    """

    row: str
    generation: str | None
    driver: str | None

    def __str__(self) -> str:
        """Name it.

        >>> str(Device("npu-4000", "4000", "32.0.100")), str(Device("gpu", None, None))
        ('npu-4000 (driver 32.0.100)', 'gpu')
        """
        return f"{self.row} (driver {self.driver})" if self.driver else self.row


def device_of(receipt: Receipt) -> Device:
    """Return the device of a receipt, by the observations that prove it."""
    proof = receipt.executed_on.proof if receipt.executed_on else ()
    observed = {one.what: one.observed for one in proof}
    return Device(receipt.device, observed.get(_GENERATION), observed.get(_DRIVER))


@dataclass(frozen=True)
class DeviceState:
    """What is known of an artifact on a device.

    Attributes:
        state: ``passed``; ``failed``; ``compiled``: the device's own compiler took it, no device
            has seen it; ``not asked``: that compiler was not installed; ``missing``: nothing is
            known.
        driver: version of the driver that it passed with; None: the receipt does not tell.
    """

    state: str
    driver: str | None = None

    def __str__(self) -> str:
        """Say it in a few words.

        >>> str(DeviceState("passed", "32.0.100"))
        'passed (driver 32.0.100)'
        """
        return f"{self.state} (driver {self.driver})" if self.driver else self.state


def device_states(receipts: Iterable[Receipt]) -> dict[str, DeviceState]:
    """Return device row to what is known of the artifact there."""
    known = tuple(receipts)
    compilers = {row: one for one in known if one.kind == "compiler" for row in one.stands_for}
    return {one.device: _state(one, compilers) for one in known if one.kind == "device"}


def _state(receipt: Receipt, compilers: Mapping[str, Receipt]) -> DeviceState:
    if receipt.verdict != "blocked":
        return DeviceState(receipt.verdict, device_of(receipt).driver)
    if (compiler := compilers.get(receipt.device)) is None:
        return DeviceState("missing")
    return DeviceState("not asked" if compiler.verdict == "blocked" else compiler.verdict)
