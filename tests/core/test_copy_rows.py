"""Rows for COPY BINARY, read back by a small reader of PostgreSQL's format that is independent of the writer.

`tests/store` holds them against a real server; here the bytes are held against the manual.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.calendar import to_us
from ledger.intake import Acceptance, Later
from ledger.rating import LINE_CODES, Tariff
from ledger.store.copy_rows import COPY_COLUMNS, charge_rows, event_key_rows, order_event_rows
from schemas.codes import Line

DAY = date(2026, 10, 3)
AT = datetime(2026, 10, 3, 4, 10, 0, 123456, tzinfo=UTC)
LONGEST = "单" * 64
TARIFF = Tariff(7, "31", Line.INSTANT_DELIVERY, DAY, DAY.replace(day=1), 700, Decimal("1.2"), 840, True, False)
ACCEPTED = Acceptance(7, "o-1", to_us(AT), "w-1", 310100, Line.INSTANT_DELIVERY, 32_767, TARIFF)
ENDED = Later(7, "o-1", "", to_us(AT), b"C", None, 1)
REASSIGNED = Later(7, "o-1", "e-1", to_us(AT), b"R", "w-2", 2)


def number(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def instant(data: bytes) -> datetime:
    """Microseconds since 2000-01-01 UTC."""
    assert len(data) == 8
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=number(data))


def of_size(size: int) -> Callable[[bytes], int]:
    def read(data: bytes) -> int:
        assert len(data) == size
        return number(data)

    return read


READ: dict[str, Callable[[bytes], Any]] = {
    "entry_id": of_size(8),
    "batch_id": of_size(8),
    "accepted_at": instant,
    "occurred_at": instant,
    "city": of_size(4),
    "amount": of_size(4),
    "platform_no": of_size(2),
    "ordinal": of_size(2),
    "line": bytes,
    "kind": bytes,
    "order_id": bytes.decode,
    "worker_id": bytes.decode,
    "slot": bytes.decode,
}


def fields(data: bytes) -> Iterable[list[bytes | None]]:
    """COPY BINARY → the fields of each row, as the manual of PostgreSQL describes it."""
    assert data[:11] == b"PGCOPY\n\xff\r\n\0"
    assert data[11:19] == bytes(8), "no flags, no header extension"
    at = 19
    while (count := number(data[at : at + 2])) != -1:
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            length = number(data[at : at + 4])
            at += 4
            row.append(data[at : at + length] if length >= 0 else None)
            at += max(length, 0)
        yield row
    assert at + 2 == len(data), "nothing after the end"


def rows(table: str, data: bytes) -> list[dict[str, Any]]:
    columns = COPY_COLUMNS[table].split(", ")
    return [
        {name: None if field is None else READ[name](field) for name, field in zip(columns, row, strict=True)}
        for row in fields(data)
    ]


def test_a_charge_is_written_as_it_is():
    assert rows("charge", charge_rows([ACCEPTED], {TARIFF: 2**40})) == [
        {
            "entry_id": 2**40,
            "accepted_at": AT,
            "city": 310100,
            "amount": 840,
            "platform_no": 7,
            "ordinal": 32_767,
            "line": b"D",
            "order_id": "o-1",
            "worker_id": "w-1",
        }
    ]


def test_an_order_that_costs_nothing_yet_has_no_entry_and_no_amount():
    (row,) = rows("charge", charge_rows([ACCEPTED], {}))
    assert (row["entry_id"], row["amount"], row["order_id"]) == (None, 0, "o-1")


def test_every_line_is_written_as_its_letter():
    events = [ACCEPTED._replace(line=line) for line in Line]
    assert [row["line"] for row in rows("charge", charge_rows(events, {TARIFF: 1}))] == list(LINE_CODES.values())
    assert [row["line"] for row in rows("order_event", order_event_rows(events, [], 9))] == list(LINE_CODES.values())


def test_a_later_event_is_written_with_its_slot_and_an_ending_without_a_worker():
    shared = {"occurred_at": AT, "batch_id": 9, "platform_no": 7, "order_id": "o-1"}
    assert rows("event_key", event_key_rows([ENDED, REASSIGNED], 9)) == [
        shared | {"ordinal": 1, "kind": b"C", "slot": "", "worker_id": None},
        shared | {"ordinal": 2, "kind": b"R", "slot": "e-1", "worker_id": "w-2"},
    ]


def test_acceptances_and_later_events_are_written_into_one_table():
    shared = {"occurred_at": AT, "batch_id": 9, "platform_no": 7, "order_id": "o-1"}
    assert rows("order_event", order_event_rows([ACCEPTED], [ENDED, REASSIGNED], 9)) == [
        shared | {"ordinal": 32_767, "kind": b"A", "worker_id": "w-1", "line": b"D"},
        shared | {"ordinal": 1, "kind": b"C", "worker_id": None, "line": None},
        shared | {"ordinal": 2, "kind": b"R", "worker_id": "w-2", "line": b"*"},
    ]


@pytest.mark.parametrize("text", [LONGEST, "𠮷" * 64, "o", "'; drop table charge; --", "\\N", "a b"])
def test_texts_up_to_sixty_four_characters_of_any_script_are_written_whole(text: str):
    (row,) = rows("charge", charge_rows([ACCEPTED._replace(order_id=text, worker_id=text)], {TARIFF: 1}))
    assert (row["order_id"], row["worker_id"]) == (text, text)
    later = REASSIGNED._replace(order_id=text, slot=text, worker_id=text)
    (row,) = rows("event_key", event_key_rows([later], 1))
    assert (row["order_id"], row["slot"], row["worker_id"]) == (text, text, text)


def test_no_rows_are_a_header_and_an_end():
    for data in (charge_rows([], {}), event_key_rows([], 1), order_event_rows([], [], 1)):
        assert list(fields(data)) == []


MOMENTS = st.datetimes(datetime(2022, 7, 1), datetime(2099, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(MOMENTS, TEXTS, TEXTS, st.integers(1, 32_767), st.integers(0, 32_767)), max_size=5))
def test_any_acceptances_are_read_back_as_they_were_written(
    drawn: list[tuple[datetime, str, str, int, int]],
):
    events = [
        Acceptance(platform, order, to_us(moment), worker, 659001, Line.RIDE_HAILING, ordinal, TARIFF)
        for moment, order, worker, platform, ordinal in drawn
    ]
    charges = rows("charge", charge_rows(events, {TARIFF: 1}))
    recorded = rows("order_event", order_event_rows(events, [], 1))
    for made, charge, event in zip(drawn, charges, recorded, strict=True):
        assert made == tuple(
            charge[name] for name in ("accepted_at", "order_id", "worker_id", "platform_no", "ordinal")
        )
        assert made == tuple(event[name] for name in ("occurred_at", "order_id", "worker_id", "platform_no", "ordinal"))
