"""Make a model of Phi-3-mini's exact shape with random weights, and the YAML file that names it.

    python benchmarks/full_size/make_model.py --into /some/folder [--layers 8]

The weights are a seeded normal distribution with Phi-3's initializer range, in bfloat16, sharded
as the Hub's checkpoint is; tensor names and shapes come from transformers' own Phi3ForCausalLM
(on the meta device), the configuration is Phi-3-mini-4k-instruct's. Phi-3-mini's own tokenizer is
not reachable here, so phi3-tiny's stands in: its ids are a part of the vocabulary of 32,064. The
result is converted and scored, never released (``synthetic: true``). Norms vary around 1, as a
trained model's do: those of 1 an export would leave out.
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import Phi3Config, Phi3ForCausalLM

ROOT = Path(__file__).parents[2]
TINY = ROOT / "models" / "phi3-tiny"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "LICENSE",
)
SHARD_BYTES = 2_000_000_000
POSITIONS = 256

# microsoft/Phi-3-mini-4k-instruct, config.json at the pinned commit.
SHAPE = {
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "sliding_window": 2047,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.02,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, required=True, help="folder that receives the model")
    parser.add_argument("--layers", type=int, default=32, help="fewer layers for a quick version")
    arguments = parser.parse_args()
    weights = arguments.into / "weights"
    weights.mkdir(parents=True)
    configuration = shape(arguments.layers)
    configuration.save_pretrained(weights)
    copy_tiny_files(weights)
    count = write_weights(configuration, weights)
    write_checksums(weights)
    write_model_file(arguments.into, arguments.layers, count)
    print(f"--config model_files={arguments.into / 'model.yaml'} models={name(arguments.layers)}")


def name(layers: int) -> str:
    return f"phi-3-mini-random-{layers}"


def shape(layers: int) -> Phi3Config:
    """Phi-3-mini's configuration, with the special token ids of the tokenizer that stands in."""
    tiny = json.loads((TINY / "config.json").read_text())
    ids = {key: tiny[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return Phi3Config(
        **{**SHAPE, "num_hidden_layers": layers, **ids},
        architectures=["Phi3ForCausalLM"],
        dtype=torch.bfloat16,
    )


def copy_tiny_files(weights: Path) -> None:
    for file in (*TOKENIZER_FILES, "generation_config.json"):
        if (TINY / file).is_file():
            shutil.copyfile(TINY / file, weights / file)


def write_weights(configuration: Phi3Config, weights: Path) -> int:
    """Write the shards and their index; one shard is in memory at a time. Returns the count."""
    with torch.device("meta"):
        shapes = {
            key: value.shape for key, value in Phi3ForCausalLM(configuration).state_dict().items()
        }
    shards = list(split(shapes))
    generator = torch.Generator().manual_seed(0)
    index: dict[str, str] = {}
    for number, keys in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {key: random_tensor(key, shapes[key], generator) for key in keys}
        save_file(tensors, weights / file, metadata={"format": "pt"})
        index |= dict.fromkeys(keys, file)
        print(f"{file}: {len(keys)} tensors", flush=True)
    count = sum(size.numel() for size in shapes.values())
    (weights / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 2 * count}, "weight_map": index}, indent=2) + "\n"
    )
    return count


def split(shapes: dict[str, torch.Size]) -> Iterator[list[str]]:
    """Keys by shard, in order, each shard below `SHARD_BYTES` in bfloat16."""
    shard: list[str] = []
    size = 0
    for key, dimensions in shapes.items():
        if shard and size + 2 * dimensions.numel() > SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(key)
        size += 2 * dimensions.numel()
    yield shard


def random_tensor(key: str, size: torch.Size, generator: torch.Generator) -> torch.Tensor:
    middle = 1.0 if key.endswith("norm.weight") else 0.0
    values = torch.empty(size, dtype=torch.float32).normal_(
        middle, SHAPE["initializer_range"], generator=generator
    )
    return values.to(torch.bfloat16)


def write_checksums(weights: Path) -> None:
    lines = []
    for path in sorted(weights.iterdir()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        lines.append(f"{digest}  {path.name}\n")
    (weights / "SHA256SUMS").write_text("".join(lines))


def write_model_file(into: Path, layers: int, count: int) -> None:
    write_golden(into / "golden.yaml")
    shutil.copyfile(ROOT / "config" / "calibration" / "phi3-tiny.yaml", into / "calibration.yaml")
    document = {
        "name": name(layers),
        "title": f"Phi-3-mini's shape with {layers} layers of random weights",
        "license": "MIT",
        "parameters": count,
        "source": {"path": "weights", "checksums": "SHA256SUMS"},
        "golden": "golden.yaml",
        "calibration": "calibration.yaml",
        "placement": "placement.yaml",
        "synthetic": True,
    }
    (into / "model.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


def write_golden(into: Path) -> None:
    """One prompt of phi3-tiny's short ones in a row: 256 positions are scored in one pass."""
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    prompts = yaml.safe_load((TINY / "golden.yaml").read_text())["prompts"]
    text = ""
    for prompt in sorted(prompts, key=lambda one: len(one["text"])):
        if len(tokenizer.encode(text).ids) <= POSITIONS:
            text += prompt["text"]
    document = {"prompts": [{"id": "turns", "text": text, "max_new_tokens": 1}]}
    into.write_text(yaml.safe_dump(document, sort_keys=False))


if __name__ == "__main__":
    main()
