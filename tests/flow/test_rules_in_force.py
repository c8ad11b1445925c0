"""Rules other than the default: completion charges, or a cancellation gives the charge back.

In: rule files in a temporary directory, rulebooks that disagree about a day, events in any order of arrival, on one
desk or several at once. Out: the same sum whatever the order, one charge per order at most, and each change a row
that leads to its entry.
"""

import os
import shutil
import threading
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.event import listen
from support import (
    ROOT,
    Desk,
    Event,
    accepted,
    cancelled,
    chain_faults,
    charges_without_books,
    completed,
    empty,
    facts,
    premiums,
    reassigned,
    replayed,
    rows,
    rules,
    rules_where,
    value,
)

from ledger import rulebook
from ledger.rulebook import Rulebook
from ledger.store import connect

WAIT_S = 20
Handing = tuple[Rulebook, list[Event]]
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


# ---- rulebooks that disagree about a past day
#
# The one under which the acceptance is booked decides, whichever the ending is booked under and whichever comes first.

RULES = [(charging, cancellation) for charging in ("accepted", "completed") for cancellation in ("keep", "reverse")]
ENDINGS: dict[str, Callable[[str], Event]] = {"completed": completed, "cancelled": cancelled}


def in_all(charging: str, cancellation: str, ending: str | None, amount: int) -> int:
    """What an order is charged in the end, in the words of the rule file."""
    if ending == "cancelled" and (cancellation == "reverse" or charging == "completed"):
        return 0
    return 0 if ending is None and charging == "completed" else amount


def charged(url: str) -> dict[str, int]:
    """What each order is charged, changes included."""
    query = """select order_id, amount + coalesce(changed, 0) from charge
        left join (select platform_no, order_id, sum(amount) as changed from charge_change group by 1, 2) c
        using (platform_no, order_id)"""
    return dict(rows(url, query))


@pytest.mark.parametrize("first", ["acceptance", "ending"])
@pytest.mark.parametrize("partitions", [1, 2])
def test_the_rulebook_of_the_acceptance_decides_whatever_that_of_the_ending_says(
    engine: Engine, ledger_url: str, first: str, partitions: int
) -> None:
    """Every rule against every other one, each time at another rate."""
    taking = {rule: Desk(engine, "desk", 0, rules_where(*rule, "0.07")) for rule in RULES}
    ending_ = {rule: Desk(engine, "desk", partitions - 1, rules_where(*rule, "0.25")) for rule in RULES}
    expected = {}
    for rule, other in product(RULES, RULES):
        orders = {f"{'/'.join(rule)} then {'/'.join(other)} {name}": name for name in ENDINGS}
        batches = [
            (taking[rule], [accepted(order) for order in orders]),
            (ending_[other], [ENDINGS[name](order) for order, name in orders.items()]),
        ]
        for desk, events in batches if first == "acceptance" else reversed(batches):
            assert set(desk.answers(*events)) == {"new"}
        expected |= {order: in_all(*rule, name, 700) for order, name in orders.items()}
    assert charged(ledger_url) == expected
    assert owed(ledger_url) == sum(expected.values())
    check(ledger_url)
    assert replayed(ledger_url).findings.kept == []


def test_what_is_given_back_is_what_was_charged_and_leads_to_the_rate_of_then(engine: Engine, ledger_url: str) -> None:
    """Booked together with orders of the other rate and of the other rulebook's own."""
    then, now = rules_where("accepted", "reverse", "0.07"), rules_where("accepted", "keep", "0.25")
    before, after = Desk(engine, book=then), Desk(engine, book=now)
    before.hand_in(accepted("A"), accepted("B"))
    after.hand_in(cancelled("A"), accepted("C"), completed("B"))
    assert changes(ledger_url) == [("A", "reverse", -700)]
    query = """select order_count, premium_base from entry where batch_id = (select max(batch_id) from batch)
        order by premium_base"""
    assert rows(ledger_url, query) == [(-1, 700), (1, 2_500)]
    assert replayed(ledger_url).findings.kept == []


