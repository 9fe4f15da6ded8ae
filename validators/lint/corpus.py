"""Texts on which a runtime's tokenizer is compared with the source's.

Scripts with and without spaces, combining marks, text from right to left, characters beyond the
basic plane, every kind of white space, control characters, byte order marks; each token that the
tokenizer adds to its vocabulary, alone and in company; and the whole vocabulary spelled out, so
that no id can change its meaning unseen.
"""

from collections.abc import Iterator

from tokenizers import Tokenizer

LITERAL = (
    # plain text, code, numbers
    "The quick brown fox jumps over the lazy dog.",
    "don't we'll I'M \u201cquoted\u201d \u2018single\u2019 \u2026 \u2014 \u2013",
    "3.14159 1,000,000 0x1F 1e-9 2026-11-20 12:34:56 +49 (0)30 12345678901234567890",
    "def f(x):\n    return x ** 2  # comment\n\n\tif x:\n\t\tpass\n",
    '{"key": [1, 2.5, null, true], "other": "\\u00e9\\n"}',
    "https://example.org/a/b?c=d&e=%20#f user@example.org C:\\path\\to\\file",
    "<html><b>x</b> &amp; <!-- y --></html>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    # scripts
    "Gr\u00fc\u00dfe aus K\u00f6ln, \u00e7a va? \u00a1Se\u00f1or!",
    "\u0141\u00f3d\u017a \u010de\u0161tina \u00deorn \u0130stanbul \u0131",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0404\u0457\u0490",
    "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u7e41\u9ad4\u4e2d\u6587",
    "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c \u30ab\u30bf\u30ab\u30ca \uff76\uff80\uff76\uff85",
    "\uc548\ub155\ud558\uc138\uc694 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u0661\u0662\u0663",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "Xin ch\u00e0o th\u1ebf gi\u1edbi \u1ea4\u1ec6\u1ed8",
    # composed and decomposed, compatibility forms, beyond the basic plane
    "caf\u00e9 cafe\u0301 \u212b \u00c5 A\u030a \ufb01 \u2460 \uff21\uff22\uff23 \u00bd",
    "\U0001f600 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1e9\U0001f1ea",
    "\U0001d54f\U00010348\U0002070e \U0010fffd",
    "\u2200x \u2208 \u211d: \u2211 \u221a\u03c0 \u2260 \u221e \u2192 \u20ac \u00a3 \u00a5",
    # white space
    "",
    " ",
    "  ",
    "   leading",
    "trailing   ",
    " a  b   c    d     e ",
    "\n",
    "\n\n\n",
    "a\nb\r\nc\rd\n\n",
    "\t",
    "\t\ta\tb",
    " \n \t \n",
    "a\u00a0b\u2003c\u2009d\u202fe\u3000f\u1680g",
    "a\u2028b\u2029c\x0bd\x0ce\x85f",
    "a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg",
    "\ufeffbyte order mark",
    # the space mark of sentencepiece itself, byte tokens in words, replacement and control
    "\u2581 a\u2581b \u2581\u2581",
    "<0x0A> <0x41> <unk>",
    "a\0b",
    "\ufffd \x01\x02\x1b[0m\x7f",
    "\u202eabc\u202c \u0300 \u0301alone",
)
_WORDS = 32  # of the vocabulary in one text
_UNFIT = frozenset("\ufffd\0")  # half a character; a runtime may end a text at a NUL


def corpus(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The texts for a tokenizer, the same on every machine."""
    return (*LITERAL, *_added(tokenizer), *_vocabulary(tokenizer))


def _added(tokenizer: Tokenizer) -> Iterator[str]:
    for _, token in sorted(tokenizer.get_added_tokens_decoder().items()):
        word = token.content
        yield from (word, f"a{word}b", f"a {word} b", f"{word}\n{word}", f"  {word}  ")


def _vocabulary(tokenizer: Tokenizer) -> Iterator[str]:
    """Every token that some text can stand for, as words between spaces."""
    added = tokenizer.get_added_tokens_decoder()
    words = {}
    for number in range(tokenizer.get_vocab_size()):
        word = "" if number in added else tokenizer.decode([number]).strip()
        if word and not set(word) & _UNFIT:
            words[number] = word
    alone = tokenizer.encode_batch(list(words.values()), add_special_tokens=False)
    # A token that only occurs inside words is encoded as itself at the start of a line.
    spelled = [
        word if number in seen.ids else f"\n{word}"
        for (number, word), seen in zip(words.items(), alone, strict=True)
    ]
    for first in range(0, len(spelled), _WORDS):
        yield " ".join(spelled[first : first + _WORDS])
