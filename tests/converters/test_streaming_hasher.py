"""Files are digested behind their writers' backs, and what is said of them is what they hold."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import openvino as ov
import pytest
from openvino.utils import make_postponed_constant

from converters import streaming_hasher as module
from converters.streaming_hasher import StreamingHasher
from phiforge.artifact.manifest import MANIFEST, PayloadError, seal, verify
from phiforge.artifact.record import read_record

pytestmark = [
    pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("error::ResourceWarning"),
]

LARGE = 10_000
FORBIDDEN = "/home/somebody/checkout"
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
                told = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
            except FileNotFoundError:
                continue  # closed meanwhile
            facts = dict(line.split(":\t") for line in told.splitlines() if ":\t" in line)
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


def test_a_growing_file_has_its_digest_when_it_is_whole(payload: Path) -> None:
    weights = payload / "openvino_model.bin"

    def write() -> None:
        for start in range(0, len(CONTENT), 7_001):
            append(weights, CONTENT[start : start + 7_001])
            time.sleep(0.002)

    writer = threading.Thread(target=write)
    with StreamingHasher(payload, [FORBIDDEN]) as hasher:
        writer.start()
        writer.join()
        wait_until_read(weights)
        append(weights, b"the end, which nobody may have read yet")
        digests = hasher.digests()
    (name,) = digests
    assert name == Path("openvino_model.bin")
    assert digests[name].sha256 == sha256(weights.read_bytes())
    assert digests[name].size == weights.stat().st_size
    assert digests[name].found is None


def test_onnx_ir_only_appends(payload: Path) -> None:
    """The real writer, which also makes its file in a folder that it takes away again."""
    values = np.frombuffer(CONTENT, np.uint8).reshape(10, -1)

    def make(row: int) -> Callable[[], ir.TensorProtocol]:
        def tensor() -> ir.TensorProtocol:
            if row == 5:
                (written,) = payload.rglob("model.onnx.data")
                wait_until_read(written)
            return ir.tensor(values[row], name=f"weight_{row}")

        return tensor

    initializers = [
        ir.Value(
            name=f"weight_{row}",
            const_value=ir.LazyTensor(
                make(row), ir.DataType.UINT8, ir.Shape(values[row].shape), name=f"weight_{row}"
            ),
        )
        for row in range(len(values))
    ]
    graph = ir.Graph([], [], nodes=[], initializers=initializers, opset_imports={"": 22})
    with StreamingHasher(payload, []) as hasher:
        ir.save(
            ir.Model(graph, ir_version=10),
            payload / "model.onnx",
            external_data="model.onnx.data",
            size_threshold_bytes=0,
        )
        digests = hasher.digests()
    weights = payload / "model.onnx.data"
    assert weights.stat().st_size >= len(CONTENT)
    assert {name.name: digests[name].sha256 for name in digests} == {
        "model.onnx.data": sha256(weights.read_bytes())
    }


def test_openvino_only_appends(payload: Path) -> None:
    """The real writer again, which asks for each constant at the moment that it writes it."""
    values = np.frombuffer(CONTENT, np.uint8).reshape(10, -1)
    weights = payload / "openvino_model.bin"

    def make(row: int) -> Callable[[], ov.Tensor]:
        def tensor() -> ov.Tensor:
            if row == 5:
                wait_until_read(weights)
            made = ov.Tensor(ov.Type.u8, ov.Shape(values[row].shape))
            made.data[:] = values[row]
            return made

        return tensor

    constants = [
        make_postponed_constant(ov.Type.u8, ov.Shape(values[row].shape), make(row))
        for row in range(len(values))
    ]
    results = [ov.opset13.result(constant) for constant in constants]
    with StreamingHasher(payload, []) as hasher:
        ov.save_model(ov.Model(results, []), payload / "openvino_model.xml", False)
        digests = hasher.digests()
    assert weights.stat().st_size >= len(CONTENT)
    assert {name.name: digests[name].sha256 for name in digests} == {
        "openvino_model.bin": sha256(weights.read_bytes())
    }


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
    assert {name: digest.sha256 for name, digest in digests.items()} == {
        Path("model.onnx.data"): sha256(CONTENT)
    }


def test_a_file_that_was_replaced_is_left_to_seal(payload: Path) -> None:
    weights = payload / "model.onnx.data"
    other = CONTENT[::-1]
    with StreamingHasher(payload, []) as hasher:
        append(weights, CONTENT)
        wait_until_read(weights)
        assert list(hasher.digests()) == [Path("model.onnx.data")]  # and nothing is followed now
        append(payload / "new", other)
        (payload / "new").replace(weights)
        digests = hasher.digests()
    assert digests == {}
    seal(payload, {}, [], digests)
    assert sealed_digest(payload, "model.onnx.data") == sha256(other)


def test_a_file_that_was_cut_is_left_to_seal(payload: Path) -> None:
    weights = payload / "model.onnx.data"
    with StreamingHasher(payload, []) as hasher:
        append(weights, CONTENT)
        wait_until_read(weights)
        os.truncate(weights, LARGE)
        assert hasher.digests() == {}


def test_a_file_that_was_filled_afterwards_is_left_to_seal(payload: Path) -> None:
    path = payload / "openvino_model.bin"
    with StreamingHasher(payload, []) as hasher:
        with path.open("wb") as stream:
            stream.truncate(len(CONTENT))  # as onnx-ir's writer with several workers does
            stream.flush()
            wait_until_read(path)
            stream.write(CONTENT)
        assert hasher.digests() == {}


def test_small_files_and_other_names_are_left_to_seal(payload: Path) -> None:
    with StreamingHasher(payload, []) as hasher:
        append(payload / "model.onnx.data", CONTENT[: LARGE - 1])
        append(payload / "tokenizer.json", CONTENT)
        append(payload / "openvino_model.bin", CONTENT)
        wait_until_read(payload / "openvino_model.bin")
        digests = hasher.digests()
    assert list(digests) == [Path("openvino_model.bin")]
    seal(payload, {}, [FORBIDDEN], digests)
    verify(payload)
    assert sealed_digest(payload, "model.onnx.data") == sha256(CONTENT[: LARGE - 1])
    assert sealed_digest(payload, "tokenizer.json") == sha256(CONTENT)
    assert sealed_digest(payload, "openvino_model.bin") == sha256(CONTENT)


def sealed_digest(payload: Path, name: str) -> str:
    (found,) = (one for one in read_record(payload / MANIFEST)["files"] if one["path"] == name)
    return str(found["sha256"])


def test_what_passed_with_a_forbidden_text_is_not_sealed(payload: Path) -> None:
    weights = payload / "openvino_model.bin"
    middle = len(FORBIDDEN) // 2
    with StreamingHasher(payload, ["/another/path", FORBIDDEN]) as hasher:
        append(weights, CONTENT + FORBIDDEN[:middle].encode())
        wait_until_read(weights)
        append(weights, FORBIDDEN[middle:].encode() + CONTENT)
        digests = hasher.digests()
    # seal is told of no text: it can only know of this one by the digest
    with pytest.raises(PayloadError, match=rf"^openvino_model\.bin: '{FORBIDDEN}' of this"):
        seal(payload, {}, [], digests)
    assert not (payload / MANIFEST).exists()


@pytest.mark.parametrize("fails", [False, True])
def test_no_thread_and_no_open_file_stay(payload: Path, fails: bool) -> None:
    weights = payload / "openvino_model.bin"
    threads, files = threading.enumerate(), open_files()
    hasher = StreamingHasher(payload, [])

    def convert() -> None:
        with hasher:
            append(weights, CONTENT)
            wait_until_read(weights)
            assert len(threading.enumerate()) == len(threads) + 1
            if fails:
                raise RuntimeError("the converter failed")

    if fails:
        with pytest.raises(RuntimeError, match="the converter failed"):
            convert()
    else:
        convert()
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
