"""The settled month: declared lines, rounded once, sealed for ever, whatever ingest does meanwhile.

In: orders booked on one side, settlements made on the other, also at the same time. Out: every charge is
in exactly one settlement or in the open month. Premiums in Shanghai in 2026: eleme 0.07 yuan,
example-delivery 0.084, example-eats 0.25.
"""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine
from support import Desk, Event, accepted, chain_faults, facts, rows, rules, value

from ledger.calendar import next_month
from ledger.errors import DanbaoError
from ledger.store import connect, settle
from ledger.store.settle import Busy, Settled

SEPTEMBER, OCTOBER, NOVEMBER, DECEMBER = (date(2026, month, 1) for month in (9, 10, 11, 12))
WAIT_S = 20


@pytest.fixture
def settler(ledger_url: str) -> Iterator[Engine]:
    """The ledger in the role of settlement."""
    with connect.ledger(ledger_url, connect.SETTLE) as engine:
        yield engine


@pytest.fixture
def desk(engine: Engine) -> Desk:
    """Where orders are handed in."""
    return Desk(engine)


def orders(mark: str, count: int, platform: str = "eleme", time: str = "2026-10-03T12:00:00+08:00") -> list[Event]:
    return [accepted(f"{mark}{number}", time, platform=platform) for number in range(count)]


def lines(settled: Settled) -> list[tuple[int, int, int, int]]:
    """Order count, base, exact 毫 and declared fen of each declared line."""
    return [
        (item.of.order_count, item.of.premium_base, item.of.amount, item.declared_fen) for item in settled.declarations
    ]


def seal(settler: Engine, month: date, province: str = "31") -> Settled:
    return settle.seal(settler, province, month, rules())


def balance_of(url: str, kind: str) -> int:
    query = "select coalesce(sum(amount), 0) from posting join account using (account_id) where kind = %s"
    return int(value(url, query, kind))


# ---- one month


def test_each_platform_line_and_rate_is_declared_and_rounded_once(desk: Desk, settler: Engine, ledger_url: str) -> None:
    desk.hand_in(*orders("A", 3, "example-delivery"), *orders("B", 2, "example-eats"))
    desk.hand_in(*orders("C", 2, "example-delivery"))
    desk.hand_in(accepted("R", platform="example-rides", line="ride_hailing"))
    settled = seal(settler, OCTOBER)
    assert lines(settled) == [(5, 700, 4200, 42), (2, 2500, 5000, 50), (1, 100, 100, 1)]
    assert settled.due_on == date(2026, 11, 15)
    assert settled.changed
    assert rows(ledger_url, "select order_count, amount, declared_fen from settlement") == [(8, 9300, 93)]
    assert value(ledger_url, "select count(*) from entry where kind = 'rounding'") == 0


@pytest.mark.parametrize(("count", "fen", "residue"), [(1, 8, -40), (2, 17, 20), (3, 25, -20), (25, 210, 0)])
def test_the_residue_of_rounding_has_its_own_account(
    desk: Desk, settler: Engine, ledger_url: str, count: int, fen: int, residue: int
) -> None:
    desk.hand_in(*orders("A", count, "example-delivery"))
    assert lines(seal(settler, OCTOBER)) == [(count, 700, count * 840, fen)]
    assert balance_of(ledger_url, "premium_receivable") == fen * 100
    assert balance_of(ledger_url, "premium_income") == -count * 840
    assert balance_of(ledger_url, "rounding_residue") == -residue
    posted = rows(ledger_url, "select occurred_on from posting join entry using (entry_id) where kind = 'rounding'")
    assert posted == ([(date(2026, 10, 31),)] * 2 if residue else [])


def test_settling_twice_changes_nothing_and_gives_what_stands(desk: Desk, settler: Engine, ledger_url: str) -> None:
    desk.hand_in(*orders("A", 3, "example-delivery"), *orders("B", 2))
    first = seal(settler, OCTOBER)
    before = facts(ledger_url)
    again = seal(settler, OCTOBER)
    assert (again.changed, again.sealed_at, again.due_on) == (False, first.sealed_at, first.due_on)
    assert again.declarations == first.declarations
    with settler.connect() as tx:
        assert settle.preview(tx, "31", OCTOBER, rules()) == again
    assert facts(ledger_url) == before


def test_a_dry_run_shows_the_same_and_writes_nothing(desk: Desk, settler: Engine, ledger_url: str) -> None:
    desk.hand_in(*orders("A", 3, "example-delivery"))
    before = facts(ledger_url)
    with settler.begin() as tx:
        shown = settle.preview(tx, "31", OCTOBER, rules())
    assert (shown.sealed_at, shown.changed) == (None, False)
    assert facts(ledger_url) == before
    assert seal(settler, OCTOBER).declarations == shown.declarations


