"""From a place in a batch back to the bytes that the platform sent, and what is found where they were tampered with."""

import json
from datetime import datetime
from typing import Any

import pytest

from ledger import evidence, mapping, rulebook
from ledger.calendar import to_us
from ledger.evidence import GENESIS, Record
from ledger.identity import Registered
from ledger.intake import Acceptance, EventReader, Later, Reader, Rejection, sources
from ledger.locate import Evidence, Located, check_event, item_bytes, locate
from ledger.mapping import CsvReader
from ledger.rating import Rating
from ledger.replay.chain import BatchRow
from ledger.replay.findings import Finding
from ledger.windows import Order, RecordedEvent
from schemas.codes import EventType, Line, Reason

NOON = datetime.fromisoformat("2026-10-03T12:00:00+08:00")
RULES = rulebook.load()
PLATFORMS = sources([(Registered(1, "kuaisong"), [])])


def event(order: str, kind: str = "accepted", time: str = "2026-10-03T12:00:00+08:00", **data: str) -> dict[str, Any]:
    if kind == "accepted":
        data = {"worker_id": "W1", "line": "instant_delivery", "accepted_city": "310100"} | data
    return {
        "specversion": "1.0",
        "id": f"{order}/{kind}",
        "source": "/platforms/kuaisong",
        "type": f"order.{kind}",
        "subject": order,
        "time": time,
        "data": data,
    }


