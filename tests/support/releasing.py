"""What tests of releases share: keys and certificates, a minimal environment, another staging."""

import datetime
import json
import os
import shutil
import subprocess
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from support.checkout import Checkout
from support.jobs import JOBS, Names, command, write_job

SIGNED_VARIANT = "openvino-int4-npu-cw"  # the smallest
NOW = datetime.datetime.now(datetime.UTC)
# What the verifier needs: cryptography, and what it is bound with.
MINIMAL = ("cryptography", "cffi", "_cffi_backend", "pycparser")


@dataclass(frozen=True)
class Verifier:
    """The one-file verifier in an environment that has ``cryptography`` and nothing else."""

    python: Path
    program: Path

    def run(self, release: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python), "-I", str(self.program), str(release), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    def findings(self, release: Path, *arguments: str) -> list[str]:
        """Names of what stands against a release; the exit code must agree."""
        done = self.run(release, "--json", *arguments)
        assert "Traceback" not in done.stderr, done.stderr
        report = json.loads(done.stdout)
        refused = [finding["name"] for finding in report["findings"] if finding["refuses"]]
        assert done.returncode == (1 if refused else 0)
        return refused


def minimal_environment(folder: Path, packages: Sequence[str] = MINIMAL) -> Path:
    """The Python of a new virtual environment that has these packages only."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for package in packages:
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        origin = Path(spec.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        (site / source.name).symlink_to(source)
    return folder / "bin/python"


@dataclass(frozen=True)
class Certified:
    """A release key with a certificate that an authority issued through an intermediate."""

    key: Path
    public: Path
    certificate: Path
    chain: Path
    authority: Path

    def signing(self) -> dict[str, Any]:
        return {
            "key": str(self.key),
            "certificate": str(self.certificate),
            "certificate_chain": [str(self.chain)],
        }


def make_certified(folder: Path, *, days: float = 30) -> Certified:
    """Issue it; ``days`` from now it expires (negative: it has)."""
    folder.mkdir(parents=True, exist_ok=True)
    root, intermediate, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    later = NOW + datetime.timedelta(days=365)
    issued = {
        "root": _certificate("a root", root, "a root", root, True, later),
        "chain": _certificate("an issuer", intermediate, "a root", root, True, later),
        "leaf": _certificate(
            "a releaser", leaf, "an issuer", intermediate, False, NOW + datetime.timedelta(days)
        ),
    }
    for name, certificate in issued.items():
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private, public = write_pair(folder, leaf)
    return Certified(
        private, public, folder / "leaf.pem", folder / "chain.pem", folder / "root.pem"
    )


def write_pair(
    folder: Path, key: ec.EllipticCurvePrivateKey, password: bytes | None = None
) -> tuple[Path, Path]:
    """A key's PEM files, as ``phiforge new-key --kind ecdsa`` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / "release.pem", folder / "release.pub"
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    authority: bool,
    until: datetime.datetime,
) -> x509.Certificate:
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(NOW, until) - datetime.timedelta(days=2))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                **usage,
            ),
            critical=True,
        )
    )
    if not authority:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def stage(
    pipeline: Checkout,
    variant: str,
    into: Path,
    *,
    signing: Mapping[str, Any] | None = None,
    version: str = "0.1.0",
    check: bool = True,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Lay out another release of what the pipeline built, as its rule does."""
    return pipeline.run(
        *stage_command(pipeline.folder, variant, into, version=version),
        check=check,
        PHIFORGE_SIGNING=json.dumps(signing or {}),
        **environment,
    )


def stage_command(folder: Path, variant: str, into: Path, *, version: str = "0.1.0") -> list[str]:
    """The command line of rule release, for the checkout in ``folder``."""
    names = Names(variant=variant)
    job = replace(JOBS.release(names), version=version, builder="urn:test:builder")
    jobs = folder / "artifacts/jobs/release"
    jobs.mkdir(parents=True, exist_ok=True)
    return command(
        "release", write_job(jobs, job),
        "--build", f"artifacts/build/phi3-tiny/{variant}/BUILD.json",
        "--verdict", f"artifacts/gates/phi3-tiny/{variant}.json",
        "--snippet", JOBS.snippet(names), "--into", into, *JOBS.receipts_of(names),
    )  # fmt: skip


def copy_release(release: Path, into: Path) -> Path:
    """Copy a release as someone would receive it; a test may change the copy."""
    shutil.copytree(release, into)
    for path in into.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return into


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON document in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
