"""Hold a graph to the form of a Phi-3, so that it computes nothing besides.

What a prompt can show is what prompts ask: an operation that waits for a certain token, or for a
length that no check reaches, changes no answer. So the graph itself is closed. All layers must be
alike, operator by operator and edge by edge; within them, and behind the LM head, stand only the
operators of a Phi-3's layer; what all layers share (positions, mask, sizes) is made by known
operators, of which those that decide something are counted; and the tokens are read by the
embedding alone.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from phiforge.receipts.receipt import Failure
from validators.contract import some
from validators.lint.architecture import OTHER_GRAPH, Architecture, Node, in_order

_OUTSIDE = -1  # depth of what does not hang on the tokens' embedding
_PRODUCTS = 4  # of a layer
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")  # a layer's, in the names of caches


@dataclass(frozen=True)
class Step(Generic[Node]):
    """A node of a graph of either format, without what is held to the source by value.

    Attributes:
        kind: the operator.
        label: its attributes, or a small constant's value, as text.
        inputs: the node and the output that each port reads.
        embeds: it looks tokens up in the embedding.
        multiplies: it multiplies with a stored matrix, if it hangs on the embedding.
        sizes: it reads only the shape of its input.
    """

    kind: str
    label: str
    inputs: tuple[tuple[Node, int], ...]
    embeds: bool = False
    multiplies: bool = False
    sizes: bool = False


@dataclass(frozen=True)
class Form:
    """What a format's graphs of a Phi-3 are made of.

    Attributes:
        layer: operators of the layers.
        shared: operators of what all layers share.
        counted: how many there are of some of these at most.
        tail: operators behind the LM head.
    """

    layer: frozenset[str]
    shared: frozenset[str]
    counted: Mapping[str, int]
    tail: frozenset[str]


def lint_form(
    steps: Mapping[Node, Step[Node]], form: Form, architecture: Architecture
) -> list[Failure]:
    """Compare a graph's layers with one another, and its operators with those of the ``form``.

    Raises:
        ArtifactError: the graph has a circle.
    """
    wrong = [*_Zones(steps, architecture.layers).wrong(form), *_token_readers(steps)]
    return [Failure(OTHER_GRAPH, f"the graph is not a Phi-3's: {some(wrong)}")] if wrong else []


def unread(names: Sequence[str]) -> list[Failure]:
    """Refuse nodes that nothing reads: a weight counts as used there and is not."""
    what = f"nothing reads {some(sorted(names))}"
    return [Failure(OTHER_GRAPH, what)] if names else []


def _token_readers(steps: Mapping[Node, Step[Node]]) -> Iterator[str]:
    """Name what reads the token ids besides the embedding and what asks for their count."""
    tokens: set[Node] = set()
    pending = [one for step in steps.values() if step.embeds for one, _ in step.inputs]
    while pending:
        node = pending.pop()
        tokens.add(node)
        pending += [one for one, _ in steps[node].inputs]
    for node, step in steps.items():
        right = step.embeds or step.sizes or node in tokens
        if not right and any(one in tokens for one, _ in step.inputs):
            yield f"{step.kind} reads the token ids"


class _Zones(Generic[Node]):
    """The nodes by how many products lie before them."""

    def __init__(self, steps: Mapping[Node, Step[Node]], layers: int) -> None:
        self._steps, self._layers = steps, layers
        self._labels: dict[tuple[Node, int], Hashable] = {}
        self._depths: dict[Node, int] = {}
        self._zones: dict[int, list[Node]] = {}
        self._readers: dict[Node, set[str]] = {node: set() for node in steps}
        for step in steps.values():
            for one, _ in () if step.sizes else step.inputs:
                self._readers[one].add(step.kind)
        edges = {node: [one for one, _ in step.inputs] for node, step in steps.items()}
        after: dict[Node, int] = {}
        for node in in_order(edges):
            step = steps[node]
            depth = max((after[one] for one in edges[node]), default=_OUTSIDE)
            depth = 0 if step.embeds else _OUTSIDE if step.sizes else depth
            self._depths[node] = depth
            after[node] = depth + (step.multiplies and depth != _OUTSIDE)
            self._zones.setdefault(depth, []).append(node)

    def wrong(self, form: Form) -> Iterator[str]:
        last = _PRODUCTS * self._layers
        for depth in sorted(self._zones):
            allowed = form.shared if depth == _OUTSIDE else form.layer
            allowed = form.tail if depth > last else allowed
            yield from (f"{kind} {_place(depth, last)}" for kind in self._kinds(depth) - allowed)
        counts = Counter(self._steps[node].kind for node in self._zones.get(_OUTSIDE, ()))
        for kind, most in form.counted.items():
            if counts[kind] > most:
                yield f"{counts[kind]} {kind} {_place(_OUTSIDE, last)}, not {most}"
        for place in range(_PRODUCTS):
            # layer 0 reads the embedding where others read a sum
            first = 0 if place % 2 else 1
            known = self._zone(_PRODUCTS * (self._layers - 1) + place)
            for layer in range(first, self._layers - 1):
                if self._zone(_PRODUCTS * layer + place) != known:
                    yield f"layer {layer} is not as the others {_place(place, last)}"
        if self._layers > 1 and self._zone(last).keys() != self._zone(last - _PRODUCTS).keys():
            yield "the LM head does not read what a layer would"

    def _kinds(self, depth: int) -> set[str]:
        steps = (self._steps[node] for node in self._zones[depth])
        return {step.kind for step in steps if not step.embeds}

    def _zone(self, depth: int) -> Counter[Hashable]:
        return Counter(self._label(node, depth // _PRODUCTS) for node in self._zones.get(depth, ()))

    def _label(self, node: Node, layer: int) -> Hashable:
        """What a node computes, as seen from a layer: down to the next product, or to constants."""
        known = self._labels.get((node, layer))
        if known is None:
            step, depth = self._steps[node], self._depths[node]
            of = 0 if step.sizes else layer  # all layers ask one of them for the lengths
            read = tuple((self._seen(one, depth, of), port) for one, port in step.inputs)
            known = hash((step.kind, self._own(step, layer), read))
            self._labels[node, layer] = known
        return known

    def _seen(self, node: Node, depth: int, layer: int) -> Hashable:
        if self._depths[node] in (depth, _OUTSIDE) and depth - self._depths[node] >= 0:
            return self._label(node, layer)
        step, readers = self._steps[node], tuple(sorted(self._readers[node]))
        return depth - self._depths[node], step.kind, self._own(step, layer), readers

    def _own(self, step: Step[Node], layer: int) -> str:
        return _NUMBER.sub(lambda found: str(int(found[0]) - layer), step.label)


def _place(depth: int, last: int) -> str:
    if depth == _OUTSIDE:
        return "in what the layers share"
    return "behind the LM head" if depth > last else f"after {depth} products"
