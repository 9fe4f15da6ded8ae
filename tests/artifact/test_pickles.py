"""The scan for pickles: finds every kind, and nothing else."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from support.pickles import pickles_in


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [Fraction(1, 3), {"a": [1, 2.5]}], ids=["object", "dict"])
def test_a_pickle_of_any_protocol_is_found(tmp_path: Path, protocol: int, value: object) -> None:
    (tmp_path / "config.json").write_bytes(pickle.dumps(value, protocol=protocol))
    assert pickles_in(tmp_path) == ["config.json"]


def test_torchs_files_are_found(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "weights.safetensors")
    torch.save({"a": torch.ones(2)}, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    found = pickles_in(tmp_path)
    assert "legacy" in found
    assert "weights.safetensors: weights/data.pkl" in found


def test_a_pickle_inside_archives_is_found(tmp_path: Path) -> None:
    content = pickle.dumps(Fraction(1, 3))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("deep", content)
    with tarfile.open(tmp_path / "a.tar", "w") as outer:
        entry = tarfile.TarInfo("inner.zip")
        entry.size = len(inner.getvalue())
        outer.addfile(entry, io.BytesIO(inner.getvalue()))
    (tmp_path / "b.gz").write_bytes(gzip.compress(content))
    assert pickles_in(tmp_path) == ["a.tar: inner.zip: deep", "b.gz: decompressed"]


def test_arrays_of_objects_are_pickles_and_others_are_not(tmp_path: Path) -> None:
    np.save(tmp_path / "numbers.npy", np.arange(3))
    np.savez(tmp_path / "objects.npz", a=np.array([Fraction(1, 3)], dtype=object))
    assert pickles_in(tmp_path) == ["objects.npz: a.npy"]


def test_what_a_release_holds_is_not_a_pickle(tmp_path: Path) -> None:
    for length in range(300):  # headers of every length, some starting as a pickle does
        save_file({"x" * (length + 1): np.zeros(3, np.float32)}, tmp_path / f"{length}.safetensors")
    (tmp_path / "a.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "b.txt").write_text(".\n")
    (tmp_path / "empty").write_bytes(b"")
    assert pickles_in(tmp_path) == []
