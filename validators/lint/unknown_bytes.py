"""Find bytes of a weights' file that the graph does not know of."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from phiforge.receipts.receipt import Failure


def lint_unknown_bytes(places: Iterable[tuple[int, int]], weights: Path) -> list[Failure]:
    """Name bytes between and behind the tensors; zeros between them align the next one.

    Args:
        places: offset and length of each tensor, all of them in the file.
    """
    data = np.memmap(weights, dtype=np.uint8, mode="r")
    end = unknown = 0
    for offset, length in sorted(places):
        unknown += int(np.count_nonzero(data[end:offset]))
        end = max(end, offset + length)
    unknown += len(data) - end
    what = f"the graph does not know of {unknown} of {weights.name}'s {len(data)} bytes"
    return [Failure("unknown-weights", what)] if unknown else []
