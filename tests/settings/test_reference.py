"""config/README.md describes every key, as the code reads it."""

from phiforge.reference import reference
from support.checkout import ROOT


def test_the_reference_is_what_the_models_say() -> None:
    """A key without a description fails here too: generation looks for it."""
    page = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert page == reference(), "run 'phiforge configuration > config/README.md'"


def test_nested_keys_of_every_kind_are_listed() -> None:
    for key in (
        "publish.storage[].url",
        "runtimes.<name>.module",
        "source.revision",
        "source.checksums",
        "npu.MAX_PROMPT_LEN",
        "prompts[].repeat.times",
    ):
        assert f"| `{key}` |" in reference()
