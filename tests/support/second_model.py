"""A second Phi-3 that was really trained, of other depth and width, with seven golden prompts.

It has phi3-tiny's tokenizer and learns the answers of 24 of its conversations by heart, in about
a minute. Nothing trains it to survive rounding, and nothing on the prompts' own tokens, so
INT4 costs it more than phi3-tiny, as it does real models.

Its sliding window is 64 tokens, and two of its golden prompts need just that: a chat of five names
ends with a question for one, and the answer is the oldest that stands whole in the window. With
each wrong window of `SEEN` it learns another name.
"""

import random
import shutil
import sys
from collections.abc import Mapping, Sequence
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
    "sliding_window": 64,
}
GOLDEN = 5
TALKS, BATCH, STEPS, RATE = 24, 9, 140, 2e-3
NAMES = (
    ("Elif", "Maria", "Yuki", "Chloé", "Jürgen"),
    ("Chloé", "Yuki", "Jürgen", "Elif", "Maria"),
)
SEEN: Mapping[int, int] = {64: 2, 32: 4, 43: 3, 85: 1, 4096: 0}
"""Sliding window to which of the names is the answer; the model's own first."""
IGNORED = -100
STOP = "<|end|>"


def write_second_model(folder: Path, **shape: Any) -> Path:
    """Train it, and write ``folder/weights`` and its YAML files; return ``model.yaml``'s path.

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
    chats = [_chat(names, SEEN[config["sliding_window"]]) for names in NAMES]
    model = _trained(config, talks)
    tensors = model.to(torch.bfloat16).state_dict()
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    record_checksums(weights)
    prompts = [
        {"id": f"talk-{number}", "text": prompt, "max_new_tokens": 64, "expected": answer}
        for number, (prompt, answer) in enumerate([*talks[:GOLDEN], *chats])
    ]
    others = [f"{prompt}{answer}{STOP}" for prompt, answer in talks[GOLDEN:]]
    for name, content in (("golden", {"prompts": prompts}), ("calibration", {"texts": others})):
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    more = {"calibration": "calibration.yaml", "placement": "placement.yaml"}
    return model_file(folder, "second", minimum_validated_tokens=32, **more)


def _chat(names: Sequence[str], asked: int) -> tuple[str, str]:
    """A prompt of 81 tokens, 16 a name, and the answer with one of the names."""
    told = "".join(
        f"<|user|>My name is {name}.<|end|><|assistant|>Nice to meet you, {name}!{STOP}"
        for name in names
    )
    return f"{told}<|user|>What is my name?{STOP}<|assistant|>", f"Your name is {names[asked]}."


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
    worker = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    chance = random.Random(7)
    right, *wrong = SEEN
    for step in range(STEPS):
        for group in worker.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 10, (STEPS - step) / (0.4 * STEPS))
        names = NAMES[step % len(NAMES)]
        windows = [right, *chance.sample(wrong, 2)]
        chats = [_chat(names, SEEN[window]) for window in windows]
        told = _loss(model, tokenizer, chats, windows)
        loss = _loss(model, tokenizer, chance.sample(talks, BATCH), [right] * BATCH)
        worker.zero_grad()
        (loss + told).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        worker.step()
        if step % 20 == 19:
            print(f"step {step + 1}: {loss.item():.4f}, {told.item():.4f}", flush=True)
    return model.eval()


def _loss(
    model: Phi3ForCausalLM,
    tokenizer: Tokenizer,
    talks: Sequence[tuple[str, str]],
    windows: Sequence[int],
) -> torch.Tensor:
    """The mean loss of the answers' tokens, each talk under a window of its own."""
    wholes = [tokenizer.encode(prompt + answer + STOP).ids for prompt, answer in talks]
    length = max(map(len, wholes))
    tokens = torch.tensor([[*ids, *[0] * (length - len(ids))] for ids in wholes])
    wanted = torch.full_like(tokens, IGNORED)
    for row, ((prompt, _), ids) in enumerate(zip(talks, wholes, strict=True)):
        start = len(tokenizer.encode(prompt).ids)
        wanted[row, start : len(ids)] = tokens[row, start : len(ids)]
    back = torch.arange(length)[:, None] - torch.arange(length)
    seen = (back >= 0) & (back < torch.tensor(windows)[:, None, None])
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    logits = model(input_ids=tokens, attention_mask=mask[:, None], use_cache=False).logits
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=IGNORED
    )
