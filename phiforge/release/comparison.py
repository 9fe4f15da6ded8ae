"""Say which receipts' figures compare, and how far their answers follow the reference's."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import Any

TOKENIZER = "tokenizer.json"


def scored_on(receipt: Mapping[str, Any]) -> tuple[Any, ...]:
    """Name the positions that a receipt's figures are of: prompts, those left out, how many.

    Figures of fidelity compare where these are equal, and only there.
    """
    golden = receipt.get("golden") or ()
    left_out = sorted(one["id"] for one in golden if one.get("not_run") is not None)
    scored = (receipt.get("metrics") or {}).get("positions", 0)
    return receipt.get("golden_sha256"), tuple(left_out), scored


def short_digest(*basis: Any) -> str:
    """Name what figures are compared on by the first 12 digits of its SHA-256."""
    return hashlib.sha256(json.dumps(basis).encode()).hexdigest()[:12]


def diverging(golden: Sequence[Mapping[str, Any]], payload: Path) -> dict[str, float] | None:
    """Return FDT and SDT of a receipt's answers, as Intel's who_what_benchmark defines them.

    https://github.com/openvinotoolkit/openvino.genai, tools/who_what_benchmark: the texts are
    encoded again. ``fdt``, first diverging token: how many tokens are right before it; ``sdt``,
    share of diverging tokens: those that must be corrected (there: SDT norm); both are means over
    ``answers``.

    Args:
        golden: entries of one receipt, in JSON's types.
        payload: folder with the tokenizer.

    Returns:
        None: an answer has nothing to be compared with, or there is no tokenizer.
    """
    texts = [(one["expected"], one["output"]) for one in golden if one["not_run"] is None]
    known = payload / TOKENIZER
    if not texts or any(None in pair for pair in texts) or not known.is_file():
        return None
    tokenizer = _tokenizer(known.read_text(encoding="utf-8"))
    found = [_diverging(*(tokenizer.encode(text).ids for text in pair)) for pair in texts]
    first, share = zip(*found, strict=True)
    return {"answers": len(found), "fdt": sum(first) / len(found), "sdt": sum(share) / len(found)}


def _diverging(expected: Sequence[int], found: Sequence[int]) -> tuple[int, float]:
    """Return the tokens before the first that differs, and the share to correct.

    >>> _diverging([1, 2, 3, 4], [1, 2, 9, 3, 4]), _diverging([1], []), _diverging([1], [1])
    ((2, 0.2), (0, 1.0), (1, 0.0))
    """
    if not found:
        return 0, 1.0 if expected else 0.0
    blocks = SequenceMatcher(None, expected, found).get_matching_blocks()
    first = blocks[0].size if blocks[0].a == blocks[0].b == 0 else 0
    return first, (len(found) - sum(block.size for block in blocks)) / len(found)


@lru_cache(maxsize=1)  # one model's variants have one tokenizer
def _tokenizer(text: str) -> Any:
    from tokenizers import Tokenizer  # slow to import

    return Tokenizer.from_str(text)
