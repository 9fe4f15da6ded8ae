"""Compare a runtime's own text with what the source's tokenizer makes of the same ids.

White space counts. What honest runtimes do otherwise is let pass: ONNX Runtime GenAI keeps the
space before the first word and writes the replacement character for a special token alone;
OpenVINO GenAI's streamer loses a space at the beginning of a line.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from tokenizers import Tokenizer

from validators.contract import some
from validators.lint.corpus import LITERAL, corpus

Decode = Callable[[Sequence[Sequence[int]]], list[str]]
Stream = Callable[[Sequence[int]], str]

_HALVES = str.maketrans("", "", "\ufffd\0")  # of a character; a runtime may end a text at a NUL
_INDENTED = re.compile(r"\n +")


def same_text(found: str, expected: str) -> bool:
    """Return whether a runtime's text is the expected one.

    >>> same_text(" a b", "a b"), same_text("ab", "a b"), same_text("a\\tb", "a b")
    (True, False, False)
    """
    found, expected = found.translate(_HALVES), expected.translate(_HALVES)
    return found in (expected, f" {expected}")


def judge_decoding(decode: Decode, reference: Tokenizer) -> Iterator[tuple[str, str]]:
    """Yield the failure of a tokenizer that makes other text of ids: its name, and what it is.

    The corpus and every id alone are decoded, special tokens left out.
    """
    batch = [*_encoded(reference), *([number] for number in range(reference.get_vocab_size()))]
    expected = reference.decode_batch(batch, skip_special_tokens=True)
    wrong = [
        f"{ids[:4]} become {found[:40]!r}, not {right[:40]!r}"
        for ids, found, right in zip(batch, decode(batch), expected, strict=True)
        if not same_text(found, right)
    ]
    if wrong:
        what = f"of {len(batch)} sequences of ids, {len(wrong)} become other text: {some(wrong)}"
        yield "wrong-detokenizer", what


def judge_streaming(
    decode: Decode, stream: Stream, reference: Tokenizer
) -> Iterator[tuple[str, str]]:
    """Yield the failure of a tokenizer whose text, token by token, is other than at once."""
    batch = _encoded(reference)[: len(LITERAL)]
    pairs = [(text, stream(ids)) for ids, text in zip(batch, decode(batch), strict=True)]
    wrong = [
        f"{text[:40]!r} becomes {streamed[:40]!r}"
        for text, streamed in pairs
        if not same_text(_INDENTED.sub("\n", streamed), _INDENTED.sub("\n", text))
    ]
    if wrong:
        yield "wrong-streaming", f"text that streams is other than at once: {some(wrong)}"


def _encoded(reference: Tokenizer) -> list[list[int]]:
    """The corpus, but for texts with marks: GenAI joins what stands about one otherwise."""
    texts = [text for text in corpus(reference) if text and "\0" not in text]
    marks = reference.get_added_tokens_decoder().keys()
    return [one.ids for one in reference.encode_batch(texts) if not marks & set(one.ids)]
