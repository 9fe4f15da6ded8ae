"""What pyproject.toml asks for is what envs/main.lock pins, and nothing shadows our packages."""

import re
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.checkout import ROOT

LOCK = (ROOT / "envs/main.lock").read_text(encoding="utf-8")
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^(\S+?)==(\S+)", LOCK, re.MULTILINE)
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_a_direct_dependency_is_pinned_in_the_lock(line: str) -> None:
    requirement = Requirement(line)
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_lock_holds_hashes_and_no_address() -> None:
    pins = re.findall(r"^\S+==\S+ \\\n    --hash=sha256:", LOCK, re.MULTILINE)
    assert len(pins) == len(PINS) > 100
    assert "://" not in LOCK
    assert not re.search(r"^-", LOCK, re.MULTILINE)  # an option, such as --index-url


@pytest.mark.parametrize("package", ["converters", "phiforge", "validators"])
def test_no_other_distribution_provides_our_packages(package: str) -> None:
    """PyPI has a ``validators``; beside ours, whichever comes first on sys.path would win."""
    assert package not in PINS
    assert set(packages_distributions()[package]) == {"phiforge"}
