"""What a replay reads from segments is what the ledger's Reader reads, whatever a platform sends.

In: batches of records, sound and bent in every way that comes to mind. Out: the same events at the same places,
the same rejections; and, for records as platforms usually write them, without asking the Reader at all.
"""

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from duckdb import DuckDBPyConnection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import ARRIVED, accepted, cancelled, completed, reassigned, rules

from ledger import evidence
from ledger.calendar import to_us
from ledger.evidence import Record
from ledger.identity import Registered
from ledger.intake import Reader, Rejection, sources
from ledger.rating import LINE_CODES, Rating
from ledger.replay.chain import BatchRow
from ledger.store.replay.books import EntryKeys
from ledger.store.replay.desk import from_place, open_desk, put
from ledger.store.replay.events import Terms, Yield, open_segments, read_events
from ledger.store.replay.tariffs import Tariffs

BATCH = 7
REGISTRY = sources([(Registered(1, "eleme"), ["ele"]), (Registered(2, "sendy"), [])])
IDENTITY_NUMBER = "11010519491231002X"  # the example of GB 11643
EVENTS = """select place, platform_no, kind, order_id, slot, worker_id, us, line, city, tariff_no
    from event order by place"""
Facts = tuple[Any, ...]


class CountingReader(Reader):
    """A Reader that counts the records it is asked for."""

    asked = 0

    def read(self, records: list[Record]) -> Any:
        self.asked += len(records)
        return super().read(records)


