"""Renew a lock of Debian packages (envs/debian.py).

apt resolves them in a folder of its own; nothing of this machine's apt is changed.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from debian import mirror
from install import InstallError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def renew(
    lock: Path,
    target: str,
    releases: Sequence[str],
    wanted: Sequence[str],
    *,
    preferences: str = "",
    sources: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the newest packages that ``wanted`` needs to ``lock``.

    Args:
        target: what `make` is asked for.
        releases: Debian's, by code name; the first goes before the others.
        preferences: pins, as in apt_preferences(5).
        sources: release and name of source packages.

    Raises:
        InstallError: apt does not resolve them.
    """
    if not KEYRING.is_file():
        raise InstallError(
            f"{KEYRING}: missing; the packages cannot be authenticated. "
            "Remedy: apt install debian-archive-keyring"
        )
    site = mirror(target)
    lists = [f"deb [arch=amd64 signed-by={KEYRING}] {site} {release} main" for release in releases]
    lists += [f"deb-src [signed-by={KEYRING}] {site} {release} main" for release, _ in sources]
    with tempfile.TemporaryDirectory(prefix="phiforge-lock-") as name:
        configuration = _configure(Path(name), lists, preferences, releases[0])
        _apt(configuration, "update", "--quiet=2")
        listed = _apt(configuration, "install", "--yes", "--print-uris", *wanted)
        for release, source in sources:
            listed += _apt(configuration, "source", "--print-uris", f"{source}/{release}")
    entries = [_entry(line, site) for line in listed.splitlines() if line.startswith("'")]
    head = (
        f"# Made by 'make {target}-lock': package, version, SHA-256, path on any Debian mirror.\n"
    )
    lock.write_text(head + "".join(sorted(entries)), encoding="utf-8")
    print(f"{lock}: {len(entries)} files")


def _configure(folder: Path, lists: Sequence[str], preferences: str, release: str) -> Path:
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "preferences").write_text(preferences, encoding="utf-8")
    (folder / "sources.list").write_text("\n".join(lists) + "\n", encoding="utf-8")
    options = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": folder / "preferences",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Acquire::Check-Valid-Until": "false",  # a mirror may be a frozen one
        "Acquire::ForceHash": "SHA256",
        "Acquire::Languages": "none",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Default-Release": release,
        "APT::Sandbox::User": "root",  # the folder is private
    }
    file = folder / "apt.conf"
    lines = [f'{name} "{value}";\n' for name, value in options.items()]
    file.write_text("".join(lines), encoding="utf-8")
    return file


def _apt(configuration: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["apt-get", *arguments],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "APT_CONFIG": str(configuration)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(done.stdout[-2000:], file=sys.stderr)
        raise InstallError(
            f"apt-get {arguments[0]} did not resolve the packages. "
            "Remedy: read above; a package may have been renamed"
        )
    return done.stdout


def _entry(line: str, site: str) -> str:
    """One line of the lock from apt's ``'URI' FILE SIZE SHA256:DIGEST``."""
    uri, file, _, digest = line.split()
    package, version = file.removesuffix(".deb").split("_")[:2]
    path = uri.strip("'").removeprefix(f"{site}/")
    version = version.replace("%3a", ":")
    return f"{package} {version} {digest.removeprefix('SHA256:')} {path}\n"