def test_provinces_are_settled_apart(desk: Desk, settler: Engine, ledger_url: str) -> None:
    desk.hand_in(accepted("A"), accepted("B", city="440100"), accepted("C", city="440300"))
    with settler.connect() as tx:
        assert settle.open_provinces(tx, OCTOBER) == ["31", "44"]
    assert lines(seal(settler, OCTOBER, "44")) == [(2, 700, 1400, 14)]
    with settler.connect() as tx:
        assert settle.open_provinces(tx, OCTOBER) == ["31"]
        assert settle.settled_provinces(tx, OCTOBER) == ["44"]
    assert desk.answers(accepted("D")) == ["new"]  # 31 is still open
    assert value(ledger_url, "select distinct month from entry where province = '31'") == OCTOBER


def test_a_month_is_cut_at_midnight_in_shanghai(desk: Desk, settler: Engine) -> None:
    desk.hand_in(
        accepted("A", "2026-09-30T23:59:59.999999+08:00"),
        accepted("B", "2026-09-30T16:00:00Z"),
        accepted("C", "2026-10-31T15:59:59Z"),
        accepted("D", "2026-10-31T16:00:00Z"),
    )
    assert [lines(seal(settler, month))[0][0] for month in (SEPTEMBER, OCTOBER, NOVEMBER)] == [1, 2, 1]


def test_an_empty_month_is_settled_at_nothing(settler: Engine, ledger_url: str) -> None:
    settled = seal(settler, OCTOBER)
    assert (settled.declarations, settled.changed) == ([], True)
    assert rows(ledger_url, "select order_count, amount, declared_fen from settlement") == [(0, 0, 0)]
    assert seal(settler, OCTOBER).changed is False


def test_a_month_with_an_earlier_open_one_is_refused(desk: Desk, settler: Engine, ledger_url: str) -> None:
    desk.hand_in(accepted("A", "2026-08-03T12:00:00+08:00"), accepted("B", "2026-09-03T12:00:00+08:00"), accepted("C"))
    with pytest.raises(DanbaoError) as refused:
        seal(settler, OCTOBER)
    assert "2026-08, 2026-09" in refused.value.what.en
    assert "danbao settle 2026-08 --province 31" in refused.value.fix.en
    assert value(ledger_url, "select count(*) from settlement") == 0
    for month in (date(2026, 8, 1), SEPTEMBER, OCTOBER):
        assert seal(settler, month).changed


# ---- what comes late


def test_a_late_order_is_an_adjustment_in_the_open_month_that_names_its_month_of_origin(
    desk: Desk, settler: Engine, ledger_url: str
) -> None:
    desk.hand_in(*orders("A", 3))
    seal(settler, OCTOBER)
    sealed = rows(ledger_url, "select * from entry where month = '2026-10-01'")
    assert desk.answers(*orders("late", 2)) == ["new", "new"]
    assert rows(ledger_url, "select * from entry where month = '2026-10-01'") == sealed
    late = "select month, origin_month, order_count from entry where month <> '2026-10-01'"
    assert rows(ledger_url, late) == [(NOVEMBER, OCTOBER, 2)]
    assert value(ledger_url, "select distinct occurred_on from posting where order_count = 2") == date(2026, 10, 3)
    november = seal(settler, NOVEMBER)
    assert [item.of.origin_month for item in november.declarations] == [OCTOBER]
    assert lines(november) == [(2, 700, 1400, 14)]


def test_a_late_order_is_charged_at_the_rate_in_force_when_it_happened(
    desk: Desk, settler: Engine, ledger_url: str
) -> None:
    june, july = date(2025, 6, 1), date(2025, 7, 1)
    desk.hand_in(accepted("A", "2025-06-30T12:00:00+08:00"), accepted("B", "2025-07-01T12:00:00+08:00"))
    assert lines(seal(settler, june)) == [(1, 400, 400, 4)]
    desk.hand_in(accepted("C", "2025-06-30T13:00:00+08:00"))
    assert rows(ledger_url, "select premium_base from entry order by entry_id") == [(400,), (700,), (400,)]
    assert lines(seal(settler, july)) == [(1, 400, 400, 4), (1, 700, 700, 7)]


def test_a_late_order_skips_every_month_that_is_sealed(desk: Desk, settler: Engine, ledger_url: str) -> None:
    for month in (OCTOBER, NOVEMBER, DECEMBER):
        seal(settler, month)
    desk.hand_in(accepted("A"))
    assert rows(ledger_url, "select month, origin_month from entry") == [(date(2027, 1, 1), OCTOBER)]


def test_the_same_late_order_again_is_a_duplicate(desk: Desk, settler: Engine, ledger_url: str) -> None:
    desk.hand_in(accepted("A"))
    seal(settler, OCTOBER)
    assert desk.answers(accepted("A"), accepted("A", worker="W2")) == ["duplicate", "conflict"]
    assert value(ledger_url, "select count(*) from entry") == 1


# ---- at the same time


class Gate:
    """Holds a thread at a place until it is let through."""

    def __init__(self, place: str = "") -> None:
        self.place = place
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, place: str = "") -> None:
        if place == self.place and not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(WAIT_S)


