"""Rules other than the default: completion charges, or a cancellation gives the charge back.

In: rule files in a temporary directory, events in any order of arrival, on one desk or several at once.
Out: the same sum whatever the order, one charge per order at most, and each change a row that leads to its entry.
"""

import shutil
import threading
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support import (
    ROOT,
    Desk,
    Event,
    accepted,
    cancelled,
    chain_faults,
    charges_without_books,
    completed,
    facts,
    premiums,
    reassigned,
    rows,
    rules,
    rules_where,
    value,
)

from ledger import rulebook
from ledger.rulebook import Rulebook
from ledger.store import connect

WAIT_S = 20
PLAIN = "charging_event: accepted", "on_cancellation: keep"


def rules_from(directory: Path, charging_event: str, on_cancellation: str) -> Rulebook:
    """The packaged rule files with one rule changed, read as an agency's own would be."""
    shutil.copytree(ROOT / "ledger" / "rules", directory)
    file = directory / "charging.yaml"
    text = file.read_text("utf-8")
    head, row = text.split("order_rules:", 1)
    for old, new in zip(
        PLAIN, (f"charging_event: {charging_event}", f"on_cancellation: {on_cancellation}"), strict=True
    ):
        assert row.count(old) == 1
        row = row.replace(old, new)
    file.write_text(f"{head}order_rules:{row}", "utf-8")
    return rulebook.load(directory)


@pytest.fixture
def when_completed(tmp_path: Path) -> Rulebook:
    """Only a completion charges."""
    return rules_from(tmp_path / "rules", "completed", "keep")


@pytest.fixture
def given_back(tmp_path: Path) -> Rulebook:
    """Acceptance charges, and a cancellation reverses."""
    return rules_from(tmp_path / "rules", "accepted", "reverse")


def owed(url: str) -> int:
    return sum(premiums(url).values())


def changes(url: str) -> list[tuple[str, str, int]]:
    return rows(url, "select order_id, kind, amount from charge_change order by 1, 2")


def in_every_order(events: list[Event]) -> list[list[Event]]:
    """All orders of arrival of the events of one order, each under an order number of its own."""
    return [
        [event | {"subject": f"{event['subject']}{place}"} for event in order]
        for place, order in enumerate(permutations(events))
    ]


def check(url: str) -> None:
    """What holds under all rules."""
    assert charges_without_books(url) == 0
    assert chain_faults(url) == []
    counted = """select coalesce(sum(order_count), 0) = (select count(*) from charge where entry_id is not null)
        + (select coalesce(sum(sign(amount)), 0) from charge_change) from entry where kind = 'premium'"""
    assert value(url, counted) is True
    assert value(url, "select coalesce(max(amount), 0) from charge_change where kind = 'reverse'") <= 0


# ---- completion charges


def test_only_a_completed_order_is_charged(engine: Engine, ledger_url: str, when_completed: Rulebook) -> None:
    desk = Desk(engine, book=when_completed)
    desk.hand_in(accepted("done"), accepted("open"), accepted("called off"))
    assert owed(ledger_url) == 0
    assert rows(ledger_url, "select distinct entry_id, amount from charge") == [(None, 0)]
    desk.hand_in(completed("done"), cancelled("called off"))
    assert changes(ledger_url) == [("done", "charge", 700)]
    assert owed(ledger_url) == 700
    check(ledger_url)


@pytest.mark.parametrize("batches", [1, 3])
def test_completion_charges_in_any_order_of_arrival(
    engine: Engine, ledger_url: str, when_completed: Rulebook, batches: int
) -> None:
    desk = Desk(engine, book=when_completed)
    orders = in_every_order([accepted("A"), reassigned("A", "W2"), completed("A")])
    for events in orders:
        for part in [events] if batches == 1 else [[event] for event in events]:
            assert set(desk.answers(*part)) == {"new"}
    assert owed(ledger_url) == len(orders) * 700
    assert len(changes(ledger_url)) == len(orders)
    check(ledger_url)


def test_an_order_completed_at_another_desk_is_charged_there(
    engine: Engine, ledger_url: str, when_completed: Rulebook
) -> None:
    Desk(engine, "one", book=when_completed).hand_in(accepted("A"), accepted("B", city="440100"))
    Desk(engine, "other", book=when_completed).hand_in(completed("A"), completed("B"))
    assert premiums(ledger_url) == {("eleme", "31", "2026-10"): 700, ("eleme", "44", "2026-10"): 700}
    check(ledger_url)


def test_a_second_ending_charges_nothing(engine: Engine, ledger_url: str, when_completed: Rulebook) -> None:
    desk = Desk(engine, book=when_completed)
    desk.hand_in(accepted("A"), cancelled("A"))
    assert desk.answers(completed("A"), completed("A")) == ["conflict", "conflict"]
    assert desk.answers(accepted("B"), completed("B"), completed("B")) == ["new", "new", "duplicate"]
    assert changes(ledger_url) == [("B", "charge", 700)]
    check(ledger_url)


