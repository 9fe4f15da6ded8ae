"""Which locked toolchains a provenance names: every one that the release was made or checked in."""

import hashlib
from pathlib import Path

import pytest

from phiforge import project
from phiforge.project import project_state
from phiforge.release.evidence import modules_of
from phiforge.release.provenance import provenance
from phiforge.settings.modules import environments_of

MAIN, LIBRARY = "a" * 64, "b" * 64


def locks(converter: str, runtime: str, verdict: str) -> dict[str, str]:
    """The locks that a release of that build and that receipt depends on, name to digest."""
    build = {
        "model": "m",
        "variant": "v",
        "converter": converter,
        "source": {"kind": "local", "files": []},
        "recipe": {},
        "toolchain": {},
        "artifact_sha256": "d" * 64,
        "project": {"commit": None, "clean": None, "lock_sha256": MAIN}
        | {"environments": {"npu-library": LIBRARY, "another": "e" * 64}},
    }
    modules = modules_of(build, [{"runtime": runtime, "verdict": verdict}])
    made = provenance(
        build,
        {},
        version="0.1.0",
        channel="candidate",
        builder="urn:test:builder",
        payload={},
        byproducts={},
        environments=environments_of(*modules),
    )
    listed = made["predicate"]["buildDefinition"]["resolvedDependencies"]
    return {one["name"]: one["digest"]["sha256"] for one in listed}


@pytest.mark.parametrize(
    ("converter", "runtime", "verdict", "named"),
    [
        ("npu_library", "npu_library", "passed", True),
        ("npu_library", "npu_library", "blocked", True),  # it was made there all the same
        ("openvino", "npu_library", "failed", True),
        ("openvino", "npu_library", "blocked", False),
        ("openvino", "openvino_npu", "passed", False),
    ],
)
def test_it_names_the_environments_in_which_work_was_done(
    converter: str, runtime: str, verdict: str, named: bool
) -> None:
    library = {"envs/npu-library.lock": LIBRARY} if named else {}
    assert locks(converter, runtime, verdict) == {"envs/main.lock": MAIN, **library}


def test_a_conversion_notes_from_which_locks_the_environments_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "ROOT", tmp_path)
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/main.lock").write_text("a==1\n")
    (tmp_path / ".venv-half-made").mkdir()
    (tmp_path / ".venv-npu-library").mkdir()
    (tmp_path / ".venv-npu-library/.installed").write_text(LIBRARY + "\n")
    state = project_state()
    assert state["lock_sha256"] == hashlib.sha256(b"a==1\n").hexdigest()
    assert state["environments"] == {"npu-library": LIBRARY}
