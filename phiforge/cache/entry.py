"""Write and believe the signed statement of an entry: what was made of a key's inputs, by whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phiforge.artifact.checksums import name_problem
from phiforge.cache import CacheRefusal
from phiforge.decoding import DecodeError, Digest, Text, decode
from phiforge.trust import TrustError
from phiforge.trust.document import parse_json
from phiforge.trust.envelope import open_envelope, sign
from phiforge.trust.keys import PublicKey, Signer
from phiforge.trust.statement import digests, predicate_of, statement

CACHED = "urn:phiforge:cached:v1"


@dataclass(frozen=True)
class Entry:
    """What someone has made.

    Attributes:
        key: of the inputs.
        result: what is the same whoever makes it: a payload's digest, the answers', a verdict.
        builder: URI of who made it.
        sizes: of the files, in bytes, by name: ``tree/…`` or ``record/…``.
    """

    rule: Text
    key: Digest
    about: Text
    result: Text
    builder: Text
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Believed:
    """An entry that a configured key signed, with the SHA-256 of each file."""

    entry: Entry
    keyid: str
    files: Mapping[str, str]

    @property
    def maker(self) -> str:
        """Name who made it, in messages."""
        return f"{self.entry.builder} (key {self.keyid[:16]}…)"


def sign_entry(entry: Entry, files: Mapping[str, str], signer: Signer) -> dict[str, Any]:
    """Return the envelope of an entry with these files."""
    return sign(statement(files, CACHED, vars(entry)), signer)


def believe(data: bytes, keys: Sequence[PublicKey], rule: str, key: str, where: str) -> Believed:
    """Open an envelope that lies in a key's place.

    Raises:
        CacheRefusal: ``wrong-key``, ``bad-signature``, ``other-entry`` (swapped), ``malformed``, or
            another name of `phiforge.trust`.
    """
    try:
        signed, signer = open_envelope(parse_json(data, where), keys, where)
        files = digests(signed["subject"], where)
        entry = decode(Entry, predicate_of(signed, CACHED, where))
    except TrustError as error:
        raise CacheRefusal(error.name, error.what, where) from None
    except DecodeError as error:
        raise CacheRefusal("malformed", str(error), where) from None
    if (entry.rule, entry.key) != (rule, key):
        what = f"is the entry of {entry.about}, {entry.rule}, for other inputs"
        raise CacheRefusal("other-entry", what, where)
    if files.keys() != entry.sizes.keys():
        raise CacheRefusal("malformed", "its files and sizes are not the same ones", where)
    for name in files:
        if problem := name_problem(name):
            raise CacheRefusal("hostile-name", f"'{name[:80]}' {problem}", where)
    return Believed(entry, signer.keyid, files)


def refuse_disagreement(makers: Sequence[tuple[str, str]], about: str) -> None:
    """Refuse what two builders made otherwise of the same inputs.

    Args:
        makers: who made it, and what.

    Raises:
        CacheRefusal: ``disagreement``.
    """
    for maker, result in makers[1:]:
        if result != (first := makers[0])[1]:
            what = (
                f"{first[0]} made {first[1][:16]}…, {maker} made {result[:16]}… of the same inputs"
            )
            raise CacheRefusal("disagreement", what, about)
