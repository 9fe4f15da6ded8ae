"""Compare what each recipe costs in bytes and in fidelity, on one model after the other.

    snakemake --cores 2 all --config models=phi3-tiny,second model_files=second/model.yaml \\
        variants=openvino-int4,…
    python benchmarks/recipes.py second/model.yaml

Reads the builds, references and receipts of such a run. All recipes are compared on the same
positions: those of the golden prompts within the model's sliding window that no calibration text
shares, all tokens before them included. The arithmetic is float32 on this CPU. FDT and SDT
(phiforge/release/comparison.py) are of the golden prompts that every recipe has answered, from
the receipts. Writes recipes.json and recipes.md beside this file. The second model:
tests/support/second_model.py.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import onnxruntime_genai as og
import openvino as ov
import yaml
from tokenizers import Tokenizer

from machine import facts
from phiforge.release.comparison import diverging
from support import onnx_genai_builds
from support.openvino_builds import EXACT
from validators.metrics import concatenate, kl_divergence, log_probabilities, truncate_top_k
from validators.reference_tree import Reference, load_reference

ROOT = Path(__file__).parents[1]
MODELS = (ROOT / "config/models/phi3-tiny.yaml",)
# Of each family of runtimes: the form that the official tool makes by itself first.
RECIPES = (
    "openvino-int4",
    "openvino-int4-g64",
    "openvino-int4-placed",
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
    chosen = unshared(reference, [tokenizer.encode(text).ids for text in texts], window)
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
            **{key: shares and shares[key] for key in ("fdt", "sdt")},
            "convert_cpu_s": cpu_seconds(f"convert/{name}.{variant}"),
        }
        print(name, variant, recipes[variant], flush=True)
    positions = sum(map(len, chosen.values()))
    return {"positions": positions, "answers": len(shared), "recipes": recipes}


def unshared(
    reference: Reference, calibration: list[list[int]], window: int
) -> dict[str, list[int]]:
    """Return places among the scored positions, by prompt: those that no calibration has."""
    known = {tuple(ids[:end]) for ids in calibration for end in range(1, len(ids) + 1)}
    return {
        prompt.id: [
            place
            for place, position in enumerate(reference.scored[prompt.id].positions)
            if prompt.sequence[: position + 1] not in known
        ]
        for prompt in reference.prompts
        if len(prompt.sequence) <= window
    }


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
        yield f"**{name}**, {found['positions']} positions, {found['answers']} answers\n"
        yield "| recipe | bytes | mean KL | max KL | FDT | SDT | CPU s |"
        yield "|---|---|---|---|---|---|---|"
        for variant, one in found["recipes"].items():
            fdt, sdt = one["fdt"], one["sdt"]
            diverged = "| - | - |" if fdt is None else f"| {fdt:.1f} | {sdt:.1%} |"
            yield (
                f"| `{variant}` | {one['bytes']:,} | {one['mean_kl']:.3g} | {one['max_kl']:.3g} "
                f"{diverged} {one['convert_cpu_s']:.1f} |"
            )
        yield ""


if __name__ == "__main__":
    main()
