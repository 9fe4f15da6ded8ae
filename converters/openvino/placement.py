"""Estimate what each form of INT4 costs each matrix of a model, and choose by it.

nncf chooses what gets INT8 without data, by the error of the weights alone. Here the answer is the
KL divergence of the next token over calibration texts where one matrix is rounded and all else is
exact, to the second order: half of the change's square in the metric of the Fisher information
(Amari 1998, doi:10.1162/089976698300017746). That is the mean square of what the change does to the
log-likelihood of tokens drawn from the model's own predictions, so a few draws and one way back
through the model price every form of every matrix. Signs drawn for each token let one way back
serve all tokens of a text (Hutchinson 1990, doi:10.1080/03610919008812866). Such small costs add
up, so the choice follows exactly: of all that have the bits on average, the forms that together
cost least.

One layer is in memory at a time. After each the gradients are written, and a search that was killed
goes on there. Memory follows from the states: 4 bytes x tokens x hidden size, for each layer and
each draw. Sums depend on the processor in their last digits; what builds replay is the file.
"""

import argparse
import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from converters.contract import ConvertError
from phiforge.artifact.payload_files import TOKENIZER
from phiforge.artifact.record import canonical, read_record, write_record, write_text
from phiforge.artifact.scratch import replacing
from phiforge.jobs import Place, read_job
from phiforge.settings.documents import read_yaml
from phiforge.settings.placements import FORMS, INT8, Form
from phiforge.sources.weights import (
    SourceTensor,
    as_float32,
    mapped_source_weights,
    tensor_of,
)
from validators.golden import load_golden
from validators.layerwise import decoder_layer, last_norm, read_config
from validators.lint.architecture import read_architecture
from validators.simulation import ROUNDINGS, by_rows, with_zero_points

TOOLCHAIN = ("torch", "transformers", "tokenizers", "numpy", "safetensors")

