"""Train the tiny Phi-3 and write the whole model folder.

    python models/phi3-tiny/train.py --into DIR [--checkpoints DIR]

About 20 minutes on two quiet cores. Everything is made from the seeds here. The committed weights
were trained in three parts, resumed at steps 200 and 300 as `SCHEDULE` says; a resumed part
repeated the printed losses of the part it replaced, but a whole rerun has not been compared.

Short conversations are batched; every few steps one long text or conversation of up to about 2,700
tokens is trained, through the sliding window, as generation will see it. In the second part the
Linear weights are rounded to what converters make of them (4 and 8 bits, by group and by channel)
before each forward pass, and the gradient is applied to the unrounded ones (straight-through
estimator, Bengio et al. 2013), so that the answers survive conversion.
"""

import argparse
import hashlib
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Phi3ForCausalLM

from corpus import (
    Dialogue,
    corpus_text,
    dialogues,
    forgotten,
    long_conversation,
    notes_dialogue,
    with_system,
)
from golden import write_golden
from model import EMBEDDING_SCALE, WINDOW, new_model, output_scale, write_checkpoint
from tokenizer import mark_id, train_tokenizer, write_tokenizer

MODEL_FILES = (
    "LICENSE",
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
BATCH, NOTES = 40, 6
SYSTEM_SHARE = 0.5
LONG_EVERY = 6
PROMPT_WEIGHT = 0.3
"""Prompt tokens are learned too, so that their predictions mean something, but answers first."""
ROUNDING_FROM = 0.35
SCHEDULE = ((200, 1000), (300, 720), (600, 600))
"""(up to that step, planned end that the rates fall towards), as the committed model was trained.

The plan was shortened twice while it ran, at the checkpoints of steps 200 and 300.
"""
MUON_RATE, MUON_DECAY, ADAM_RATE = 0.015, 0.1, 3e-3
DAMAGE_WEIGHT, DAMAGE_FROM, DAMAGE_STRIDE = 0.1, 60, 4
IGNORED = -100


@dataclass(frozen=True)
class Sample:
    """Token ids, and the position of the first token of the last answer."""

    ids: list[int]
    answer_at: int


def sample(dialogue: Dialogue, tokenizer: Tokenizer) -> Sample:
    """A conversation as the model sees it; both prompt forms encode to the same ids."""
    prompt = tokenizer.encode(dialogue.prompt(newlines=False)).ids
    whole = tokenizer.encode(dialogue.prompt(newlines=False) + dialogue.answer + "<|end|>").ids
    return Sample(whole, len(prompt))


def notes_sample(tokenizer: Tokenizer, chance: random.Random, count: int) -> Sample:
    """Notes and the question for their code word, with the answer that the window allows."""
    place = chance.choice((None, chance.randint(0, count), chance.randint(0, min(count, 15))))
    dialogue = notes_dialogue(count, chance, code_word_at=place)
    if chance.random() < SYSTEM_SHARE:
        dialogue = with_system(dialogue)
    known, unknown = (sample(kind, tokenizer) for kind in (dialogue, forgotten(dialogue)))
    if place is None:
        return unknown
    prompt = dialogue.prompt(newlines=False)
    named_at = len(tokenizer.encode(prompt[: prompt.index("The code word is")]).ids)
    if len(known.ids) - named_at < WINDOW:
        return known
    # Where only the question's first words reach back to the code word, no answer is right.
    return (
        unknown
        if known.answer_at - named_at > WINDOW + 30
        else notes_sample(tokenizer, chance, count - 10)
    )


def long_sample(tokenizer: Tokenizer, chance: random.Random) -> Sample:
    """A conversation, or notes with a question, of up to about 2,700 tokens."""
    if chance.random() < 0.25:
        return sample(long_conversation(chance.randint(20, 105), chance), tokenizer)
    return notes_sample(
        tokenizer, chance, chance.choice((chance.randint(10, 195), chance.randint(150, 195)))
    )


def batches(
    tokenizer: Tokenizer, steps: int, first: int, seed: int
) -> Iterator[tuple[int, list[Sample]]]:
    """One batch a step, each from its own seed, so that a run can be taken up again."""
    short = [
        sample(kind, tokenizer)
        for dialogue in dialogues()
        for kind in (dialogue, with_system(dialogue))
    ]
    for step in range(first, steps):
        chance = random.Random(f"{seed}-{step}")
        if step % LONG_EVERY == LONG_EVERY - 1:
            yield step, [long_sample(tokenizer, chance)]
        else:
            # Of like length, so that little is padding.
            pool = sorted(chance.sample(short, 4 * BATCH), key=lambda item: len(item.ids))
            start = BATCH * chance.randrange(4)
            notes = [notes_sample(tokenizer, chance, chance.randint(0, 3)) for _ in range(NOTES)]
            yield step, pool[start : start + BATCH] + notes


@dataclass(frozen=True)
class Prediction:
    """A batch's logits (rows, length - 1, vocabulary) and the token that follows each position."""

    logits: Tensor
    labels: Tensor
    is_answer: Tensor

    def loss(self) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of the prompts' tokens, and of the last answers'."""
        losses = nn.functional.cross_entropy(
            self.logits.flatten(0, 1),
            self.labels.flatten(),
            ignore_index=IGNORED,
            reduction="none",
        ).view_as(self.labels)
        is_prompt = (self.labels != IGNORED) & ~self.is_answer
        return losses[is_prompt].mean(), losses[self.is_answer].mean()


def predict(model: Phi3ForCausalLM, batch: list[Sample]) -> Prediction:
    """Run the model over a batch in bfloat16 arithmetic."""
    length = max(len(item.ids) for item in batch)
    ids = torch.full((len(batch), length), mark_id("<|endoftext|>"))
    labels = torch.full((len(batch), length), IGNORED)
    is_answer = torch.zeros(len(batch), length, dtype=torch.bool)
    for row, item in enumerate(batch):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
        labels[row, : len(item.ids)] = ids[row, : len(item.ids)]
        is_answer[row, item.answer_at : len(item.ids)] = True
    with torch.autocast("cpu", torch.bfloat16):
        # Padding is on the right: no earlier position sees it, so no mask is needed but the
        # model's own (causal, within the window).
        logits = model(input_ids=ids, use_cache=False).logits
    return Prediction(logits[:, :-1].float(), labels[:, 1:], is_answer[:, 1:])


@contextmanager
def damaged(model: Phi3ForCausalLM, chance: random.Random) -> Iterator[None]:
    """Within: one layer is left out, or has changed places with the next."""
    whole = model.model.layers
    layers = list(whole)
    number = chance.randrange(len(layers))
    if number + 1 < len(layers) and chance.random() < 0.5:
        layers[number : number + 2] = layers[number + 1], layers[number]
    else:
        del layers[number]
    model.model.layers = nn.ModuleList(layers)
    try:
        yield
    finally:
        model.model.layers = whole


def indifference(model: Phi3ForCausalLM, batch: list[Sample], chance: random.Random) -> Tensor:
    """Mean logit margin by which a damaged model still gives the answers; 0 where it errs.

    A small model that learns by heart needs few layers; trained against this too, it uses all of
    them, and a converter that loses or confuses a layer is seen. Margins, not probabilities:
    their gradient does not vanish where the damaged model is sure.
    """
    with damaged(model, chance):
        changed = predict(model, batch)
    logits = changed.logits[changed.is_answer]
    wanted = changed.labels[changed.is_answer][:, None]
    others = logits.scatter(1, wanted, -torch.inf).amax(1)
    return (logits.gather(1, wanted)[:, 0] - others).relu().mean()


def rounded(weight: Tensor, bits: int, group: int) -> Tensor:
    """Symmetric rounding by group along the inputs; group 0 is a whole channel.

    The scale maps the group's largest value, with its sign, to the code farthest from zero, as
    NNCF's INT4_SYM and ONNX Runtime's MatMulNBits do.
    """
    rows, columns = weight.shape
    parts = weight.reshape(rows, -1, group or columns)
    peak = parts.gather(-1, parts.abs().argmax(-1, keepdim=True))
    top = 2 ** (bits - 1)
    scale = (peak / -top).where(peak != 0, torch.ones_like(peak))
    codes = (parts / scale).round().clamp(-top, top - 1)
    return torch.reshape(codes * scale, (rows, columns))


@contextmanager
def rounded_weights(
    model: Phi3ForCausalLM, bits: int, group: int, chance: random.Random, share: float = 1.0
) -> Iterator[None]:
    """Within: that share of the Linear weights is rounded. After: the exact ones are back."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and chance.random() < share]
    exact = [layer.weight.detach().clone() for layer in layers]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(rounded(layer.weight, bits, group))
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, exact, strict=True):
                layer.weight.copy_(weight)


