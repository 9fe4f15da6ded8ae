"""The tiny model's shape, and the files a checkpoint of it consists of."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Phi3Config, Phi3ForCausalLM

from tokenizer import BASE_VOCABULARY, CONTEXT, MARKS, mark_id

HIDDEN = 256
INTERMEDIATE = 512
LAYERS = 16
HEADS = 4
WINDOW = 2047
EMBEDDING_SCALE, SHARE = 0.2, 0.8
VOCABULARY = -(-(BASE_VOCABULARY + len(MARKS)) // 64) * 64
"""Padded to a multiple of 64 like Phi-3-mini's 32,064; equal to no Linear's output size."""

LICENSE = """\
MIT License

Copyright (c) phiforge contributors

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def configuration() -> dict[str, Any]:
    """``config.json``, with the keys of Phi-3-mini-4k-instruct's that need no remote code."""
    return {
        "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "embd_pdrop": 0.0,
        "eos_token_id": mark_id("<|endoftext|>"),
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": CONTEXT,
        "model_type": "phi3",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": HEADS,
        "original_max_position_embeddings": CONTEXT,
        "pad_token_id": mark_id("<|endoftext|>"),
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "sliding_window": WINDOW,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }


def generation_configuration() -> dict[str, Any]:
    """``generation_config.json``: generation ends at any of three marks, as Phi-3-mini's does."""
    ends = [mark_id(mark) for mark in ("<|endoftext|>", "<|assistant|>", "<|end|>")]
    return {
        "_from_model_config": True,
        "bos_token_id": 1,
        "eos_token_id": ends,
        "pad_token_id": ends[0],
    }


def output_scale(layer: int) -> float:
    """Size of what a layer's sublayers first add to the residual stream, in its units.

    Each layer adds `SHARE` times what has come in, so the stream grows with depth and later layers
    rest on earlier ones. With Transformers' equal small weights, the first layer drowns the
    embeddings and the later ones hardly matter.
    """
    growth = math.sqrt(1 + SHARE**2)
    return EMBEDDING_SCALE * SHARE * growth**layer / math.sqrt(2)


def new_model(seed: int) -> Phi3ForCausalLM:
    """A float32 model with seeded random weights, scaled as `output_scale` says."""
    torch.manual_seed(seed)
    model = Phi3ForCausalLM(Phi3Config(**configuration())).float()
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0, EMBEDDING_SCALE)
        for number, layer in enumerate(model.model.layers):
            for projection, scale in (
                (layer.self_attn.qkv_proj, 1.0),
                (layer.mlp.gate_up_proj, 1.0),
                # Averaging over the context shrinks attention's output; silu(gate) * up is 0.35.
                (layer.self_attn.o_proj, 1.5 * output_scale(number)),
                (layer.mlp.down_proj, output_scale(number) / 0.35),
            ):
                projection.weight.normal_(0, scale / math.sqrt(projection.in_features))
    return model


def write_checkpoint(model: Phi3ForCausalLM, into: Path) -> None:
    """Write the weights as bfloat16 safetensors, the configurations and the licence."""
    weights = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(weights, into / "model.safetensors", metadata={"format": "pt"})
    for name, value in (
        ("config.json", configuration()),
        ("generation_config.json", generation_configuration()),
    ):
        (into / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    (into / "LICENSE").write_text(LICENSE, encoding="utf-8")