def test_a_reversal_and_a_charge_at_the_same_rate_share_an_entry(engine: Engine, ledger_url: str) -> None:
    before, after = Desk(engine, book=rules_where("accepted", "reverse")), Desk(engine)
    before.hand_in(accepted("A"))
    after.hand_in(cancelled("A"), accepted("B"), accepted("C"))
    assert rows(ledger_url, "select order_count, amount from posting where amount > 0 order by entry_id") == [
        (1, 700),
        (1, 700),
    ]
    assert replayed(ledger_url).findings.kept == []


def test_a_completion_under_rules_without_a_rate_charges_that_of_the_acceptance(
    engine: Engine, ledger_url: str
) -> None:
    """A rate that was struck out later does not leave the order without its charge."""
    Desk(engine, book=rules_where("completed", "keep")).hand_in(accepted("A"))
    Desk(engine, book=rules_where("completed", "keep", None)).hand_in(completed("A"))
    assert changes(ledger_url) == [("A", "charge", 700)]
    assert replayed(ledger_url).findings.kept == []


@pytest.mark.parametrize("rule", [("completed", "keep"), ("accepted", "reverse")])
@pytest.mark.parametrize("first", ["acceptance", "ending"])
def test_a_process_notices_rules_that_were_recorded_after_it_had_started(
    engine: Engine, ledger_url: str, rule: tuple[str, str], first: str
) -> None:
    plain = Desk(engine, "one")
    plain.hand_in(accepted("long ago"), completed("long ago"))
    other = Desk(engine, "other", book=rules_where(*rule))
    ending = completed("A") if rule[0] == "completed" else cancelled("A")
    both = [(other, accepted("A")), (plain, ending)]
    for desk, event in both if first == "acceptance" else reversed(both):
        desk.hand_in(event)
    assert [order for order, *_ in changes(ledger_url)] == ["A"]
    assert replayed(ledger_url).findings.kept == []


def held_by(url: str, step: str, first: Handing, second: Handing) -> None:
    """Two batches at once in processes of their own: the first waits at a step until the second has come to a halt.

    The second one's rulebook is recorded while the first one waits.
    """
    reached, opened = threading.Event(), threading.Event()

    def hold(at: str) -> None:
        if at == step:
            reached.set()
            assert opened.wait(WAIT_S)

    def book(topic: str, handing: Handing, switch: Callable[[str], None]) -> None:
        with connect.ledger(url, connect.INGEST) as engine:
            Desk(engine, topic, book=handing[0], switch=switch).hand_in(*handing[1])

    threads = [
        threading.Thread(target=book, args=("one", first, hold)),
        threading.Thread(target=book, args=("other", second, lambda _: None)),
    ]
    threads[0].start()
    assert reached.wait(WAIT_S)
    threads[1].start()
    threads[1].join(0.2)
    opened.set()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("held_at", ["begun", "claimed", "posted", "advanced"])
@pytest.mark.parametrize("first", ["acceptance", "ending"])
@pytest.mark.parametrize("rule", [("completed", "keep"), ("accepted", "reverse")])
def test_halves_booked_at_once_under_other_rules_are_brought_together(
    ledger_url: str, rule: tuple[str, str], first: str, held_at: str
) -> None:
    """Also where the process of the default rules had started, and begun, before the others were recorded."""
    ending = completed("A") if rule[0] == "completed" else cancelled("A")
    both: list[Handing] = [(rules_where(*rule), [accepted("A")]), (rules(), [ending])]
    held_by(ledger_url, held_at, *(both if first == "acceptance" else reversed(both)))
    assert [order for order, *_ in changes(ledger_url)] == ["A"]
    assert owed(ledger_url) == (700 if rule[0] == "completed" else 0)
    check(ledger_url)
    assert replayed(ledger_url).findings.kept == []


@pytest.mark.parametrize("rule", [("completed", "keep"), ("accepted", "reverse")])
def test_rules_recorded_and_used_in_the_last_moment_before_the_lock_are_seen(
    engine: Engine, ledger_url: str, rule: tuple[str, str]
) -> None:
    def book(_: object, __: object, statement: str, *___: object) -> None:
        if "pg_advisory_xact_lock_shared" in statement:
            with connect.ledger(ledger_url, connect.INGEST) as another:
                Desk(another, "other", book=rules_where(*rule)).hand_in(accepted("A"))

    desk = Desk(engine, "one")
    listen(engine, "before_cursor_execute", book)
    desk.hand_in(completed("A") if rule[0] == "completed" else cancelled("A"))
    assert [order for order, *_ in changes(ledger_url)] == ["A"]
    check(ledger_url)