def encode(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()


def batch_of(raws: list[bytes], reader: Reader) -> tuple[BatchRow, bytes]:
    """A batch from offset 7 on, as the loop keeps it."""
    records = [Record(7 + place, to_us(NOON), raw) for place, raw in enumerate(raws)]
    segment = evidence.seal(records, GENESIS, "desk", 0, 7)
    events = reader.read(records).events
    counts = (events, events, 0, 0, 0)
    row = BatchRow(
        3, "desk", 0, 7, 7 + len(raws), RULES.hash, NOON, *counts, segment.raw_bytes, segment.raw_sha256, *segment[3:]
    )
    return row, segment.payload


def found_in(*raws: object, csv: EventReader | None = None) -> Evidence:
    reader = Reader(PLATFORMS, Rating(RULES), csv)
    row, payload = batch_of([encode(raw) for raw in raws], reader)
    return locate(row, payload, reader, range(row.events))


def places(evidence_: Evidence) -> list[tuple[int, int, int]]:
    """Offset, item, items, by ordinal."""
    return [evidence_.located[ordinal][:1] + evidence_.located[ordinal][2:4] for ordinal in sorted(evidence_.located)]


def test_single_events_and_lists_are_counted_as_the_reader_counts_them():
    found = found_in(event("A"), [event("B"), event("C")], b"{broken", event("D"))
    assert places(found) == [(7, 0, 1), (8, 0, 2), (8, 1, 2), (9, 0, 1), (10, 0, 1)]
    assert [type(found.located[ordinal].read) for ordinal in range(5)] == [Acceptance] * 3 + [Rejection, Acceptance]
    assert found.findings == []


def test_a_list_with_a_bad_item_is_taken_item_by_item():
    found = found_in([event("A"), {"no": "event"}, event("B", "completed")], event("C"))
    assert places(found) == [(7, 0, 3), (7, 1, 3), (7, 2, 3), (8, 0, 1)]
    read = [found.located[ordinal].read for ordinal in range(3)]
    assert [type(one) for one in read] == [Acceptance, Rejection, Later]
    assert found.located[1].raw == b'{"no": "event"}'


def test_a_list_that_cannot_be_read_at_all_takes_one_place():
    found = found_in(b"[]", event("A"))
    assert places(found) == [(7, 0, 1), (8, 0, 1)]
    rejected = found.located[0].read
    assert isinstance(rejected, Rejection)
    assert rejected.reason is Reason.EMPTY_LIST


def test_an_item_of_a_list_is_shown_in_the_very_bytes_that_were_sent():
    first, second = event("A"), event("货-2")
    raw = f"[ {json.dumps(first, indent=2)}\n ,\t{json.dumps(second, ensure_ascii=False)}]".encode()
    found = found_in(raw)
    assert found.located[1].raw == json.dumps(second, ensure_ascii=False).encode()
    assert found.located[0].raw == json.dumps(first, indent=2).encode()
    assert found.located[0].record_bytes == len(raw)


@pytest.mark.parametrize("raw", [b"[\xff]", b"[1, 2", b"[" * 100_000, b"a,b,c", b"[x"])
def test_what_is_no_list_is_shown_whole(raw: bytes):
    assert item_bytes(Record(0, 0, raw), 3) == raw


def test_a_line_of_a_mapped_file_holds_several_events():
    eleme = mapping.load("eleme")
    header = b"platform,worker_id,order_id,accepted_at,completed_at,cancelled,pick_lat,pick_lng,deliver_lat,deliver_lng"
    line = b"eleme,W1,88,2026-10-03 11:00:00+08:00,2026-10-03 11:30:00+08:00,False,39.1,121.6,39.1,121.6"
    reader = Reader(sources([(Registered(1, "eleme"), [])]), Rating(RULES), CsvReader(eleme, header, 0).events)
    row, payload = batch_of([line, line], reader)
    found = locate(row, payload, reader, [1, 2])
    assert places(found) == [(7, 1, 2), (8, 0, 2)]
    assert found.located[1].raw == line


def test_only_what_is_asked_for_is_located():
    reader = Reader(PLATFORMS, Rating(RULES))
    row, payload = batch_of([encode([event("A"), event("B")])], reader)
    assert list(locate(row, payload, reader, [1, 99]).located) == [1]


# ---- tampering


def tampered(**changes: Any) -> list[tuple[str, str, str]]:
    """Code, table and column of the findings when a batch says something else than was sealed."""
    reader = Reader(PLATFORMS, Rating(RULES))
    row, payload = batch_of([encode(event("A"))], reader)
    payload = changes.pop("payload", payload)
    found = locate(row._replace(**changes), payload, reader, [0])
    return [(finding.code, finding.table, finding.detail) for finding in found.findings]


def test_a_changed_segment_is_found():
    assert tampered(payload=b"") == [("damaged", "segment", "payload")]
    other = evidence.seal([Record(7, to_us(NOON), encode(event("B")))], GENESIS, "desk", 0, 7)
    assert ("damaged", "segment", "raw_sha256") in tampered(payload=other.payload)


def test_a_changed_hash_or_place_breaks_the_chain():
    assert ("chain", "batch", "chain_after") in tampered(chain_after=bytes(32))
    assert ("chain", "batch", "chain_after") in tampered(topic="elsewhere")
    assert ("chain", "batch", "chain_after") in tampered(raw_sha256=bytes(32))


# ---- the books against the record


def located(read: Acceptance | Later | Rejection) -> Located:
    return Located(7, to_us(NOON), 0, 1, 10, b"", read)


def differing(**changes: Any) -> list[str]:
    """What differs when the books say something else than the record."""
    found = found_in(event("A"))
    event_ = RecordedEvent(EventType.ACCEPTED, NOON, NOON, "W1", 3, 0)._replace(
        **{name: value for name, value in changes.items() if name in RecordedEvent._fields}
    )
    line, city = changes.get("line", Line.INSTANT_DELIVERY), changes.get("city", "310100")
    order = Order(changes.get("order_id", "A"), line, city, 700, event_, (), None)
    return [finding.detail for finding in check_event(found.batch, order, event_, found.located[0])]


def test_books_that_say_what_the_record_says_raise_nothing():
    assert differing() == []


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"worker_id": "W2"}, "worker_id"),
        ({"occurred_at": NOON.replace(minute=1)}, "occurred_at"),
        ({"order_id": "B"}, "order_id"),
        ({"line": Line.RIDE_HAILING}, "line"),
        ({"city": "110100"}, "city"),
        ({"type": EventType.REASSIGNED}, "type"),
    ],
)
def test_each_fact_that_the_books_changed_is_named(changes: dict[str, Any], column: str):
    assert differing(**changes) == [column]


def test_an_event_that_no_record_holds_is_unfounded():
    found = found_in(event("A"))
    event_ = RecordedEvent(EventType.COMPLETED, NOON, NOON, None, 3, 9)
    order = Order("A", None, None, None, None, (), event_)
    [finding] = check_event(found.batch, order, event_, None)
    assert isinstance(finding, Finding)
    assert finding.code == "unfounded"


def test_a_later_event_is_held_against_its_record_too():
    found = found_in(event("A", "completed"))
    event_ = RecordedEvent(EventType.CANCELLED, NOON, NOON, None, 3, 0)
    order = Order("A", None, None, None, None, (), event_)
    assert [finding.detail for finding in check_event(found.batch, order, event_, found.located[0])] == ["type"]


def test_a_rejected_record_founds_nothing():
    rejected = found_in(b"{broken").located[0]
    event_ = RecordedEvent(EventType.COMPLETED, NOON, NOON, None, 3, 0)
    order = Order("A", None, None, None, None, (), event_)
    batch = found_in(event("A")).batch
    assert "type" in [finding.detail for finding in check_event(batch, order, event_, located(rejected.read))]