class Worker(threading.Thread):
    """A thread whose result or error is kept."""

    def __init__(self, work: Callable[..., Any], *values: object) -> None:
        super().__init__(daemon=True)
        self.work, self.values = work, values
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.work(*self.values)
        except BaseException as error:
            self.error = error

    def done(self) -> Any:
        self.join(WAIT_S)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.result


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A gate within the settlement, after it has read the lines."""
    gate, declare = Gate(), settle.declare

    def slowly(lines: list[settle.MonthLine]) -> list[settle.Declaration]:
        gate()
        return declare(lines)

    monkeypatch.setattr(settle, "declare", slowly)
    return gate


def test_of_two_settlements_at_once_one_wins_and_the_other_says_so(
    desk: Desk, settler: Engine, ledger_url: str, held: Gate
) -> None:
    desk.hand_in(*orders("A", 3))
    first = Worker(seal, settler, OCTOBER)
    assert held.reached.wait(WAIT_S)
    with pytest.raises(Busy) as busy:
        seal(settler, OCTOBER)
    assert "Another settlement of 2026-10 in province 31 is running" in busy.value.what.en
    assert seal(settler, OCTOBER, "44").changed  # another province does not wait
    held.opened.set()
    assert lines(first.done()) == [(3, 700, 2100, 21)]
    assert seal(settler, OCTOBER).changed is False


def test_orders_that_are_being_booked_are_waited_for_and_settled(
    engine: Engine, settler: Engine, ledger_url: str
) -> None:
    gate = Gate("kept")
    booking = Worker(Desk(engine, switch=gate).hand_in, *orders("A", 3))
    assert gate.reached.wait(WAIT_S)  # posted, not committed
    settling = Worker(seal, settler, OCTOBER)
    settling.join(0.2)
    assert settling.is_alive()
    gate.opened.set()
    booking.done()
    assert lines(settling.done()) == [(3, 700, 2100, 21)]


def test_orders_that_come_while_a_month_is_being_sealed_go_to_the_open_month(
    desk: Desk, settler: Engine, ledger_url: str, held: Gate
) -> None:
    desk.hand_in(*orders("A", 3))
    settling = Worker(seal, settler, OCTOBER)
    assert held.reached.wait(WAIT_S)  # the lines are read
    booking = Worker(desk.answers, *orders("B", 2))
    booking.join(0.2)
    assert booking.is_alive()
    held.opened.set()
    assert lines(settling.done()) == [(3, 700, 2100, 21)]
    assert booking.done() == ["new", "new"]
    assert rows(ledger_url, "select month, order_count from entry order by month") == [(OCTOBER, 3), (NOVEMBER, 2)]


def test_a_platform_whose_first_order_comes_just_before_the_seal_is_settled_too(
    desk: Desk, settler: Engine, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.hand_in(*orders("A", 1, "example-delivery"))
    look = settle._refuse_earlier_open

    def and_meanwhile(engine: Engine, province: str, month: date) -> None:
        look(engine, province, month)
        desk.hand_in(*orders("B", 1, "doordash"), *orders("C", 1, "example-freight"))

    monkeypatch.setattr(settle, "_refuse_earlier_open", and_meanwhile)
    assert sum(item.of.order_count for item in seal(settler, OCTOBER).declarations) == 3


def test_while_ingest_runs_every_charge_is_settled_once(engine: Engine, settler: Engine, ledger_url: str) -> None:
    """Four desks book orders of October and November without a pause; both months are sealed meanwhile."""
    stop = threading.Event()

    def book(number: int) -> int:
        desk, batches = Desk(engine, f"desk-{number}"), 0
        while not stop.is_set() or batches < 8:
            mark = f"{number}-{batches}-"
            desk.hand_in(
                *orders(f"{mark}o", 5, "example-delivery"),
                *orders(f"{mark}n", 4, "eleme", "2026-11-03T12:00:00+08:00"),
            )
            batches += 1
        return batches

    workers = [Worker(book, number) for number in range(3)]
    settled = []
    for month in (OCTOBER, NOVEMBER):
        wait_for_batches(ledger_url, 3)
        settled.append(seal(settler, month))
    wait_for_batches(ledger_url, 3)
    stop.set()
    booked = sum(worker.done() for worker in workers)

    late = settle_the_rest(settler, DECEMBER)
    assert settled[0].declarations
    assert late.declarations
    counts = [item.of.order_count for one in (*settled, late) for item in one.declarations]
    assert sum(counts) == booked * 9 == value(ledger_url, "select count(*) from charge")
    declared = sum(item.of.amount for one in (*settled, late) for item in one.declarations)
    assert declared == value(ledger_url, "select sum(amount) from charge")
    sealed = "select sum(order_count) from entry where (province, month) in (select province, month from settlement)"
    assert value(ledger_url, sealed) == booked * 9
    assert chain_faults(ledger_url) == []


def wait_for_batches(url: str, more: int) -> None:
    """Wait until so many more batches are booked than now."""
    booked = "select count(*) from batch"
    enough, end = value(url, booked) + more, time.monotonic() + WAIT_S
    while value(url, booked) < enough:
        assert time.monotonic() < end
        time.sleep(0.01)


def settle_the_rest(settler: Engine, month: date) -> Settled:
    settled = seal(settler, month)
    assert seal(settler, next_month(month)).declarations == []
    return settled
