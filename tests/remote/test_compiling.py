"""NPU blobs compiled elsewhere: by a real sshd on loopback, and by a real kit.

There is no NPU compiler here. What is compiled elsewhere in these tests is CPU code, the real
export in a real process there; it must come back whole and be refused by its name.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from converters.contract import ConvertError
from converters.npu_blob import build, convert
from converters.npu_blob.compile import CompileError
from converters.npu_blob.subject import WEIGHTS, compile_job, ir_digests
from phiforge.artifact.npu_blob import BLOB, LABEL, not_npu_code, read_header
from phiforge.artifact.record import read_record
from phiforge.errors import PhiforgeError
from phiforge.remote import RunnerError
from phiforge.remote.compiled_inbox import find, scan
from phiforge.remote.compiling import compile_kit
from phiforge.remote.courier import write_kit
from phiforge.settings.documents import ConfigurationError, read_yaml
from phiforge.settings.npu_compiler import read_npu_compiler
from phiforge.settings.plan import variant_availability
from phiforge.settings.settings import Settings, load
from support.checkout import ROOT, Checkout
from support.lab_host import SSHD, LabServer, free_port

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs openssh-server (sshd)")
CONFIG = read_yaml(ROOT / "config/config.yaml")
OPTIONS = dict(load(CONFIG, ROOT / "config").variants["npu-blob-4000"].options)


def settings(npu_compiler: Any) -> Settings:
    return load({**CONFIG, "npu_compiler": npu_compiler}, ROOT / "config")


@pytest.fixture
def lab(
    server: LabServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Let the lab host compile: what the converter is told, and where the host is."""
    monkeypatch.chdir(ROOT)

    def configured(**ssh: Any) -> dict[str, Any]:
        own = {"folder": str(tmp_path / "lab"), "python": sys.executable}
        chosen = settings({"ssh": server.row(**{**own, **ssh})})
        assert chosen.compiler_host is not None
        labs = {"npu_compiler": asdict(chosen.compiler_host)}
        monkeypatch.setenv("PHIFORGE_LABS", json.dumps(labs))
        return {"npu_compiler": chosen.tools["npu_compiler"]}

    return configured


