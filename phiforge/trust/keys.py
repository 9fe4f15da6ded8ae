"""Ed25519 and ECDSA P-256 keys in PEM files: PKCS #8 private, SubjectPublicKeyInfo public.

Ed25519 (RFC 8410) is what receipts are signed with. A release key is ECDSA P-256: OpenSSF
model-signing takes no Ed25519.

A key's id is the SHA-256 of its public part's DER form, in hex: the fingerprint that
``openssl pkey -pubin -outform DER | sha256sum`` prints.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
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
from phiforge.trust import AttestationError
from phiforge.trust.library import CryptoSigner, SSlibKey

Signer = CryptoSigner
PublicKey = SSlibKey

RUNNER_KEY = "PHIFORGE_RUNNER_KEY"
SIGNING_KEY = "PHIFORGE_SIGNING_KEY"
SIGNING = "PHIFORGE_SIGNING"  # config key `signing` as JSON, which Snakemake gives to its jobs
ARTIFACTS = Path("artifacts")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LONGEST_PEM = 1 << 16


def _ecdsa() -> EllipticCurvePrivateKey:
    return generate_private_key(SECP256R1())


KINDS: Mapping[str, Callable[[], Ed25519PrivateKey | EllipticCurvePrivateKey]] = {
    "ed25519": Ed25519PrivateKey.generate,
    "ecdsa": _ecdsa,
}


class OccasionalSigner(CryptoSigner):
    """A signer whose key was made for this occasion and is nowhere written.

    What it signs was not changed since; who signed it nobody can know.
    """


def load_private(path: Path, password: bytes | None = None) -> Signer:
    """The signer of a private key file, Ed25519 or ECDSA P-256.

    Raises:
        AttestationError: the file is missing, lies below artifacts/, may be read by others, is
            no such key, or ``password`` is not its password.
    """
    _refuse_artifacts(path)
    try:
        pem = _read(path)
        if os.name == "posix" and path.stat().st_mode & _OTHERS:
            raise AttestationError(
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
    public = _usable(key.public_key())
    if public is None or not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise _unusable(path, None)
    return CryptoSigner(key, _public(public))


def private_from_environment(name: str) -> Signer | None:
    """The signer whose key file the variable ``name`` names; None: it is not set.

    The key's password, if it has one, is in the variable ``<name>_PASSWORD``.

    Raises:
        AttestationError: see `load_private`.
    """
    path = os.environ.get(name)
    if not path:
        return None
    return load_private(Path(path), password_from_environment(name))


def password_from_environment(name: str) -> bytes | None:
    """The password of the key that the variable ``name`` names, if one is set."""
    password = os.environ.get(f"{name}_PASSWORD")
    return password.encode() if password else None


def occasional(kind: str = "ed25519") -> OccasionalSigner:
    """A signer with a new key, of a kind in ``KINDS``, that lives in this process only."""
    key = KINDS[kind]()
    return OccasionalSigner(key, _public(key.public_key()))


def load_public(pem: str) -> PublicKey:
    """A public key, Ed25519 or ECDSA P-256, from its PEM text.

    Raises:
        AttestationError: it is no such key.
    """
    try:
        key = _usable(load_pem_public_key(pem.encode()))
    except (TypeError, ValueError, UnsupportedAlgorithm):
        key = None
    if key is None:
        raise AttestationError("bad-key", "not an Ed25519 or ECDSA P-256 public key in PEM form")
    return _public(key)


def read_public(path: Path) -> PublicKey:
    """A public key from its PEM file.

    Raises:
        AttestationError: the file is missing or holds no such key.
    """
    try:
        return load_public(_read(path).decode())
    except OSError as error:
        raise _unreadable(path, error) from None
    except (AttestationError, UnicodeDecodeError):
        raise AttestationError(
            "bad-key",
            "not an Ed25519 or ECDSA P-256 public key in PEM form",
            where=path,
            remedy="make one with 'phiforge new-key'",
        ) from None


def public_pem(key: PublicKey) -> str:
    """The PEM text of a public key."""
    if key.keytype != "ed25519":
        return str(key.keyval["public"])
    crypto = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return crypto.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def new_key(
    private: Path, public: Path, password: bytes | None = None, kind: str = "ed25519"
) -> PublicKey:
    """Make a key pair: ``private`` for its owner's eyes only, ``public`` for everyone.

    Raises:
        AttestationError: one of the files exists, or ``private`` lies below artifacts/.
    """
    _refuse_artifacts(private)
    for path in (private, public):
        if path.exists():
            raise AttestationError(
                "key-exists", "a file is here already", where=path, remedy="choose another name"
            )
    key = KINDS[kind]()
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    private.parent.mkdir(parents=True, exist_ok=True)
    # Created for its owner only: at no moment can another user open it.
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(pem)
    made = _public(key.public_key())
    write_text(public, public_pem(made))
    return made


def _usable(key: object) -> Ed25519PublicKey | EllipticCurvePublicKey | None:
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key
    return None


def _public(key: Ed25519PublicKey | EllipticCurvePublicKey) -> PublicKey:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return SSlibKey.from_crypto(key, hashlib.sha256(der).hexdigest())


def _refuse_artifacts(path: Path) -> None:
    """What lies below artifacts/ is copied, published and shown; a private key must not."""
    for folder in (ARTIFACTS.resolve(), (ROOT / ARTIFACTS).resolve()):
        if path.resolve().is_relative_to(folder):
            raise AttestationError(
                "key-in-artifacts",
                "a private key must not lie below artifacts/",
                where=path,
                remedy="keep it outside, for instance in ~/.config/phiforge/",
            )


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_LONGEST_PEM)


def _unreadable(path: Path, error: OSError) -> AttestationError:
    return AttestationError(
        "unreadable-key",
        f"the key cannot be read ({error.strerror})",
        where=path,
        remedy="correct the path, or make a key with 'phiforge new-key'",
    )


def _unusable(path: Path, password: bytes | None) -> AttestationError:
    """cryptography's own message is not repeated: it may quote what it could not parse."""
    encrypted = b"ENCRYPTED" in _read(path)
    if encrypted:
        what = "the password is wrong" if password else "the key has a password, none is given"
        remedy = "set <the key's variable>_PASSWORD, for instance PHIFORGE_RUNNER_KEY_PASSWORD"
        return AttestationError("wrong-password", what, where=path, remedy=remedy)
    if password is not None:
        what = "a password is given for a key that has none, or this is no key"
        return AttestationError(
            "wrong-password", what, where=path, remedy="unset the key's …_PASSWORD variable"
        )
    return AttestationError(
        "bad-key",
        "not an Ed25519 or ECDSA P-256 private key in PEM form (PKCS #8)",
        where=path,
        remedy="make one with 'phiforge new-key'",
    )
