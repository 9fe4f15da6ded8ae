"""Run checks on devices elsewhere: on a lab host over ssh, or by a kit that a courier carries."""

from phiforge.errors import PhiforgeError


class RunnerError(PhiforgeError):
    """A device cannot be reached, or what came back is refused: there is no receipt.

    Attributes:
        name: what is wrong, for instance ``unreachable``; stable, for programs and tests.
    """

    def __init__(self, name: str, what: str, **details: object) -> None:
        super().__init__(what, **details)  # type: ignore[arg-type]
        self.name = name
