"""Compare what each recipe costs in bytes and in fidelity, on one model after the other.

    snakemake --cores 2 all --config models=phi3-tiny,second model_files=second/model.yaml \\
        variants=openvino-int4,…
    python benchmarks/recipes.py second/model.yaml

Reads the builds, references and receipts of such a run. All recipes are compared on the same
positions: those of the golden prompts within the model's sliding window that no calibration text
shares, all tokens before them included. Of phi3-tiny, whose golden prompts are few, also on
conversations of its corpus that are neither. The arithmetic is float32 on this CPU. FDT and SDT
(phiforge/release/comparison.py) are of the golden prompts that every recipe has answered, from
the receipts. The size at Phi-3-mini's shape is computed from the recipe. Writes recipes.json and
recipes.md beside this file. The second model: tests/support/second_model.py.
"""

import argparse
import csv
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import onnxruntime_genai as og
import openvino as ov
import torch
import yaml
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from machine import facts
from phiforge.release.comparison import diverging
from support import onnx_genai_builds
from support.openvino_builds import EXACT
from validators.metrics import concatenate, kl_divergence, log_probabilities, truncate_top_k
from validators.reference_tree import Reference, load_reference

ROOT = Path(__file__).parents[1]
MODELS = (ROOT / "config/models/phi3-tiny.yaml",)
# Of each family of runtimes: the form that the official tool makes by itself first.
# Phi-3-mini's layers, and its embedding and LM head, which have INT8 in all of these.
LAYERS, ENDS = 32 * 3072 * (9216 + 3072 + 16384 + 8192), 2 * 32064 * 3072
HELD_OUT, TURNS = 12, 20
RECIPES = (
    "openvino-int4",
    "openvino-int4-g64",
    "openvino-int4-placed",
    "openvino-int4-placed-small",
    "openvino-int4-awq",
    "openvino-int4-npu",
    "openvino-int4-npu-cw",
    "genai-dml-int4",
    "genai-dml-int4-head8",
    "genai-cpu-int4",
    "genai-cpu-int4-head8",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, help="model files beside phi3-tiny's")
    models = {}
    for file in (*MODELS, *parser.parse_args().models):
        described = yaml.safe_load(file.read_text(encoding="utf-8"))
        models[described["name"]] = measured(described, file.parent)
    into = Path(__file__).with_suffix(".json")
    result = {"machine": facts(), "models": models}
    into.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    into.with_suffix(".md").write_text("\n".join(table(models)) + "\n")


def measured(model: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what was measured of one model's recipes."""
    name = model["name"]
    reference = load_reference(ROOT / f"artifacts/reference/{name}")
    tokenizer = Tokenizer.from_file(str(reference.tokenizer))
    config = json.loads((ROOT / f"artifacts/source/{name}/files/config.json").read_text())
    window = config.get("sliding_window") or sys.maxsize
    texts = yaml.safe_load((folder / model["calibration"]).read_text(encoding="utf-8"))["texts"]
    calibration = [tokenizer.encode(text).ids for text in texts]
    known = {tuple(ids[:end]) for ids in calibration for end in range(1, len(ids) + 1)}
    chosen = unshared(reference, known, window)
    conversations = held_out(name, tokenizer, known)
    built = {one: ROOT / f"artifacts/build/{name}/{one}/payload" for one in RECIPES}
    built = {variant: payload for variant, payload in built.items() if payload.is_dir()}
    answers = {one: answered(ROOT / f"artifacts/checks/{name}/{one}") for one in built}
    shared = set.intersection(*({entry["id"] for entry in one} for one in answers.values()))
    recipes = {}
    for variant, payload in built.items():
        divergence = divergences(payload, reference, chosen)
        shares = diverging([one for one in answers[variant] if one["id"] in shared], payload)
        recipes[variant] = {
            "bytes": weight_bytes(payload),
            "mean_kl": float(divergence.mean()),
            "max_kl": float(divergence.max()),
            "held_out_kl": mean_kl(payload, conversations) if conversations else None,
            "gb_as_phi_3_mini": gigabytes(variant),
            **{key: shares and shares[key] for key in ("fdt", "sdt")},
            "convert_cpu_s": cpu_seconds(f"convert/{name}.{variant}"),
        }
        print(name, variant, recipes[variant], flush=True)
    return {
        "positions": sum(map(len, chosen.values())),
        "held_out_positions": sum(len(places) for _, places, _ in conversations),
        "answers": len(shared),
        "recipes": recipes,
    }


def unshared(
    reference: Reference, known: set[tuple[int, ...]], window: int
) -> dict[str, list[int]]:
    """Return places among the scored positions, by prompt: those that no calibration has."""
    return {
        prompt.id: [
            place
            for place, position in enumerate(reference.scored[prompt.id].positions)
            if prompt.sequence[: position + 1] not in known
        ]
        for prompt in reference.prompts
        if len(prompt.sequence) <= window
    }


def held_out(
    name: str, tokenizer: Tokenizer, known: set[tuple[int, ...]]
) -> list[tuple[Any, list[int], Any]]:
    """Return phi3-tiny's conversations: token ids, places that no calibration has, predictions."""
    if name != "phi3-tiny":
        return []
    folder = ROOT / "models/phi3-tiny"
    sys.path.insert(0, str(folder))
    from corpus import long_conversation

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for number in range(HELD_OUT):
        talk = long_conversation(TURNS, random.Random(f"held out {number}"))
        text = talk.prompt(newlines=number % 2 == 0) + talk.answer + "<|end|>"
        ids = tokenizer.encode(text).ids
        places = [place for place in range(len(ids) - 1) if tuple(ids[: place + 1]) not in known]
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, places]
        found.append((np.array(ids), places, log_probabilities(logits.numpy())))
    return found


