"""Decide whose signatures count for a reader."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from cryptography import x509

from phiforge.decoding import Digest
from phiforge.trust import TrustError
from phiforge.trust.certificates import (
    check_chain,
    check_subject,
    check_usage,
    check_validity,
    read_certificates,
)
from phiforge.trust.keys import PublicKey, load_public, public_key
from phiforge.verify.folder import Folder

KEYS = "evidence/keys/"
RELEASE = "evidence/release.json"
RELEASE_SCHEMA = "phiforge/release/2"


@dataclass(frozen=True)
class ReleaseSigner:
    """The key that a release says it is signed with; ``ephemeral``: made for it, then lost."""

    keyid: Digest
    ephemeral: bool


@dataclass(frozen=True)
class ReleaseRecord:
    """What ``evidence/release.json`` says."""

    schema: Literal["phiforge/release/2"]
    model: str
    variant: str
    version: str
    artifact_sha256: Digest
    signer: ReleaseSigner


@dataclass(frozen=True)
class Trust:
    """What the reader brought along.

    Attributes:
        keys: public keys that releases may be signed with.
        authorities: certificates that a signing certificate may lead to.
        subjects: whose certificates of those authorities may sign. An authority issues
            certificates to many, a printer's among them.
        at: the moment that certificates are judged at.
    """

    keys: tuple[PublicKey, ...] = ()
    authorities: tuple[x509.Certificate, ...] = ()
    subjects: tuple[x509.Name, ...] = ()
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Signer:
    """Who may have signed a release, by what the reader trusts.

    Attributes:
        keyid: the key that the release names.
        ephemeral: that key was made for this release and thrown away.
        accepted: keys whose signatures count.
        authenticated: ``accepted`` comes from the reader, not from the release itself.
    """

    keyid: str
    ephemeral: bool
    accepted: tuple[PublicKey, ...]
    authenticated: bool


def find_signer(folder: Folder, record: ReleaseRecord, trust: Trust) -> Signer:
    """Decide whose signatures count.

    Args:
        record: not believed, only asked which key to look at.

    Raises:
        TrustError: ``wrong-key``, ``bad-key``, ``expired-certificate``, ``untrusted-certificate``,
            ``wrong-subject``…
    """
    keyid = record.signer.keyid
    name = f"{KEYS}{keyid}.pub"
    shipped = load_public(folder.read(name), name)
    if shipped.keyid != keyid:
        raise TrustError("wrong-key", f"holds another key, {shipped.keyid}", name)
    chain = _certified(folder, shipped, trust)
    if not trust.keys and not trust.authorities:
        return Signer(keyid, record.signer.ephemeral, (shipped,), authenticated=False)
    if shipped not in trust.keys:
        if not chain or not trust.authorities:
            what = f"signed by {keyid}, which is not a key that you trust"
            raise TrustError("wrong-key", what, RELEASE)
        where = f"{KEYS}{keyid}.crt"
        check_chain(chain, trust.authorities, trust.at, where)
        check_subject(chain[0], trust.authorities, trust.subjects, where)
    return Signer(keyid, record.signer.ephemeral, (shipped,), authenticated=True)


def _certified(folder: Folder, key: PublicKey, trust: Trust) -> tuple[x509.Certificate, ...]:
    """The chain that the release ships for its key, if it does; valid and made for signing."""
    name = f"{KEYS}{key.keyid}.crt"
    if name not in folder.sizes:
        return ()
    chain = read_certificates(folder.read(name), name)
    if public_key(chain[0].public_key(), name) != key:
        raise TrustError("wrong-certificate", "is of another key than the release's", name)
    check_validity(chain, trust.at, name)
    check_usage(chain[0], name)
    return tuple(chain)
