"""A clean copy of this checkout that a test may run, edit and break."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from phiforge.settings.documents import read_yaml
from phiforge.settings.plan import blocked_variant
from phiforge.settings.settings import load

ROOT = Path(__file__).parents[2]
NPU_LIBRARY = ROOT / ".venv-npu-library"
NPU_COMPILER = ROOT / ".npu-compiler"
DIRECTML = ROOT / ".directml"


def available_variants() -> list[str]:
    """List the variants whose requirements this machine meets; the others are blocked."""
    settings = load(read_yaml(ROOT / "config/config.yaml"), ROOT / "config")
    variants = settings.variants
    return [name for name in variants if blocked_variant(variants[name], settings) is None]


@dataclass(frozen=True)
class Checkout:
    """A git work tree with every file that git would take, committed under a message."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user in this folder would; output is captured as text."""
        done = subprocess.run(
            arguments,
            cwd=self.folder,
            env={**_user_environment(), **self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def snakemake(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake of this environment in the folder."""
        program = str(Path(sys.executable).parent / "snakemake")
        return self.run(program, *arguments, check=check, **environment)

    @contextmanager
    def edited(self, name: str, edit: Callable[[str], str]) -> Iterator[None]:
        """Change a file of the checkout and put it back."""
        path = self.folder / name
        before = path.read_text(encoding="utf-8")
        after = edit(before)
        assert after != before, "the edit changed nothing"
        path.write_text(after, encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")

    def release(self, variant: str = "") -> Path:
        """Where the release of a variant of phi3-tiny stands, or all of them."""
        return self.folder / "artifacts/release/phi3-tiny" / variant

    def receipts(self) -> list[Path]:
        """Every receipt of phi3-tiny, without the envelopes beside them."""
        found = self.folder.glob("artifacts/checks/phi3-tiny/*/*.json")
        return sorted(path for path in found if not path.name.endswith(".dsse.json"))

    def planned(self, *arguments: str) -> set[str]:
        """What a dry run would do: each job's message (``convert phi3-tiny to openvino-int4``)."""
        done = self.snakemake("-n", "--cores", "4", *arguments)
        return planned_jobs(done.stdout + done.stderr)


def planned_jobs(output: str) -> set[str]:
    """The messages of the jobs that Snakemake's output names."""
    return {
        line.split("Job ", 1)[1].split(": ", 1)[1].strip()
        for line in output.splitlines()
        if line.strip().startswith("Job ") and ": " in line
    }


def _user_environment() -> dict[str, str]:
    """This environment without what pytest or an outer Snakemake put into it."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "SNAKEMAKE_")) and name != "PYTHONPATH"
    }


def make_checkout(
    folder: Path,
    *,
    message: str = "a checkout",
    environment: Mapping[str, str] | None = None,
    with_directml: bool = False,
) -> Checkout:
    """Copy what git tracks or would track into ``folder`` and commit it there.

    What is installed beside the main environment is linked; DirectML, on which each DirectML build
    is checked for more than a minute, only where it is asked for.
    """
    for old in _tracked(folder) if (folder / ".git").is_dir() else []:
        (folder / old).unlink(missing_ok=True)
    for name in _tracked(ROOT):
        source = ROOT / name
        if source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    for tool in (NPU_LIBRARY, NPU_COMPILER, *([DIRECTML] if with_directml else [])):
        if (tool / ".installed").is_file() and not (folder / tool.name).exists():
            (folder / tool.name).symlink_to(tool.resolve())
    checkout = Checkout(folder, environment or {})
    checkout.run("git", "init", "-q")
    checkout.run("git", "add", "-A")
    checkout.run(
        "git", "-c", "user.name=test", "-c", "user.email=test@example.invalid",
        "commit", "-q", "--allow-empty", "-m", message,
    )  # fmt: skip
    return checkout


def _tracked(folder: Path) -> list[str]:
    """The files of a work tree that git tracks or would track."""
    listing = subprocess.run(
        ["git", "-C", str(folder), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [name for name in listing.split("\0") if name]


def receipts_of(jobs: set[str]) -> set[str]:
    """The receipts that planned jobs write, each as ``MODEL VARIANT on ROW``."""
    written = set()
    for job in jobs:
        kind, _, about = job.partition(" ")
        if kind in ("check", "blocked"):
            of, _, rows = about.partition(" on ")
            written |= {f"{of} on {row}" for row in rows.split(", ")}
    return written
