"""Signed statements about artifacts: keys, DSSE envelopes, in-toto statements. All offline."""

from records.errors import PhiforgeError


class AttestationError(PhiforgeError):
    """A key or an envelope cannot be used, or does not say what it must.

    Attributes:
        name: what is wrong, for instance ``unknown-signer``; stable, for programs and tests.
    """

    def __init__(self, name: str, what: str, **told: object) -> None:
        super().__init__(what, **told)  # type: ignore[arg-type]
        self.name = name
