"""Which locked toolchains a provenance names: every one that the release was made or checked in."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from phiforge import project
from phiforge.artifact.record import read_record, write_record
from phiforge.project import project_state
from phiforge.release.evidence import lay_out_evidence
from phiforge.release.signing import ReleaseKey
from phiforge.trust import keys
from phiforge.trust.document import parse_json

MAIN, LIBRARY = "a" * 64, "b" * 64


def dependencies(folder: Path, *, converter: str, runtime: str, verdict: str) -> dict[str, Any]:
    """The resolved dependencies of a release of that build and that receipt, name to digest."""
    release, receipt, gate = folder / "release", folder / "npu-standin.json", folder / "gate.json"
    build = {
        "model": "m",
        "variant": "v",
        "title": "M",
        "license": "MIT",
        "format": "f",
        "precision": "int8",
        "converter": converter,
        "source": {"kind": "local", "files": [{"path": "model.safetensors", "sha256": "c" * 64}]},
        "recipe": {},
        "toolchain": {},
        "notes": [],
        "artifact_sha256": "d" * 64,
        "project": {"commit": None, "clean": None, "lock_sha256": MAIN}
        | {"environments": {"npu-library": LIBRARY, "another": "e" * 64}},
    }
    release.mkdir(parents=True)
    for name in ("README.md", "LICENSE"):
        (release / name).write_text(name)
    write_record(receipt, {"device": "npu-standin", "runtime": runtime, "verdict": verdict})
    write_record(gate, {})
    lay_out_evidence(
        release,
        build,
        {receipt: {**read_record(receipt), "metrics": {}}},
        gate,
        digests={"LICENSE": hashlib.sha256(b"LICENSE").hexdigest()},
        recipe={},
        version="0.1.0",
        channel="candidate",
        builder="urn:test:builder",
        key=ReleaseKey(keys.ephemeral("ecdsa")),
    )
    envelope = read_record(release / "evidence/provenance.dsse.json")
    statement = parse_json(base64.b64decode(envelope["payload"]).decode(), "provenance")
    listed = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
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
    tmp_path: Path, converter: str, runtime: str, verdict: str, named: bool
) -> None:
    found = dependencies(tmp_path, converter=converter, runtime=runtime, verdict=verdict)
    locks = {name: digest for name, digest in found.items() if name.endswith(".lock")}
    library = {"envs/npu-library.lock": LIBRARY} if named else {}
    assert locks == {"envs/main.lock": MAIN, **library}


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
