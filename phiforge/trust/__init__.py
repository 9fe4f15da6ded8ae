"""Sign statements about artifacts, and read what others signed: offline, taken for hostile.

Needs the standard library and ``cryptography`` only. Keys, DSSE envelopes, in-toto statements and
certificates are read here for everyone: gate, promotion, lab, publishing and the verifier.
"""

from pathlib import Path

from phiforge.artifact.checksums import visible
from phiforge.errors import PhiforgeError


class TrustError(PhiforgeError):
    """A key, a certificate or a signed document cannot be used, or does not say what it must.

    Attributes:
        name: what is wrong, for instance ``wrong-key``; stable, for programs and tests.
        what: the same in words, without the place and the remedy.
        where: the file, or empty.
    """

    def __init__(
        self,
        name: str,
        what: str,
        where: str | Path = "",
        *,
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
    ) -> None:
        # What is read may be hostile: nothing of it may move a terminal's cursor.
        what, where = visible(what), visible(str(where))
        super().__init__(what, where=where or None, expected=expected, found=found, remedy=remedy)
        self.name = name
        self.where = where
        self.what = str(PhiforgeError(what, expected=expected, found=found))
