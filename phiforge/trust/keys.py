"""Read, make and use Ed25519 and ECDSA P-256 keys in PEM files.

Ed25519 (RFC 8410) is what receipts are signed with. A release key is ECDSA P-256: OpenSSF
model-signing takes no Ed25519.

A key's id is the SHA-256 of its public part's DER form, in hex: the fingerprint that
``openssl pkey -pubin -outform DER | sha256sum`` prints.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from phiforge.artifact.record import write_text
from phiforge.checkout import ROOT
from phiforge.trust import TrustError

RUNNER_KEY = "PHIFORGE_RUNNER_KEY"
SIGNING_KEY = "PHIFORGE_SIGNING_KEY"
SIGNING = "PHIFORGE_SIGNING"  # config key `signing` as JSON, which Snakemake gives to its jobs
ARTIFACTS = Path("artifacts")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LONGEST_PEM = 1 << 16


PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey


def _ecdsa() -> EllipticCurvePrivateKey:
    return generate_private_key(SECP256R1())


KINDS: Mapping[str, Callable[[], PrivateKey]] = {
    "ed25519": Ed25519PrivateKey.generate,
    "ecdsa": _ecdsa,
}


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 or ECDSA P-256 public key; keys with one id are equal."""

    keyid: str
    public: Ed25519PublicKey | EllipticCurvePublicKey = field(compare=False)

    @property
    def pem(self) -> str:
        """Its PEM text (SubjectPublicKeyInfo)."""
        form = PublicFormat.SubjectPublicKeyInfo
        return self.public.public_bytes(Encoding.PEM, form).decode()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether ``signature`` is this key's over ``message``."""
        try:
            if isinstance(self.public, EllipticCurvePublicKey):
                self.public.verify(signature, message, ECDSA(SHA256()))
            else:
                self.public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, repr=False)
