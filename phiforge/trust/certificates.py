"""Check that a signing certificate is valid today and leads to a trusted authority.

The path is built and validated by ``cryptography`` (RFC 5280 with the web's rules for
authorities); what a signing certificate itself must allow is what OpenSSF model-signing asks.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from phiforge.errors import PhiforgeError
from phiforge.trust import TrustError


def read_certificates(pem: bytes, where: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, in its order.

    Raises:
        TrustError: ``bad-certificate``: there is none, or not in PEM form.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise TrustError("bad-certificate", "not certificates in PEM form", where) from None


def read_authorities(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a file that someone names as authorities.

    Raises:
        PhiforgeError: the file cannot be read, or holds none.
    """
    try:
        return read_certificates(path.read_bytes(), str(path))
    except OSError as error:
        raise PhiforgeError(
            f"cannot be read ({error.strerror})", where=path, remedy="correct the path"
        ) from None


def check_validity(chain: Sequence[x509.Certificate], at: datetime, where: str) -> None:
    """Hold the dates of a chain, leaf first, against ``at``.

    Raises:
        TrustError: ``expired-certificate`` or ``future-certificate``.
    """
    for certificate in chain:
        name = certificate.subject.rfc4514_string()
        if at > certificate.not_valid_after_utc:
            until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
            raise TrustError("expired-certificate", f"{name} was valid until {until}", where)
        if at < certificate.not_valid_before_utc:
            since = f"{certificate.not_valid_before_utc:%Y-%m-%d}"
            raise TrustError("future-certificate", f"{name} is valid from {since} only", where)


def check_usage(leaf: x509.Certificate, where: str) -> None:
    """Refuse a certificate that does not say that it may sign.

    Raises:
        TrustError: ``wrong-certificate``.
    """
    try:
        extensions = leaf.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise TrustError("bad-certificate", "its extensions cannot be read", where) from None
    for extension in extensions:
        usage = extension.value
        if isinstance(usage, x509.KeyUsage) and usage.digital_signature:
            return
        if isinstance(usage, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CODE_SIGNING in usage:
            return
    raise TrustError("wrong-certificate", "the certificate is not for signing", where)


def check_chain(
    chain: Sequence[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    at: datetime,
    where: str,
) -> None:
    """Lead ``chain``, leaf first, to one of ``authorities``; a listed leaf is trusted itself.

    Raises:
        TrustError: ``untrusted-certificate``.
    """
    leaf, *others = chain
    if leaf in authorities:
        return
    # A client's chain, for no host name; its key usage is checked apart (check_usage).
    policy = ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None
    )
    verifier = (
        PolicyBuilder()
        .store(Store(list(authorities)))
        .time(at)
        .extension_policies(ca_policy=policy, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, others)
    except VerificationError as error:
        name = leaf.subject.rfc4514_string()
        raise TrustError(
            "untrusted-certificate", f"{name} does not lead to a trusted authority ({error})", where
        ) from None