def test_batches_under_the_default_rules_do_not_wait_for_each_other(
    engine: Engine, ledger_url: str, when_completed: Rulebook
) -> None:
    """Nor for those under other rules that accept nothing under them."""
    reached, opened = threading.Event(), threading.Event()

    def hold(step: str) -> None:
        if step == "posted":
            reached.set()
            assert opened.wait(WAIT_S)

    holding = Desk(engine, "one", switch=hold)
    others = [Desk(engine, "two"), Desk(engine, "three", book=when_completed)]
    thread = threading.Thread(target=holding.hand_in, args=(accepted("A"), completed("A")))
    thread.start()
    assert reached.wait(WAIT_S)
    done = [threading.Thread(target=desk.hand_in, args=(completed(desk.topic),)) for desk in others]
    for one in done:
        one.start()
        one.join(WAIT_S / 4)
    waiting = [one.is_alive() for one in done]
    opened.set()
    for one in (thread, *done):
        one.join(WAIT_S)
    assert waiting == [False, False]


# ---- whatever the order of batches and rulebooks

EVENTS = st.builds(
    lambda make, order: make(order),
    st.sampled_from([accepted, completed, cancelled, lambda order: reassigned(order, "W2")]),
    st.sampled_from("ABC"),
)
BATCHES = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(RULES), st.lists(EVENTS, min_size=1, max_size=4)), max_size=10
)


def in_a_dictionary(batches: list[tuple[int, tuple[str, str], list[Event]]]) -> dict[str, int]:
    """What each order is charged: the first acceptance and the first ending count, and the acceptance's rulebook."""
    taken: dict[str, tuple[str, str]] = {}
    ended: dict[str, str] = {}
    for _, rule, events in batches:
        for event in events:
            order, kind = event["subject"], event["type"].removeprefix("order.")
            if kind == "accepted":
                taken.setdefault(order, rule)
            elif kind in ENDINGS:
                ended.setdefault(order, kind)
    return {
        order: in_all(*rule, ended.get(order), 700 if rule[1] == "keep" else 2_500) for order, rule in taken.items()
    }


def priced(rule: tuple[str, str]) -> Rulebook:
    """Two rates among four rulebooks, so that some agree and some do not."""
    return rules_where(*rule, "0.07" if rule[1] == "keep" else "0.25")


@given(batches=BATCHES)
@settings(
    deadline=None,
    max_examples=int(os.environ.get("EXAMPLES", "15")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_any_interleaving_of_batches_and_rulebooks_charges_what_a_dictionary_says(
    ledger_url: str, batches: list[tuple[int, tuple[str, str], list[Event]]]
) -> None:
    """Processes go on while others begin under other rules."""
    empty(ledger_url)
    desks: dict[tuple[int, tuple[str, str]], Desk] = {}
    with connect.ledger(ledger_url, connect.INGEST) as engine:
        for partition, rule, events in batches:
            if (partition, rule) not in desks:
                desks[partition, rule] = Desk(engine, "desk", partition, priced(rule))
            desks[partition, rule].hand_in(*events)
    assert charged(ledger_url) == in_a_dictionary(batches)
    assert owed(ledger_url) == sum(in_a_dictionary(batches).values())
    check(ledger_url)
    assert replayed(ledger_url).findings.kept == []


# ---- the default


def test_under_the_default_rules_an_ending_costs_one_look_at_the_recorded_rulebooks(
    engine: Engine, ledger_url: str
) -> None:
    desk = Desk(engine)
    desk.hand_in(accepted("A"))
    asked: list[str] = []
    listen(engine, "before_cursor_execute", lambda _, __, statement, *___: asked.append(statement))
    desk.hand_in(accepted("B"), completed("A"), cancelled("B"))
    assert len([text for text in asked if "FROM rulebook" in text]) == 1
    assert [text for text in asked if "join charge" in text or "join event_key" in text] == []
    asked.clear()
    desk.hand_in(accepted("C"))
    assert [text for text in asked if "rulebook" in text and "insert" not in text.lower()] == []


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