def test_a_blob_of_cpu_code_comes_back_from_a_lab_host_and_is_refused(
    built: Callable[[str], Path],
    lab: Callable[..., dict[str, Any]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Twice: the second time nothing is sent, and the refusal is the same."""
    elsewhere = lab()["npu_compiler"]
    base = built("openvino-int4-npu")
    for sent in ("sent 7", "sent 0 of"):
        into = tmp_path / sent
        into.mkdir()
        with pytest.raises(CompileError, match="blob-made-for-cpu: its bytes hold code of the CPU"):
            build(base, into, OPTIONS, made_for="CPU", elsewhere=elsewhere)
        assert not (into / BLOB).exists()
        told = capfd.readouterr()
        assert sent in told.out and f"fetched {BLOB}" in told.out
    left = [path.name for path in tmp_path.glob("lab/jobs/*/*")]
    assert left == []
    assert not any(path.read_bytes()[2:6] == b"npuw" for path in tmp_path.glob("lab/store/*"))


def test_what_comes_back_is_the_blob_and_what_was_told_of_it(
    built: Callable[[str], Path], lab: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """The process that the converter starts, alone."""
    base = built("openvino-int4-npu")
    job = {
        "elsewhere": lab()["npu_compiler"], "ir": str(base), "into": str(tmp_path),
        "platform": "4000", "cache_mode": "OPTIMIZE_SIZE", "weights_bank": "test",
        "pipeline_options": {"MAX_PROMPT_LEN": 128, "MIN_RESPONSE_LEN": 32}, "made_for": "CPU",
    }  # fmt: skip
    (tmp_path / "JOB.json").write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, "-m", "phiforge.remote.compiling", "compile", str(tmp_path / "JOB.json")],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = read_record(tmp_path / "COMPILED.json")
    header = read_header(tmp_path / BLOB)
    assert (told["made_for"], told["weightless"], told["openvino"]) == (
        "CPU", True, header.openvino,
    )  # fmt: skip
    assert told["passed"]["MAX_PROMPT_LEN"] == 128
    assert "CPU plugin" in str(not_npu_code(tmp_path / BLOB))


def test_a_lab_host_without_a_compiler_says_so_in_one_line(
    built: Callable[[str], Path], lab: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ConvertError, match="compilation there ended with exit code 1: error: the"):
        convert(Path("source"), into, options=OPTIONS, base=built("openvino-int4-npu"), tools=lab())


def test_a_library_there_with_another_digest_is_refused(
    built: Callable[[str], Path], lab: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "library.so").write_bytes(b"not a compiler")
    library = {"path": str(tmp_path / "library.so"), "sha256": "0" * 64}
    tools = lab()
    tools["npu_compiler"]["libraries"] = {"loader": library, "compiler": library}
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ConvertError, match="not the library that the configuration trusts"):
        convert(Path("source"), into, options=OPTIONS, base=built("openvino-int4-npu"), tools=tools)


def test_a_lab_host_that_does_not_answer_is_an_error_not_a_block(
    built: Callable[[str], Path], lab: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    tools = lab(port=free_port())
    with pytest.raises(ConvertError, match="the lab host does not answer") as caught:
        convert(Path("source"), into, options=OPTIONS, base=built("openvino-int4-npu"), tools=tools)
    assert "\n" not in str(caught.value) and "Remedy: start it" in str(caught.value)


def test_a_lab_host_makes_the_variants_available_and_is_not_in_their_params(
    server: LabServer,
) -> None:
    chosen = settings({"ssh": server.row()})
    variant = chosen.variants["npu-blob-4000"]
    assert variant_availability(variant, chosen).available
    assert "127.0.0.1" not in json.dumps(chosen.tools)
    blocked = variant_availability(variant, settings(None))
    assert not blocked.available
    for way in ("libraries", "lab host", "courier"):
        assert way in blocked.remedy


def test_a_lab_host_that_appears_makes_its_variants_only(
    pipeline: Checkout, server: LabServer, tmp_path: Path
) -> None:
    host = server.row()
    del host["port"]  # on the command line a number within a value is text
    compiler = json.dumps({"ssh": host})
    options = ["all", "--config", f"npu_compiler={compiler}"]
    platforms = ("3720", "4000", "5010")
    assert pipeline.planned(*options) == {
        *(f"convert phi3-tiny to npu-blob-{one}" for one in platforms),
        *(f"check phi3-tiny npu-blob-{one} on npu-{one}" for one in platforms),
        "index phi3-tiny",
    }


@dataclass(frozen=True)
class Carried:
    """A kit for the CPU, and the blob that it gave on a machine with Python only."""

    job: dict[str, Any]
    result: Path
    kits: list[bytes]


@pytest.fixture(scope="module")
def carried(built: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Carried:
    folder = tmp_path_factory.mktemp("carried")
    base = built("openvino-int4-npu")
    job = compile_job(OPTIONS, ir_digests(base)[WEIGHTS], "CPU")
    kit = compile_kit(job, base, {"lock": "device-openvino", "libraries": None})
    zips = [folder / "one.zip", folder / "two.zip"]
    for path in zips:
        write_kit(kit, path, payload=True)
    there = folder / "there"
    with zipfile.ZipFile(zips[0]) as archive:
        archive.extractall(there)
    own = {"PYTHON": sys.executable, "PHIFORGE_LAB": str(folder / "lab")}
    done = subprocess.run(
        ["sh", there / "run.sh"], env={**os.environ, **own},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = there.glob("npu-blob.*.zip")
    assert f"carry {result.name} back" in done.stdout
    return Carried(job, result, [path.read_bytes() for path in zips])


def test_a_blob_of_cpu_code_that_a_courier_brought_is_refused(
    built: Callable[[str], Path], carried: Carried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    base = built("openvino-int4-npu")
    elsewhere = {"by": "courier", "result": str(carried.result)}
    for number, (change, made_for, message) in enumerate(
        [
            ({}, "CPU", "blob-made-for-cpu: its bytes hold code of the CPU"),
            ({}, "NPU", "of another job: its 'made_for' differs"),
            ({"platform": "3720"}, "CPU", "of another job: its 'platform' differs"),
        ]
    ):
        into = tmp_path / str(number)
        into.mkdir()
        with pytest.raises(PhiforgeError, match=message):
            build(base, into, {**OPTIONS, **change}, made_for=made_for, elsewhere=elsewhere)
        assert not (into / BLOB).exists()
    assert carried.kits[0] == carried.kits[1]


def edited(carried: Carried, into: Path, result: dict[str, Any], spoil: bytes = b"") -> Path:
    """The courier's zip with another RESULT.json, and bytes behind the blob's."""
    with zipfile.ZipFile(carried.result) as old, zipfile.ZipFile(into, "w") as new:
        told = json.loads(old.read("RESULT.json"))
        new.writestr("RESULT.json", json.dumps({**told, **result}))
        new.writestr(BLOB, old.read(BLOB) + spoil)
    return into


def test_a_blob_that_was_changed_on_the_way_is_refused(
    built: Callable[[str], Path], carried: Carried, tmp_path: Path
) -> None:
    other = edited(carried, tmp_path / "other.zip", {}, spoil=b"OVNPU")
    elsewhere = {"by": "courier", "result": str(other)}
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ConvertError, match="the blob is not the one that the result tells of"):
        build(built("openvino-int4-npu"), into, OPTIONS, made_for="CPU", elsewhere=elsewhere)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, None),
        ({"openvino": "2025.3.0"}, "'openvino' differs"),
        ({"passed": None}, "lacks passed"),
    ],
)
def test_bytes_like_the_npu_s_are_labelled_only_with_what_is_true_of_them(
    built: Callable[[str], Path],
    carried: Carried,
    tmp_path: Path,
    record: dict[str, Any],
    message: str | None,
) -> None:
    """A header and the NPU plugin's mark: what there is of a real blob without a compiler."""
    with zipfile.ZipFile(carried.result) as archive:
        told = json.loads(archive.read("RESULT.json"))
        blob = archive.read(BLOB)[:64] + b"OVNPU"
    compiled = {**told["compiled"], "made_for": "NPU", **record}
    compiled = {name: value for name, value in compiled.items() if name != "passed" or value}
    changes = {"made_for": "NPU", "compiled": compiled}
    told |= {**changes, "blob": {"sha256": hashlib.sha256(blob).hexdigest(), "size": len(blob)}}
    with zipfile.ZipFile(tmp_path / "result.zip", "w") as archive:
        archive.writestr("RESULT.json", json.dumps(told))
        archive.writestr(BLOB, blob)
    elsewhere = {"by": "courier", "result": str(tmp_path / "result.zip")}
    into = tmp_path / "into"
    into.mkdir()
    base = built("openvino-int4-npu")
    if message is not None:
        with pytest.raises(ConvertError, match=message):
            build(base, into, OPTIONS, made_for="NPU", elsewhere=elsewhere)
        return
    build(base, into, OPTIONS, made_for="NPU", elsewhere=elsewhere)
    label = read_record(into / LABEL)
    assert (label["made_for"], label["platform"]) == ("NPU", "4000")
    assert label["blob"]["sha256"] == hashlib.sha256((into / BLOB).read_bytes()).hexdigest()
    assert sorted(path.name for path in into.iterdir() if path.name.startswith(".")) == []


def test_what_a_courier_brings_makes_its_variant_and_another_ir_s_is_ignored(
    pipeline: Checkout, carried: Carried
) -> None:
    """Planned only: the result claims to be NPU code, and would be refused."""
    config = ["--config", "npu_compiler={'courier': true}"]
    kit = "artifacts/kits/phi3-tiny/npu-blob-4000/compile.zip"
    assert pipeline.planned(kit, *config) == {"kit phi3-tiny npu-blob-4000 for its compiler"}
    inbox = pipeline.folder / "artifacts/inbox"
    inbox.mkdir()
    try:
        brought = edited(carried, inbox / "from the stick.zip", {"made_for": "NPU"})
        jobs = {job for job in pipeline.planned("all", *config) if "npu-blob-4000" in job}
        assert jobs == {
            "convert phi3-tiny to npu-blob-4000",
            "check phi3-tiny npu-blob-4000 on npu-4000",
        }
        options = load(CONFIG, ROOT / "config").variants["npu-blob-4000"].options
        base = pipeline.folder / "artifacts/build/phi3-tiny/openvino-int4-npu/payload"
        path, found = find(scan(inbox), options, base, "carry a kit")
        assert (path, found.available) == (str(brought), True)

        edited(carried, brought, {"made_for": "NPU", "ir": {WEIGHTS: "0" * 64}})
        path, found = find(scan(inbox), options, base, "carry a kit")
        assert (path, found.available, found.remedy) == (None, False, "carry a kit")
        assert "from the stick.zip is ignored: it was compiled from another IR" in found.reason

        brought.write_bytes(brought.read_bytes().replace(b'{"', b'["', 1))
        with pytest.raises(RunnerError, match="not a blob that a kit gave"):
            scan(inbox)
    finally:
        shutil.rmtree(inbox)


LIBRARY = {"path": "/nowhere.so", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ssh": {}, "courier": True}, "courier' stands beside 'ssh'"),
        ({"courier": True, "loader": LIBRARY}, "compiler' is missing"),
        ({"courier": True, "lock": "device-opnvino"}, "device-openvino"),
        ({"lock": "device-openvino"}, "loader' is missing"),
        ({"loader": LIBRARY, "compiler": LIBRARY}, "nowhere.so, which is not a file"),
    ],
)
def test_a_mistake_in_the_key_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_npu_compiler(given, "config.yaml")


def test_the_ssh_block_is_held_against_the_rows_schema(server: LabServer) -> None:
    with pytest.raises(ConfigurationError, match=r"npu_compiler\.ssh\.prot.*write 'port'"):
        settings({"ssh": {**server.row(), "prot": 1}})
