"""A payload's tokenizer and chat template, held against the source's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from phiforge.artifact.payload_files import TOKENIZER
from phiforge.artifact.record import RecordError, read_record
from validators.lint.corpus import corpus
from validators.lint.finding import Finding, some


def chat_template(folder: Path) -> Any:
    """The chat template of a model's folder, as transformers chooses it; None: it has none.

    A file ``chat_template.jinja`` stands before the key in ``tokenizer_config.json``, whose value
    is a text or a list of named texts (transformers, ``tokenization_utils_base.py``).
    """
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    try:
        return read_record(folder / "tokenizer_config.json").get("chat_template")
    except RecordError:
        return None


def lint_vocabulary(payload: Path, reference: Tokenizer) -> list[Finding]:
    """``tokenizer.json`` gives every token the id that the source's gives it."""
    try:
        found = Tokenizer.from_file(str(payload / TOKENIZER)).get_vocab(with_added_tokens=True)
    except Exception as error:  # the package raises bare exceptions
        return [Finding("unreadable-tokenizer", f"{TOKENIZER}: {error}")]
    known = reference.get_vocab(with_added_tokens=True)
    moved = sorted(token for token in known.keys() & found.keys() if known[token] != found[token])
    if moved:
        told = some([f"{token!r} has {found[token]}, not {known[token]}" for token in moved])
        what = f"{len(moved)} tokens of {TOKENIZER} have other ids than the source's: {told}"
        return [Finding("permuted-token-ids", what)]
    if known.keys() != found.keys():
        other = some(sorted(map(repr, known.keys() ^ found.keys())))
        return [Finding("vocabulary-mismatch", f"{TOKENIZER} and the source's differ in {other}")]
    return []


@dataclass(frozen=True)
class CorpusEncodings:
    """What a runtime's tokenizer made of the corpus.

    Attributes:
        texts: how many there were.
        other: index of a text to its ids, where they are not the source's; None: it raised.
    """

    texts: int
    other: Mapping[int, tuple[int, ...] | None]


def encode_corpus(encode: Callable[[str], Sequence[int]], reference: Path) -> CorpusEncodings:
    """Let a runtime encode the corpus of the tokenizer in ``reference``."""
    other: dict[int, tuple[int, ...] | None] = {}
    texts = corpus(reference)
    expected = _expected(texts, Tokenizer.from_file(str(reference)))
    for index, text in enumerate(texts):
        own: tuple[int, ...] | None
        try:
            own = tuple(int(number) for number in encode(text))
        except Exception:  # whatever a runtime raises; that it did is what is told
            own = None
        if own != expected[index]:
            other[index] = own
    return CorpusEncodings(len(texts), other)


def judge_corpus(
    seen: CorpusEncodings, reference: Path
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Failures, and what is only reported.

    Tokenizers of runtimes differ from the source's at the edges, and a user should know where.
    What no edge explains is that two ids changed places: wherever the source has the one, the
    runtime has the other, and the other way round.
    """
    texts = corpus(reference)
    tokenizer = Tokenizer.from_file(str(reference))
    expected = _expected(texts, tokenizer)
    exchanged = _exchanged(
        [(ids, seen.other.get(index, ids)) for index, ids in enumerate(expected)]
    )
    if exchanged:
        pairs = [
            f"{tokenizer.id_to_token(one)!r} ({one}) is {other}"
            for one, other in sorted(exchanged.items())
        ]
        what = f"the runtime's tokenizer exchanges ids: {some(pairs)}"
        return (Finding("permuted-token-ids", what),), ()
    if not seen.other:
        return (), ()
    index, own = min(seen.other.items())
    told = "it raised" if own is None else f"{_shown(own)}, the source {_shown(expected[index])}"
    what = (
        f"{len(seen.other)} of {seen.texts} corpus texts encode otherwise than the source's "
        f"tokenizer does, first {texts[index][:60]!r}: {told}"
    )
    return (), (Finding("tokenizer-corpus", what),)


def _expected(texts: Sequence[str], tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    return [tuple(one.ids) for one in tokenizer.encode_batch(list(texts))]


def _exchanged(
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...] | None]],
) -> dict[int, int]:
    """Ids that always became one other id, in closed circles: 5 became 7 and 7 became 5."""
    became: dict[int, set[int]] = {}
    for expected, own in pairs:
        if own is not None and len(own) == len(expected):
            for one, other in zip(expected, own, strict=True):
                became.setdefault(one, set()).add(other)
    moved = {one: min(others) for one, others in became.items() if len(others) == 1}
    moved = {one: other for one, other in moved.items() if one != other}
    while open_ends := {one for one, other in moved.items() if other not in moved}:
        moved = {one: other for one, other in moved.items() if one not in open_ends}
    return moved


def _shown(ids: Sequence[int]) -> str:
    return f"{list(ids[:8])}{' …' if len(ids) > 8 else ''}"
