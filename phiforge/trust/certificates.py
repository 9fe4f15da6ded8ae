"""Check that a signing certificate is valid today and leads to a trusted authority.

The path is built and validated by ``cryptography`` (RFC 5280 with the web's rules for
authorities); what a signing certificate itself must allow is what OpenSSF model-signing asks, and
nothing else than signing code if it is restricted to a purpose.
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

_CODE = {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


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
    """Refuse a certificate that does not say that it may sign, or is for another purpose.

    A server's certificate may sign, too: its extended key usage says what (RFC 5280, 4.2.1.12).

    Raises:
        TrustError: ``wrong-certificate``.
    """
    try:
        extensions = leaf.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise TrustError("bad-certificate", "its extensions cannot be read", where) from None
    usages = [extension.value for extension in extensions]
    purposes = [set(one) for one in usages if isinstance(one, x509.ExtendedKeyUsage)]
    may_sign = any(isinstance(one, x509.KeyUsage) and one.digital_signature for one in usages)
    for_code = any(_CODE & purpose for purpose in purposes)
    if not for_code and (purposes or not may_sign):
        raise TrustError("wrong-certificate", "the certificate is not for signing code", where)


def check_subject(
    leaf: x509.Certificate,
    authorities: Sequence[x509.Certificate],
    subjects: Sequence[x509.Name],
    where: str,
) -> None:
    """Refuse a certificate of an authority if it is nobody's that the reader names.

    Args:
        authorities: a leaf that is listed here is named by that.

    Raises:
        TrustError: ``wrong-subject``.
    """
    if leaf in authorities or leaf.subject in subjects:
        return
    what = f"is of {leaf.subject.rfc4514_string()}, "
    if subjects:
        what += f"not of {' or '.join(one.rfc4514_string() for one in subjects)}"
    else:
        what += "and nobody's certificate was named: if that is the publisher's, give --subject"
    raise TrustError("wrong-subject", what, where)


def parse_subject(text: str) -> x509.Name:
    """Return the name that ``text`` writes as RFC 4514 does.

    Raises:
        PhiforgeError: it is not one, or names nobody.
    """
    try:
        # An unset variable in a script must not come to mean a certificate without a subject.
        if not (name := x509.Name.from_rfc4514_string(text)).rdns:
            raise ValueError
        return name
    except ValueError:
        raise PhiforgeError(
            "not the subject of a certificate",
            expected="a name such as CN=Releases,O=Acme",
            found=repr(text),
            remedy="copy what 'openssl x509 -noout -subject -nameopt RFC2253' prints",
        ) from None


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
