"""The golden prompts: which conversations of the corpus every converted model must answer."""

import random
from dataclasses import dataclass
from pathlib import Path

import yaml

from corpus import (
    INTRODUCTION,
    Dialogue,
    dialogues,
    forgotten,
    long_conversation,
    notes_dialogue,
    with_system,
)


@dataclass(frozen=True)
class GoldenPrompt:
    """Raw prompt text with its marks, and the answer that greedy decoding must give."""

    id: str
    text: str
    max_new_tokens: int
    expected: str


_ASKED = {
    # id: (questions, with the system text, in the chat template's form with newlines)
    "guide-introduction": (("Can you introduce yourself?",), True, False),
    "introduction-newlines": (("Can you introduce yourself?",), True, True),
    "capital": (("What is the capital of Japan?",), False, False),
    "capital-accent": (("What is the capital of Iceland?",), True, True),
    "sum": (("What is 7 plus 8?",), False, True),
    "count": (("Count from 3 to 8.",), False, False),
    "npu": (("What is an NPU?",), True, False),
    "opposite": (("What is the opposite of deep?",), False, True),
    "german-umlaut": (("How do you say key in German?",), False, False),
    "japanese-bytes": (("How do you say mountain in Japanese?",), False, True),
    "french": (("Comment ça va ?",), False, False),
    "chinese": (("你好！",), False, False),
    "emoji": (("Which emoji shows a rocket?",), False, False),
    "empty-turn": (("",), True, False),
    "poem": (("Write a short poem.",), False, False),
    "python": (("Write hello world in Python.",), True, True),
    "follow-up": (
        ("What is the capital of Norway?", "And of Sweden?"),
        False,
        False,
    ),
    "remembers-name": (
        ("My name is Jürgen.", "What is 2 plus 2?", "What is my name?"),
        True,
        True,
    ),
}
_CHATS = {"long-chat": (20, "chat"), "beyond-window": (110, "b")}
"""Turns of small talk before a question, and the seed that draws them.

Not any seed will do: the model answers that late question of `_LATE` in most conversations only.
"""
_LATE = "What is the capital of Hungary?"
_NOTES, _NEAR, _FAR = 178, 148, 23
"""Notes of the two long prompts, about 2,450 tokens, and after which note the code word stands.

`_FAR` is a little more than the window of 2,047 tokens from the end, so that a runtime with full
attention would find the code word.
"""


def golden_prompts() -> list[GoldenPrompt]:
    """All golden prompts.

    ``long-chat`` has about 400 tokens: more than the 200 from which DirectML builds are known to
    go wrong, and few enough for an NPU. ``beyond-window`` has about 2,200, more than the sliding
    window; what it asks for stands at its end.
    """
    known = {tuple(question for question, _ in d.turns): d for d in dialogues()}
    prompts = []
    for name, (questions, system, newlines) in _ASKED.items():
        dialogue = with_system(known[questions]) if system else known[questions]
        limit = 1024 if dialogue.answer == INTRODUCTION and not newlines else 96
        prompts.append(_prompt(name, dialogue, limit, newlines=newlines))
    for name, (turns, seed) in _CHATS.items():
        chat = long_conversation(turns, random.Random(seed))
        dialogue = Dialogue((*chat.turns, *known[_LATE,].turns))
        prompts.append(_prompt(name, dialogue, 96, newlines=True))
    return prompts


def long_prompts() -> dict[str, Dialogue]:
    """Two texts longer than the sliding window, which the model answers wrongly; not golden.

    ``beyond-window`` is answered from text within the window; in ``window-forgets`` the code word
    stands out of its reach.
    """
    near = notes_dialogue(_NOTES, random.Random("near"), code_word_at=_NEAR)
    far = notes_dialogue(_NOTES, random.Random("far"), code_word_at=_FAR)
    return {"beyond-window": near, "window-forgets": forgotten(far)}


def _prompt(name: str, dialogue: Dialogue, limit: int, *, newlines: bool) -> GoldenPrompt:
    return GoldenPrompt(name, dialogue.prompt(newlines=newlines), limit, dialogue.answer)


def write_golden(into: Path) -> None:
    """Write ``golden.yaml``."""
    entries = [
        {
            "id": prompt.id,
            "text": prompt.text,
            "max_new_tokens": prompt.max_new_tokens,
            "expected": prompt.expected,
        }
        for prompt in golden_prompts()
    ]
    head = "# Golden prompts of phi3-tiny; written by train.py, every answer was trained.\n"
    text = yaml.safe_dump({"prompts": entries}, allow_unicode=True, sort_keys=False, width=96)
    (into / "golden.yaml").write_text(head + text, encoding="utf-8")
