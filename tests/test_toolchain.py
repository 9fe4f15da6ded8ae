"""What pyproject.toml asks for is pinned, nothing shadows our packages, each module has a layer."""

import re
import tomllib
from importlib.metadata import packages_distributions
from pkgutil import iter_modules

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import phiforge
from support.checkout import ROOT

LOCK = (ROOT / "envs/main.lock").read_text(encoding="utf-8")
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^(\S+?)==(\S+)", LOCK, re.MULTILINE)
}
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", CONFIGURATION["project"]["dependencies"])
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


def test_every_module_of_phiforge_has_its_layer() -> None:
    """import-linter ignores what no layer names; `make lint` holds the layers themselves."""
    contracts = CONFIGURATION["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["id"] == "layers")
    listed = {name for layer in layers for name in layer.split(" | ")}
    modules = {module.name for module in iter_modules(phiforge.__path__, "phiforge.")}
    assert modules | {"converters", "validators"} == listed
