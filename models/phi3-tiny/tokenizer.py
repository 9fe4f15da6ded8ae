"""The tiny model's tokenizer: trained here, laid out like Phi-3-mini's own.

Byte-pair encoding with byte fallback over text whose spaces became ``▁`` and which starts with
one; no pre-tokenizer; Phi-3's marks follow the trained vocabulary, ``rstrip`` where Phi-3 has it.
Format: huggingface/tokenizers' ``tokenizer.json``.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

BASE_VOCABULARY = 1540
CONTEXT = 4096
MARKS = (
    "<|endoftext|>",
    "<|assistant|>",
    "<|placeholder1|>",
    "<|placeholder2|>",
    "<|placeholder3|>",
    "<|placeholder4|>",
    "<|system|>",
    "<|end|>",
    "<|placeholder5|>",
    "<|placeholder6|>",
    "<|user|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
_FIRST = ("<unk>", "<s>", "</s>")
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
_LAST_KNOWN_CHARACTER = "\u30ff"
"""Characters after katakana (Chinese, emoji) get no entry: they go through byte fallback."""


def mark_id(mark: str) -> int:
    """The token id of one of `MARKS`."""
    return BASE_VOCABULARY + MARKS.index(mark)


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Learn `BASE_VOCABULARY` entries from ``texts`` and add Phi-3's marks.

    Raises:
        ValueError: the texts have too few distinct pieces for the vocabulary.
    """
    learner = Tokenizer(models.BPE())
    # Words, digits and punctuation are learned apart, so that no entry holds ▁ inside, as in
    # SentencePiece; the finished tokenizer needs no pre-tokenizer for that.
    learner.normalizer = _normalizer()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=True),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(behavior="isolated"),
            pre_tokenizers.Split("\n", behavior="isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_VOCABULARY - len(_FIRST) - len(_BYTES),
        min_frequency=1,
        initial_alphabet=[chr(code) for code in range(0x21, 0x7F)],
        show_progress=False,
    )
    known = ["".join(c for c in text if c <= _LAST_KNOWN_CHARACTER and c != "\n") for text in texts]
    learner.train_from_iterator(known, trainer)
    learned = json.loads(learner.to_str())["model"]

    pieces = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    vocabulary = {piece: index for index, piece in enumerate([*_FIRST, *_BYTES, *pieces])}
    if len(vocabulary) != BASE_VOCABULARY:
        raise ValueError(f"{len(vocabulary)} vocabulary entries, wanted {BASE_VOCABULARY}")
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[tuple(merge) for merge in learned["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = _normalizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([token for token in _added_tokens() if token.special])
    tokenizer.add_tokens([token for token in _added_tokens() if not token.special])
    return tokenizer


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def _added_tokens() -> list[AddedToken]:
    """Added tokens by id order; the flags are those of Phi-3-mini-4k-instruct."""
    unstripped = {"<unk>", "<s>", "<|endoftext|>"}
    return [
        AddedToken(text, rstrip=text not in unstripped, normalized=False, special=text != "</s>")
        for text in (*_FIRST, *MARKS)
    ]


def write_tokenizer(tokenizer: Tokenizer, into: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json, added_tokens.json."""
    tokenizer.save(str(into / "tokenizer.json"))
    by_id = {tokenizer.token_to_id(token.content): token for token in _added_tokens()}
    config = {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(index): {
                "content": by_id[index].content,
                "lstrip": by_id[index].lstrip,
                "normalized": by_id[index].normalized,
                "rstrip": by_id[index].rstrip,
                "single_word": by_id[index].single_word,
                "special": by_id[index].special,
            }
            for index in sorted(by_id)
        },
        "bos_token": "<s>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "legacy": False,
        "model_max_length": CONTEXT,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    _write_json(into / "tokenizer_config.json", config)
    roles = ("bos_token", "eos_token", "pad_token", "unk_token")
    _write_json(
        into / "special_tokens_map.json",
        {
            role: {
                "content": config[role],
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
            }
            for role in roles
        },
    )
    _write_json(into / "added_tokens.json", {mark: mark_id(mark) for mark in MARKS})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
