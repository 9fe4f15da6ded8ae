"""The release key: one ECDSA P-256 key signs the statements (DSSE) and the payload (OpenSSF).

It comes from the configuration (``signing``), from the environment (PHIFORGE_SIGNING_KEY), or is
ephemeral and says so. It is read, used, and never written anywhere. The payload's
signature is made in `phiforge.release.model_signature`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from phiforge.errors import PhiforgeError
from phiforge.trust import envelope
from phiforge.trust.keys import (
    SIGNING_KEY,
    Signer,
    ephemeral,
    load_private,
    password_from_environment,
    public_key,
)


class SigningError(PhiforgeError):
    """Key, certificate and configuration of a release's signature do not fit together."""


@dataclass(frozen=True, repr=False)
class ReleaseKey:
    """A key that signs releases, and the certificates that name its owner.

    Attributes:
        certificate: PEM file of the signing certificate, or None.
        chain: PEM files of the certificates between it and its authority.
    """

    signer: Signer
    certificate: Path | None = None
    chain: tuple[Path, ...] = ()

    @property
    def keyid(self) -> str:
        """Return the SHA-256 of the public key's DER form, in hex."""
        return self.signer.public_key.keyid

    @property
    def ephemeral(self) -> bool:
        """Whether it was made in memory, for one use: this proves integrity, not origin."""
        return self.signer.ephemeral

    @property
    def public_pem(self) -> str:
        """Return the public key's PEM text, to be shipped."""
        return self.signer.public_key.pem

    @property
    def certificates_pem(self) -> str:
        """Return certificate and chain as one PEM text; empty without a certificate."""
        files = [self.certificate, *self.chain] if self.certificate else []
        return "".join(path.read_text("ascii").strip() + "\n" for path in files)

    def sign_statement(self, statement: Mapping[str, Any]) -> dict[str, Any]:
        """Return the DSSE envelope of an in-toto statement."""
        return envelope.sign(statement, self.signer)


def release_key(settings: Mapping[str, Any]) -> ReleaseKey:
    """Return the key that the environment or config key ``signing`` names, or a new one.

    Raises:
        TrustError: the key cannot be read, or lies below artifacts/.
        SigningError: it is no ECDSA P-256 key, or not the certificate's.
    """
    named = os.environ.get(SIGNING_KEY) or settings.get("key")
    if not named:
        if settings:
            raise SigningError(
                "key 'signing' names no private key",
                where="config/config.yaml",
                remedy=f"add 'key: FILE', or set {SIGNING_KEY}",
            )
        return ReleaseKey(ephemeral("ecdsa"))
    path = Path(named)
    signer = load_private(path, _password(settings))
    if not isinstance(signer.public_key.public, EllipticCurvePublicKey):
        raise SigningError(
            "a release key signs the payload too, and model-signing takes no Ed25519 key",
            where=path,
            expected="ECDSA P-256",
            found="Ed25519",
            remedy="make one with 'phiforge new-key --kind ecdsa'",
        )
    certificate = settings.get("certificate")
    chain = tuple(Path(one) for one in settings.get("certificate_chain", []))
    key = ReleaseKey(signer, Path(certificate) if certificate else None, chain)
    _check_certificates(key)
    return key


def _password(settings: Mapping[str, Any]) -> bytes | None:
    variable = settings.get("password_env")
    if variable is None:
        return password_from_environment(SIGNING_KEY)
    password = os.environ.get(variable)
    if not password:
        raise SigningError(
            f"the environment variable {variable} is not set",
            where="config/config.yaml, key 'signing.password_env'",
            remedy=f"export {variable} with the release key's password",
        )
    return password.encode()


def _check_certificates(key: ReleaseKey) -> None:
    """Refuse a certificate of another key: nobody could verify what is signed."""
    if key.certificate and not key.chain:
        raise SigningError(
            "key 'signing' names a certificate and no 'certificate_chain'",
            where="config/config.yaml",
            remedy="name the certificates between it and its authority, or the authority's own",
        )
    own = key.signer.public_key
    for path in filter(None, (key.certificate, *key.chain)):
        try:
            found = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError):
            raise SigningError(
                "not certificates in PEM form", where=path, remedy="correct the path"
            ) from None
        if path == key.certificate and public_key(found[0].public_key(), path) != own:
            raise SigningError(
                "the certificate is of another key",
                where=path,
                remedy="name the certificate that was issued for 'signing.key'",
            )