_DRAWS = 16
_BATCH_TOKENS = 256  # whose predictions are in memory at once
_DIGITS = 4
_PARTS = 8  # of a bit, in which the forms' widths are counted
_UINT4 = by_rows(lambda weight: with_zero_points(weight, 16))
_BITS = "give the variant with 'placed' more bits"
_MODULES = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
_HEADER = """\
# Which form each matrix of {model} gets: a measurement that builds replay. `kl`: what INT4 of that
# form in this matrix alone costs, about, in nats per token; `forms`: the choice for each of `bits`.
# Written by `snakemake placement` (converters/openvino/placement.py); another measurement makes
# other bytes, so commit it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule place writes it")
    parser.add_argument("--source", required=True, type=Path, help="folder of SOURCE.json")
    parser.add_argument("--calibration", nargs="?", type=Path, help="YAML file with texts")
    parser.add_argument("--golden", required=True, type=Path, help="the golden prompts")
    parser.add_argument("--file", type=Path, help="the placement beside the model")
    parser.add_argument("--into", required=True, type=Path, help="folder of RECORD.json")


def run(arguments: argparse.Namespace) -> None:
    job = read_job(Place, arguments.job)
    if arguments.calibration is None or not arguments.file.name:
        raise ConvertError(
            f"the model file of {job.model} names no calibration texts, or no placement to write",
            remedy="add 'calibration:' and 'placement:' to it (docs/conversions.md)",
        )
    source = arguments.source / "files"
    texts = read_texts(arguments.calibration, arguments.golden, source)
    record = read_record(arguments.source / "SOURCE.json")
    facts = {
        "model": job.model,
        "source_sha256": _digest(canonical({"files": record["files"]}).encode()),
        "calibration_sha256": _digest(arguments.calibration.read_bytes()),
        "positions": sum(len(ids) - 1 for ids in texts),
        "bits": list(job.bits),
    }
    costs, sizes = measure(source, texts, arguments.into, canonical(facts))
    choices = [choose(costs, sizes, bits) for bits in job.bits]
    placed = {
        name: {"kl": cost, "forms": [choice[name] for choice in choices]}
        for name, cost in costs.items()
    }
    text = yaml.safe_dump({**facts, "matrices": placed}, sort_keys=False, default_flow_style=None)
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.file, _HEADER.format(model=job.model) + text)
    for bits, choice in zip(job.bits, choices, strict=True):
        counts = Counter(choice.values())
        said = ", ".join(f"{counts[form]} {form}" for form in (*FORMS, INT8))
        print(f"{bits} bits a weight: {said}")
    write_record(arguments.into / "RECORD.json", {**facts, "placement": str(arguments.file)})


def read_texts(file: Path, golden: Path, source: Path) -> list[list[int]]:
    """Read the calibration texts as token ids.

    Raises:
        ConvertError: there are none, or one begins with a golden prompt, which would let builds be
            made for what they are then judged by.
    """
    texts = read_yaml(file).get("texts")
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise ConvertError("no calibration texts", where=file, expected="texts: a list of texts")
    for prompt in load_golden(golden).prompts:
        for text in texts:
            if text.startswith(prompt.text):
                raise ConvertError(
                    f"a calibration text begins with the golden prompt '{prompt.id}'",
                    where=file,
                    remedy="take the text out: builds are judged by that prompt",
                )
    tokenizer = Tokenizer.from_file(str(source / TOKENIZER))
    return [tokenizer.encode(text).ids for text in texts]


def choose(
    costs: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int], bits: float
) -> dict[str, str]:
    """Return each matrix's form: of all with at most ``bits`` a weight on average, the cheapest.

    INT8, which costs nothing here, has 8. Raises a `ConvertError` if no form is so small.

    >>> costs = {"a": {"sym64": 3.0, "asym32": 2.0}, "b": {"sym64": 1.0, "asym32": 0.5}}
    >>> choose(costs, {"a": 1, "b": 1}, 6.2)
    {'a': 'int8', 'b': 'sym64'}
    >>> choose(costs, {"a": 1, "b": 1}, 4.5)
    {'a': 'asym32', 'b': 'sym64'}
    """
    unit = gcd(*sizes.values())
    widths = {**{name: form.bits for name, form in FORMS.items()}, INT8: 8.0}
    room = int(sum(sizes.values()) / unit * bits * _PARTS + 1e-9)
    least = np.full(room + 1, np.inf)  # by the room that is used
    least[0] = 0
    steps = []
    for name, size in sizes.items():
        reached, by = np.full(room + 1, np.inf), np.zeros(room + 1, dtype=np.int8)
        for number, (form, width) in enumerate(widths.items()):
            used = round(width * _PARTS) * (size // unit)
            total = least[: max(0, room + 1 - used)] + costs[name].get(form, 0.0)
            better = total < reached[used:]
            reached[used:][better] = total[better]
            by[used:][better] = number
        least = reached
        steps.append(by)
    if not np.isfinite(least).any():
        raise ConvertError("no form is so small", expected=f"more than {bits} bits", remedy=_BITS)
    at, forms = int(least.argmin()), list(widths)
    chosen: dict[str, str] = {}
    for name, by in zip(reversed(list(sizes)), reversed(steps), strict=True):
        chosen[name] = forms[by[at]]
        at -= round(widths[chosen[name]] * _PARTS) * (sizes[name] // unit)
    return {name: chosen[name] for name in sizes}


def measure(
    source: Path, texts: Sequence[Sequence[int]], into: Path, about: str
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Return each matrix's cost in nats by form, and its number of weights, by its own name.

    Args:
        into: where the gradients lie between two layers, until all are priced.
        about: what is measured; gradients of something else are not taken up.

    Raises:
        ConvertError: the model is no Phi-3, or a matrix does not divide into groups.
    """
    if read_architecture(source) is None:
        raise ConvertError(
            "only the layers of a Phi-3 are known", where=source, expected="model_type phi3"
        )
    with mapped_source_weights(source) as tensors, torch.no_grad():
        search = _Search(source, tensors, read_config(source), texts)
        kept = _Kept(into / "gradients.safetensors", f"{about} {_DRAWS} {dict(FORMS)}")
        return search.costs(kept), search.sizes


class _Kept:
    """The gradients between two layers and the costs so far, on the disk."""

    def __init__(self, path: Path, about: str) -> None:
        self._path, self._about = path, _digest(about.encode())

    def read(self) -> tuple[dict[str, dict[str, float]], Tensor] | None:
        """Return what `write` wrote; None: there is nothing of this search that can be read."""
        try:
            with safe_open(self._path, framework="pt") as file:
                metadata = file.metadata()
                if metadata["about"] != self._about:
                    return None
                return json.loads(metadata["costs"]), file.get_tensor("gradients")
        except (FileNotFoundError, SafetensorError):
            return None

    def write(self, costs: Mapping[str, Mapping[str, float]], gradients: Tensor) -> None:
        metadata = {"about": self._about, "costs": json.dumps(costs)}
        with replacing(self._path) as scratch:
            save_file({"gradients": gradients}, scratch, metadata)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


