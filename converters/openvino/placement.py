"""Measure what each form of INT4 costs each matrix of a model, and choose by it.

nncf chooses what gets INT8 without data, by the error of the weights alone. Here each matrix of
the layers is rounded alone, everything else exact in float32, and the answer is the KL divergence
of the next token over calibration texts. Such small costs add up, so the choice follows exactly:
of all that have the bits on average, the forms that together cost least.

All runs pass through the model side by side, one layer after another: a layer's weights are read
once, and one layer is in memory at a time. After each layer the states are written, and a search
that was killed goes on there. Memory follows from the states: 4 bytes x tokens x hidden size, for
each matrix. Sums depend on the processor in their last digits; what builds replay is the file.
"""

import argparse
import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.models.phi3.modeling_phi3 import (
    Phi3DecoderLayer,
    Phi3RMSNorm,
    Phi3RotaryEmbedding,
)

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
from validators.lint.architecture import read_architecture
from validators.simulation import ROUNDINGS, with_zero_points

TOOLCHAIN = ("torch", "transformers", "tokenizers", "numpy", "safetensors")

_BATCH_TOKENS = 2048  # that pass a layer at once; what they need beside the weights stays small
_DIGITS = 4
_PARTS = 8  # of a bit, in which the forms' widths are counted
_BITS = "give the variant with 'placed' more bits"
_MODULES = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
_HEADER = """\
# Which form each matrix of {model} gets: a measurement that builds replay. `kl`: what INT4 of that
# form in this matrix alone costs, in nats per token; `forms`: the choice for each of the `bits`.
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
        into: where the states lie between two layers, until all are measured.
        about: what is measured; states of something else are not taken up.

    Raises:
        ConvertError: the model is no Phi-3, or a matrix does not divide into groups.
    """
    if read_architecture(source) is None:
        raise ConvertError(
            "only the layers of a Phi-3 are known", where=source, expected="model_type phi3"
        )
    config: Any = AutoConfig.from_pretrained(source, local_files_only=True)
    config._attn_implementation = "sdpa"
    with mapped_source_weights(source) as tensors, torch.inference_mode():
        search = _Search(source, tensors, config, texts)
        return search.costs(_Kept(into / "states.safetensors", about)), search.sizes


class _Kept:
    """The states between two layers, on the disk."""

    def __init__(self, path: Path, about: str) -> None:
        self._path, self._about = path, _digest(about.encode())

    def read(self) -> tuple[list[str], Tensor] | None:
        """Return the names and states of the runs; None: there are none of this search."""
        if not self._path.is_file():
            return None
        with safe_open(self._path, framework="pt") as file:
            metadata = file.metadata()
            if metadata["about"] != self._about:
                return None
            names = metadata["names"].split()
            return names, file.get_tensor("states")

    def write(self, names: Sequence[str], states: Tensor) -> None:
        metadata = {"about": self._about, "names": " ".join(names)}
        with replacing(self._path) as scratch:
            save_file({"states": states.contiguous()}, scratch, metadata)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