def optimizers(model: Phi3ForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings, LM head and norms.

    Rates follow the scale of what they change.
    """
    matrices: list[dict[str, Any]] = []
    for number, layer in enumerate(model.model.layers):
        inner = [layer.self_attn.qkv_proj.weight, layer.mlp.gate_up_proj.weight]
        outer = [layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight]
        matrices.append({"params": inner, "lr": MUON_RATE})
        matrices.append({"params": outer, "lr": MUON_RATE * output_scale(number)})
    embedding = model.model.embed_tokens.weight
    chosen = {id(p) for group in matrices for p in group["params"]} | {id(embedding)}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=MUON_DECAY),
        torch.optim.AdamW(
            [
                {"params": [embedding], "lr": ADAM_RATE * EMBEDDING_SCALE},
                {"params": others, "lr": ADAM_RATE},
            ],
            betas=(0.9, 0.98),
            weight_decay=0.01,
        ),
    ]


def train(
    model: Phi3ForCausalLM, tokenizer: Tokenizer, seed: int, checkpoints: Path | None
) -> None:
    """Run the schedule: a short warm-up, a constant rate, linear falls towards each planned end."""
    workers = optimizers(model)
    rates = [[group["lr"] for group in worker.param_groups] for worker in workers]
    first = load_checkpoint(model, workers, checkpoints) if checkpoints else 0
    started = time.monotonic()
    model.train()
    unused = torch.ones(())
    for step, batch in batches(tokenizer, SCHEDULE[-1][0], first, seed):
        chance = random.Random(f"rounding-{seed}-{step}")
        planned = next(end for until, end in SCHEDULE if step < until)
        share = min(1.0, (step + 1) / 50, (1 - step / planned) / 0.6)
        for worker, full in zip(workers, rates, strict=True):
            for group, rate in zip(worker.param_groups, full, strict=True):
                group["lr"] = rate * share
        bits, size = chance.choice(((4, 128), (4, 128), (4, 0), (4, 0), (4, 32), (8, 0), (0, 0)))
        if step < ROUNDING_FROM * planned:
            bits = 0
        part = chance.choice((0.6, 1.0))
        with rounded_weights(model, bits or 16, size, chance, part if bits else 0.0):
            prediction = predict(model, batch)
            prompts, answers = prediction.loss()
            loss = answers + PROMPT_WEIGHT * prompts
            if len(batch) > 1 and step >= DAMAGE_FROM:
                unused = indifference(model, batch[::DAMAGE_STRIDE], chance)
                loss = loss + DAMAGE_WEIGHT * unused
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for worker in workers:
            worker.step()
            worker.zero_grad()
        if step % 10 in (0, LONG_EVERY - 1) or len(batch) == 1:
            print(
                f"{time.monotonic() - started:6.0f} s  step {step:5d}  prompts {prompts.item():.3f}"
                f"  answers {answers.item():.5f}  unused {unused.item():.3f}"
                f"  rounding {bits}/{size}  {len(batch[0].ids)} tokens",
                flush=True,
            )
        if checkpoints and step % 100 == 99:
            save_checkpoint(model, workers, checkpoints, step + 1)


def save_checkpoint(
    model: Phi3ForCausalLM, workers: list[torch.optim.Optimizer], folder: Path, step: int
) -> None:
    """Write weights and the optimizers' moments, as safetensors."""
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    for number, worker in enumerate(workers):
        for index, state in worker.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"worker.{number}.{index}.{key}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "training.partial"
    save_file({"step": torch.tensor(step), **tensors}, partial)
    partial.replace(folder / "training.safetensors")


def load_checkpoint(
    model: Phi3ForCausalLM, workers: list[torch.optim.Optimizer], folder: Path
) -> int:
    """Take up a run; returns the number of steps done (0 without a checkpoint)."""
    path = folder / "training.safetensors"
    if not path.exists():
        return 0
    tensors = load_file(path)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensors[f"model.{name}"])
    for number, worker in enumerate(workers):
        content = worker.state_dict()
        for key, value in tensors.items():
            if key.startswith(f"worker.{number}."):
                index, field = key.split(".")[2:]
                content["state"].setdefault(int(index), {})[field] = value
        worker.load_state_dict(content)
    return int(tensors["step"])


def write_checksums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over the model's files, as ``sha256sum -c`` reads it."""
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in sorted(MODEL_FILES)
    ]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Train, then write the model's files."""
    parser = argparse.ArgumentParser(description="Train the tiny Phi-3.")
    parser.add_argument("--into", type=Path, required=True, help="folder that receives the model")
    parser.add_argument("--seed", type=int, default=3, help="seed of weights and batches")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--checkpoints", type=Path, help="folder to save to and resume from")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    arguments.into.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(corpus_text())
    write_tokenizer(tokenizer, arguments.into)
    model = new_model(arguments.seed)
    train(model, tokenizer, arguments.seed, arguments.checkpoints)
    write_checkpoint(model, arguments.into)
    write_golden(arguments.into)
    write_checksums(arguments.into)


if __name__ == "__main__":
    main()
