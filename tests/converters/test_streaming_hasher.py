"""Files are digested while they are written, and a digest is that of the finished file."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import openvino as ov
import pytest
from openvino.utils import make_postponed_constant

from converters import streaming_hasher as module
from converters.streaming_hasher import StreamingHasher
from phiforge.artifact.manifest import MANIFEST, PayloadError, verify, write_manifest
from phiforge.artifact.record import read_record

pytestmark = [
    pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("error::ResourceWarning"),
]

LARGE = 10_000
DENIED = "/home/somebody/checkout"
Values = npt.NDArray[np.uint8]
Make = Callable[[int], Values]
"""Gives the bytes of one row when its writer asks for them."""

CONTENT = np.random.default_rng(0).bytes(20 * LARGE)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE_BYTES", LARGE)
    monkeypatch.setattr(module, "_WINDOW_BYTES", 1 << 12)
    monkeypatch.setattr(module, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(module, "_PERIOD_S", 0.001)


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    (tmp_path / "payload").mkdir()
    return tmp_path / "payload"


def wait_until_read(path: Path) -> None:
    """Until some file that is open at ``path`` for reading only stands at its end."""
    deadline = time.monotonic() + 30
    while path.stat().st_size not in read_positions(path):
        assert time.monotonic() < deadline, f"nobody reads {path.name}"
        time.sleep(0.001)


def read_positions(path: Path) -> list[int]:
    found = []
    for descriptor, target in open_files().items():
        if target == str(path.resolve()):
            try:
                text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
            except FileNotFoundError:
                continue  # closed meanwhile
            facts = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
            if int(facts["flags"], 8) & os.O_ACCMODE == os.O_RDONLY:
                found.append(int(facts["pos"]))
    return found


def open_files() -> dict[str, str]:
    found = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found[descriptor.name] = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # the one that listed the folder
    return found


def append(path: Path, content: bytes) -> None:
    """And no more than that: what is written stays, and the file is closed again."""
    with path.open("ab") as file:
        file.write(content)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_by_onnx_ir(payload: Path, values: Values, make: Make) -> Path:
    """It also makes its file in a folder that it removes again."""
    initializers = [
        ir.Value(
            name=f"weight_{row}",
            const_value=ir.LazyTensor(
                lambda row=row: ir.tensor(make(row)), ir.DataType.UINT8, ir.Shape(value.shape)
            ),
        )
        for row, value in enumerate(values)
    ]
    graph = ir.Graph([], [], nodes=[], initializers=initializers, opset_imports={"": 22})
    ir.save(
        ir.Model(graph, ir_version=10),
        payload / "model.onnx",
        external_data="model.onnx.data",
        size_threshold_bytes=0,
    )
    return payload / "model.onnx.data"


def write_by_openvino(payload: Path, values: Values, make: Make) -> Path:
    """It asks for each constant at the moment that it writes it."""

    def tensor(row: int) -> ov.Tensor:
        made = ov.Tensor(ov.Type.u8, ov.Shape(values[row].shape))
        made.data[:] = make(row)
        return made

    constants = [
        make_postponed_constant(ov.Type.u8, ov.Shape(value.shape), partial(tensor, row))
        for row, value in enumerate(values)
    ]
    results = [ov.opset13.result(constant) for constant in constants]
    ov.save_model(ov.Model(results, []), payload / "openvino_model.xml", False)
    return payload / "openvino_model.bin"


@pytest.mark.parametrize("write", [write_by_onnx_ir, write_by_openvino])
def test_the_real_writers_only_append(
    payload: Path, write: Callable[[Path, Values, Make], Path]
) -> None:
    values = np.frombuffer(CONTENT, np.uint8).reshape(10, -1)

    def make(row: int) -> npt.NDArray[np.uint8]:
        if row == 5:
            (written,) = (path for name in module.APPENDED for path in payload.rglob(name))
            wait_until_read(written)
        return values[row]

    with StreamingHasher(payload, [DENIED]) as hasher:
        weights = write(payload, values, make)
        digests = hasher.digests()
    (digest,) = digests.values()
    assert list(digests) == [Path(weights.name)]
    assert digest.size == weights.stat().st_size >= len(CONTENT)
    assert (digest.sha256, digest.denied) == (sha256(weights.read_bytes()), None)


def test_a_file_is_known_under_the_name_that_it_has_in_the_end(payload: Path) -> None:
    out = payload / ".builder.x" / "out"
    out.mkdir(parents=True)
    with StreamingHasher(payload, []) as hasher:
        append(out / "model.onnx.data", CONTENT[:-5])
        wait_until_read(out / "model.onnx.data")
        append(out / "model.onnx.data", CONTENT[-5:])
        (out / "model.onnx.data").replace(payload / "model.onnx.data")
        out.rmdir()
        digests = hasher.digests()
    assert list(digests) == [Path("model.onnx.data")]
    assert digests[Path("model.onnx.data")].sha256 == sha256(CONTENT)


def replace(weights: Path) -> None:
    append(weights.with_name("new"), CONTENT[::-1])
    weights.with_name("new").replace(weights)


def cut(weights: Path) -> None:
    os.truncate(weights, LARGE)


def fill(weights: Path) -> None:
    """Write what was zeros when it was read, as onnx-ir's writer with several workers does."""
    with weights.open("r+b") as stream:
        stream.write(CONTENT[::-1])