class _Search:
    """One model on its way from tokens to costs.

    States are (runs, tokens, hidden size), the exact run first. The texts lie one after another,
    and no token sees another text than its own.
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
        self._places = torch.tensor([place for ids in texts for place in range(len(ids))])[None]
        back = self._places.T - self._places
        seen = (self._text[:, None] == self._text) & (back >= 0)
        if config.sliding_window is not None:
            seen &= back < config.sliding_window
        self._seen = seen[None, None]
        self._rotary = Phi3RotaryEmbedding(config)
        self.sizes = {
            name: int(self._tensor(name).data.size)
            for number in range(config.num_hidden_layers)
            for name in _matrices(number)
        }

    def costs(self, kept: _Kept) -> dict[str, dict[str, float]]:
        """Pass all layers, from where ``kept`` is, and compare what comes out."""
        layers = self._config.num_hidden_layers
        names, states = kept.read() or (
            list[str](),
            self._weight("model.embed_tokens.weight")[self._ids][None],
        )
        for number in range(len(names) // len(FORMS) // len(_MODULES), layers):
            started = time.monotonic()
            states = self._through(number, states)
            names += [f"{name}:{form}" for name in _matrices(number) for form in FORMS]
            kept.write(names, states)
            spent = time.monotonic() - started
            print(f"layer {number + 1} of {layers}: {spent:.1f} s, {len(names)} runs", flush=True)
        costs: dict[str, dict[str, float]] = {name: {} for name in self.sizes}
        for run, kl in zip(names, self._divergences(states), strict=True):
            name, _, form = run.partition(":")
            costs[name][form] = kl
        kept.forget()
        return costs

    def _through(self, number: int, states: Tensor) -> Tensor:
        """Pass a layer with all runs, and begin those of the layer's own matrices."""
        with torch.device("meta"):
            layer = Phi3DecoderLayer(self._config, number)
        prefix = f"model.layers.{number}."
        weights = {name: self._weight(prefix + name) for name, _ in layer.named_parameters()}
        layer.load_state_dict(weights, assign=True)
        layer.eval()
        given = {
            "attention_mask": self._seen,
            "position_ids": self._places,
            "position_embeddings": self._rotary(states, position_ids=self._places),
        }
        some = torch.split(states, max(1, _BATCH_TOKENS // states.shape[1]))
        passed = [layer(part, **given) for part in some]
        for name in _matrices(number):
            own = name.removeprefix(prefix)
            module = layer.get_submodule(own.removesuffix(".weight"))
            for form in FORMS.values():
                rounded = self._rounded(name, weights[own], form)
                module.weight = nn.Parameter(rounded, requires_grad=False)
                passed.append(layer(states[:1], **given))
            module.weight = nn.Parameter(weights[own], requires_grad=False)
        return torch.cat(passed)

    def _rounded(self, name: str, exact: Tensor, form: Form) -> Tensor:
        """Round a matrix as nncf does.

        Raises:
            ConvertError: its rows do not divide into groups.
        """
        rows, columns = exact.shape
        if columns % form.group_size:
            raise ConvertError(
                f"the rows of '{name}' do not divide into groups",
                where=self._source,
                expected=f"a multiple of {form.group_size} columns",
                found=columns,
                remedy="leave out the variants with 'placed' for this model",
            )
        groups = exact.reshape(rows, -1, form.group_size)
        rounded = ROUNDINGS["int4"](groups) if form.symmetric else with_zero_points(groups, 16)
        return rounded.reshape(exact.shape)

    def _divergences(self, states: Tensor) -> list[float]:
        """Return the mean KL divergence of each run from the exact one, in nats."""
        norm = Phi3RMSNorm(self._config.hidden_size, eps=self._config.rms_norm_eps)
        norm.load_state_dict({"weight": self._weight("model.norm.weight")})
        head = self._weight("lm_head.weight").T
        goes_on = torch.zeros_like(self._text, dtype=torch.bool)
        goes_on[:-1] = self._text[:-1] == self._text[1:]

        def predicted(run: Tensor) -> Tensor:
            logits: Tensor = norm(run[goes_on]) @ head
            return logits.double().log_softmax(-1)

        exact = predicted(states[0])
        likely = exact.exp()
        costs = [float((likely * (exact - predicted(run))).sum(-1).mean()) for run in states[1:]]
        return [float(f"{kl:.{_DIGITS}g}") for kl in costs]

    def _tensor(self, name: str) -> SourceTensor:
        return tensor_of(name, self._tensors, self._source)

    def _weight(self, name: str) -> Tensor:
        return torch.from_numpy(as_float32(self._tensor(name), slice(None)))


def _matrices(number: int) -> list[str]:
    return [f"model.layers.{number}.{module}.weight" for module in _MODULES]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
