"""Signed statements about artifacts: keys, DSSE envelopes, in-toto statements. All offline."""

from pathlib import Path

from phiforge.errors import PhiforgeError


class AttestationError(PhiforgeError):
    """A key or an envelope cannot be used, or does not say what it must.

    Attributes:
        name: what is wrong, for instance ``unknown-signer``; stable, for programs and tests.
        what: the same in words, without the place and the remedy.
    """

    def __init__(
        self,
        name: str,
        what: str,
        *,
        where: str | Path | None = None,
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, where=where, expected=expected, found=found, remedy=remedy)
        self.name = name
        self.what = str(PhiforgeError(what, expected=expected, found=found))