class _Search:
    """One model, from tokens to predictions and from what was drawn of these back to each matrix.

    States are (1, tokens, hidden size), gradients (draws, tokens, hidden size). The texts lie one
    after another, and no token sees another text than its own.
    """

    def __init__(
        self,
        source: Path,
        tensors: Mapping[str, SourceTensor],
        config: Any,
        texts: Sequence[Sequence[int]],
    ) -> None:
        self._source, self._tensors, self._config = source, tensors, config
        self._ids = torch.tensor([token for ids in texts for token in ids])
        self._text = torch.tensor([number for number, ids in enumerate(texts) for _ in ids])
        self._predicting = torch.nonzero(self._text[:-1] == self._text[1:])[:, 0]
        places = torch.tensor([place for ids in texts for place in range(len(ids))])[None]
        back = places.T - places
        seen = (self._text[:, None] == self._text) & (back >= 0)
        if config.sliding_window is not None:
            seen &= back < config.sliding_window
        self._given = {
            "attention_mask": seen[None, None],
            "position_ids": places,
            "position_embeddings": Phi3RotaryEmbedding(config)(torch.ones(1), position_ids=places),
        }
        self.sizes = {
            name: int(self._tensor(name).data.size)
            for number in range(config.num_hidden_layers)
            for name in _matrices(number)
        }

    def costs(self, kept: _Kept) -> dict[str, dict[str, float]]:
        """Pass all layers, then go back through them, from where ``kept`` is."""
        layers = self._config.num_hidden_layers
        states = [self._weight("model.embed_tokens.weight")[self._ids][None]]
        for number in range(layers):
            layer = decoder_layer(self._config, number, self._weight)
            states.append(layer(states[-1], **self._given))
        last = states.pop()[0]
        costs, gradients = kept.read() or (dict[str, dict[str, float]](), self._drawn(last))
        for number in reversed(range(layers - len(costs) // len(_MODULES))):
            started = time.monotonic()
            costs |= self._back(number, states[number], gradients)
            kept.write(costs, gradients)
            spent = time.monotonic() - started
            print(f"layer {number + 1} of {layers}: {spent:.1f} s", flush=True)
        kept.forget()
        return {name: costs[name] for name in self.sizes}

    def _drawn(self, last: Tensor) -> Tensor:
        """Draw tokens and signs, and return the gradients of their log-likelihood."""
        chance = torch.Generator().manual_seed(0)
        norm = last_norm(self._config, self._weight)
        head = self._weight("lm_head.weight").T
        gradients = torch.zeros(_DRAWS, *last.shape)
        for some in torch.split(self._predicting, _BATCH_TOKENS):
            with torch.enable_grad():
                state = last[some].requires_grad_()
                logarithms = (norm(state) @ head).log_softmax(-1)
            likely = logarithms.detach().exp()
            for draw in gradients:
                tokens = torch.multinomial(likely, 1, generator=chance)
                signs = torch.randint(2, tokens.shape, generator=chance) * 2.0 - 1
                along = torch.zeros_like(likely).scatter_(1, tokens, signs)
                (draw[some],) = torch.autograd.grad(logarithms, state, along, retain_graph=True)
        return gradients

    def _back(self, number: int, state: Tensor, gradients: Tensor) -> dict[str, dict[str, float]]:
        """Price a layer's matrices, and turn ``gradients`` into those before the layer."""
        layer = decoder_layer(self._config, number, self._weight)
        passed: dict[str, tuple[Tensor, Tensor]] = {}
        for name in _matrices(number):
            own = name.removeprefix(f"model.layers.{number}.").removesuffix(".weight")
            layer.get_submodule(own).register_forward_hook(
                lambda _, given, out, name=name: passed.update({name: (given[0], out)})
            )
        with torch.enable_grad():
            state = state.requires_grad_()
            behind = layer(state, **self._given)
        errors = {
            (name, form): given.detach()[0] @ self._error(name, how).T
            for name, (given, _) in passed.items()
            for form, how in FORMS.items()
        }
        squares = dict.fromkeys(errors, 0.0)
        outs = [out for _, out in passed.values()]
        for draw in gradients:
            before, *ats = torch.autograd.grad(
                behind, [state, *outs], draw[None], retain_graph=True
            )
            draw.copy_(before[0])
            for name, at in zip(passed, ats, strict=True):
                for form in FORMS:
                    changes = (at[0] * errors[name, form]).sum(-1).double()
                    texts = changes.new_zeros(int(self._text[-1]) + 1)
                    texts.index_add_(0, self._text, changes)
                    squares[name, form] += float(texts.square().sum())
        positions = len(gradients) * len(self._predicting)
        return {
            name: {
                form: float(f"{squares[name, form] / positions / 2:.{_DIGITS}g}") for form in FORMS
            }
            for name in _matrices(number)
        }

    def _error(self, name: str, form: Form) -> Tensor:
        """Return what a matrix changes by when it is rounded as nncf does.

        Raises:
            ConvertError: its rows do not divide into groups.
        """
        exact = self._weight(name)
        if exact.shape[1] % form.group_size:
            raise ConvertError(
                f"the rows of '{name}' do not divide into groups",
                where=self._source,
                expected=f"a multiple of {form.group_size} columns",
                found=exact.shape[1],
                remedy="leave out the variants with 'placed' for this model",
            )
        rounding = ROUNDINGS["int4"] if form.symmetric else _UINT4
        return rounding(exact.reshape(-1, form.group_size)).reshape(exact.shape) - exact

    def _tensor(self, name: str) -> SourceTensor:
        return tensor_of(name, self._tensors, self._source)

    def _weight(self, name: str) -> Tensor:
        return torch.from_numpy(as_float32(self._tensor(name), slice(None)))


def _matrices(number: int) -> list[str]:
    return [f"model.layers.{number}.{module}.weight" for module in _MODULES]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
