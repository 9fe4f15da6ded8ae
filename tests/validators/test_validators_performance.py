"""Speed comes from what was answered after warming up; what was not measured is not made up."""

import pytest

from validators.contract import Generation
from validators.performance import performance


def answered(
    tokens: int, first_s: float | None, total_s: float, stopped: bool = True
) -> Generation:
    return Generation(tuple(range(tokens)), stopped, "", first_s, total_s)


def test_the_first_answer_only_warms_up() -> None:
    cold = (10, answered(9, 5.0, 50.0))
    speed = performance(
        [cold, (10, answered(9, 0.1, 1.0)), (30, answered(19, 0.3, 1.3))], "default"
    )
    assert speed is not None
    assert speed["runs"] == 2
    assert speed["prompt_tokens"] == {"min": 10, "p50": 10, "p90": 30, "max": 30}
    assert speed["new_tokens"] == {"min": 10, "p50": 10, "p90": 20, "max": 20}
    assert speed["first_token_ms"] == {"min": 100, "p50": 100, "p90": 300, "max": 300}
    # Nine tokens in 0.9 s and nineteen in 1 s, the first token apart.
    assert speed["tokens_per_s"] == pytest.approx({"min": 10, "p50": 10, "p90": 19, "max": 19})
    assert performance([cold], "default") is None
    assert performance([], "default") is None


def test_what_a_runtime_does_not_tell_is_null() -> None:
    speed = performance([(4, answered(1, None, 1.0)), (4, answered(8, None, 1.0))], "pinned")
    assert speed is not None
    assert (speed["first_token_ms"], speed["tokens_per_s"]) == (None, None)
    one = performance([(4, answered(1, 0.1, 0.1)), (4, answered(1, 0.1, 0.1, False))], "pinned")
    assert one is not None
    assert one["tokens_per_s"] is None
    assert one["first_token_ms"]["max"] == 100