class Signer:
    """A private key that signs.

    Attributes:
        ephemeral: made in memory and written nowhere: what it signed was not changed since; who
            signed it nobody can know.
    """

    private: PrivateKey
    public_key: PublicKey
    ephemeral: bool = False

    def sign(self, message: bytes) -> bytes:
        """Return this key's signature over ``message``."""
        if isinstance(self.private, EllipticCurvePrivateKey):
            return self.private.sign(message, ECDSA(SHA256()))
        return self.private.sign(message)

    def private_pem(self) -> bytes:
        """Return the key in PEM form, without a password; it must not reach a disk."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_private(path: Path, password: bytes | None = None) -> Signer:
    """Return the signer of a private key file (PKCS #8), Ed25519 or ECDSA P-256.

    Raises:
        TrustError: the file is missing, lies below artifacts/, may be read by others, is
            no such key, or ``password`` is not its password.
    """
    _refuse_artifacts(path)
    try:
        pem = _read(path)
        if os.name == "posix" and path.stat().st_mode & _OTHERS:
            raise TrustError(
                "readable-key",
                "other users may read this private key",
                where=path,
                expected="mode 0600",
                found=f"mode {stat.S_IMODE(path.stat().st_mode):04o}",
                remedy=f"run 'chmod 600 {path}', or make a new key if someone may have read it",
            )
        key = load_pem_private_key(pem, password)
    except OSError as error:
        raise _unreadable(path, error) from None
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise _unusable(path, password) from None
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise _unusable(path, None)
    return Signer(key, public_key(key.public_key(), path))


def private_from_environment(name: str) -> Signer | None:
    """Return the signer whose key file the variable ``name`` names; None: it is not set.

    The key's password, if it has one, is in the variable ``<name>_PASSWORD``.

    Raises:
        TrustError: see `load_private`.
    """
    path = os.environ.get(name)
    if not path:
        return None
    return load_private(Path(path), password_from_environment(name))


def password_from_environment(name: str) -> bytes | None:
    """Return the password of the key that the variable ``name`` names, if one is set."""
    password = os.environ.get(f"{name}_PASSWORD")
    return password.encode() if password else None


def ephemeral(kind: str = "ed25519") -> Signer:
    """Make a signer with a new key, of a kind in ``KINDS``, that lives in this process only."""
    key = KINDS[kind]()
    return Signer(key, public_key(key.public_key()), ephemeral=True)


def public_key(key: object, where: str | Path = "") -> PublicKey:
    """Return one of cryptography's public keys with its id.

    Raises:
        TrustError: ``bad-key``: it is of another kind.
    """
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        pass
    elif not isinstance(key, Ed25519PublicKey):
        raise TrustError("bad-key", "not an Ed25519 or ECDSA P-256 public key", where)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(hashlib.sha256(der).hexdigest(), key)


def load_public(pem: str | bytes, where: str | Path = "") -> PublicKey:
    """Return the public key, Ed25519 or ECDSA P-256, of a PEM text.

    Raises:
        TrustError: ``bad-key``.
    """
    try:
        data = pem.encode() if isinstance(pem, str) else pem
        return public_key(load_pem_public_key(data), where)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise TrustError(
            "bad-key",
            "not an Ed25519 or ECDSA P-256 public key in PEM form",
            where,
            remedy="make one with 'phiforge new-key'",
        ) from None


def read_public(path: Path) -> PublicKey:
    """Return the public key of a PEM file.

    Raises:
        TrustError: the file is missing or holds no such key.
    """
    try:
        return load_public(_read(path), path)
    except OSError as error:
        raise _unreadable(path, error) from None


def new_key(
    private: Path, public: Path, password: bytes | None = None, kind: str = "ed25519"
) -> PublicKey:
    """Make a key pair: ``private`` for its owner's eyes only, ``public`` for everyone.

    Raises:
        TrustError: one of the files exists, or ``private`` lies below artifacts/.
    """
    _refuse_artifacts(private)
    for path in (private, public):
        if path.exists():
            raise TrustError(
                "key-exists", "the file exists", where=path, remedy="choose another name"
            )
    key = KINDS[kind]()
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    private.parent.mkdir(parents=True, exist_ok=True)
    # Created for its owner only: at no moment can another user open it.
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(pem)
    made = public_key(key.public_key())
    write_text(public, made.pem)
    return made


def _refuse_artifacts(path: Path) -> None:
    """What lies below artifacts/ is copied, published and shown; a private key must not."""
    for folder in (ARTIFACTS.resolve(), (ROOT / ARTIFACTS).resolve()):
        if path.resolve().is_relative_to(folder):
            raise TrustError(
                "key-in-artifacts",
                "a private key must not lie below artifacts/",
                where=path,
                remedy="keep it outside, for instance in ~/.config/phiforge/",
            )


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_LONGEST_PEM)


def _unreadable(path: Path, error: OSError) -> TrustError:
    return TrustError(
        "unreadable-key",
        f"the key cannot be read ({error.strerror})",
        where=path,
        remedy="correct the path, or make a key with 'phiforge new-key'",
    )


def _unusable(path: Path, password: bytes | None) -> TrustError:
    """cryptography's own message is not repeated: it may quote what it could not parse."""
    encrypted = b"ENCRYPTED" in _read(path)
    if encrypted:
        what = "the password is wrong" if password else "the key has a password, none is given"
        remedy = "set <the key's variable>_PASSWORD, for instance PHIFORGE_RUNNER_KEY_PASSWORD"
        return TrustError("wrong-password", what, where=path, remedy=remedy)
    if password is not None:
        what = "a password is given for a key that has none, or this is no key"
        return TrustError(
            "wrong-password", what, where=path, remedy="unset the key's …_PASSWORD variable"
        )
    return TrustError(
        "bad-key",
        "not an Ed25519 or ECDSA P-256 private key in PEM form (PKCS #8)",
        where=path,
        remedy="make one with 'phiforge new-key'",
    )
