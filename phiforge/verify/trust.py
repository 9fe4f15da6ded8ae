"""Whom a reader believes, and whether this release is from them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from phiforge.verify.certificates import (
    check_chain,
    check_usage,
    check_validity,
    read_certificates,
)
from phiforge.verify.findings import Refusal
from phiforge.verify.folder import Folder, member
from phiforge.verify.signatures import Key, key_of, read_key

KEYS = "evidence/keys/"
RELEASE = "evidence/release.json"


@dataclass(frozen=True)
class Trust:
    """What the reader brought along.

    Attributes:
        keys: public keys that releases may be signed with.
        authorities: certificates that a signing certificate may lead to.
        at: the moment that certificates are judged at.
    """

    keys: tuple[Key, ...] = ()
    authorities: tuple[x509.Certificate, ...] = ()
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Signer:
    """Who may have signed a release, by what the reader trusts.

    Attributes:
        keyid: the key that the release names.
        occasional: that key was made for this release and thrown away.
        accepted: keys whose signatures count.
        authenticated: ``accepted`` comes from the reader, not from the release itself.
        chain: the certificates that the release ships, leaf first.
    """

    keyid: str
    occasional: bool
    accepted: tuple[Key, ...]
    authenticated: bool
    chain: tuple[x509.Certificate, ...]


def find_signer(folder: Folder, record: Mapping[str, Any], trust: Trust) -> Signer:
    """Decide whose signatures count.

    Args:
        record: ``evidence/release.json``; not believed, only asked which key to look at.

    Raises:
        Refusal: ``wrong-key``, ``bad-key``, ``expired-certificate``, ``untrusted-certificate``…
    """
    keyid = member(record, str, "signer", "keyid", where=RELEASE)
    occasional = member(record, bool, "signer", "occasional", where=RELEASE)
    if not re.fullmatch(r"[0-9a-f]{64}", keyid):
        raise Refusal("malformed", "names no key id", RELEASE)
    name = f"{KEYS}{keyid}.pub"
    shipped = read_key(folder.read(name), name)
    if shipped.keyid != keyid:
        raise Refusal("wrong-key", f"holds another key, {shipped.keyid}", name)
    chain = _certified(folder, shipped, trust)
    if trust.keys or trust.authorities:
        accepted = tuple(key for key in trust.keys if key.keyid == keyid)
        if chain and trust.authorities and not accepted:
            check_chain(chain, trust.authorities, trust.at, f"{KEYS}{keyid}.crt")
            accepted = (shipped,)
        if not accepted:
            raise Refusal(
                "wrong-key", f"signed by {keyid}, which is not a key that you trust", RELEASE
            )
        return Signer(keyid, occasional, accepted, True, chain)
    return Signer(keyid, occasional, (shipped,), False, chain)


def _certified(folder: Folder, key: Key, trust: Trust) -> tuple[x509.Certificate, ...]:
    """The chain that the release ships for its key, if it does; valid and made for signing."""
    name = f"{KEYS}{key.keyid}.crt"
    if name not in folder.sizes:
        return ()
    chain = read_certificates(folder.read(name), name)
    if key_of(chain[0].public_key(), name).keyid != key.keyid:
        raise Refusal("wrong-certificate", "is of another key than the release's", name)
    check_validity(chain, trust.at, name)
    check_usage(chain[0], name)
    return tuple(chain)
