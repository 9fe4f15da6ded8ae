"""What a revoked release's card says, and that nothing else of the card changes."""

import pytest

from phiforge.verify.revocations import Revocation, with_notice, without_notice

REVOCATION = Revocation("m/v", "0.1.0", "0" * 64, "a <b> [c](d)\n---\n# e", "k", "", {})
CARDS = [
    "---\nlicense: mit\n---\n# title\n\ntext\n",
    "# no metadata\n",
    "---\nnever ends\n",
    "---\nlicense: mit\n---\n",
]


@pytest.mark.parametrize("card", CARDS)
def test_the_card_says_it_once_and_can_be_had_as_it_was(card: str) -> None:
    told = with_notice(card, REVOCATION)
    assert told != card
    assert told.count("> **Revoked.**") == 1
    assert with_notice(told, REVOCATION) == told
    assert without_notice(told, REVOCATION) == card
    assert without_notice(card, REVOCATION) == card


def test_the_reason_is_one_line_of_text() -> None:
    told = with_notice(CARDS[0], REVOCATION)
    assert told.startswith("---\nlicense: mit\n---\n> **Revoked.** Version 0.1.0 ")
    assert r"a \<b\> \[c\](d) --- \# e" in told
    assert told.count("\n---\n") == 1