@pytest.mark.parametrize("change", [replace, cut, fill])
def test_a_file_that_changes_after_it_was_read_has_no_digest(
    payload: Path, change: Callable[[Path], None]
) -> None:
    weights = payload / "model.onnx.data"
    with StreamingHasher(payload, []) as hasher:
        append(weights, bytes(len(CONTENT)) if change is fill else CONTENT)
        wait_until_read(weights)
        assert list(hasher.digests()) == [Path(weights.name)]
        change(weights)
        assert hasher.digests() == {}
    write_manifest(payload, {}, [], {})
    verify(payload)


def test_small_files_and_other_names_have_no_digest(payload: Path) -> None:
    with StreamingHasher(payload, []) as hasher:
        append(payload / "model.onnx.data", CONTENT[: LARGE - 1])
        append(payload / "tokenizer.json", CONTENT)
        append(payload / "openvino_model.bin", CONTENT)
        wait_until_read(payload / "openvino_model.bin")
        digests = hasher.digests()
    assert list(digests) == [Path("openvino_model.bin")]
    write_manifest(payload, {}, [DENIED], digests)
    verify(payload)
    sealed = {entry["path"]: entry["sha256"] for entry in read_record(payload / MANIFEST)["files"]}
    assert sealed == {
        path.name: sha256(path.read_bytes()) for path in payload.iterdir() if path.name in sealed
    }
    assert len(sealed) == 3


def test_what_passed_with_a_denied_string_gets_no_manifest(payload: Path) -> None:
    weights = payload / "openvino_model.bin"
    middle = len(DENIED) // 2
    with StreamingHasher(payload, ["/another/path", DENIED]) as hasher:
        append(weights, CONTENT + DENIED[:middle].encode())
        wait_until_read(weights)
        append(weights, DENIED[middle:].encode() + CONTENT)
        digests = hasher.digests()
    # only the digest knows of this string
    with pytest.raises(PayloadError, match=rf"^openvino_model\.bin: '{DENIED}' of this"):
        write_manifest(payload, {}, [], digests)
    assert not (payload / MANIFEST).exists()


@pytest.mark.parametrize("error", [None, RuntimeError("the converter failed")])
def test_no_thread_and_no_open_file_stay(payload: Path, error: Exception | None) -> None:
    weights = payload / "openvino_model.bin"
    threads, files = threading.enumerate(), open_files()
    with suppress(RuntimeError), StreamingHasher(payload, []):
        append(weights, CONTENT)
        wait_until_read(weights)
        assert len(threading.enumerate()) == len(threads) + 1
        if error is not None:
            raise error
    assert threading.enumerate() == threads
    assert open_files() == files


def test_folders_and_files_that_go_while_it_looks_do_not_stop_it(
    payload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PERIOD_S", 0)
    with StreamingHasher(payload, []) as hasher:
        for number in range(500):
            folder = payload / f"scratch_{number % 3}" / "inner"
            folder.mkdir(parents=True)
            (folder / "model.onnx.data").touch()
            (folder / "model.onnx.data").unlink()
            folder.rmdir()
            folder.parent.rmdir()
        append(payload / "model.onnx.data", CONTENT)
        wait_until_read(payload / "model.onnx.data")
        digests = hasher.digests()
    assert [digest.sha256 for digest in digests.values()] == [sha256(CONTENT)]
