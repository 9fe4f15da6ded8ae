"""Broken answers of real artifacts have names of their own, and a check says how far it reached."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.sabotage import Sabotage, Tensor, Weights, sabotaged, zero_layer
from phiforge.artifact.record import read_record
from phiforge.receipts.gates import Gates
from phiforge.receipts.golden import GoldenPrompt, GoldenSet
from support.bench import SOURCE, copied, reseal
from support.checkout import Checkout
from support.jobs import SETTINGS
from validators.contract import OpenRuntime
from validators.evaluation import evaluate
from validators.golden import load_golden
from validators.reference import make_reference
from validators.reference_tree import Reference, load_reference
from validators.runtimes import onnx_genai, openvino
from validators.worker import run_prompts

NAN, INFINITY = 0x7E00, 0x7C00  # as float16


@pytest.fixture(scope="module")
def capital() -> GoldenPrompt:
    prompts = load_golden(SOURCE / "golden.yaml").prompts
    return next(prompt for prompt in prompts if prompt.id == "capital")


@pytest.fixture(scope="module")
def reference(capital: GoldenPrompt, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    into = tmp_path_factory.mktemp("answers") / "reference"
    make_reference(SOURCE, GoldenSet((capital,), "0" * 64), into)
    return load_reference(into)


@pytest.fixture
def failures(
    capital: GoldenPrompt, reference: Reference, tmp_path: Path
) -> Callable[..., set[str]]:
    """The names of a payload's failures on this processor, in this process."""

    def of(
        payload: Path,
        open_runtime: OpenRuntime = openvino.open_runtime,
        **settings: str,
    ) -> set[str]:
        golden = GoldenSet((capital,), "0" * 64)
        seen = run_prompts(
            open_runtime, {}, payload, settings, reference, golden, tmp_path / "DOING", skipped={}
        )
        gates = Gates({"mean_kl": 1e-3}, "0" * 64, minimum_validated_tokens=0)
        found = evaluate(seen, reference, golden, precision="fp16", executor="CPU", gates=gates)
        return {failure.name for failure in found.failures}

    return of


def head(weights: Weights) -> Tensor:
    """The float16 matrix of the LM head: (vocabulary, hidden)."""
    return next(t for t in weights.matching("lm_head") if len(t.shape) == 2 and t.type == "f16")


def silence(weights: Weights) -> None:
    """All logits are equal: the first token, ``<unk>``, wins every time."""
    weights.of(head(weights))[:] = 0


def one_weight(value: int) -> Sabotage:
    def sabotage(weights: Weights) -> None:
        weights.of(head(weights))[:2] = list(value.to_bytes(2, "little"))

    return sabotage


@pytest.mark.parametrize(
    ("sabotage", "name"),
    [
        (one_weight(NAN), "nan-logits"),
        (one_weight(INFINITY), "inf-logits"),
        (silence, "empty-output"),
        (zero_layer(0), "endless-repetition"),
    ],
    ids=["one NaN", "one infinity", "a head of zeros", "a layer of zeros"],
)
def test_what_a_broken_build_says_has_a_name(
    built: Callable[[str], Path],
    failures: Callable[..., set[str]],
    tmp_path: Path,
    sabotage: Sabotage,
    name: str,
) -> None:
    payload = sabotaged(built("openvino-fp16"), tmp_path / "payload", sabotage)
    assert name in failures(payload, device="CPU")


def test_a_build_that_lost_its_stop_token_has_a_name(
    built: Callable[[str], Path], failures: Callable[..., set[str]], tmp_path: Path
) -> None:
    """Its scores and its text are right, but a chat would never end."""
    payload = copied(built("genai-dml-fp16"), tmp_path) / "payload"
    config = payload / "genai_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    end = json.loads((SOURCE / "added_tokens.json").read_text(encoding="utf-8"))["<|end|>"]
    kept = [token for token in settings["model"]["eos_token_id"] if token != end]
    assert kept != settings["model"]["eos_token_id"]
    settings["model"]["eos_token_id"] = kept
    config.write_text(json.dumps(settings), encoding="utf-8")
    reseal(payload)
    honest = failures(built("genai-dml-fp16"), onnx_genai.open_runtime, provider="cpu")
    assert honest == set()
    found = failures(payload, onnx_genai.open_runtime, provider="cpu")
    assert "no-stop" in found
    assert not found & {"mean-kl", "empty-output", "nan-logits"}


def test_a_receipt_and_its_card_say_how_far_the_check_reached(pipeline: Checkout) -> None:
    minimum = SETTINGS.models["phi3-tiny"].minimum_validated_tokens
    window = read_record(SOURCE / "config.json")["sliding_window"]
    reached = {}
    for path in pipeline.receipts():
        receipt = read_record(path)
        if receipt["verdict"] in ("blocked", "compiled"):
            continue
        where = f"{receipt['variant']} on {receipt['device']}"
        left_out = {entry["id"]: entry["not_run"] for entry in receipt["golden"]}
        reason = left_out["beyond-window"]
        reached[receipt["variant"]] = receipt["validated_tokens"]
        assert receipt["thresholds"]["validated_tokens"] == minimum, where
        if receipt["runtime"] == "openvino_npu":
            assert "the variant takes prompts of 1024" in reason, where
        elif "-dml-" in receipt["variant"]:
            assert f"the source to the last {window}" in reason, where
        elif receipt["device"] in ("cpu", "gpu-standin", "cuda-standin"):
            assert reason is None, where
        assert (receipt["validated_tokens"] > window) == (reason is None), where
        assert receipt["validated_tokens"] >= minimum, where
    assert len(reached) >= 10
    for variant, tokens in reached.items():
        card = pipeline.folder / "artifacts/release/phi3-tiny" / variant / "README.md"
        assert f"validated_tokens: {tokens}" in card.read_text(encoding="utf-8")
