"""The source's weights while they are mapped: right, whatever became of their pages."""

import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from phiforge.sources import weights as source_weights
from phiforge.sources.source import SourceError
from phiforge.sources.weights import SourceTensor, mapped_source_weights

PERIOD_S = 0.02
ROWS = 1 << 10
TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


@pytest.fixture(autouse=True)
def short_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_weights, "_PERIOD_S", PERIOD_S)


@pytest.fixture
def tensors(tmp_path: Path) -> dict[str, torch.Tensor]:
    """Of every type that is read, a megabyte or two each, in two files; and one that is not."""
    random = torch.Generator().manual_seed(0)
    made = {name: torch.randn(ROWS, 500, generator=random).to(kind) for name, kind in TYPES.items()}
    save_file({"BF16": made["BF16"], "F32": made["F32"]}, tmp_path / "model-1.safetensors")
    save_file(
        {"F16": made["F16"], "ids": torch.arange(9)},
        tmp_path / "model-2.safetensors",
        metadata={"format": "pt"},
    )
    return made


def assert_same(weights: dict[str, SourceTensor], tensors: dict[str, torch.Tensor]) -> None:
    assert set(weights) == set(tensors)
    for name, tensor in tensors.items():
        assert weights[name].dtype == name
        assert weights[name].data.shape == tuple(tensor.shape)
        assert weights[name].data.tobytes() == tensor.view(torch.uint8).numpy().tobytes()


def resident_bytes(folder: Path) -> int:
    """Of the files in ``folder``, what this process has in its page tables."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):  # the line that begins a mapping
            ours = line.endswith(".safetensors") and str(folder.resolve()) in line
        elif ours and fields[0] == "Rss:":
            total += int(fields[1]) * 1024
    return total


def test_values_stay_right_after_their_pages_were_let_go(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    size = sum(tensor.nbytes for tensor in tensors.values())
    with mapped_source_weights(tmp_path) as weights:
        deadline = time.monotonic() + 8
        resident = size
        while resident > size // 100:
            assert time.monotonic() < deadline, "pages that were read stay"
            # read each time: some kernels let go of pages that were idle for seconds
            assert_same(weights, tensors)
            time.sleep(3 * PERIOD_S)
            resident = resident_bytes(tmp_path)
        assert_same(weights, tensors)


def test_values_are_right_while_pages_are_let_go(
    tmp_path: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_weights, "_PERIOD_S", 0.0001)
    with mapped_source_weights(tmp_path) as weights:
        for _ in range(20):
            assert_same(weights, tensors)


def test_a_view_outlives_the_block(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A graph reads some by address: a mapping that went early would end the process."""
    with mapped_source_weights(tmp_path) as weights:
        pass
    assert_same(weights, tensors)


@pytest.mark.usefixtures("tensors")
def test_the_weights_cannot_be_written(tmp_path: Path) -> None:
    with mapped_source_weights(tmp_path) as weights:
        assert not any(weight.data.flags.writeable for weight in weights.values())


@pytest.mark.usefixtures("tensors")
def test_no_thread_stays(tmp_path: Path) -> None:
    before = threading.enumerate()
    with pytest.raises(RuntimeError), mapped_source_weights(tmp_path):
        assert len(threading.enumerate()) == len(before) + 1
        raise RuntimeError
    assert threading.enumerate() == before


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no weights"), mapped_source_weights(tmp_path):
        pass