def test_the_rate_is_that_of_the_day_of_acceptance(engine: Engine, ledger_url: str, when_completed: Rulebook) -> None:
    desk = Desk(engine, book=when_completed)
    desk.hand_in(accepted("A", "2025-06-30T23:50:00+08:00"), completed("A", "2025-07-01T00:10:00+08:00"))
    assert premiums(ledger_url) == {("eleme", "31", "2025-06"): 400}
    check(ledger_url)


# ---- a cancellation gives back


def test_a_cancelled_order_gets_its_charge_back_by_another_entry(
    engine: Engine, ledger_url: str, given_back: Rulebook
) -> None:
    desk = Desk(engine, book=given_back)
    desk.hand_in(accepted("A"), accepted("B"))
    desk.hand_in(cancelled("A"), completed("B"))
    assert changes(ledger_url) == [("A", "reverse", -700)]
    assert rows(ledger_url, "select order_count from entry order by entry_id") == [(2,), (-1,)]
    assert owed(ledger_url) == 700
    check(ledger_url)


@pytest.mark.parametrize("batches", [1, 3])
def test_a_cancellation_gives_back_in_any_order_of_arrival(
    engine: Engine, ledger_url: str, given_back: Rulebook, batches: int
) -> None:
    desk = Desk(engine, book=given_back)
    orders = in_every_order([accepted("A"), reassigned("A", "W2"), cancelled("A")])
    for events in orders:
        for part in [events] if batches == 1 else [[event] for event in events]:
            assert set(desk.answers(*part)) == {"new"}
    assert owed(ledger_url) == 0
    assert len(changes(ledger_url)) == len(orders)
    assert value(ledger_url, "select count(*) from charge where amount = 700") == len(orders)
    check(ledger_url)


def test_a_cancellation_that_comes_twice_gives_back_once(engine: Engine, ledger_url: str, given_back: Rulebook) -> None:
    desk = Desk(engine, book=given_back)
    desk.hand_in(accepted("A"), cancelled("A"), cancelled("A"))
    before = facts(ledger_url)["charge_change"], owed(ledger_url)
    assert desk.answers(cancelled("A"), accepted("A")) == ["duplicate", "duplicate"]
    assert (facts(ledger_url)["charge_change"], owed(ledger_url)) == before
    assert changes(ledger_url) == [("A", "reverse", -700)]
    check(ledger_url)


def test_where_cancellations_are_given_back_and_completions_charge_nobody_gets_what_he_never_paid(
    engine: Engine, ledger_url: str, tmp_path: Path
) -> None:
    desk = Desk(engine, book=rules_from(tmp_path / "rules", "completed", "reverse"))
    desk.hand_in(accepted("A"), cancelled("A"), accepted("B"), completed("B"))
    assert changes(ledger_url) == [("B", "charge", 700)]
    check(ledger_url)


# ---- two processes


@pytest.mark.parametrize(("rule", "ending", "sum_"), [("completed", completed, 700), ("reverse", cancelled, 0)])
@pytest.mark.parametrize("held_at", ["claimed", "posted", "advanced"])
def test_acceptance_and_ending_booked_at_the_same_moment_are_brought_together(
    ledger_url: str,
    when_completed: Rulebook,
    tmp_path: Path,
    rule: str,
    ending: Callable[[str], Event],
    sum_: int,
    held_at: str,
) -> None:
    """Neither of two open transactions sees the other's event; the one that commits last must."""
    book = when_completed if rule == "completed" else rules_where("accepted", "reverse")
    reached, opened = threading.Event(), threading.Event()

    def hold(step: str) -> None:
        if step == held_at:
            reached.set()
            assert opened.wait(WAIT_S)

    def accept() -> None:
        with connect.ledger(ledger_url, connect.INGEST) as engine:
            Desk(engine, "one", book=book, switch=hold).hand_in(accepted("A"))

    def end() -> None:
        with connect.ledger(ledger_url, connect.INGEST) as engine:
            Desk(engine, "other", book=book).hand_in(ending("A"))

    threads = [threading.Thread(target=accept), threading.Thread(target=end)]
    threads[0].start()
    assert reached.wait(WAIT_S)
    threads[1].start()
    threads[1].join(0.2)
    opened.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert owed(ledger_url) == sum_
    assert len(changes(ledger_url)) == 1
    check(ledger_url)


# ---- the default


def test_by_the_packaged_rules_an_ending_changes_nothing(engine: Engine, ledger_url: str) -> None:
    assert rules().plain_orders()
    Desk(engine).hand_in(accepted("A"), cancelled("A"), accepted("B"), completed("B"))
    assert (changes(ledger_url), owed(ledger_url)) == ([], 1400)
    check(ledger_url)


def test_the_rulebook_that_decided_is_recorded_with_what_it_decided(
    engine: Engine, ledger_url: str, when_completed: Rulebook
) -> None:
    Desk(engine, "one").hand_in(accepted("A"))
    Desk(engine, "other", book=when_completed).hand_in(accepted("B"), completed("B"))
    query = "select rulebook_hash from {} order by batch_id"
    for table in ("batch", "entry"):
        assert [bytes(row[0]) for row in rows(ledger_url, query.format(table))] == [
            rules().hash,
            when_completed.hash,
        ]
    assert rows(ledger_url, "select content from rulebook where rulebook_hash = %s", when_completed.hash) == [
        (when_completed.content,)
    ]
