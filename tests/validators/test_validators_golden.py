"""Golden prompts are a contract: a typo is one line that says what to do."""

import re
from pathlib import Path

import pytest

from phiforge.receipts.golden import GoldenPrompt
from phiforge.settings.documents import ConfigurationError
from phiforge.settings.first_layers import GOLDEN as FIRST_LAYERS
from phiforge.settings.models import load_models
from validators.golden import load_golden

ROOT = Path(__file__).parents[2]
GUIDE = (
    "<|system|>You are a helpful AI assistant.<|end|>"
    "<|user|>Can you introduce yourself?<|end|><|assistant|>"
)
GOOD = "prompts:\n- {id: one, text: hello, max_new_tokens: 4}\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "golden.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("4}", "4, expect: x}"), ["prompts.0.expect'", "write 'expected'"]),
        (GOOD.replace("id: one, ", ""), ["'prompts.0.id' is missing"]),
        (GOOD.replace("max_new_tokens: 4", "max_new_tokens: 0"), ["prompts.0.max_new_tokens"]),
        (GOOD.replace("id: one", "id: One Two"), ["prompts.0.id", "One Two"]),
        (GOOD + "extra: 1\n", ["unknown key 'extra'"]),
        (GOOD + "- {id: one, text: b, max_new_tokens: 1}\n", ["'prompts.1.id' repeats 'one'"]),
        ("prompts: []\n", ["prompts"]),
        (GOOD.replace("4}", "4, repeat: {text: a, time: 2}}"), ["repeat.time'", "write 'times'"]),
        (
            GOOD.replace("4}", "4, repeat: {text: a, times: 2}}"),
            ["'prompts.0.text' must say where 'repeat' goes", "found 0 times"],
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load_golden(path)
    line = str(caught.value)
    assert "\n" not in line
    assert "Remedy: " in line
    for word in [str(path), *words]:
        assert word in line


def test_the_digest_is_of_what_is_asked_not_of_its_spelling(tmp_path: Path) -> None:
    plain = load_golden(written(tmp_path, GOOD)).digest
    commented = load_golden(written(tmp_path, "# a comment\n" + GOOD)).digest
    other = load_golden(written(tmp_path, GOOD.replace("hello", "hallo"))).digest
    assert plain == commented != other


def test_a_filler_written_short_asks_what_the_filler_written_out_asks(tmp_path: Path) -> None:
    text = "prompts:\n- {id: one, text: '<{repeat}>', max_new_tokens: 4"
    short = load_golden(written(tmp_path, text + ", repeat: {text: 'no {n}; ', times: 3}}\n"))
    assert short.prompts[0].text == "<no 1; no 2; no 3; >"
    plain = load_golden(written(tmp_path, text.replace("{repeat}", "no 1; no 2; no 3; ") + "}\n"))
    assert plain == short


def test_braces_mean_nothing_without_a_repeat(tmp_path: Path) -> None:
    text = GOOD.replace("hello", '"{repeat} {n}"')
    assert load_golden(written(tmp_path, text)).prompts[0].text == "{repeat} {n}"


def golden_files() -> list[Path]:
    found = {*ROOT.glob("config/golden/*.yaml"), *ROOT.glob("models/*/golden.yaml")}
    found.remove(ROOT / "config" / FIRST_LAYERS)  # what a few layers say means nothing
    assert found
    return sorted(found)


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_golden_set_asks_what_conversions_break(path: Path) -> None:
    prompts = load_golden(path).prompts
    texts = {prompt.id: turns(prompt.text) for prompt in prompts}
    assert len(texts) >= 12
    assert (texts["guide-introduction"], prompts[0].max_new_tokens) == (GUIDE, 1024)
    if path.parent.name == "golden":
        assert not any(prompt.expected for prompt in prompts), "invented for the real models"
    if "reasoning" in path.name:  # thinks before it answers
        assert not any(fact(prompt) or prompt.must_stop for prompt in prompts)
    else:
        assert sum(prompt.max_new_tokens <= 96 and bool(fact(prompt)) for prompt in prompts) >= 5
        assert any(prompt.must_stop or prompt.expected for prompt in prompts)
        assert any(not (fact(prompt) or "a").isascii() for prompt in prompts)
    assert any(text.count("<|user|>") >= 2 for text in texts.values())
    assert any(not text.isascii() for text in texts.values())
    assert any(re.search(r"<\|user\|>\n?<\|end\|>", text) for text in texts.values())
    lengths = sorted(pieces(text) for text in texts.values())
    assert any(1900 < length <= 2560 for length in lengths)  # of tokens there are a tenth more
    # What a build without long prompts (an NPU's 1,024 tokens) still runs.
    assert any(256 <= length <= 1000 for length in lengths)


LONGROPE = [
    "phi-3-medium-128k", "phi-3-mini-128k", "phi-3.5-mini", "phi-4-mini", "phi-4-mini-reasoning"
]  # fmt: skip


@pytest.mark.parametrize("name", LONGROPE)
def test_golden_prompts_of_longrope_models_pass_its_switch(name: str) -> None:
    """4,096 tokens (original_max_position_embeddings), by the fewest that a vocabulary can make.

    Phi-4's has one token for a word with its space, up to three digits, or signs with a newline.
    Llama 2's makes a fifth more than `pieces` of these texts, which `check_tokens` has to allow.
    """
    [model] = load_models([ROOT / f"config/models/{name}.yaml"]).values()
    texts = [prompt.text for prompt in load_golden(model.golden).prompts]
    fewest = max(len(re.findall(r"<\|[a-z]+\|>|[A-Za-z]+|\d{1,3}|[^\w\s]+", one)) for one in texts)
    most = 1.2 * max(map(pieces, texts))
    assert 4096 < fewest < most <= model.check_tokens


def fact(prompt: GoldenPrompt) -> str | None:
    return prompt.expected or prompt.must_contain


def turns(text: str) -> str:
    """A prompt in Phi-4's chat format, with the marks of Phi-3's."""
    return re.sub(r"<\|im_start\|>(\w+)<\|im_sep\|>", r"<|\1|>", text).replace("im_end", "end")


def pieces(text: str) -> int:
    """About the number of tokens: marks, words, digits, other signs."""
    return len(re.findall(r"<\|[a-z]+\|>|[^\W\d]+|\S", text))
