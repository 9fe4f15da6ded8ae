"""Which positions are scored: every answer's token first, the rest spread evenly."""

import itertools

from validators.positions import Span, select_positions


def test_everything_is_taken_where_it_fits() -> None:
    assert select_positions([Span(3, 5), Span(2, 2)], 100) == [[0, 1, 2, 3], [0]]


def test_answers_come_first_and_prompts_share_the_rest_evenly() -> None:
    long, short = select_positions([Span(1001, 1011), Span(4, 10)], 116)
    assert long[-10:] == list(range(1000, 1010))  # these predict the ten tokens of the answer
    assert short[-6:] == list(range(3, 9))
    prompts = long[:-10] + [position + 1000 for position in short[:-6]]
    assert len(prompts) == 100
    steps = {b - a for a, b in itertools.pairwise(prompts)}
    assert steps <= {10, 11}


def test_answers_that_do_not_fit_are_spread_evenly_too() -> None:
    (positions,) = select_positions([Span(1, 1001)], 100)
    assert len(positions) == 100
    assert positions[0] == 0
    assert {b - a for a, b in itertools.pairwise(positions)} == {10}


def test_the_limit_holds_over_many_short_prompts() -> None:
    chosen = select_positions([Span(5, 9)] * 50, 64)
    assert sum(map(len, chosen)) == 64
    assert all(positions == sorted(set(positions)) for positions in chosen)
