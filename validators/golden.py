"""Golden prompts: what every artifact of a model is asked, and what is known of the answer.

Generation is greedy (``do_sample: false``). The original guide also passes ``temperature=0.3``,
which has no effect then: dividing all logits by one number does not change the largest.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from configuration.documents import ConfigurationError, read_yaml, validate
from records.record import canonical


@dataclass(frozen=True)
class GoldenPrompt:
    """One prompt.

    Attributes:
        text: the raw prompt with its special tokens.
        max_new_tokens: the answer's greatest length.
        expected: the exact answer, where it is known; None: the reference's answer.
        must_contain: a fact that any right answer contains.
    """

    id: str
    text: str
    max_new_tokens: int
    expected: str | None = None
    must_contain: str | None = None


@dataclass(frozen=True)
class GoldenSet:
    """The prompts of one file, in order, and the SHA-256 of what they say.

    ``digest`` is of the canonical JSON of the prompts: comments and YAML style do not count.
    """

    prompts: tuple[GoldenPrompt, ...]
    digest: str


def load_golden(path: Path) -> GoldenSet:
    """Read golden prompts.

    Raises:
        ConfigurationError: an unknown key, a missing key, a wrong value, or an id given twice;
            one line naming file, key and remedy.
    """
    document = read_yaml(path)
    validate(document, "golden", path)
    prompts = tuple(GoldenPrompt(**entry) for entry in document["prompts"])
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
