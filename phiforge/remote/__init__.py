"""Where a check runs: here, on a lab host over ssh, or on a device that a kit is carried to."""

from phiforge.errors import PhiforgeError


class RunnerError(PhiforgeError):
    """The way to a device, or back, is broken: there is no verdict and no receipt.

    Attributes:
        name: what is broken, for instance ``unreachable``; stable, for programs and tests.
    """

    def __init__(self, name: str, what: str, **told: object) -> None:
        super().__init__(what, **told)  # type: ignore[arg-type]
        self.name = name