def mean_kl(payload: Path, conversations: list[tuple[Any, list[int], Any]]) -> float:
    """Return the mean KL divergence over the conversations' places."""
    predict, found = opened(payload), []
    for ids, places, exact in conversations:
        found.append((np.exp(exact) * (exact - predict(ids)[places])).sum(-1))
    return float(np.concatenate(found).mean())


def gigabytes(variant: str) -> float | None:
    """Return the weights' size of an OpenVINO recipe at Phi-3-mini's shape."""
    recipes = yaml.safe_load((ROOT / "config/variants.yaml").read_text(encoding="utf-8"))
    if recipes[variant]["format"] != "openvino":
        return None
    options = recipes[variant]["options"]
    bits = options.get("placed")
    if bits is None:
        scale = 16 if options["symmetric"] else 20
        int4 = 4 + (scale / options["group_size"] if options["group_size"] > 0 else 0)
        bits = options["ratio"] * int4 + (1 - options["ratio"]) * 8
    return (LAYERS * bits / 8 + ENDS) / 1e9


def divergences(payload: Path, reference: Reference, chosen: dict[str, list[int]]) -> Any:
    """Return the KL divergence of each chosen position."""
    ours, theirs, predict = [], [], opened(payload)
    for prompt in reference.prompts:
        scored = reference.scored[prompt.id]
        if not chosen.get(prompt.id):
            continue
        scores = predict(np.array(prompt.sequence))
        positions = list(scored.positions)
        following = [prompt.sequence[position + 1] for position in positions]
        found = truncate_top_k(scores[positions], scored.distribution.top_ids, following)
        ours.append(found)
        theirs.append(scored.distribution)
    places, first = [], 0
    for prompt in reference.prompts:
        if chosen.get(prompt.id):
            places += [first + place for place in chosen[prompt.id]]
            first += len(reference.scored[prompt.id].positions)
    return kl_divergence(concatenate(theirs), concatenate(ours))[places]


def opened(payload: Path) -> Callable[[Any], Any]:
    """Open a payload on this CPU; return what makes log-probabilities of token ids."""
    if (payload / "model.onnx").is_file():
        model = onnx_genai_builds.open_on_cpu(payload)

        def of_onnx(tokens: Any) -> Any:
            parameters = og.GeneratorParams(model)
            parameters.set_search_options(max_length=len(tokens) + 1)
            generator = og.Generator(model, parameters)
            generator.append_tokens(tokens.astype(np.int32))
            return log_probabilities(np.array(generator.get_output("logits"))[0])

        return of_onnx
    compiled = ov.Core().compile_model(payload / "openvino_model.xml", "CPU", EXACT)

    def of_ir(tokens: Any) -> Any:
        count = len(tokens)
        given = {
            "input_ids": tokens[None],
            "attention_mask": np.ones((1, count), np.int64),
            "position_ids": np.arange(count)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        return log_probabilities(compiled.create_infer_request().infer(given)["logits"][0])

    return of_ir


def weight_bytes(payload: Path) -> int:
    """Return the size of graph and weights."""
    names = ("openvino_model.bin", "openvino_model.xml", "model.onnx", "model.onnx.data")
    return sum((payload / name).stat().st_size for name in names if (payload / name).is_file())


def answered(receipts: Path) -> list[dict[str, Any]]:
    """Return the golden prompts that the first receipt of an execution has answers to."""
    for path in sorted(receipts.glob("[!.]*.json")):
        if not path.name.endswith(".dsse.json"):
            golden = json.loads(path.read_text(encoding="utf-8"))["golden"]
            if found := [entry for entry in golden if entry["output"] is not None]:
                return found
    return []


def cpu_seconds(job: str) -> float:
    """Return the processor time that Snakemake measured of a job."""
    with (ROOT / f"artifacts/benchmarks/{job}.tsv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    return float(row["cpu_time"])


def table(models: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table."""
    for name, found in models.items():
        held = found["held_out_positions"]
        more = f", {held} held-out ones" if held else ""
        yield f"**{name}**, {found['positions']} positions{more}, {found['answers']} answers\n"
        columns = (
            "recipe",
            "bytes",
            "GB at Phi-3-mini's shape",
            "mean KL",
            "max KL",
            "held-out mean KL",
            "FDT",
            "SDT",
            "CPU s",
        )
        yield f"| {' | '.join(columns)} |"
        yield "|---" * len(columns) + "|"
        for variant, one in found["recipes"].items():
            fdt, sdt = one["fdt"], one["sdt"]
            diverged = "| - | - |" if fdt is None else f"| {fdt:.1f} | {sdt:.1%} |"
            size, kl = one["gb_as_phi_3_mini"], one["held_out_kl"]
            yield (
                f"| `{variant}` | {one['bytes']:,} | {f'{size:.2f}' if size else '-'} "
                f"| {one['mean_kl']:.3g} | {one['max_kl']:.3g} | {f'{kl:.3g}' if kl else '-'} "
                f"{diverged} {one['convert_cpu_s']:.1f} |"
            )
        yield ""


if __name__ == "__main__":
    main()
