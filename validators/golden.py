"""Read a model's golden prompts.

Generation is greedy (``do_sample: false``). The original guide also passes ``temperature=0.3``,
which has no effect then: dividing all logits by one number does not change the largest.
"""

from pathlib import Path
from typing import Any

from phiforge.receipts.golden import GoldenPrompt, GoldenSet, golden_digest
from phiforge.settings.documents import NAME, ConfigurationError, read_yaml
from phiforge.settings.keys import Key, check_keys

_PLACE, _NUMBER = "{repeat}", "{n}"

FILE = {"prompts": Key(list, "the prompts, in the order in which they are run")}
PROMPT = {
    "id": Key(
        str, "kebab-case name of the prompt, unique in the file", pattern=NAME, example="capital"
    ),
    "text": Key(
        str,
        "the raw prompt with its special tokens, as the model sees it; with 'repeat', it holds "
        "{repeat} once",
        example='"<|user|>\\nHello<|end|>\\n<|assistant|>\\n"',
    ),
    "repeat": Key(
        dict,
        "a long filler, written short: it takes the place of {repeat} in 'text'",
        required=False,
        example='{text: "Line {n}. ", times: 300}',
    ),
    "max_new_tokens": Key(
        int,
        "generation ends after this many tokens, or at a stop token of the model",
        minimum=1,
        maximum=4096,
        example="64",
    ),
    "expected": Key(
        str,
        "the exact answer, decoded without special tokens; only where it is really known, else the "
        "reference's answer is what is expected",
        required=False,
        example="Paris.",
    ),
    "must_contain": Key(
        str,
        "a fact that any right answer contains, as it would be written there",
        required=False,
        example="Paris",
    ),
    "must_stop": Key(
        bool,
        "true: any right answer ends at a stop token within max_new_tokens, whatever the "
        "precision; an answer with 'expected' must in any case",
        required=False,
        example="true",
    ),
}
REPEAT = {
    "text": Key(
        str,
        "what is written over and over; {n} in it is the number of the repetition, from 1",
        example='"Line {n}. "',
    ),
    "times": Key(int, "how often", minimum=1, maximum=4096, example="300"),
}


def load_golden(path: Path) -> GoldenSet:
    """Read golden prompts.

    Raises:
        ConfigurationError: an unknown key, a missing key, a wrong value, an id given twice, or a
            ``repeat`` that has no place in its text; one line naming file, key and remedy.
    """
    document = check_keys(read_yaml(path), FILE, path)
    prompts = tuple(_prompt(entry, index, path) for index, entry in enumerate(document["prompts"]))
    seen: set[str] = set()
    for index, prompt in enumerate(prompts):
        if prompt.id in seen:
            raise ConfigurationError(
                f"key 'prompts.{index}.id' repeats '{prompt.id}'",
                where=path,
                remedy="give every prompt its own id",
            )
        seen.add(prompt.id)
    return GoldenSet(prompts, golden_digest(prompts))


def _prompt(entry: Any, index: int, path: Path) -> GoldenPrompt:
    fields = dict(check_keys(entry, PROMPT, path, "prompts", index))
    repeat = fields.pop("repeat", None)
    if repeat is not None:
        check_keys(repeat, REPEAT, path, "prompts", index, "repeat")
        if fields["text"].count(_PLACE) != 1:
            raise ConfigurationError(
                f"key 'prompts.{index}.text' must say where 'repeat' goes",
                where=path,
                expected=f"{_PLACE} once",
                found=f"{fields['text'].count(_PLACE)} times",
                remedy=f"write {_PLACE} in the text, where the filler belongs",
            )
        numbers = range(1, repeat["times"] + 1)
        filler = "".join(repeat["text"].replace(_NUMBER, str(number)) for number in numbers)
        fields["text"] = fields["text"].replace(_PLACE, filler)
    return GoldenPrompt(**fields)
