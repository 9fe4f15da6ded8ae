"""A text that must not be in a file is found wherever it lies, however the file is read."""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from phiforge.artifact import file_digest
from phiforge.artifact.file_digest import FileDigest

BLOCK = 64
PATH = "/home/somebody/checkout"
COMMIT = "0a1b2c3"
NOISE = np.random.default_rng(0).integers(128, 256, 5 * BLOCK, dtype=np.uint8).tobytes()
"""No byte of it is a letter: what is found was put there."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_digest, "BLOCK_BYTES", BLOCK)


def holding(text: str, place: int) -> bytes:
    return NOISE[:place] + text.encode() + NOISE[place + len(text) :]


def digest_of(content: bytes, folder: Path, *texts: str) -> FileDigest:
    (folder / "file").write_bytes(content)
    return FileDigest.of(folder / "file", texts)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, len(NOISE)])
@pytest.mark.parametrize("texts", [(), (PATH,)])
def test_size_and_sha256_are_the_file_s(tmp_path: Path, size: int, texts: tuple[str, ...]) -> None:
    digest = digest_of(NOISE[:size], tmp_path, *texts)
    assert digest.size == size
    assert digest.sha256 == hashlib.sha256(NOISE[:size]).hexdigest()
    assert digest.denied is None


def test_a_text_is_found_at_every_place(tmp_path: Path) -> None:
    """At the start, at the end, in one block, and across the seam of two by any of its letters."""
    for place in range(len(NOISE) - len(PATH) + 1):
        content = holding(PATH, place)
        digest = digest_of(content, tmp_path, "/another/path", PATH)
        assert digest.denied == PATH, place
        assert digest.sha256 == hashlib.sha256(content).hexdigest()


def test_a_text_longer_than_a_block_is_found(tmp_path: Path) -> None:
    long = "/home/" + "x" * 2 * BLOCK
    assert digest_of(holding(long, 3), tmp_path, PATH, long).denied == long


def test_a_file_shorter_than_the_longest_text_is_searched(tmp_path: Path) -> None:
    longer = PATH * 2
    assert digest_of(PATH.encode(), tmp_path, longer[1:], PATH).denied == PATH
    assert digest_of(PATH[:-1].encode(), tmp_path, longer[1:], PATH).denied is None


def test_a_folder_stands_for_the_paths_below_it(tmp_path: Path) -> None:
    below = PATH + "/artifacts"
    for texts in [(PATH, below), (below, PATH)]:
        assert digest_of(holding(below, 50), tmp_path, *texts).denied == PATH


def test_a_short_text_is_searched_at_the_beginning_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beginning = 2 * BLOCK
    monkeypatch.setattr(file_digest, "_DESCRIPTION_BYTES", beginning)
    for place in range(len(NOISE) - len(COMMIT) + 1):
        found = digest_of(holding(COMMIT, place), tmp_path, PATH, COMMIT).denied
        assert (found == COMMIT) == (place + len(COMMIT) <= beginning), place


def test_a_path_with_a_commit_in_it_is_searched_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a build farm's, which calls each checkout by its commit."""
    monkeypatch.setattr(file_digest, "_DESCRIPTION_BYTES", BLOCK)
    path = f"/builds/{COMMIT}/phiforge"
    assert digest_of(holding(path, 3 * BLOCK), tmp_path, path, COMMIT).denied == path


def test_the_pieces_that_a_file_is_read_in_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads behind a writer gets what there is, from one byte to a block."""
    beginning = BLOCK + BLOCK // 2
    monkeypatch.setattr(file_digest, "_DESCRIPTION_BYTES", beginning)
    rng = np.random.default_rng(1)
    for text in (PATH, COMMIT):
        for place in range(beginning - 2 * len(text), beginning + len(text)):
            content = holding(text, place)
            digest = FileDigest([PATH, COMMIT])
            block = bytearray(BLOCK)
            cuts = np.flatnonzero(rng.random(len(content)) < rng.choice([0.05, 0.9]))
            fixed = {0, beginning - 3, len(content), *range(0, len(content), BLOCK)}
            for start, end in pairwise(sorted(fixed | set(cuts.tolist()))):
                block[: end - start] = content[start:end]
                digest.update(block, end - start)
            expected = text == PATH or place + len(text) <= beginning
            assert digest.denied == (text if expected else None), (text, place)
            assert digest.sha256 == hashlib.sha256(content).hexdigest()