class Room:
    """A desk to read batches at, kept for all tests of this file."""

    def __init__(self, spill: Path) -> None:
        self.desk: DuckDBPyConnection = open_desk(spill)
        self.rating = Rating(rules())
        self.reader = CountingReader(REGISTRY, self.rating)
        platforms = {found.platform_no: found.platform_id for found in REGISTRY.values()}
        self.terms = Terms(0, 0, self.reader, csv=False)
        self.tariffs = Tariffs(EntryKeys(), [self.rating], platforms)
        put(self.desk, "platform_source", [(0, source, found.platform_no) for source, found in REGISTRY.items()])

    def read(self, raws: list[bytes]) -> tuple[dict[int, Facts], list[Rejection], int, int]:
        """Events by ordinal, rejections, the number of events, and how many records the Reader was asked for."""
        records = [Record(place, to_us(ARRIVED), raw) for place, raw in enumerate(raws)]
        segment = evidence.seal(records, evidence.GENESIS, "desk", 0, 0)
        row = BatchRow(
            *(BATCH, "desk", 0, 0, len(raws), b"", ARRIVED, 0, 0, 0, 0, 0),
            *(segment.raw_bytes, segment.raw_sha256, segment.chain_before, segment.chain_after),
        )
        result, before = Yield(), self.reader.asked
        opened = open_segments([(row, self.terms)], {BATCH: segment.payload}, result)
        assert result.findings == []
        read_events(self.desk, self.tariffs, opened, result)
        events = {self.ordinal(place): self.facts(facts) for place, *facts in self.desk.execute(EVENTS).fetchall()}
        return events, result.rejections[BATCH], result.events[BATCH], self.reader.asked - before

    def ordinal(self, place: int) -> int:
        batch_id, ordinal = from_place(place)
        assert batch_id == BATCH
        return ordinal

    def facts(self, facts: list[Any]) -> Facts:
        *rest, tariff_no = facts
        return (*rest, None if tariff_no is None else self.tariffs.by_number[tariff_no])

    def expected(self, raws: list[bytes]) -> tuple[dict[int, Facts], list[Rejection], int]:
        """What the Reader alone makes of it."""
        intake = Reader(REGISTRY, self.rating).read(
            [Record(place, to_us(ARRIVED), raw) for place, raw in enumerate(raws)]
        )
        events: dict[int, Facts] = {}
        for one in intake.acceptances:
            where = LINE_CODES[one.line][0], one.city, one.tariff
            told = one.order_id, None, one.worker_id, one.occurred_us
            events[one.ordinal] = (one.platform_no, ord("A"), *told, *where)
        for later in intake.later:
            told = later.order_id, later.slot, later.worker_id, later.occurred_us
            events[later.ordinal] = (later.platform_no, later.kind[0], *told, None, None, None)
        return events, intake.rejections, intake.events

    def agrees(self, raws: list[bytes]) -> int:
        """Read both ways; how many records the Reader was asked for."""
        events, rejections, count, asked = self.read(raws)
        expected, refused, expected_count = self.expected(raws)
        assert events == expected
        told = [rejection._replace(ordinal=0) for rejection in rejections]
        assert told == [rejection._replace(ordinal=0) for rejection in refused]
        assert count == expected_count
        return asked


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    return Room(tmp_path_factory.mktemp("spill"))


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def spaced(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def with_data(event: dict[str, Any], **data: Any) -> dict[str, Any]:
    return event | {"data": event["data"] | data}


USUAL = [accepted("1"), reassigned("1", "W2"), completed("1"), accepted("2", platform="ele"), cancelled("2")]


# ---- as platforms usually write them


@pytest.mark.parametrize("write", [compact, spaced])
def test_usual_records_are_read_without_the_reader(room: Room, write: Any):
    assert room.agrees([write(event) for event in USUAL]) == 0
    assert room.agrees([write(USUAL), write(USUAL[:1]), write(USUAL[0])]) == 0


@pytest.mark.parametrize("write", [compact, spaced])
def test_optional_fields_and_any_order_of_keys_need_no_reader(room: Room, write: Any):
    place = {"lat": 31.23, "lng": -121}
    events = [
        *(with_data(event, pay="6.50", position=place) for event in USUAL),
        *(event | {"datacontenttype": "application/json"} for event in USUAL),
        *(dict(reversed(event.items())) for event in USUAL),
    ]
    assert room.agrees([write(event) for event in events]) == 0


@pytest.mark.parametrize(
    "time",
    ["2026-10-03T12:00:00+08:00", "2026-10-03T04:00:00Z", "2026-10-03T04:00:00.1Z", "2026-10-02T22:00:00.123456-06:00"],
)
def test_times_are_exact_without_the_reader(room: Room, time: str):
    assert room.agrees([compact(accepted("1", time))]) == 0


@pytest.mark.parametrize("worker", ["310105199902300018", "900000000000000001", "R-1024567890123456"])
def test_workers_of_as_many_characters_as_an_identity_number_are_told_apart(room: Room, worker: str):
    records = [compact(accepted("1", worker=worker)), compact(reassigned("1", worker))]
    room.agrees(records)


def test_workers_numbered_by_the_million_need_no_reader(room: Room):
    numbers = [str(10**17 + 1_000_003 * place) for place in range(200)]
    assert room.agrees([compact(accepted(number, worker=number)) for number in numbers]) == 0


def test_one_bad_record_leaves_the_others_to_the_query(room: Room):
    raws = [compact(accepted(str(number))) for number in range(50)]
    assert room.agrees([*raws[:20], b"no json", *raws[20:]]) == 1


# ---- what only the Reader can judge

EVENT = accepted("1")
BENT = {
    "extra key": compact(EVENT | {"x": 1}),
    "extra key in data": compact(with_data(EVENT, x="1")),
    "number for a worker, extra key beside it": compact(with_data(EVENT, worker_id=5) | {"": 1}),
    "numbers for texts that make up for a key": compact(EVENT | {"id": 1, "subject": 2, "": 1}).replace(b" ", b""),
    "object for an id": compact(EVENT | {"id": {"worker_id": None}}),
    "object for an id, written at length": compact(EVENT | {"id": {"a": 1}}).replace(b":1}", b":1.000}"),
    "number for an id that makes up for a key": compact(EVENT | {"id": 7} | {"": 0}).replace(b":7", b":1e3"),
    "key twice": compact(EVENT).replace(b'"id"', b'"id":"0","id"'),
    "key renamed": compact(completed("1")).replace(b'"data"', b'"date"'),
    "no data": compact({name: value for name, value in EVENT.items() if name != "data"}),
    "data is no object": compact(completed("1") | {"data": []}),
    "null": compact(with_data(EVENT, worker_id=None)),
    "worker in a completion": compact(with_data(completed("1"), worker_id="W")),
    "comma too many": compact(EVENT).replace(b"}}", b"},}"),
    "identity number for a worker": compact(with_data(EVENT, worker_id=IDENTITY_NUMBER)),
    "identity number of the next worker": compact(reassigned("1", IDENTITY_NUMBER.lower())),
    "identity number, written at length": spaced(with_data(EVENT, worker_id=IDENTITY_NUMBER)),
    "escape": compact(EVENT).replace(b"W1", b"\\u0057\\n1"),
    "not ASCII": compact(with_data(EVENT, worker_id="工")),
    "delete": compact(with_data(EVENT, worker_id="W\x7f")),
    "empty id": compact(EVENT | {"id": ""}),
    "id too long": compact(EVENT | {"id": "x" * 65}),
    "space for an id": compact(EVENT | {"id": " "}),
    "unknown city": compact(with_data(EVENT, accepted_city="310199")),
    "city that a database would take for 310100": compact(with_data(EVENT, accepted_city="3101e2")),
    "unknown line": compact(with_data(EVENT, line="begging")),
    "unknown platform": compact(EVENT | {"source": "/platforms/nobody"}),
    "unknown type": compact(EVENT | {"type": "order.eaten"}),
    "no rate": compact(accepted("1", "2022-08-01T12:00:00+08:00", line="ride_hailing", city="110100")),
    "before the scheme": compact(accepted("1", "2022-06-30T12:00:00+08:00")),
    "ahead of its arrival": compact(accepted("1", "2026-11-20T12:10:01+08:00")),
    "barely not ahead": compact(accepted("1", "2026-11-20T12:10:00+08:00")),
    "pay is a number": compact(with_data(EVENT, pay=6.5)),
    "pay is no number": compact(with_data(EVENT, pay="6,5")),
    "position off the map": compact(with_data(EVENT, position={"lat": 91, "lng": 0})),
    "position as text": compact(with_data(EVENT, position={"lat": "31.2", "lng": 0}, worker_id=5)),
    "position without lng": compact(with_data(EVENT, position={"lat": 31.2})),
    "white space around": b" \t" + compact(EVENT) + b"\r",
    "line break within": compact(EVENT).replace(b",", b",\n"),
    "two events": compact(EVENT) + compact(EVENT),
    "nothing": b"",
    "empty list": b"[]",
    "list in a list": compact([[EVENT]]),
    "list that ends too early": compact([EVENT, EVENT])[:-9] + b"]",
    "list of nothing much": b'[1,"},{",null]',
    "list with a good and a bad item": compact([EVENT, {"a": [{"b": 1}, {"c": 2}]}, EVENT]),
    "list broken over lines": compact([EVENT, EVENT]).replace(b",", b",\n"),
    "braces in a text": compact([EVENT | {"id": "},{"}, EVENT]),
    "bytes that are no text": b"\xff\xfe",
    "not UTF-8 in a text": compact(EVENT).replace(b"W1", b"\xff"),
    "a bracket in a text": compact(EVENT | {"id": "a[b"}),
    "too many items": compact([completed(str(number)) for number in range(5_001)]),
}


@pytest.mark.parametrize("what", BENT)
def test_bent_records_are_read_as_the_reader_reads_them(room: Room, what: str):
    good = compact(accepted("good"))
    room.agrees([BENT[what]])
    room.agrees([good, BENT[what], good])
    room.agrees([compact([accepted("a"), completed("b")]), BENT[what], compact([accepted("c")])])


@pytest.mark.parametrize(
    "time",
    [
        *("2026-10-03", "2026-10-03 12:00:00+08:00", "2026-10-03T12:00:00", "2026-10-03T12:00+08:00", "infinity"),
        *("2026-10-03T24:00:00Z", "2026-10-03T12:00:60Z", "2026-02-30T12:00:00Z", "2026-13-01T12:00:00Z"),
        *(
            "2026-10-03T12:00:00.1234567Z",
            "2026-10-03T12:00:00+24:00",
            "2026-10-03T12:00:00+14:59",
            "2026-10-03T12:00:00z",
        ),
        *("2026-10-03T12:00:00+08", "2026-10-03T12:00:00 +08:00", "1790992800", "2026-10-03T12:00:00.Z"),
    ],
)
def test_strange_times_are_read_as_the_reader_reads_them(room: Room, time: str):
    room.agrees([compact(accepted("1", time))])


def test_times_that_are_nearly_usual_are_read_as_the_reader_reads_them(room: Room):
    usual = "2026-10-03T12:00:00+08:00"
    places, chars = range(len(usual)), "0129 -+:.TZ"
    shorter = {usual[:at] + usual[at + 1 :] for at in places}
    bent = {text[:at] + char + text[at:] for text in shorter for at in places for char in chars}
    assert len(bent) > 4_000
    room.agrees([compact(accepted(str(number), time)) for number, time in enumerate(sorted(bent | shorter))])


# ---- whatever comes to hypothesis' mind

TEXTS = st.one_of(st.sampled_from(["W1", "", "a" * 64, '"', "},{", "工", "\\", " "]), st.text(max_size=5))
VALUES = st.one_of(TEXTS, st.none(), st.integers(-9, 9), st.builds(dict), st.builds(list), st.booleans())


@cache
def places() -> list[tuple[str, ...]]:
    top = ("specversion", "id", "source", "subject", "time", "type", "data", "datacontenttype", "", "x")
    data = ("worker_id", "line", "accepted_city", "reason", "pay", "position", "x")
    return [*((name,) for name in top), *(("data", name) for name in data)]


@st.composite
def bent_events(draw: st.DrawFn) -> dict[str, Any]:
    event = json.loads(json.dumps(draw(st.sampled_from(USUAL))))
    for place in draw(st.lists(st.sampled_from(places()), max_size=2)):
        there = event
        for name in place[:-1]:
            there = there.get(name) if isinstance(there.get(name), dict) else {}
        if draw(st.booleans()):
            there[place[-1]] = draw(VALUES)
        else:
            there.pop(place[-1], None)
    return event


@st.composite
def bent_records(draw: st.DrawFn) -> bytes:
    events = draw(st.one_of(bent_events(), st.lists(bent_events(), max_size=4)))
    raw = draw(st.sampled_from([compact, spaced]))(events)
    for _ in range(draw(st.integers(0, 1))):
        at = draw(st.integers(0, len(raw)))
        raw = (
            raw[:at]
            + draw(st.sampled_from([b"", b" ", b",", b'"', b"\\", b"{", b"}", b"\n", b"\x00", b"9"]))
            + raw[at + 1 :]
        )
    return raw


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raws=st.lists(bent_records(), min_size=1, max_size=6))
def test_no_record_is_read_otherwise_than_by_the_reader(room: Room, raws: list[bytes]):
    room.agrees(raws)


def test_the_arrival_is_the_one_of_the_record(room: Room):
    assert datetime.fromisoformat("2026-11-20T12:00:00+08:00") == ARRIVED
