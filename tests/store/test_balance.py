"""Balances by two clocks: what had happened by a day, and what had been recorded by an instant.

In: orders of several days, booked one batch after another. Out: the accounts of a provincial fund.
"""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import Engine
from support import Desk, accepted, owner, rows, rules, value

from ledger.cli.balance import balances
from ledger.store import connect, settle

ALL_DAYS, ALWAYS = date.max, datetime.max.replace(tzinfo=UTC)


@pytest.fixture
def ask(ledger_url: str) -> Any:
    """A question to the books: (account, platform) → orders and 毫."""

    def question(
        province: str = "31",
        platform: str | None = None,
        as_of: date = ALL_DAYS,
        known_at: datetime = ALWAYS,
    ) -> dict[tuple[str, str], tuple[int | None, int]]:
        with connect.ledger(ledger_url, connect.AUDIT) as engine, engine.connect() as tx:
            number = None
            if platform:
                found = tx.exec_driver_sql("select platform_no from platform where platform_id = %s", (platform,))
                number = found.scalar_one()
            answer = balances(tx, province, number, as_of, known_at)
        return {(row["account"], row["platform"]): (row["order_count"], row["amount_hao"]) for row in answer}

    return question


@pytest.fixture
def desk(engine: Engine) -> Desk:
    """Where orders are handed in."""
    return Desk(engine)


def test_a_ledger_without_entries_has_no_balances(ask: Any) -> None:
    assert ask() == {}


def test_receivable_and_income_mirror_each_other(desk: Desk, ask: Any) -> None:
    desk.hand_in(accepted("A"), accepted("B"), accepted("C", platform="example-eats"))
    assert ask() == {
        ("premium_receivable", "eleme"): (2, 1400),
        ("premium_income", "eleme"): (None, -1400),
        ("premium_receivable", "example-eats"): (1, 2500),
        ("premium_income", "example-eats"): (None, -2500),
    }


def test_a_province_and_a_platform_see_their_own(desk: Desk, ask: Any) -> None:
    desk.hand_in(accepted("A"), accepted("B", city="440100"), accepted("C", platform="example-eats"))
    assert ask("44") == {
        ("premium_receivable", "eleme"): (1, 700),
        ("premium_income", "eleme"): (None, -700),
    }
    assert set(ask(platform="example-eats")) == {
        ("premium_receivable", "example-eats"),
        ("premium_income", "example-eats"),
    }


def test_as_of_counts_what_had_happened_by_the_end_of_the_day_in_shanghai(desk: Desk, ask: Any) -> None:
    desk.hand_in(
        accepted("A", "2026-10-03T23:59:59+08:00"),
        accepted("B", "2026-10-03T16:00:00Z"),
        accepted("C", "2026-11-01T00:00:00+08:00"),
    )
    receivable = {
        day: ask(as_of=day).get(("premium_receivable", "eleme"), (0, 0))[0]
        for day in (date(2026, 10, 2), date(2026, 10, 3), date(2026, 10, 4), date(2026, 10, 31), date(2026, 11, 1))
    }
    assert list(receivable.values()) == [0, 1, 2, 2, 3]


def test_known_at_counts_what_had_been_recorded_by_then(desk: Desk, ask: Any, ledger_url: str) -> None:
    instants = [value(ledger_url, "select clock_timestamp()")]
    for order in ("A", "B", "C"):
        desk.hand_in(accepted(order))
        instants.append(value(ledger_url, "select clock_timestamp()"))
    known = [ask(known_at=instant).get(("premium_receivable", "eleme"), (0, 0)) for instant in instants]
    assert known == [(0, 0), (1, 700), (2, 1400), (3, 2100)]


def test_both_clocks_together_tell_what_was_known_then_of_a_day(desk: Desk, ask: Any, ledger_url: str) -> None:
    desk.hand_in(accepted("A"), accepted("B", "2026-10-05T12:00:00+08:00"))
    then = value(ledger_url, "select clock_timestamp()")
    desk.hand_in(accepted("late"))
    third = date(2026, 10, 3)
    assert ask(as_of=third)["premium_receivable", "eleme"] == (2, 1400)
    assert ask(as_of=third, known_at=then)["premium_receivable", "eleme"] == (1, 700)


def test_a_late_order_of_a_sealed_month_counts_on_the_day_it_happened(desk: Desk, ask: Any, ledger_url: str) -> None:
    desk.hand_in(accepted("A"))
    with connect.ledger(ledger_url, connect.SETTLE) as engine:
        settle.seal(engine, "31", date(2026, 10, 1), rules())
    desk.hand_in(accepted("late"))
    assert ask(as_of=date(2026, 10, 3))["premium_receivable", "eleme"] == (2, 1400)


def test_rounding_shows_in_an_account_of_its_own_and_all_accounts_sum_to_zero(
    desk: Desk, ask: Any, ledger_url: str
) -> None:
    desk.hand_in(accepted("A", platform="example-delivery"), accepted("B"))
    with connect.ledger(ledger_url, connect.SETTLE) as engine:
        settle.seal(engine, "31", date(2026, 10, 1), rules())
    found = ask()
    assert found["premium_receivable", "example-delivery"] == (1, 800)
    assert found["rounding_residue", "example-delivery"] == (None, 40)
    assert sum(amount for _, amount in found.values()) == 0
    assert ("rounding_residue", "example-delivery") not in ask(as_of=date(2026, 10, 30))


def test_balances_are_those_of_the_postings(desk: Desk, ask: Any, ledger_url: str) -> None:
    for number in range(5):
        desk.hand_in(*(accepted(f"{number}-{place}", city=city) for place, city in enumerate(("310100", "110100"))))
    for province in ("31", "11"):
        query = """select a.kind, sum(p.amount)::bigint from posting p join account a using (account_id)
            where a.province = %s group by 1"""
        posted = {(kind, "eleme"): amount for kind, amount in rows(ledger_url, query, province)}
        assert {key: amount for key, (_, amount) in ask(province).items()} == posted
    with owner(ledger_url) as connection:
        assert connection.execute("select sum(amount) from posting").fetchone() == (0,)
