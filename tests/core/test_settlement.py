"""The settled month: cases/settlement.yaml, worked out by hand, and what holds for any month."""

from datetime import date
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ledger.calendar import next_month
from ledger.journal import Account
from ledger.money import HAO_PER_FEN, hao, yuan
from ledger.settlement import Declaration, MonthLine, declare, open_month, rounding_entry
from schemas.codes import Line

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "settlement.yaml").read_text("utf-8"))
OCTOBER = date(2026, 10, 1)


def line_of(case: dict[str, Any]) -> MonthLine:
    """A line of the case file; its amount is what entries of that many orders add up to."""
    base, factor = hao(case["base"]), Decimal(case["factor"])
    return MonthLine(
        case.get("platform", 1),
        Line(case.get("line", "ride_hailing")),
        case.get("origin", OCTOBER),
        base,
        factor,
        case["orders"],
        case["orders"] * int(base * factor),
    )


def declared_yuan(declaration: Declaration) -> str:
    return yuan(declaration.declared_fen * HAO_PER_FEN)


@pytest.mark.parametrize("case", CASES["lines"], ids=lambda case: case["case"])
def test_a_line_is_declared_as_worked_out_by_hand(case: dict[str, Any]):
    line = line_of(case["line"])
    (declaration,) = declare([line])
    assert {
        "exact": yuan(line.amount),
        "declared": declared_yuan(declaration),
        "residue": yuan(declaration.residue),
    } == case["gives"]


@pytest.mark.parametrize("case", CASES["months"], ids=lambda case: case["case"])
def test_a_month_is_declared_line_by_line_in_order(case: dict[str, Any]):
    declarations = declare([line_of(line) for line in case["lines"]])
    assert [declared_yuan(each) for each in declarations] == case["declared"]
    assert [yuan(each.residue) for each in declarations] == case["residues"]


@pytest.mark.parametrize("case", CASES["months"], ids=lambda case: case["case"])
def test_the_order_of_the_database_does_not_decide_the_order_of_the_declaration(case: dict[str, Any]):
    lines = [line_of(line) for line in case["lines"]]
    for shuffled in permutations(lines):
        assert declare(list(shuffled)) == declare(lines)


def test_entries_that_do_not_hold_count_times_rate_stop_the_settlement():
    wrong = line_of({"orders": 3, "base": "0.07", "factor": "1.0"})
    with pytest.raises(AssertionError, match="the entries hold 2101 毫, count × rate is 2100"):
        declare([MonthLine(*(getattr(wrong, name) for name in wrong.__slots__[:-1]), wrong.amount + 1)])


# The residue has an account of its own


def test_what_rounding_added_is_owed_by_the_platform_and_booked_as_residue():
    (declaration,) = declare([line_of({"orders": 2, "base": "0.07", "factor": "1.2", "platform": 7})])
    entry = rounding_entry("31", OCTOBER, declaration)
    assert entry is not None
    assert (entry.kind, entry.month, entry.origin_month, entry.order_count) == (
        "rounding",
        OCTOBER,
        OCTOBER,
        0,
    )
    assert [(posting.account, posting.amount) for posting in entry.postings] == [
        (Account("premium_receivable", "31", 7), 20),
        (Account("rounding_residue", "31", None), -20),
    ]
    assert {posting.occurred_on for posting in entry.postings} == {date(2026, 10, 31)}
    assert {posting.order_count for posting in entry.postings} == {0}


def test_rounding_of_an_adjustment_is_booked_in_the_settled_month_and_names_the_month_of_origin():
    (declaration,) = declare([line_of({"orders": 1, "base": "0.07", "factor": "1.2", "origin": date(2026, 8, 1)})])
    entry = rounding_entry("31", OCTOBER, declaration)
    assert entry is not None
    assert (entry.month, entry.origin_month) == (OCTOBER, date(2026, 8, 1))


def test_no_residue_makes_no_entry():
    (declaration,) = declare([line_of({"orders": 12, "base": "0.07", "factor": "1.0"})])
    assert rounding_entry("31", OCTOBER, declaration) is None


@given(st.integers(-(10**9), 10**9), st.integers(1, 100_000), st.sampled_from(["0.5", "0.8", "1", "1.2", "1.5"]))
def test_books_after_rounding_owe_the_declared_fen_exactly(orders: int, base: int, factor: str):
    base *= 10  # so that every factor gives whole 毫
    line = line_of({"orders": orders, "base": yuan(base), "factor": factor})
    (declaration,) = declare([line])
    entry = rounding_entry("31", OCTOBER, declaration)
    rounded = entry.postings[0].amount if entry else 0
    assert line.amount + rounded == declaration.declared_fen * HAO_PER_FEN
    assert abs(declaration.residue) <= HAO_PER_FEN // 2


# Which month is open


def test_an_order_goes_to_its_own_month_while_that_is_open():
    assert open_month(set(), "31", OCTOBER) == OCTOBER
    assert open_month({("44", OCTOBER), ("31", date(2026, 9, 1))}, "31", OCTOBER) == OCTOBER


@pytest.mark.parametrize("months", [1, 2, 5])
def test_an_order_of_a_sealed_month_goes_to_the_first_open_one_after_it(months: int):
    sealed, month = set(), OCTOBER
    for _ in range(months):
        sealed.add(("31", month))
        month = next_month(month)
    assert open_month(sealed, "31", OCTOBER) == month
