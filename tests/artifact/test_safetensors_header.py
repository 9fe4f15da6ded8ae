"""Headers of safetensors files: as the library writes them, and corrupted."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from phiforge.artifact.safetensors_header import SafetensorsError, StoredTensor, read_header

SIZE = 500


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One float16 tensor and one of int64."""
    path = tmp_path / "model.safetensors"
    tensors = {"F16": np.zeros(SIZE, np.float16), "ids": np.arange(9).reshape(3, 3)}
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def test_a_header_says_where_the_bytes_are(file: Path) -> None:
    tensors = read_header(file)
    assert set(tensors) == {"F16", "ids"}
    ids = tensors["ids"]
    assert ids == StoredTensor("I64", (3, 3), ids.offset, 72)
    assert np.frombuffer(file.read_bytes(), np.int64, 9, ids.offset).tolist() == list(range(9))


def with_header(
    change: Callable[[dict[str, dict[str, object]]], object],
) -> Callable[[bytes], bytes]:
    def corrupt(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        changed = json.dumps(change(header) or header).encode()
        return len(changed).to_bytes(8, "little") + changed + content[8 + length :]

    return corrupt


CORRUPTIONS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "shorter than a length": lambda content: content[:5],
    "cut in the header": lambda content: content[:30],
    "cut in the last tensor": lambda content: content[:-1],
    "a length beyond the file": lambda content: b"\xff" * 8 + content[8:],
    "another format": lambda content: b"<!DOCTYPE html><html>not found</html>",
    "a header that is a list": with_header(lambda header: [1]),
    "a header that is a number": with_header(lambda header: 1),
    "a tensor that is no object": with_header(lambda header: header.update(F16=1)),
    "no shape": with_header(lambda header: header["F16"].pop("shape") and None),
    "another shape": with_header(lambda header: header["F16"].update(shape=[SIZE - 1])),
    "no place": with_header(lambda header: header["F16"].update(data_offsets=None)),
    "a place beyond the file": with_header(
        lambda header: header["F16"].update(data_offsets=[1 << 40, (1 << 40) + 2 * SIZE])
    ),
    "half an element": with_header(lambda header: header["F16"].update(data_offsets=[0, 999])),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corrupt_file_is_refused_by_name(file: Path, corruption: str) -> None:
    file.write_bytes(CORRUPTIONS[corruption](file.read_bytes()))
    with pytest.raises(SafetensorsError, match=rf"^{file}: not a safetensors file, .+ are whole"):
        read_header(file)
