"""Money: whole 毫, exact in both directions, rounded once and half away from zero."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import HAO_PER_FEN, hao, round_to_fen, yuan

AMOUNTS = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0.07", 700), ("0.084", 840), ("0.005", 50), ("0.0001", 1), ("7", 70_000), ("-0.25", -2_500), ("0", 0)],
)
def test_yuan_as_text_becomes_whole_hao(text: str, amount: int):
    assert hao(text) == hao(Decimal(text)) == amount


@pytest.mark.parametrize("text", ["0.00001", "0.07000000000000000000000000000000001", "1.23456"])
def test_what_does_not_fit_in_hao_is_refused_and_not_rounded(text: str):
    with pytest.raises(ValueError, match="not a whole number of 毫"):
        hao(text)


def test_zeros_at_the_end_do_not_count_as_decimals():
    assert hao("0.070000000000000000000000000000000000") == 700


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (840, "0.084"),
        (70_000, "7.00"),
        (1, "0.0001"),
        (-2_500, "-0.25"),
        (0, "0.00"),
        (12_345_600, "1234.56"),
    ],
)
def test_hao_are_written_as_yuan_with_two_decimals_at_least(amount: int, text: str):
    assert yuan(amount) == text


@given(AMOUNTS)
def test_an_amount_survives_being_written_and_read(amount: int):
    assert hao(yuan(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "fen"),
    [
        (0, 0),
        (49, 0),
        (50, 1),
        (99, 1),
        (149, 1),
        (150, 2),
        (250, 3),
        (-49, 0),
        (-50, -1),
        (-150, -2),
        (-250, -3),
    ],
)
def test_half_a_fen_rounds_away_from_zero(amount: int, fen: int):
    assert round_to_fen(amount) == fen


@given(AMOUNTS)
def test_rounding_moves_an_amount_by_half_a_fen_at_most(amount: int):
    rounded = round_to_fen(amount)
    assert abs(rounded - Fraction(amount, HAO_PER_FEN)) <= Fraction(1, 2)
    assert round_to_fen(-amount) == -rounded
    assert isinstance(rounded, int)
