"""Read a model's golden prompts.

Generation is greedy (``do_sample: false``). The original guide also passes ``temperature=0.3``,
which has no effect then: dividing all logits by one number does not change the largest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.receipts.golden import GoldenPrompt, GoldenSet, golden_digest
from phiforge.settings.documents import ConfigurationError, read_yaml, validate

_PLACE, _NUMBER = "{repeat}", "{n}"


def load_golden(path: Path) -> GoldenSet:
    """Read golden prompts.

    Raises:
        ConfigurationError: an unknown key, a missing key, a wrong value, an id given twice, or a
            ``repeat`` that has no place in its text; one line naming file, key and remedy.
    """
    document = read_yaml(path)
    validate(document, "golden", path)
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


def _prompt(entry: Mapping[str, Any], index: int, path: Path) -> GoldenPrompt:
    fields = dict(entry)
    repeat = fields.pop("repeat", None)
    if repeat is not None:
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
