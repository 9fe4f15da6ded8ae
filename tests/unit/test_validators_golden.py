"""Golden prompts are a contract: a typo is one line that says what to do."""

from pathlib import Path

import pytest

from configuration.documents import ConfigurationError
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


def golden_files() -> list[Path]:
    found = [*ROOT.glob("config/golden/*.yaml"), *ROOT.glob("models/*/golden.yaml")]
    assert found
    return found


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_golden_set_asks_the_guides_question(path: Path) -> None:
    prompts = {prompt.id: prompt for prompt in load_golden(path).prompts}
    assert len(prompts) >= 8
    assert prompts["guide-introduction"].text == GUIDE
    assert prompts["guide-introduction"].max_new_tokens == 1024


def test_no_answer_is_invented_for_the_real_models() -> None:
    for prompt in load_golden(ROOT / "config/golden/phi-3.yaml").prompts:
        assert prompt.expected is None
