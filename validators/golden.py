"""Golden prompts: what every artifact of a model is asked, and what is known of the answer.

Generation is greedy (``do_sample: false``). The original guide also passes ``temperature=0.3``,
which has no effect then: dividing all logits by one number does not change the largest.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.record import canonical
from phiforge.settings.documents import ConfigurationError, read_yaml, validate


@dataclass(frozen=True)
class GoldenPrompt:
    """One prompt.

    Attributes:
        text: the raw prompt with its special tokens, repetitions written out.
        max_new_tokens: the answer's greatest length.
        expected: the exact answer, where it is known; None: the reference's answer.
        must_contain: a fact that any right answer contains.
        must_stop: any right answer ends at a stop token within ``max_new_tokens``.
    """

    id: str
    text: str
    max_new_tokens: int
    expected: str | None = None
    must_contain: str | None = None
    must_stop: bool = False


@dataclass(frozen=True)
class GoldenSet:
    """The prompts of one file, in order, and the SHA-256 of what they say.

    ``digest`` is of the canonical JSON of the prompts: comments, YAML style and whether a filler
    is written out or as a ``repeat`` do not count.
    """

    prompts: tuple[GoldenPrompt, ...]
    digest: str


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
    said = canonical({"prompts": [asdict(prompt) for prompt in prompts]})
    return GoldenSet(prompts, hashlib.sha256(said.encode()).hexdigest())


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
