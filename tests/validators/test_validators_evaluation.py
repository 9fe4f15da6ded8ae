"""What an observation means: each failure has its own name, and nothing passes for want of one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from phiforge.receipts.gates import Gates
from phiforge.receipts.golden import GoldenPrompt, GoldenSet
from phiforge.receipts.receipt import CheckResult
from validators.contract import ExecutionEvidence, Generation, Proof
from validators.evaluation import evaluate
from validators.metrics import TopKDistribution, truncate_top_k
from validators.reference_tree import Reference, ReferencePrompt, Scored
from validators.run_result import PromptResult, RunResult, RuntimeFailure

WORDS = ["ask", "Paris", "is", "it", "no", "<end>"]
GATES = Gates({"mean_kl": 0.01, "top1_agreement": 0.9, "perplexity_ratio": 1.1}, "0" * 64)
SEEN = (Proof("EXECUTION_DEVICES", "what it says"),)
CPU = ExecutionEvidence("CPU", "it said so", SEEN)
ANSWER = (1, 2, 3)  # Paris is it


def distribution(probability: float) -> TopKDistribution:
    """Two positions; the second token is the likely one."""
    row = [0.02, probability, 0.9 - probability, 0.02, 0.03, 0.03]
    return truncate_top_k(np.log(np.array([row, row])), np.array([[1, 2, 4]] * 2), [1, 1])


def said(*token_ids: int, stopped: bool = True) -> Generation:
    return Generation(token_ids, stopped, " ".join(WORDS[i] for i in token_ids), 0.1, 0.2)


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    file = tmp_path / "tokenizer.json"
    Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="no")).save(str(file))
    prompt = ReferencePrompt("capital", (0,), ANSWER, 5, "Paris is it")
    return Reference(
        prompts=(prompt,),
        scored={"capital": Scored((0, 1), distribution(0.8))},
        golden_sha256="1" * 64,
        synthetic=False,
        digest="2" * 64,
        tokenizer=file,
    )


def judged(
    reference: Reference,
    *,
    prompt: GoldenPrompt | None = None,
    precision: str = "int4",
    executor: str = "CPU",
    gates: Gates = GATES,
    **seen: Any,
) -> CheckResult:
    one = PromptResult("capital", own_encoding=(0,), generation=said(*ANSWER))
    evidence = seen.pop("evidence", CPU)
    failure = seen.pop("trouble_of_all", None)
    one = replace(one, distribution=distribution(0.8))
    one = replace(one, **seen)
    asked = prompt or GoldenPrompt("capital", "ask", 8)
    return evaluate(
        RunResult((one,), evidence, {}, failure),
        reference,
        GoldenSet((asked,), "1" * 64),
        precision=precision,
        executor=executor,
        gates=gates,
    )


def names(judgement: CheckResult) -> list[str]:
    return [failure.name for failure in judgement.failures]


def test_an_honest_artifact_passes(reference: Reference) -> None:
    found = judged(reference, precision="fp16")
    assert found.failures == ()
    assert found.golden[0]["output"] == found.golden[0]["expected"] == "Paris is it"
    assert found.golden[0]["passed"] is True
    assert found.golden[0]["answer"]["diverges_at"] is None
    assert found.metrics is not None
    assert found.metrics.mean_kl == 0.0
    assert found.validated_tokens == 5


def test_fp16_must_give_the_references_tokens_and_int4_need_not(reference: Reference) -> None:
    other = said(1, 2, 4)
    assert names(judged(reference, precision="fp16", generation=other)) == ["wrong-tokens"]
    found = judged(reference, precision="int4", generation=other)
    assert found.failures == ()
    assert found.golden[0]["answer"]["diverges_at"] == {"token": 2, "reference_margin": None}


def test_the_references_certainty_is_named_where_an_answer_diverges(reference: Reference) -> None:
    found = judged(reference, generation=said(2, 2, 3))
    divergence = found.golden[0]["answer"]["diverges_at"]
    assert divergence["token"] == 0
    assert divergence["reference_margin"] == pytest.approx(np.log(0.8 / 0.1))


KNOWN = GoldenPrompt("capital", "ask", 8, expected="Paris is it")
FACT = GoldenPrompt("capital", "ask", 8, must_contain="Paris")
SHORT = GoldenPrompt("capital", "ask", 8, must_stop=True)
PRECISIONS, INT4 = ["fp16", "int8", "int4", "nf4"], ["int4", "nf4"]
LONGER = said(1, 2, 4, stopped=False)
BROKEN_GATES = ["mean-kl", "top1-agreement", "perplexity-ratio"]


@pytest.mark.parametrize(
    ("precisions", "found", "what", "seen"),
    [
        (PRECISIONS, [], "", {"prompt": KNOWN}),
        (PRECISIONS, ["wrong-answer"], "", {"prompt": KNOWN, "generation": said(1, 2, 4)}),
        (PRECISIONS, [], "", {"prompt": FACT}),
        (INT4, ["missing-fact"], "", {"prompt": FACT, "generation": said(4, 2, 3)}),
        (INT4, ["empty-output"], "", {"generation": said()}),
        (INT4, ["endless-repetition"], "", {"generation": said(1, *[2, 3] * 20, stopped=False)}),
        # The decoded text of these two is right: marks are left out of it.
        (
            PRECISIONS,
            ["no-stop"],
            "",
            {"prompt": KNOWN, "generation": said(1, 2, 3, stopped=False)},
        ),
        (INT4, ["no-stop"], "goes on after token 5", {"generation": said(*ANSWER, 5, 2)}),
        (INT4, [], "", {"generation": LONGER}),
        (INT4, ["no-stop"], "", {"prompt": SHORT, "generation": LONGER}),
        (INT4, ["prompt-encoding"], "0 is 4, the reference has 0", {"own_encoding": (4, 0)}),
        (INT4, BROKEN_GATES, "the gate is 0.01", {"distribution": distribution(0.2)}),
    ],
)
def test_each_failure_of_an_answer_has_a_name(
    reference: Reference, precisions: list[str], found: list[str], what: str, seen: dict[str, Any]
) -> None:
    for precision in precisions:
        judgement = judged(reference, precision=precision, **seen)
        assert names(judgement) == found, precision
        assert what in "".join(failure.what for failure in judgement.failures[:1])
        assert "wrong-answer" not in found or judgement.golden[0]["passed"] is False


def test_a_check_of_short_prompts_only_has_a_name(reference: Reference) -> None:
    assert judged(reference, gates=replace(GATES, minimum_validated_tokens=5)).failures == ()
    found = judged(reference, gates=replace(GATES, minimum_validated_tokens=6))
    assert names(found) == ["too-short-validation"]
    assert "has 5 tokens, the model asks for 6" in found.failures[0].what
    assert "lower minimum_validated_tokens in the model's file" in found.failures[0].what


def test_nan_logits_leave_no_metrics(reference: Reference) -> None:
    found = judged(
        reference, distribution=None, failure=RuntimeFailure("nan-logits", "3 logits are NaN")
    )
    assert names(found) == ["nan-logits"]
    assert found.metrics is None
    assert found.validated_tokens == 0


@pytest.mark.parametrize(
    ("executor", "device"),
    [("CPU", "NPU"), ("NPU", "CPU"), ("DML", "CPU"), ("NPU", "unknown"), ("GPU", "CPU")],
)
def test_what_executed_must_be_what_the_row_claims(
    reference: Reference, executor: str, device: str
) -> None:
    found = judged(reference, executor=executor, evidence=ExecutionEvidence(device, "seen", SEEN))
    assert names(found) == ["wrong-device"]
    assert f"{device} executed it, {executor} must have" in found.failures[0].what


def test_a_crash_is_a_failure_of_the_artifact(reference: Reference) -> None:
    crash = RuntimeFailure("runtime-crashed", "ended by SIGSEGV while answering prompt 'capital'")
    found = evaluate(
        RunResult((), None, {}, crash),
        reference,
        GoldenSet((GoldenPrompt("capital", "ask", 8),), "1" * 64),
        precision="int4",
        executor="CPU",
        gates=GATES,
    )
    assert names(found) == ["runtime-crashed"]
    assert found.metrics is None
    assert found.golden[0]["passed"] is None


def test_a_check_in_which_nothing_ran_does_not_pass(reference: Reference) -> None:
    found = judged(
        reference, not_run="too long", own_encoding=None, generation=None, distribution=None
    )
    assert names(found) == ["nothing-ran"]
    assert found.golden[0]["not_run"] == "too long"


def test_random_weights_are_scored_but_not_judged(reference: Reference) -> None:
    synthetic = replace(reference, synthetic=True)
    gates = replace(GATES, limits={})  # as `run_check` asks for
    found = judged(synthetic, distribution=distribution(0.2), generation=None, gates=gates)
    assert found.failures == ()
    assert found.metrics is not None
    assert found.golden[0]["passed"] is None
    assert found.golden[0]["expected"] is None
