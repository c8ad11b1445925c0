"""Rating: which event charges an order, and what its ending changes; cases/charging.yaml, and that it is complete."""

from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import rules_where

from ledger.money import yuan
from ledger.rating import Rating, Tariff, change_by_ending
from schemas.codes import Line

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "charging.yaml").read_text("utf-8"))
ENDINGS = {"completed": b"C", "cancelled": b"X"}
DAY = (date(2026, 10, 3) - date(1970, 1, 1)).days


def tariff(charging_event: str, on_cancellation: str) -> Tariff:
    """That of an order in Shanghai under a rulebook that says so."""
    found = Rating(rules_where(charging_event, on_cancellation)).tariff(1, "eleme", 310100, Line.INSTANT_DELIVERY, DAY)
    assert found
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_an_order_is_charged_and_given_back_as_the_case_says(case: dict[str, Any]):
    by_rule = tariff(**case["rule"])
    assert yuan(by_rule.amount if by_rule.charged_when_accepted else 0) == case["at_acceptance"]
    change = change_by_ending(by_rule, ENDINGS[case["ending"]])
    told = {"kind": change[0], "amount": yuan(change[1] * by_rule.amount)} if change else "none"
    assert told == case["by_ending"]


def test_the_cases_are_all_there_are():
    asked = {(*case["rule"].values(), case["ending"]) for case in CASES}
    assert asked == set(product(("accepted", "completed"), ("keep", "reverse"), ENDINGS))


@pytest.mark.parametrize("charging", ["accepted", "completed"])
@pytest.mark.parametrize("cancellation", ["keep", "reverse"])
def test_plain_tariffs_are_those_that_no_ending_changes(charging: str, cancellation: str):
    by_rule = tariff(charging, cancellation)
    changes = [change_by_ending(by_rule, ending) for ending in ENDINGS.values()]
    assert by_rule.plain == (changes == [None, None]) == rules_where(charging, cancellation).plain_orders()
