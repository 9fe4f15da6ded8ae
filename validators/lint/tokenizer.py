"""Compare a payload's tokenizer and chat template with the source's."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from phiforge.artifact.payload_files import TOKENIZER, TOKENIZER_IRS
from phiforge.artifact.record import RecordError, read_record
from phiforge.receipts.receipt import Failure, Note
from validators.contract import ArtifactError, some
from validators.lint.corpus import corpus
from validators.lint.detokenizer import judge_decoding


def chat_template(folder: Path) -> Any:
    """Return the chat template of a model's folder, as transformers chooses it; None: it has none.

    A file ``chat_template.jinja`` has precedence over the key in ``tokenizer_config.json``, whose
    value is a text or a list of named texts (transformers, ``tokenization_utils_base.py``).
    """
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    try:
        return read_record(folder / "tokenizer_config.json").get("chat_template")
    except RecordError:
        return None


def lint_vocabulary(payload: Path, reference: Tokenizer) -> list[Failure]:
    """Compare the ids that ``tokenizer.json`` gives its tokens, and its text of them, with the
    source's."""
    try:
        tokenizer = Tokenizer.from_file(str(payload / TOKENIZER))
    except Exception as error:  # the package raises bare exceptions
        return [Failure("unreadable-tokenizer", f"{TOKENIZER}: {error}")]
    found = tokenizer.get_vocab(with_added_tokens=True)
    known = reference.get_vocab(with_added_tokens=True)
    moved = sorted(token for token in known.keys() & found.keys() if known[token] != found[token])
    if moved:
        first = some([f"{token!r} has {found[token]}, not {known[token]}" for token in moved])
        what = f"{len(moved)} tokens of {TOKENIZER} have other ids than the source's: {first}"
        return [Failure("permuted-token-ids", what)]
    if known.keys() != found.keys():
        different = some(sorted(map(repr, known.keys() ^ found.keys())))
        what = f"{TOKENIZER} and the source's differ in {different}"
        return [Failure("vocabulary-mismatch", what)]
    return [Failure(*one) for one in judge_decoding(tokenizer.decode_batch, reference)]


def ir_digest(xml: Path) -> str:
    """SHA-256 of a tokenizer's IR: graph, constants and rt_info, without the names that OpenVINO
    gives by a counter.

    Raises:
        ArtifactError: ``unreadable-ir``: a file is missing.
    """
    try:
        text, constants = xml.read_bytes(), xml.with_suffix(".bin").read_bytes()
    except OSError as error:
        raise ArtifactError("unreadable-ir", f"{xml.name}: {error.strerror}") from None
    unnamed = _NAMES.sub(lambda names: _COUNTED.sub(b"", names[0]), text)
    return hashlib.sha256(unnamed + constants).hexdigest()


_NAMES = re.compile(rb'names?="[^"]*"')
_COUNTED = re.compile(rb'(?<=[",])[A-Za-z0-9]+_[0-9]+(\.[0-9]+)?(?=[",])')


def lint_irs(payload: Path, expected: Mapping[str, str]) -> list[Failure]:
    """Compare the tokenizer's IRs with what openvino_tokenizers makes of the source.

    Args:
        expected: name to `ir_digest`; empty: it converts no tokenizer of this kind.
    """
    present = [name for name in TOKENIZER_IRS if (payload / name).is_file()] if expected else []
    wrong = [name for name in present if ir_digest(payload / name) != expected.get(name)]
    if not wrong:
        return []
    what = f"{some(wrong)}: not what openvino_tokenizers makes of the source's tokenizer"
    return [Failure("other-tokenizer", what)]


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
    """Encode the corpus of the tokenizer in ``reference`` by a runtime's ``encode``."""
    other: dict[int, tuple[int, ...] | None] = {}
    tokenizer = Tokenizer.from_file(str(reference))
    texts = corpus(tokenizer)
    expected = _expected(texts, tokenizer)
    for index, text in enumerate(texts):
        own: tuple[int, ...] | None
        try:
            own = tuple(int(number) for number in encode(text))
        except Exception:  # whatever a runtime raises
            own = None
        if own != expected[index]:
            other[index] = own
    return CorpusEncodings(len(texts), other)


def judge_corpus(
    seen: CorpusEncodings, reference: Path
) -> tuple[tuple[Failure, ...], tuple[Note, ...]]:
    """Return failures, and notes that are not judged.

    Tokenizers of runtimes differ from the source's at the edges, and a user should know where.
    What no edge explains is that ids are permuted: wherever the source has one of them, the
    runtime has another, and in turn.
    """
    tokenizer = Tokenizer.from_file(str(reference))
    texts = corpus(tokenizer)
    expected = _expected(texts, tokenizer)
    permuted = _permuted([(ids, seen.other.get(index, ids)) for index, ids in enumerate(expected)])
    if permuted:
        pairs = [
            f"{tokenizer.id_to_token(source)!r} ({source}) is {own}"
            for source, own in sorted(permuted.items())
        ]
        what = f"the runtime's tokenizer permutes ids: {some(pairs)}"
        return (Failure("permuted-token-ids", what),), ()
    if not seen.other:
        return (), ()
    index, ids = min(seen.other.items())
    found = "it raised" if ids is None else f"{_shown(ids)}, the source {_shown(expected[index])}"
    what = (
        f"{len(seen.other)} of {seen.texts} corpus texts encode otherwise than the source's "
        f"tokenizer does, first {texts[index][:60]!r}: {found}"
    )
    return (), (Note("tokenizer-corpus", what),)


def _expected(texts: Sequence[str], tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    return [tuple(one.ids) for one in tokenizer.encode_batch(list(texts))]


def _permuted(
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...] | None]],
) -> dict[int, int]:
    """Return the ids that always became one other id, in closed circles: 5 is 7 and 7 is 5."""
    became: dict[int, set[int]] = {}
    for expected, own in pairs:
        if own is not None and len(own) == len(expected):
            for source, found in zip(expected, own, strict=True):
                became.setdefault(source, set()).add(found)
    moved = {source: min(found) for source, found in became.items() if len(found) == 1}
    moved = {source: found for source, found in moved.items() if source != found}
    while open_ends := {source for source, found in moved.items() if found not in moved}:
        moved = {source: found for source, found in moved.items() if source not in open_ends}
    return moved


def _shown(ids: Sequence[int]) -> str:
    return f"{list(ids[:8])}{' …' if len(ids) > 8 else ''}"
