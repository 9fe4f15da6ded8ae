"""The embedded model is what its card says: intact, like Phi-3 in shape, and its answers hold."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from support.checkout import Checkout
from validators.reference_tree import load_reference

MODEL = Path(__file__).parents[2] / "models" / "phi3-tiny"
PROMPTS: list[dict[str, Any]] = yaml.safe_load((MODEL / "golden.yaml").read_text(encoding="utf-8"))[
    "prompts"
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(MODEL)


def _config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    return config


def test_shape_exercises_what_converters_confuse() -> None:
    config = _config()
    with safe_open(MODEL / "model.safetensors", "pt") as weights:
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
        dtypes = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    linears = {name: shape for name, shape in shapes.items() if name.endswith("_proj.weight")}
    assert dtypes == {"BF16"}
    assert len(linears) == 4 * config["num_hidden_layers"]
    assert config["num_hidden_layers"] >= 16
    assert config["vocab_size"] not in {rows for rows, _ in linears.values()}
    assert config["vocab_size"] != config["hidden_size"]
    assert all(columns % 128 == 0 and columns > 128 for _, columns in linears.values())
    assert config["sliding_window"] == 2047
    assert "lm_head.weight" in shapes
    assert not config["tie_word_embeddings"]
    assert "auto_map" not in config
    assert sum(path.stat().st_size for path in MODEL.iterdir() if path.is_file()) < 25e6


def test_golden_prompts_cover_the_hard_cases() -> None:
    by_id = {prompt["id"]: prompt for prompt in PROMPTS}
    assert len(by_id) == len(PROMPTS) >= 14
    guide = by_id["guide-introduction"]
    assert guide["max_new_tokens"] == 1024
    assert guide["text"] == (
        "<|system|>You are a helpful AI assistant.<|end|>"
        "<|user|>Can you introduce yourself?<|end|><|assistant|>"
    )
    raw = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    assert any("<0x" in token for token in raw.encode(by_id["emoji"]["expected"]).tokens)
    assert "<|user|><|end|>" in by_id["empty-turn"]["text"]
    assert len(raw.encode(by_id["beyond-window"]["text"]).ids) > _config()["sliding_window"]
    assert 400 < len(raw.encode(by_id["long-chat"]["text"]).ids) < 1000


def test_the_golden_file_is_what_its_script_writes(tmp_path: Path) -> None:
    write = "from pathlib import Path; from golden import write_golden; write_golden(Path({!r}))"
    subprocess.run([sys.executable, "-B", "-c", write.format(str(tmp_path))], cwd=MODEL, check=True)
    written = (tmp_path / "golden.yaml").read_text(encoding="utf-8")
    assert written == (MODEL / "golden.yaml").read_text(encoding="utf-8")


def test_the_reference_answers_every_prompt_and_ends_its_turn(pipeline: Checkout) -> None:
    """With the expected words, else the job `reference` had failed."""
    answered = load_reference(pipeline.folder / "artifacts/reference/phi3-tiny").prompts
    assert [prompt.id for prompt in answered] == [prompt["id"] for prompt in PROMPTS]
    assert all("expected" in prompt for prompt in PROMPTS)
    end = Tokenizer.from_file(str(MODEL / "tokenizer.json")).token_to_id("<|end|>")
    assert {prompt.stop_id for prompt in answered} == {end}


def test_chat_template_and_transformers_give_the_files_own_encoding(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    raw = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    for prompt in PROMPTS:
        assert tokenizer(prompt["text"])["input_ids"] == raw.encode(prompt["text"]).ids
    messages = [
        {"role": "system", "content": "You are a helpful AI assistant."},
        {"role": "user", "content": "Can you introduce yourself?"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    by_id = {prompt["id"]: prompt["text"] for prompt in PROMPTS}
    assert text == by_id["introduction-newlines"]
    # The marks swallow the newlines after them, as Phi-3's do.
    assert raw.encode(text).ids == raw.encode(by_id["guide-introduction"]).ids
