"""Whatever happens on the way, the ledger is that of a plain dictionary: 0 lost, 0 doubled.

In: any interleaving of batches from several partitions, crashes at every switch of the loop, redeliveries
to a process that was overtaken and to one that was not, files that are copies of each other, months sealed
meanwhile. Out: the same charges, endings, reassignments, sums and answers as the model in this file, which
knows neither batches nor databases; and the evidence is whole. EXAMPLES=1000 in the environment looks longer.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from support import (
    ARRIVED,
    Event,
    Handed,
    accepted,
    cancelled,
    chain_faults,
    charges_without_books,
    completed,
    empty,
    encode,
    premiums,
    reassigned,
    rows,
    rules,
)

from consumers.loop import STEPS, Booker
from ledger import evidence
from ledger.calendar import SHANGHAI, to_us
from ledger.errors import DanbaoError, Fenced
from ledger.evidence import Record
from ledger.store import connect, settle
from ledger.store.heads import Head

PARTITIONS = (("orders", 0), ("orders", 1), ("file:one", 0), ("file:its copy", 0))
COPIED, COPY = 2, 3
MONTHS = (date(2026, 9, 1), date(2026, 10, 1))
# 毫 per order, from the rule files by hand: line, province, platform → base × factor in 2026.
RATES = {
    ("instant_delivery", "31", "eleme"): 700,
    ("instant_delivery", "44", "eleme"): 700,
    ("instant_delivery", "31", "example-delivery"): 840,
    ("instant_delivery", "44", "example-delivery"): 700,
    ("ride_hailing", "31", "eleme"): 100,
    ("ride_hailing", "44", "eleme"): 100,
    ("ride_hailing", "31", "example-delivery"): 100,
    ("ride_hailing", "44", "example-delivery"): 100,
}

# ---- the model


@dataclass
class Model:
    """What a ledger is, as dictionaries: the first version of each fact, and how many answers of each sort."""

    orders: dict[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)
    later: dict[tuple[str, str, str], tuple[Any, ...]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)

    def hear(self, handed: Handed) -> None:
        """One record arrives."""
        events: list[Any] = handed if isinstance(handed, list) else [handed]
        for event in events:
            self.answers[self._answer(event)] += 1

    def _answer(self, event: Event | bytes) -> str:
        if isinstance(event, bytes) or event["data"].get("accepted_city") == "999999":
            return "rejected"
        platform, order = event["source"].removeprefix("/platforms/"), event["subject"]
        time, data = datetime.fromisoformat(event["time"]), event["data"]
        if event["type"] == "order.accepted":
            facts = (time, data["worker_id"], data["accepted_city"], data["line"])
            return judge(self.orders.setdefault((platform, order), facts), facts)
        slot = event["id"] if event["type"] == "order.reassigned" else ""
        facts = (event["type"], time, data.get("worker_id"))
        return judge(self.later.setdefault((platform, order, slot), facts), facts)

    def premiums(self) -> dict[tuple[str, str, str], int]:
        """Platform, province, month → 毫."""
        sums: Counter[tuple[str, str, str]] = Counter()
        for (platform, _), (time, _, city, line) in self.orders.items():
            month = f"{time.astimezone(SHANGHAI):%Y-%m}"
            sums[platform, city[:2], month] += RATES[line, city[:2], platform]
        return dict(sums)


def judge(first: tuple[Any, ...], facts: tuple[Any, ...]) -> str:
    """The first version is new, the same again a duplicate, another one a conflict."""
    if first is facts:
        return "new"
    return "duplicate" if first == facts else "conflict"


# ---- what may happen

PLATFORM = st.sampled_from(["eleme", "example-delivery"])
ORDER = st.sampled_from([f"O{number}" for number in range(6)])
WORKER = st.sampled_from(["W1", "W2"])
TIME = st.sampled_from(
    ["2026-10-03T12:00:00+08:00", "2026-10-04T12:00:00+08:00", "2026-09-30T23:59:59+08:00", "2026-09-30T16:00:00Z"]
)
CITY = st.sampled_from(["310100", "440100", "999999"])
LINE = st.sampled_from(["instant_delivery", "ride_hailing"])
EVENT = st.one_of(
    st.builds(accepted, ORDER, TIME, WORKER, CITY, LINE, PLATFORM),
    st.builds(reassigned, ORDER, WORKER, TIME, st.sampled_from(["1", "2"]), PLATFORM),
    st.builds(completed, ORDER, TIME, PLATFORM),
    st.builds(cancelled, ORDER, TIME, PLATFORM),
)
RECORD = st.one_of(EVENT, st.lists(EVENT, min_size=1, max_size=4), st.sampled_from([b"rubbish", b"[]", b"{}"]))
LOG = st.lists(RECORD, min_size=4, max_size=8)
PLACE = st.integers(0, len(PARTITIONS) - 1)
SIZE = st.integers(1, 3)
ACTION = st.one_of(
    st.tuples(st.just("book"), PLACE, SIZE, st.none()),
    st.tuples(st.just("book"), PLACE, SIZE, st.sampled_from(STEPS)),
    st.tuples(st.just("overtaken"), PLACE, SIZE, st.integers(0, 3)),
    st.tuples(st.just("sent again"), PLACE, SIZE, st.none()),
    st.tuples(st.just("settle"), PLACE, SIZE, st.sampled_from(MONTHS)),
)


class Crash(Exception):
    """The process ends here."""


class Process:
    """One consumer process on one partition: dies where it is told to, and is started again."""

    def __init__(self, engine: Engine, place: tuple[str, int], log: list[Handed]) -> None:
        self.engine, self.place, self.log = engine, place, log
        self.heads: list[Head] = []
        self.crash_at: str | None = None
        self.start()

    def start(self) -> None:
        """A new process, that knows nothing but the database."""
        self.booker = Booker(self.engine, rules(), self.pull)
        self.head = self.booker.head(*self.place)

    def pull(self, step: str) -> None:
        if step == self.crash_at:
            raise Crash(step)

    def records(self, head: Head, size: int) -> list[Record]:
        """The next records of the log, as the broker or the file gives them."""
        part = self.log[head.next_offset : head.next_offset + size]
        return [Record(offset, to_us(ARRIVED), encode(handed)) for offset, handed in enumerate(part, head.next_offset)]

    def book(self, head: Head, size: int) -> Head:
        """Book a batch from there."""
        return self.booker.book(self.booker.read(self.records(head, size)), head).head


class World:
    """Processes, the ledger they share, and the model that hears the same."""

    def __init__(self, engine: Engine, settler: Engine, logs: list[list[Handed]]) -> None:
        self.model, self.settler = Model(), settler
        self.processes = [Process(engine, *pair) for pair in zip(PARTITIONS, logs, strict=True)]

    def book(self, place: int, size: int, crash_at: str | None) -> None:
        """A batch; the process may die on the way, and is started again."""
        process = self.processes[place]
        before = process.head
        if not process.records(before, size):
            return
        process.crash_at = crash_at
        try:
            process.head = process.book(before, size)
        except Crash:
            assert crash_at
            process.start()
        process.crash_at = None
        committed = crash_at in (None, "committed")
        assert (process.head != before) == committed
        if committed:
            process.heads.append(before)
            for handed in process.log[before.next_offset : process.head.next_offset]:
                self.model.hear(handed)

    def overtaken(self, place: int, size: int, back: int) -> None:
        """A process that still believes in an older head gets records again that are booked by now."""
        process = self.processes[place]
        if process.heads:
            stale = process.heads[-1 - back % len(process.heads)]
            with pytest.raises(Fenced):
                process.book(stale, size)

    def sent_again(self, place: int, size: int, _: None) -> None:
        """The producer sends its last records again."""
        log = self.processes[place].log
        log += log[-size:]

    def settle(self, place: int, _: int, month: date) -> None:
        """A month is sealed while orders come in; an earlier one that is open stands in its way."""
        province = ("31", "44")[place % 2]
        try:
            settle.seal(self.settler, province, month, rules())
        except DanbaoError as error:
            if "earlier months" not in error.what.en:
                raise

    def drain(self) -> None:
        """Everything that is left is booked."""
        for place, process in enumerate(self.processes):
            while process.head.next_offset < len(process.log):
                self.book(place, 3, None)


# ---- the property


@given(
    logs=st.tuples(*[LOG] * (len(PARTITIONS) - 1)),
    actions=st.lists(ACTION, min_size=10, max_size=30),
    copied=st.booleans(),
)
@settings(
    deadline=None,
    max_examples=int(os.environ.get("EXAMPLES", "40")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
def test_any_interleaving_with_crashes_and_redeliveries_gives_the_ledger_of_a_dictionary(
    session_ledger: str, logs: tuple[list[Handed], ...], actions: list[tuple[Any, ...]], copied: bool
) -> None:
    empty(session_ledger)
    copy = list(logs[COPIED]) if copied else []
    with (
        connect.ledger(session_ledger, connect.INGEST) as engine,
        connect.ledger(session_ledger, connect.SETTLE) as settler,
    ):
        world = World(engine, settler, [*(list(log) for log in logs), copy])
        for name, *terms in actions:
            getattr(world, name.replace(" ", "_"))(*terms)
        world.drain()
        compare(session_ledger, world)


def test_every_step_of_the_loop_is_survived(session_ledger: str) -> None:
    """The same without chance: each step once, on a batch that has everything in it."""
    empty(session_ledger)
    everything: list[Handed] = [
        [accepted("O1"), completed("O1"), accepted("O1", worker="W2"), accepted("O1")],
        reassigned("O1", "W2"),
        b"rubbish",
    ]
    with (
        connect.ledger(session_ledger, connect.INGEST) as engine,
        connect.ledger(session_ledger, connect.SETTLE) as settler,
    ):
        world = World(engine, settler, [everything * len(STEPS), [], [], []])
        for step in STEPS:
            world.book(0, 3, step)
            world.overtaken(0, 3, 0)
        world.drain()
        compare(session_ledger, world)
    empty(session_ledger)


def compare(url: str, world: World) -> None:
    """The ledger is the model, and everything in it holds together."""
    model = world.model
    assert orders_in(url) == model.orders
    assert later_in(url) == model.later
    assert events_in(url) == Counter(
        [(*key, "order.accepted", facts[0], facts[1]) for key, facts in model.orders.items()]
        + [(platform, order, *facts) for (platform, order, _), facts in model.later.items()]
    )
    assert premiums(url) == model.premiums()
    [answers] = rows(url, "select sum(new), sum(duplicate), sum(conflict), sum(rejected) from batch")
    names = ("new", "duplicate", "conflict", "rejected")
    assert [count or 0 for count in answers] == [model.answers[name] for name in names]
    kept = rows(url, "select (select count(*) from conflict), (select count(*) from rejected_record)")
    assert kept == [(model.answers["conflict"], model.answers["rejected"])]
    assert charges_without_books(url) == 0
    assert chain_faults(url) == []
    assert evidence_in(url) == {
        process.place: [encode(handed) for handed in process.log] for process in world.processes if process.log
    }
    assert settled_and_open(url) == sum(model.premiums().values())


KINDS = {"A": "order.accepted", "R": "order.reassigned", "C": "order.completed", "X": "order.cancelled"}
LINES = {"D": "instant_delivery", "R": "ride_hailing"}


def orders_in(url: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    query = """select platform_id, order_id, accepted_at, worker_id, city, line::text, amount
        from charge join platform using (platform_no)"""
    found = {}
    for platform, order, time, worker, city, line, amount in rows(url, query):
        assert amount == RATES[LINES[line], str(city)[:2], platform]
        found[platform, order] = (time, worker, str(city), LINES[line])
    return found


def later_in(url: str) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    query = """select platform_id, order_id, slot, kind::text, occurred_at, worker_id
        from event_key join platform using (platform_no)"""
    return {tuple(key): (KINDS[kind], time, worker) for *key, kind, time, worker in rows(url, query)}


def events_in(url: str) -> Counter[tuple[Any, ...]]:
    query = """select platform_id, order_id, kind::text, occurred_at, worker_id
        from order_event join platform using (platform_no)"""
    return Counter((platform, order, KINDS[kind], *facts) for platform, order, kind, *facts in rows(url, query))


def evidence_in(url: str) -> dict[tuple[str, int], list[bytes]]:
    """The raw records of each partition, in order."""
    query = """select topic, partition, first_offset, payload from batch join segment using (batch_id)
        order by topic, partition, first_offset"""
    found: dict[tuple[str, int], list[bytes]] = {}
    for topic, partition, first, payload in rows(url, query):
        records = evidence.unpack(evidence.decompress(payload), first)
        found.setdefault((topic, partition), []).extend(record.raw for record in records)
    return found


def settled_and_open(url: str) -> int:
    """毫 in sealed settlements and in months still open: every charge is in one of them."""
    query = """select (select coalesce(sum(amount), 0) from settlement) + coalesce(sum(p.amount), 0)
        from posting p join entry e using (entry_id) join account a using (account_id)
        where a.kind = 'premium_receivable' and e.kind = 'premium'
            and (e.province, e.month) not in (select province, month from settlement)"""
    [(amount,)] = rows(url, query)
    return int(amount)
