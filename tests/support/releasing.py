"""What tests of releases share: keys and certificates, a minimal environment, another staging."""

import json
import os
import shutil
import subprocess
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from support.checkout import Checkout
from support.jobs import JOBS, SETTINGS, Names, command, write_job

SIGNED_VARIANT = "openvino-int4-npu-cw"  # the smallest
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
        assert done.returncode == (1 if refused else 0 if report["authenticated"] else 3)
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
    subject = "CN=a leaf"

    def signing(self) -> dict[str, Any]:
        return {
            "key": str(self.key),
            "certificate": str(self.certificate),
            "certificate_chain": [str(self.chain)],
        }


def make_certified(folder: Path, purpose: str = "codeSigning") -> Certified:
    """Issue it; it expires in 30 days.

    Args:
        purpose: the certificate's extended key usage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
    _issue(folder, "root", None, 365, *authority)
    _issue(folder, "issuer", "root", 365, *authority)
    _issue(
        folder, "leaf", "issuer", 30,
        "basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
        f"extendedKeyUsage={purpose}",
    )  # fmt: skip
    public = ["openssl", "pkey", "-in", "leaf.key", "-pubout", "-out", "leaf.pub"]
    subprocess.run(public, cwd=folder, check=True)
    names = ("leaf.key", "leaf.pub", "leaf.pem", "issuer.pem", "root.pem")
    return Certified(*(folder / name for name in names))


def _issue(folder: Path, name: str, issuer: str | None, days: int, *extensions: str) -> None:
    """Make a key and its certificate, signed by an issuer or by itself."""
    signed_by = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else []
    subprocess.run(
        [
            "openssl", "req", "-x509", "-config", os.devnull, "-sha256", "-days", str(days),
            "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN=a {name}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
            *signed_by, *(word for one in extensions for word in ("-addext", one)),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )  # fmt: skip


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
        "--base", *JOBS.judged.bases(names), "--golden", JOBS.golden(names),
        "--reference", "artifacts/reference/phi3-tiny/REFERENCE.json",
        "--acceptance", SETTINGS.acceptance, "--snippet", JOBS.snippet(names),
        "--verdict", jobs / f"{into.name}.verdict.json", "--into", into,
        *JOBS.judged.receipts(names),
    )  # fmt: skip


def copy_release(release: Path, into: Path) -> Path:
    """Copy a release as someone would receive it; a test may change the copy."""
    shutil.copytree(release, into)
    for path in into.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return into
