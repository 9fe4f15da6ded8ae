"""What every runtime takes and gives, and the two ways in which a check can go wrong.

A runtime is a module ``validators/runtimes/<name>.py`` with one public function::

    def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime: ...

``artifact`` is a payload folder, ``settings`` the row's ``runtimes.<format>.settings`` of
``config/devices.yaml``. The module also names, in a literal ``TOOLCHAIN``, the distributions
whose versions a receipt must record. It may import heavy packages at its top: only the check's
child process imports it. A module whose checks pin numerics may say in ``AS_USED`` which settings
undo that: the speed is then measured as users run it (`validators.performance`). The module of a
compiler row has ``compile_artifact`` instead (`validators.runtimes.npu_compiler`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from phiforge.errors import PhiforgeError
from phiforge.receipts.receipt import ExecutionEvidence as ExecutionEvidence
from phiforge.receipts.receipt import Proof as Proof

if TYPE_CHECKING:  # numpy takes longer to import than a gate, which holds no array, takes to judge
    import numpy as np
    from numpy.typing import NDArray

LogProbabilities: TypeAlias = "NDArray[np.float64]"
"""Natural logarithms of probabilities, shape (positions, vocabulary)."""


class CheckError(PhiforgeError):
    """A check cannot be carried out: a mistake in the configuration or a broken machine.

    There is no verdict then, and no receipt.
    """


class ArtifactError(PhiforgeError):
    """The artifact did what a good one does not do; the check's verdict is ``failed``.

    Attributes:
        name: the failure's own name in the receipt, for instance ``nan-logits``.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(what)
        self.name = name


@dataclass(frozen=True)
class Generation:
    """What a runtime answered.

    Attributes:
        token_ids: the new tokens, without the stop token.
        stopped: a stop token ended it; False: ``max_new_tokens`` were used up.
        text: ``token_ids`` decoded by the runtime's own tokenizer, special tokens left out.
        first_token_s: seconds to the first token, where the runtime tells.
        total_s: seconds for all of them.
    """

    token_ids: tuple[int, ...]
    stopped: bool
    text: str
    first_token_s: float | None
    total_s: float


UNPROVEN = "unproven-device"


def shown(what: str, observed: object, holds: bool, otherwise: str = UNPROVEN) -> Proof:
    """A `Proof` that holds, or is the failure ``otherwise``.

    >>> shown("device_type", "CPU", holds=False).failure
    'unproven-device'
    """
    return Proof(what, str(observed), None if holds else otherwise)


class OpenRuntime(Protocol):
    """The public function of a runtime's module."""

    def __call__(self, artifact: Path, *, settings: Mapping[str, Any]) -> "Runtime":
        """Open a payload folder.

        Raises:
            CheckError: an unknown setting.
        """


class Runtime(Protocol):
    """An opened artifact. The caller generates first and scores after.

    `decode` and `stream` are asked where `decodes`.

    At full size two compiled copies of a model do not fit into memory, so an implementation
    may drop what `generate` needs when `score` is called, and the other way round.
    """

    decodes: bool

    @property
    def uses(self) -> Sequence[str]:
        """What it has of `validators.usage`: ``defaults``, ``shortest``, ``longest``, ``batch``,
        ``exchange`` (a batch's rows change places after each token), ``beams``."""

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text`` by the runtime's own tokenizer, special tokens recognised."""

    def decode(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Texts of sequences of ids by the runtime's own tokenizer, special tokens left out."""

    def stream(self, token_ids: Sequence[int]) -> str:
        """The text of ``token_ids`` as it streams, one token at a time, joined."""

    def generate(
        self, token_ids: Sequence[int], max_new_tokens: int, *, greedy: bool = True
    ) -> Generation:
        """Tokens after ``token_ids``, ended by the artifact's own stop tokens.

        Args:
            greedy: False: by the artifact's own search defaults, of which nothing is overridden.
        """

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        """Log-probabilities of the token after each of ``positions`` (ascending), teacher-forced.

        Raises:
            ArtifactError: a logit is NaN or infinite.
        """

    def executed_on(self) -> ExecutionEvidence:
        """What really ran; asked after `generate` and `score`."""


class Batching(Protocol):
    """What a runtime has besides whose `Runtime.uses` say ``beams`` and ``batch``."""

    def search_beams(self, token_ids: Sequence[int], count: int) -> list[tuple[int, ...]]:
        """The two best hypotheses of ``count`` new tokens, the best first, while it answers."""

    def answer_batch(
        self, prompts: Sequence[Sequence[int]], count: int
    ) -> list[tuple[tuple[int, ...], LogProbabilities]]:
        """``count`` greedy tokens after each prompt, all read as one padded batch, and the
        log-probabilities (count, vocabulary) that each was chosen from, while it is scored."""


def only_known(settings: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse a setting that the runtime would ignore.

    Raises:
        CheckError: naming the key.
    """
    for key in settings:
        if key not in known:
            raise CheckError(
                f"unknown setting '{key}' of runtime {where}",
                where="config/devices.yaml",
                remedy=f"known are: {', '.join(known)}",
            )


def cut_at_stop(token_ids: Sequence[int], stop_ids: frozenset[int]) -> tuple[tuple[int, ...], bool]:
    """The tokens before the first stop token, and whether there was one.

    >>> cut_at_stop([5, 7, 2], frozenset({2}))
    ((5, 7), True)
    >>> cut_at_stop([5, 7], frozenset({2}))
    ((5, 7), False)
    """
    for index, token in enumerate(token_ids):
        if token in stop_ids:
            return tuple(token_ids[:index]), True
    return tuple(token_ids), False


def some(names: Sequence[str]) -> str:
    """Join the first three names, and say how many more there are.

    >>> some(["a", "b"]), some(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
