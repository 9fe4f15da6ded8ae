"""What a runtime's tokenizer may do otherwise, and what not."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from support.checkout import ROOT
from validators.lint.corpus import corpus
from validators.lint.detokenizer import judge_streaming
from validators.lint.tokenizer import (
    CorpusEncodings,
    chat_template,
    encode_corpus,
    judge_corpus,
    lint_vocabulary,
)

SOURCE = ROOT / "models/phi3-tiny/tokenizer.json"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(SOURCE))


def test_the_corpus_spells_what_can_be_spelled_out(tokenizer: Tokenizer) -> None:
    texts = corpus(tokenizer)
    assert texts == corpus(tokenizer)
    seen = {number for text in texts for number in tokenizer.encode(text).ids}
    unseen = [tokenizer.id_to_token(n) for n in range(tokenizer.get_vocab_size()) if n not in seen]
    # bytes that are characters of their own are never byte tokens
    assert [word for word in unseen if not word.startswith("<0x")] == []
    assert {token.content for token in tokenizer.get_added_tokens_decoder().values()} <= set(texts)


def test_equal_tokenizers_say_nothing(tokenizer: Tokenizer) -> None:
    seen = encode_corpus(lambda text: tokenizer.encode(text).ids, SOURCE)
    assert seen == CorpusEncodings(len(corpus(tokenizer)), {})
    assert judge_corpus(seen, SOURCE) == ((), ())


def test_differences_at_the_edges_are_reported(tokenizer: Tokenizer) -> None:
    def without_control_characters(text: str) -> list[int]:
        if "\0" in text:
            raise ValueError("a text ends at NUL")
        return list(tokenizer.encode(text.replace("\t", " ")).ids)

    failures, (note,) = judge_corpus(encode_corpus(without_control_characters, SOURCE), SOURCE)
    assert failures == ()
    assert note.name == "tokenizer-corpus"
    assert f"of {len(corpus(tokenizer))} corpus texts encode otherwise" in note.what
    assert "first 'def f(x):" in note.what


@pytest.mark.parametrize("circle", [(500, 900), (500, 700, 900), (1540, 1541)])
def test_ids_that_changed_places_fail_by_name(
    tokenizer: Tokenizer, circle: tuple[int, ...]
) -> None:
    moved = dict(zip(circle, (*circle[1:], circle[0]), strict=True))

    def encode(text: str) -> list[int]:
        return [moved.get(number, number) for number in tokenizer.encode(text).ids]

    (failure,), notes = judge_corpus(encode_corpus(encode, SOURCE), SOURCE)
    assert notes == ()
    assert failure.name == "permuted-token-ids"
    for number in circle:
        assert f"{tokenizer.id_to_token(number)!r} ({number}) is {moved[number]}" in failure.what


def test_text_that_streams_is_the_text_at_once(tokenizer: Tokenizer) -> None:
    def joined(ids: Sequence[int]) -> str:
        """Each token decoded alone: its space is gone."""
        return "".join(tokenizer.decode([number]) for number in ids)

    def honest(ids: Sequence[int]) -> str:
        stream = DecodeStream(skip_special_tokens=True)
        return "".join(stream.step(tokenizer, number) or "" for number in ids)

    assert list(judge_streaming(tokenizer.decode_batch, honest, tokenizer)) == []
    [(name, what)] = judge_streaming(tokenizer.decode_batch, joined, tokenizer)
    assert name == "wrong-streaming"
    assert "becomes 'Thequickbrown" in what


def test_a_vocabulary_of_its_own_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    document = json.loads(SOURCE.read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    assert lint_vocabulary(tmp_path, tokenizer) == []
    vocabulary = document["model"]["vocab"]
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    vocabulary[words[500]], vocabulary[words[900]] = 900, 500
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    (finding,) = lint_vocabulary(tmp_path, tokenizer)
    assert finding.name == "permuted-token-ids"
    assert f"{words[500]!r} has 900, not 500" in finding.what
    document = json.loads(SOURCE.read_text(encoding="utf-8"))
    document["decoder"]["decoders"][0]["content"] = ""
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    assert [one.name for one in lint_vocabulary(tmp_path, tokenizer)] == ["wrong-detokenizer"]
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert [one.name for one in lint_vocabulary(tmp_path, tokenizer)] == ["unreadable-tokenizer"]


def test_the_file_of_a_chat_template_stands_before_the_key(tmp_path: Path) -> None:
    assert chat_template(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "key"}', encoding="utf-8")
    assert chat_template(tmp_path) == "key"
    (tmp_path / "chat_template.jinja").write_text("file", encoding="utf-8")
    assert chat_template(tmp_path) == "file"
