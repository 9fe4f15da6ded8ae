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


def device_states(receipts: Iterable[Receipt]) -> dict[str, str]:
    """Return device row to what is known of the artifact there.

    ``passed``, with the driver where the receipt tells; ``failed``; ``compiled``: the device's
    compiler took it, no device has seen it; ``not asked``: the compiler was not there;
    ``missing``: nothing is known.
    """
    known = tuple(receipts)
    compilers = {row: one for one in known if one.kind == "compiler" for row in one.stands_for}
    return {one.device: _state(one, compilers) for one in known if one.kind == "device"}


def _state(receipt: Receipt, compilers: Mapping[str, Receipt]) -> str:
    if receipt.verdict == "passed":
        driver = device_of(receipt).driver
        return f"passed (driver {driver})" if driver else "passed"
    compiler = compilers.get(receipt.device)
    if receipt.verdict != "blocked" or compiler is None:
        return "missing" if receipt.verdict == "blocked" else receipt.verdict
    return "not asked" if compiler.verdict == "blocked" else compiler.verdict
