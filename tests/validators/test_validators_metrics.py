"""The metrics, against values worked out by hand."""

import math

import numpy as np
import pytest

from validators.contract import ArtifactError
from validators.metrics import (
    TopKDistribution,
    compare,
    concatenate,
    kl_divergence,
    log_probabilities,
    most_probable,
    truncate_top_k,
)


def distribution(
    rows: list[list[float]], top_ids: list[list[int]], following: list[int]
) -> TopKDistribution:
    return truncate_top_k(np.log(np.array(rows)), np.array(top_ids), following)


def test_log_probabilities_of_logits() -> None:
    scores = log_probabilities([[0.0, math.log(3.0)], [1000.0, 1000.0]])
    assert np.exp(scores) == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5]]))
    assert scores.dtype == np.float64


@pytest.mark.parametrize(
    ("value", "name"),
    [(math.nan, "nan-logits"), (math.inf, "inf-logits"), (-math.inf, "inf-logits")],
)
def test_logits_that_are_no_numbers_have_a_name(value: float, name: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        log_probabilities([[0.0, value, 1.0]])
    assert caught.value.name == name


def test_lumping_keeps_the_reference_tokens_and_sums_the_rest() -> None:
    scores = np.log([[0.5, 0.2, 0.2, 0.1]])
    ids = most_probable(scores, 2)
    assert ids.tolist() == [[0, 1]], "equal probabilities are ordered by id"
    found = truncate_top_k(scores, ids, [3])
    assert np.exp(found.top[0]) == pytest.approx([0.5, 0.2])
    assert np.exp(found.remainder[0]) == pytest.approx(0.3)
    assert found.first.tolist() == [0]
    assert np.exp(found.following[0]) == pytest.approx(0.1)


def test_a_tiny_tail_is_not_lost_to_rounding() -> None:
    scores = log_probabilities([[0.0, -90.0, -90.0]])
    assert truncate_top_k(scores, np.array([[0]]), [0]).remainder[0] == pytest.approx(
        math.log(2) - 90, rel=1e-12
    )


def test_a_vocabulary_without_a_tail() -> None:
    everything = distribution([[0.75, 0.25]], [[0, 1]], [1])
    assert everything.remainder[0] == -math.inf
    assert kl_divergence(everything, everything).tolist() == [0.0]


def test_kl_by_hand() -> None:
    reference = distribution([[0.5, 0.3, 0.1, 0.1]], [[0, 1]], [0])
    artifact = distribution([[0.25, 0.25, 0.4, 0.1]], [[0, 1]], [0])
    # outcomes: 0, 1 and the tail (0.2 against 0.5)
    by_hand = 0.5 * math.log(2) + 0.3 * math.log(0.3 / 0.25) + 0.2 * math.log(0.2 / 0.5)
    assert kl_divergence(reference, artifact)[0] == pytest.approx(by_hand, rel=1e-12)


def test_lumped_kl_is_a_lower_bound() -> None:
    random = np.random.default_rng(0)
    p = log_probabilities(random.normal(size=(50, 300)))
    q = log_probabilities(random.normal(size=(50, 300)))
    whole = (np.exp(p) * (p - q)).sum(axis=-1)
    ids, following = most_probable(p), [0] * 50
    bound = kl_divergence(truncate_top_k(p, ids, following), truncate_top_k(q, ids, following))
    assert (bound <= whole).all()
    assert (bound > 0).all()


def test_compare_by_hand() -> None:
    parts = [distribution([[0.6, 0.4]], [[0, 1]], [0]), distribution([[0.2, 0.8]], [[1, 0]], [0])]
    reference = concatenate(parts)
    artifact = distribution([[0.3, 0.7], [0.1, 0.9]], [[0, 1], [1, 0]], [0, 0])
    metrics = compare(reference, artifact)
    first = 0.6 * math.log(2) + 0.4 * math.log(4 / 7)
    second = 0.8 * math.log(8 / 9) + 0.2 * math.log(2)
    assert metrics.positions == 2
    assert metrics.top1_agreement == 0.5
    assert metrics.mean_kl == pytest.approx((first + second) / 2)
    assert metrics.max_kl == pytest.approx(max(first, second))
    assert metrics.perplexity_ratio == pytest.approx(2.0)  # both next tokens half as probable


def test_a_vocabulary_that_is_too_small_has_a_name() -> None:
    with pytest.raises(ArtifactError, match="3 entries, the reference names token 7") as caught:
        truncate_top_k(np.log([[0.2, 0.3, 0.5]]), np.array([[7]]), [0])
    assert caught.value.name == "small-vocabulary"
