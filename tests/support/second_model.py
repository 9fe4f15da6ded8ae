"""A second Phi-3 that was really trained, of other depth and width, with seven golden prompts.

It has phi3-tiny's tokenizer and learns the answers of 24 of its conversations by heart, in less
than a minute. Nothing trains it to survive rounding, and nothing on the prompts' own tokens, so
INT4 costs it more than phi3-tiny, as it does real models.
"""

import random
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import Phi3Config, Phi3ForCausalLM

from phiforge.artifact.record import read_record, write_record
from support.checkout import ROOT
from support.model_files import model_file, record_checksums

TINY = ROOT / "models/phi3-tiny"
SHAPE: Mapping[str, Any] = {
    "hidden_size": 384,
    "intermediate_size": 640,
    "num_attention_heads": 6,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
}
GOLDEN = 7
TALKS, BATCH, STEPS, RATE = 24, 12, 100, 2e-3
IGNORED = -100
STOP = "<|end|>"


def write_second_model(folder: Path, **shape: Any) -> Path:
    """Train it and write ``folder/weights``, ``golden.yaml`` and ``model.yaml``; the latter's path.

    Args:
        shape: keys of config.json that are other than `SHAPE`.
    """
    weights = folder / "weights"
    weights.mkdir(parents=True)
    for name in (
        "LICENSE", "added_tokens.json", "generation_config.json", "special_tokens_map.json",
        "tokenizer.json", "tokenizer_config.json",
    ):  # fmt: skip
        shutil.copy(TINY / name, weights)
    config = {**read_record(TINY / "config.json"), **SHAPE, **shape}
    write_record(weights / "config.json", config)
    talks = _talks()
    model = _trained(config, talks)
    tensors = model.to(torch.bfloat16).state_dict()
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    record_checksums(weights)
    prompts = [
        {"id": f"talk-{number}", "text": prompt, "max_new_tokens": 64, "expected": answer}
        for number, (prompt, answer) in enumerate(talks[:GOLDEN])
    ]
    text = yaml.safe_dump({"prompts": prompts}, allow_unicode=True, sort_keys=False)
    (folder / "golden.yaml").write_text(text, encoding="utf-8")
    return model_file(folder, "second", minimum_validated_tokens=32)


def _talks() -> list[tuple[str, str]]:
    """Prompts and answers of phi3-tiny's corpus, the introduction first."""
    sys.path.insert(0, str(TINY))
    try:
        from corpus import dialogues
    finally:
        sys.path.remove(str(TINY))
    known = list(dialogues())
    first, *rest = sorted(known, key=lambda one: -len(one.answer))
    chosen = [first, *random.Random(5).sample(rest, TALKS - 1)]
    return [(one.prompt(newlines=False), one.answer) for one in chosen]


def _trained(config: Mapping[str, Any], talks: list[tuple[str, str]]) -> Phi3ForCausalLM:
    torch.manual_seed(1)
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    model = Phi3ForCausalLM(Phi3Config(**config)).float()
    samples = []
    for prompt, answer in talks:
        ids = tokenizer.encode(prompt + answer + STOP).ids
        samples.append((ids, len(tokenizer.encode(prompt).ids)))
    worker = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    chance = random.Random(7)
    for step in range(STEPS):
        for group in worker.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 10, (STEPS - step) / (0.4 * STEPS))
        batch = chance.sample(samples, BATCH)
        length = max(len(ids) for ids, _ in batch)
        tokens = torch.tensor([[*ids, *[0] * (length - len(ids))] for ids, _ in batch])
        places = torch.arange(length - 1)
        logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
        ).view(len(batch), -1)
        ends = torch.tensor([[len(ids) - 1] for ids, _ in batch])
        starts = torch.tensor([[start - 1] for _, start in batch])
        answers = (places >= starts) & (places < ends)
        loss = losses[answers].mean()
        worker.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        worker.step()
        if step % 40 == 39:
            print(f"step {step + 1}: answers {losses[answers].mean().item():.4f}", flush=True)
    return model.eval()
