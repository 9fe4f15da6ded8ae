"""Where a Phi-3's weights are used, in the order of the computation.

Names inside a payload are hearsay, so a weight is known by its place: how many matrix products lie
before it on the longest way from the tokens. A layer has four products one after another (query,
key and value at once, the attention's output, gate and up at once, down) and a norm before the
first and the third of them.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, TypeVar

from phiforge.artifact.record import read_record
from phiforge.receipts.receipt import Failure
from validators.contract import ArtifactError, some

Node = TypeVar("Node", bound=Hashable)

OTHER_GRAPH = "other-graph"
EMBEDDING = "embedding"
NORM = "norm"
_PRODUCTS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


@dataclass(frozen=True)
class Part:
    """Rows of one tensor of the source.

    Attributes:
        name: what a message calls them.
        first: the first row; `rows` is how many there are.
    """

    tensor: str
    first: int
    rows: int
    name: str


@dataclass(frozen=True)
class Place:
    """Where a weight is used.

    Attributes:
        kind: `EMBEDDING`, `NORM`, or one of a product: ``qkv_proj``, ``q_proj``, ``gate_proj``,
            ``lm_head`` …
        depth: how many products lie before it.
    """

    kind: str
    depth: int

    def __str__(self) -> str:
        return f"{self.kind} after {self.depth} products"


@dataclass(frozen=True)
class Architecture:
    """The shape of a Phi-3, from its config.json."""

    config: Mapping[str, Any]

    @property
    def layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def hidden(self) -> int:
        return int(self.config["hidden_size"])

    @property
    def intermediate(self) -> int:
        return int(self.config["intermediate_size"])

    @property
    def heads(self) -> int:
        return int(self.config["num_attention_heads"])

    @property
    def kv_heads(self) -> int:
        return int(self.config.get("num_key_value_heads") or self.heads)

    @property
    def head_size(self) -> int:
        return int(self.config.get("head_dim") or self.hidden // self.heads)

    def product(self, depth: int) -> str:
        """The product with ``depth`` others before it; outside of the model: none."""
        if depth == 4 * self.layers:
            return "lm_head"
        return _PRODUCTS[depth % 4] if 0 <= depth < 4 * self.layers else "product"

    @cached_property
    def parts(self) -> Mapping[Place, Part]:
        """The part of the source that belongs to each place, taken together and taken apart."""
        vocabulary = int(self.config["vocab_size"])
        parts = {
            Place(EMBEDDING, 0): _whole("model.embed_tokens", vocabulary),
            Place(NORM, 4 * self.layers): _whole("model.norm", 1),
            Place("lm_head", 4 * self.layers): _whole("lm_head", vocabulary),
        }
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        for layer in range(self.layers):
            name, depth = f"model.layers.{layer}", 4 * layer
            parts |= {
                Place(NORM, depth): _whole(f"{name}.input_layernorm", 1),
                Place("o_proj", depth + 1): _whole(f"{name}.self_attn.o_proj", self.hidden),
                Place(NORM, depth + 2): _whole(f"{name}.post_attention_layernorm", 1),
                Place("down_proj", depth + 3): _whole(f"{name}.mlp.down_proj", self.hidden),
                **_fused(depth, f"{name}.self_attn.qkv_proj", {
                    "q_proj": queries, "k_proj": keys, "v_proj": keys,
                }),
                **_fused(depth + 2, f"{name}.mlp.gate_up_proj", {
                    "gate_proj": self.intermediate, "up_proj": self.intermediate,
                }),
            }  # fmt: skip
        return parts

    def columns(self, place: Place) -> int:
        """How many columns the weights at a place have; a norm's are its length."""
        if place.kind == "down_proj":
            return self.intermediate
        return self.heads * self.head_size if place.kind == "o_proj" else self.hidden


def read_architecture(source: Path) -> Architecture | None:
    """Read the architecture of a source; None: it is none that is known here."""
    config = read_record(source / "config.json")
    return Architecture(config) if config.get("model_type") == "phi3" else None


def _whole(module: str, rows: int) -> Part:
    return Part(f"{module}.weight", 0, rows, module)


def _fused(depth: int, module: str, rows: Mapping[str, int]) -> dict[Place, Part]:
    """A matrix of several, whole and by its members, which lie below one another."""
    fused = module.rpartition(".")[2]
    parts = {Place(fused, depth): _whole(module, sum(rows.values()))}
    first = 0
    for kind, count in rows.items():
        parts[Place(kind, depth)] = Part(f"{module}.weight", first, count, f"{module} ({kind})")
        first += count
    return parts


def lint_places(expected: Mapping[Place, Part], used: Sequence[Place]) -> list[Failure]:
    """Check that every part of the source is used, in one place and once."""
    wrong = [f"no {place} in this model" for place in used if place not in expected]
    wrong += [f"two of {place}" for place in sorted(set(used), key=str) if used.count(place) > 1]
    covered: dict[str, int] = {}
    for place in set(used) & expected.keys():
        covered[expected[place].tensor] = covered.get(expected[place].tensor, 0) + (
            expected[place].rows
        )
    total = _rows(expected.values())
    wrong += [
        f"{tensor} is used with {covered.get(tensor, 0)} of its {rows} rows"
        for tensor, rows in total.items()
        if covered.get(tensor, 0) != rows
    ]
    return [Failure(OTHER_GRAPH, f"the graph is not the model's: {some(wrong)}")] if wrong else []


def _rows(parts: Iterable[Part]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for part in parts:
        rows[part.tensor] = max(rows.get(part.tensor, 0), part.first + part.rows)
    return rows


def in_order(inputs: Mapping[Node, Iterable[Node]]) -> Iterator[Node]:
    """Every node after those that it reads.

    Raises:
        ArtifactError: the graph has a circle.
    """
    try:
        yield from TopologicalSorter(inputs).static_order()
    except CycleError:
        raise ArtifactError(OTHER_GRAPH, "the graph has a circle") from None
