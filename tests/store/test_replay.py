"""`danbao audit replay`: sound books agree with their segments; whatever is changed by hand is named.

In: a ledger with something of everything, made once, and the superuser's way round every trigger. Out: the
findings after some changes, each of another row, by table, row and column. Changes are taken back afterwards.
"""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import sqlalchemy
from adbc_driver_postgresql import dbapi
from sqlalchemy import Engine
from support import (
    ARRIVED,
    Desk,
    Event,
    accepted,
    cancelled,
    completed,
    new_ledger,
    owner,
    reassigned,
    replayed,
    rows,
    rules,
    rules_where,
    value,
)

from consumers import loop, sources
from ledger import mapping
from ledger.examples import simulated
from ledger.replay.findings import Code, Finding
from ledger.simulate import Plan, Simulation
from ledger.store import connect, settle
from ledger.store.replay import replay

TABLE_OF = re.compile(r"(?:update|delete from|insert into) (\w+)")
LATE = "2026-10-04T09:00:00+08:00"
CSV = """order_id,worker_id,accepted_at,completed_at,cancelled,pick_lat,pick_lng
F1,K1,2026-10-03 09:04:48+08:00,2026-10-03 09:30:00+08:00,False,38.9,121.6
F2,K2,2026-10-03 09:05:48+08:00,,False,,
F3,K1,soon,,False,,
"""


# ---- a ledger with something of everything


def compact(value: Event | list[Event]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def with_data(event: Event, **data: Any) -> Event:
    return event | {"data": event["data"] | data}


def book_everything(url: str) -> None:
    with connect.ledger(url, connect.INGEST) as engine:
        book_orders(Desk(engine))
        book_example(Desk(engine, "desk", 1))
        book_doubtful(Desk(engine))
        book_file(engine)
        book_inbox(engine)
    with connect.ledger(url, connect.SETTLE) as engine:
        for province in ("21", "31"):
            settle.seal(engine, province, date(2026, 10, 1), rules())
    with connect.ledger(url, connect.INGEST) as engine:
        Desk(engine).hand_in(compact(accepted("late", LATE)), compact(completed("late")))
        book_other_rules(engine)


def book_orders(desk: Desk) -> None:
    desk.hand_in(*(compact(accepted(f"A{number}", worker=f"W{number % 3}")) for number in range(7)))
    desk.hand_in(
        compact([accepted("B1", city="210200"), completed("B1"), accepted("B2", line="food_delivery")]),
        compact([completed(f"A{number}") for number in range(4)]),
        compact(cancelled("A4")),
        compact([reassigned("A5", "W9"), reassigned("A5", "W8", "2026-10-03T12:15:00+08:00", "2"), completed("A5")]),
        json.dumps(accepted("B3", worker="W4")).encode(),
        json.dumps(with_data(accepted("B4"), pay="6.50", position={"lat": 31.2, "lng": 121})).encode(),
        compact(with_data(cancelled("B4"), reason="商家取消")),
    )


def book_example(desk: Desk) -> None:
    platform = "example-delivery"
    desk.hand_in(*(compact(accepted(f"C{number}", platform=platform)) for number in range(3)))
    desk.hand_in(*(compact(completed(f"C{number}", platform=platform)) for number in range(3)))


def book_doubtful(desk: Desk) -> None:
    desk.hand_in(
        compact(accepted("A1", worker="W1")),
        compact(accepted("A2", LATE)),
        compact([accepted("D1"), {"specversion": "1.0"}, accepted("D1"), completed("D1"), completed("D1", LATE)]),
        b"[" + compact(accepted("D2")) + b"," + compact(completed("D2"))[:-5] + b"]",
        compact(accepted("D3", city="999999")),
        compact(accepted("D4")).replace(b'"D4"', b'"\\u00444"'),
        compact(accepted("D5", platform="nobody-knows")),
        b"[]",
        compact(completed("never-accepted")),
    )


def book_file(engine: Engine) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.csv"
        path.write_text(CSV)
        eleme = mapping.load("eleme")
        source = sources.open_file(path, eleme, None, ARRIVED)
        sources.keep(engine, source, eleme)
        loop.run(loop.Booker(engine, rules()), source, loop.Totals())


def book_inbox(engine: Engine) -> None:
    with engine.begin() as tx:
        for record in (compact(accepted("I1")), compact(completed("I1"))):
            tx.exec_driver_sql("select inbox_put(%s)", (record,))
    loop.run(loop.Booker(engine, rules()), sources.InboxSource(engine), loop.Totals())


def book_other_rules(engine: Engine) -> None:
    late = Desk(engine, "completing", book=rules_where("completed", "keep"))
    late.hand_in(compact(accepted("E1")), compact(accepted("E2")), compact(completed("E1")))
    late.hand_in(compact(completed("E2")), compact(completed("E3")))
    late.hand_in(compact(accepted("E3")))
    back = Desk(engine, "reversing", book=rules_where("accepted", "reverse"))
    back.hand_in(compact(accepted("R1")), compact(cancelled("R1")), compact(accepted("R2")))
    back.hand_in(compact(cancelled("R2")))
    book_disagreeing(engine)


def book_disagreeing(engine: Engine) -> None:
    """Orders whose ending is booked under a rulebook that says otherwise of the day of their acceptance."""
    books = rules(), rules_where("completed", "keep"), rules_where("accepted", "reverse", "0.25")
    plain, completing, reversing = (Desk(engine, "disagreeing", number, book) for number, book in enumerate(books))
    plain.hand_in(compact(accepted("X1")), compact(accepted("X2")))
    completing.hand_in(compact(accepted("X3")), compact(completed("X1")), compact(completed("X5")))
    reversing.hand_in(compact(accepted("X4")), compact(cancelled("X2")), compact(cancelled("X6")))
    plain.hand_in(compact(completed("X3")), compact(cancelled("X4")), compact(accepted("X5")))
    completing.hand_in(compact(accepted("X6")), compact(completed("X6")))


@pytest.fixture(scope="module")
def books(server_url: str) -> Iterator[str]:
    """The ledger, made once."""
    with new_ledger(server_url) as url:
        book_everything(url)
        yield url


@contextmanager
def changed(url: str, *statements: str) -> Iterator[None]:
    """The books after these statements of a superuser, who goes round every trigger; then as they were."""
    with owner(url) as connection:
        connection.execute("set session_replication_role = replica")
        tables = {match[1] for statement in statements if (match := TABLE_OF.match(statement))}
        for table in tables:
            connection.execute(f"create temp table saved_{table} as select * from {table}")
        try:
            for statement in statements:
                assert connection.execute(statement).rowcount > 0, statement
            yield
        finally:
            for table in tables:
                connection.execute(f"delete from {table}")
                connection.execute(f"insert into {table} overriding system value select * from saved_{table}")


def findings(url: str, *statements: str) -> list[Finding]:
    with changed(url, *statements):
        return replayed(url).findings.kept


# ---- sound books


def test_sound_books_agree_with_their_segments(books: str):
    report = replayed(books)
    assert report.findings.listed() == []
    assert report.findings.total == 0
    assert report.events == value(books, "select sum(events) from batch")
    assert report.records == value(books, "select sum(next_offset - first_offset) from batch")


@pytest.fixture(scope="module", params=[1, 7])
def plain_books(server_url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Duplicates, conflicts, late and bad events under the usual rules, in two partitions whose batches alternate."""
    places = {"platforms": tuple(simulated()), "provinces": ("21", "31"), "first_day": date(2026, 10, 1)}
    plan = Plan(orders=1_500, seed=request.param, faults="all", per_record=request.param, **places)
    lines = b"".join(Simulation(plan).chunks()).splitlines()
    with new_ledger(server_url) as url:
        with connect.ledger(url, connect.INGEST) as engine:
            desks = [Desk(engine, "desk", partition) for partition in (0, 1)]
            for number, start in enumerate(range(0, len(lines), 250)):
                desks[number % 2].hand_in(*lines[start : start + 250])
        yield url


def test_books_of_simulated_orders_with_every_fault_agree(plain_books: str):
    assert value(plain_books, "select count(*) from conflict") > 0
    assert value(plain_books, "select sum(duplicate) from batch") > 0
    assert value(plain_books, "select count(*) from rejected_record") > 0
    assert replayed(plain_books).findings.kept == []


def test_a_server_in_a_path_with_spaces_is_replayed(plain_books: str):
    url = sqlalchemy.make_url(plain_books)
    with tempfile.TemporaryDirectory(prefix="a space + 单保 ") as directory:
        link = Path(directory) / "run"
        link.symlink_to(str(url.query["host"]))
        there = url.update_query_dict({"host": str(link)}).render_as_string(hide_password=False)
        assert replayed(there).findings.kept == []


def test_the_ledger_of_these_tests_has_something_of_everything(books: str):
    tables = ("charge", "charge_change", "event_key", "order_event", "entry", "posting", "conflict", "rejected_record")
    for table in (*tables, "settlement", "declaration", "segment", "partition_head", "rate", "source", "inbox"):
        assert value(books, f"select count(*) from {table}") > 0, table
    assert value(books, "select count(*) from entry where month > origin_month") > 0
    assert value(books, "select count(*) from declaration where entry_id is not null") == 1


# ---- one changed value in each of several rows

# Table, the change, which row, part of the key and the column that a finding must name.
Case = tuple[str, str, str, str, str]

ACCEPTED, COMPLETED = "order_id = '{}' and kind = 'A'", "order_id = '{}' and kind = 'C'"
ROWS_OF_ORDERS: list[Case] = [
    ("charge", "worker_id = worker_id || '0'", "order_id = 'A0'", "eleme A0", "worker_id"),
    ("charge", "city = 310200", "order_id = 'A3'", "eleme A3", "city"),
    ("charge", "amount = amount + 1", "order_id = 'A5'", "eleme A5", "amount"),
    ("charge", "accepted_at = accepted_at + interval '1 microsecond'", "order_id = 'A6'", "eleme A6", "accepted_at"),
    ("charge", "accepted_at = 'infinity'", "order_id = 'F2'", "eleme F2", "accepted_at"),
    ("charge", "ordinal = ordinal + 20", "order_id = 'B1'", "eleme B1", "ordinal"),
    ("charge", "line = 'G'", "order_id = 'B3'", "eleme B3", "line"),
    ("charge", "order_id = 'B4x'", "order_id = 'B4'", "eleme B4", "order_id"),
    ("charge", "platform_no = platform_no + 1", "order_id = 'I1'", "eleme I1", "platform_no"),
    ("charge", "entry_id = 1", "order_id = 'D4'", "eleme D4", "entry_id"),
    ("charge", "entry_id = 999999", "order_id = 'F1'", "eleme F1", "entry_id"),
    ("event_key", "occurred_at = occurred_at - interval '1 day'", "order_id = 'A0'", "eleme A0", "occurred_at"),
    ("event_key", "batch_id = batch_id + 100", "order_id = 'A1'", "eleme A1", "batch_id"),
    ("event_key", "platform_no = platform_no + 1", "order_id = 'A2'", "eleme A2", "platform_no"),
    ("event_key", "ordinal = ordinal + 30", "order_id = 'A3'", "eleme A3", "ordinal"),
    ("event_key", "kind = 'C'", "order_id = 'A4'", "eleme A4", "kind"),
    ("event_key", "slot = '1x'", "order_id = 'A5' and slot = '1'", "eleme A5", "slot"),
    ("event_key", "worker_id = 'W0'", "order_id = 'A5' and slot = '2'", "eleme A5", "worker_id"),
    ("event_key", "order_id = 'B1x'", "order_id = 'B1'", "eleme B1", "order_id"),
    ("order_event", "occurred_at = occurred_at + interval '1 second'", ACCEPTED.format("C0"), "C0", "occurred_at"),
    ("order_event", "batch_id = batch_id + 100", ACCEPTED.format("C1"), "C1", "batch_id"),
    ("order_event", "platform_no = platform_no + 1", ACCEPTED.format("C2"), "C2", "platform_no"),
    ("order_event", "ordinal = ordinal + 9", COMPLETED.format("C0"), "C0", "ordinal"),
    ("order_event", "kind = 'X'", COMPLETED.format("C1"), "C1", "kind"),
    ("order_event", "order_id = 'C2x'", COMPLETED.format("C2"), "C2", "order_id"),
    ("order_event", "worker_id = 'W7'", ACCEPTED.format("A0"), "A0", "worker_id"),
    ("order_event", "line = 'G'", ACCEPTED.format("A1"), "A1", "line"),
    ("order_event", "line = 'D'", "order_id = 'A5' and kind = 'R'", "A5", "line"),
    ("conflict", "differs = array['worker']", "order_id = 'A2'", "ordinal 1", "differs"),
    ("conflict", "event = event || jsonb_build_object('worker_id', 'W0')", "order_id = 'D1'", "ordinal 6", "event"),
    ("rejected_record", "raw = raw || '!'", "reason = 'no_rate'", "item 2", "raw"),
    ("rejected_record", "detail = 'because'", "reason = 'unmapped'", "record_offset 2", "detail"),
    ("rejected_record", "place = 'somewhere'", "reason = 'unknown_city'", "item -1", "place"),
    ("rejected_record", "reason = 'invalid'", "reason = 'empty_list'", "item -1", "reason"),
    ("rejected_record", "platform_id = 'sendy'", "reason = 'invalid'", "item 1", "platform_id"),
]

ENTRY_OF = "entry_id in (select entry_id from charge where order_id = '{}')"
ROWS_OF_BOOKS: list[Case] = [
    ("entry", "province = '33'", ENTRY_OF.format("A0"), "entry 1 of batch 1", "province"),
    ("entry", "order_count = order_count - 1", ENTRY_OF.format("B1"), "entry", "order_count"),
    ("entry", "premium_base = premium_base * 2", ENTRY_OF.format("C0"), "entry", "premium_base"),
    ("entry", "float_factor = float_factor + 0.0001", ENTRY_OF.format("F1"), "entry", "float_factor"),
    ("entry", "line = 'ride_hailing'", ENTRY_OF.format("I1"), "entry", "line"),
    ("entry", "origin_month = month", ENTRY_OF.format("late"), "entry", "origin_month"),
    ("entry", "month = '2027-01-01'", ENTRY_OF.format("D1"), "entry", "month"),
    ("entry", "recorded_at = recorded_at + interval '1 hour'", ENTRY_OF.format("R1"), "entry", "recorded_at"),
    ("entry", "rulebook_hash = sha256('x')", "entry_id = (select max(entry_id) from entry)", "entry", "rulebook_hash"),
    ("posting", "amount = amount + 1", "posting_no = 2 and " + ENTRY_OF.format("A0"), "posting 2", "amount"),
    ("posting", "account_id = 999", "posting_no = 1 and " + ENTRY_OF.format("B1"), "posting 1", "account_id"),
    (
        "posting",
        "occurred_on = now()",
        "posting_no = 1 and " + ENTRY_OF.format("C0"),
        "posting 1",
        "occurred_on",
    ),
    ("posting", "order_count = 0", "posting_no = 2 and " + ENTRY_OF.format("D1"), "posting 2", "order_count"),
    ("charge_change", "amount = amount + 1", "order_id = 'E1'", "eleme E1 charge", "amount"),
    ("charge_change", "entry_id = 1", "order_id = 'E2'", "eleme E2 charge", "entry_id"),
    ("rate", "premium_base = premium_base + 1", "ctid = (select min(ctid) from rate)", "any", "premium_base"),
    ("rate", "mark = 'A'", "ctid = (select max(ctid) from rate)", "any", "mark"),
    ("partition_head", "next_offset = next_offset + 1", "topic = 'completing'", "completing[0]", "next_offset"),
    ("partition_head", "chain_hash = sha256(chain_hash)", "topic = 'inbox'", "inbox[0]", "chain_hash"),
    ("platform", "registered_at = now() + interval '1 day'", "platform_id = 'eleme'", "platform", "registered_at"),
    ("platform", "uscc = '91440000MAEXAMP30F'", "platform_id = 'example-rides'", "example-rides", "uscc"),
    ("inbox", "record = record || ' '", "record_offset = 0", "inbox[0]", "record"),
]

ROWS_OF_THE_MONTH: list[Case] = [
    ("settlement", "declared_fen = declared_fen + 1", "province = '21'", "21 2026-10", "declared_fen"),
    ("settlement", "due_on = due_on + 1", "province = '31'", "31 2026-10", "due_on"),
    ("declaration", "amount = amount + 1", "province = '21'", "21 2026-10 line 1", "amount"),
    ("declaration", "declared_fen = declared_fen + 1", "entry_id is not null", "31 2026-10 line", "declared_fen"),
]

BATCH_OF = "batch_id = (select e.batch_id from entry e join charge using (entry_id) where order_id = '{}')"
COMPLETING = "topic = 'completing' and first_offset = {}"
ONE_BIT = "payload = set_byte(payload, 70, get_byte(payload, 70) # 1)"
ROWS_OF_EVIDENCE: list[Case] = [
    ("batch", "next_offset = next_offset + 1", BATCH_OF.format("A0"), "batch 1", "next_offset"),
    ("batch", "raw_bytes = raw_bytes + 1", BATCH_OF.format("B1"), "batch 2", "raw_bytes"),
    ("batch", "raw_sha256 = sha256(raw_sha256)", BATCH_OF.format("C0"), "desk[1]", "raw_sha256"),
    ("batch", "chain_after = sha256(chain_after)", BATCH_OF.format("F1"), "file:", "chain_after"),
    ("batch", "chain_before = sha256(chain_before)", BATCH_OF.format("I1"), "inbox", "chain_before"),
    ("batch", "new = new - 1, duplicate = duplicate + 1", BATCH_OF.format("D1"), "batch", "duplicate"),
    ("batch", "new = new - 1, rejected = rejected + 1", BATCH_OF.format("R1"), "reversing", "rejected"),
    ("batch", "events = events + 1, conflict = conflict + 1", COMPLETING.format(0), "completing", "conflict"),
    ("batch", "rulebook_hash = sha256('x')", COMPLETING.format(5), "completing", "rulebook_hash"),
    ("segment", ONE_BIT, BATCH_OF.format("late"), "desk[0]", "payload"),
]
ROWS = {
    "orders": ROWS_OF_ORDERS,
    "books": ROWS_OF_BOOKS,
    "month": ROWS_OF_THE_MONTH,
    "evidence": ROWS_OF_EVIDENCE,
}


@pytest.mark.parametrize("what", ROWS)
def test_every_changed_value_is_named_by_table_row_and_column(books: str, what: str):
    cases = ROWS[what]
    found = findings(books, *(f"update {table} set {change} where {row}" for table, change, row, _, _ in cases))
    named = [(one.table, one.key, one.detail) for one in found]
    missed = [
        (table, change)
        for table, change, _, key, column in cases
        if not any(there == table and key in row and column == what for there, row, what in named)
    ]
    assert missed == []


def test_one_changed_byte_is_one_finding(books: str):
    [finding] = findings(books, "update charge set worker_id = 'w1' where order_id = 'A1'")
    assert finding == Finding(Code.DIFFERS, "charge", "eleme A1", "worker_id", "W1", "w1")


# ---- order events, which are compared by sums as long as those agree

FIRST = "(batch_id, ordinal) = (select batch_id, ordinal from order_event where kind = '{}' order by 1, 2 limit 1)"
OF_ORDER_EVENTS = {
    "occurred_at": "update order_event set occurred_at = occurred_at + interval '1 microsecond' where {A}",
    "batch_id": "update order_event set batch_id = batch_id + 1 where {C}",
    "platform_no": "update order_event set platform_no = platform_no + 1 where {A}",
    "ordinal": "update order_event set ordinal = ordinal + 9 where {R}",
    "kind": "update order_event set kind = 'X' where {C}",
    "order_id": "update order_event set order_id = order_id || 'x' where {X}",
    "worker_id": "update order_event set worker_id = worker_id || '?' where {R}",
    "line": "update order_event set line = 'G' where {A}",
    "row": "delete from order_event where {C}",
    "row twice": "insert into order_event select * from order_event where {A}",
    # PostgreSQL's own hash of eight bytes xors their halves first: what changes both alike would not be seen by it.
    "occurred_at in both halves": """update order_event set occurred_at = timestamptz '2000-01-01Z'
        + ((((us >> 32) + 1) << 32) | ((us & 4294967295) # (us >> 32) # ((us >> 32) + 1))) * interval '1 microsecond'
        from (select order_id as of, (extract(epoch from occurred_at - '2000-01-01Z') * 1000000)::bigint as us
            from order_event where {A}) was
        where order_id = of and {A}""",
    "platform_no and line": """update order_event
        set platform_no = platform_no # 1, line = chr(ascii(line::text) # 4)::"char" where {A}""",
}


@pytest.mark.parametrize("what", OF_ORDER_EVENTS)
def test_whatever_is_changed_of_order_events_alone_makes_their_sums_differ(plain_books: str, what: str):
    change = OF_ORDER_EVENTS[what].format(**{kind: FIRST.format(kind) for kind in "ARCX"})
    found = findings(plain_books, change)
    assert {one.table for one in found} == {"order_event"}
    assert what.split(maxsplit=1)[0] in {one.detail for one in found}


def test_order_events_that_agree_are_not_brought_over(plain_books: str):
    assert not replayed(plain_books).whole


def test_values_that_changed_places_among_order_events_are_found(plain_books: str):
    """Each column of the batch holds the values that it held: a sum over columns would not see it."""
    first, last = (
        f"(select {order}(ordinal) from order_event where batch_id = 1 and kind = 'A')" for order in ("min", "max")
    )
    change = f"""update order_event o set worker_id = other.worker_id
        from (select * from order_event) other
        where o.batch_id = 1 and other.batch_id = 1 and o.kind = 'A' and other.kind = 'A'
            and o.worker_id <> other.worker_id
            and (o.ordinal, other.ordinal) in (({first}, {last}), ({last}, {first}))"""
    found = findings(plain_books, change)
    assert [(one.table, one.detail) for one in found] == [("order_event", "worker_id")] * 2


def test_an_event_changed_alike_in_both_tables_is_named_in_both(plain_books: str):
    order = "order_id = (select order_id from charge order by platform_no, order_id limit 1)"
    charge = f"update charge set worker_id = worker_id || '?' where {order}"
    event = f"update order_event set worker_id = worker_id || '?' where kind = 'A' and {order}"
    found = findings(plain_books, event, charge)
    assert {(one.table, one.detail) for one in found} == {("charge", "worker_id"), ("order_event", "worker_id")}


# ---- rows taken out and put in

TAKEN_OUT = [
    ("charge", "order_id = 'A1'"),
    ("event_key", "order_id = 'A0'"),
    ("order_event", "order_id = 'A2' and kind = 'C'"),
    ("charge_change", "order_id = 'R1'"),
    ("conflict", "order_id = 'D1'"),
    ("rejected_record", "reason = 'empty_list'"),
    ("entry", ENTRY_OF.format("F1")),
    ("posting", "posting_no = 1 and " + ENTRY_OF.format("C0")),
    ("declaration", "province = '21'"),
    ("rate", "ctid = (select min(ctid) from rate)"),
    ("partition_head", "topic = 'inbox'"),
    ("segment", "batch_id = (select max(batch_id) from segment)"),
    ("batch", "topic = 'completing' and first_offset = 3"),
]


def test_every_row_taken_out_is_missed(books: str):
    found = findings(books, *(f"delete from {table} where {row}" for table, row in TAKEN_OUT))
    missed = {table for table, _ in TAKEN_OUT} - {one.table for one in found if one.code == Code.MISSING}
    assert missed == {"batch", "segment"}
    assert ("segment", "payload") in {(one.table, one.detail) for one in found}
    assert ("batch", "first_offset") in {(one.table, one.detail) for one in found if one.code == Code.CHAIN}


@pytest.mark.parametrize("table", ["source", "platform", "rulebook", "settlement"])
def test_a_row_that_others_rest_on_is_missed(books: str, table: str):
    row = {
        "source": "true",
        "platform": "platform_id = 'eleme'",
        "rulebook": f"rulebook_hash = '\\x{rules().hash.hex()}'",
        "settlement": "province = '31'",
    }[table]
    found = findings(books, f"delete from {table} where {row}")
    if table == "settlement":
        assert {"declaration", "entry"} <= {one.table for one in found}
    else:
        assert (Code.MISSING, table) in {(one.code, one.table) for one in found}


PUT_IN = {
    "charge": "select 1, accepted_at, city, amount, platform_no, 31000, line, 'forged', worker_id from charge"
    " where order_id = 'A0'",
    "event_key": "select occurred_at, batch_id, platform_no, 31000, kind, 'forged', slot, worker_id from event_key"
    " where order_id = 'A0'",
    "order_event": "select * from order_event where order_id = 'A0' and kind = 'A'",
    "charge_change": "select platform_no, 'A0', 'reverse', 1, -700 from charge_change where order_id = 'R1'",
    "conflict": "select batch_id, 77, platform_no, order_id, differs, event from conflict where order_id = 'D1'",
    "rejected_record": "select batch_id, record_offset, 9, platform_id, reason, place, detail, raw from rejected_record"
    " where reason = 'empty_list'",
    "posting": "select entry_id, 3, account_id, occurred_on, 0, 0 from posting where posting_no = 1 and entry_id = 1",
    "partition_head": "select 'nowhere', 0, next_offset, chain_hash from partition_head where topic = 'inbox'",
    "declaration": "select province, month, 9, platform_no, 'ride_hailing', origin_month, premium_base, float_factor,"
    " 1, 700, 7, null from declaration where province = '21'",
    "rate": "select rulebook_hash, line, '99', platform_id, in_force, premium_base, mark, source from rate"
    " where ctid = (select min(ctid) from rate)",
}


def test_every_row_put_in_is_unfounded(books: str):
    found = findings(books, *(f"insert into {table} {row}" for table, row in PUT_IN.items()))
    assert PUT_IN.keys() - {one.table for one in found if one.code == Code.UNFOUNDED} == set()


def test_an_entry_put_in_with_its_postings_is_unfounded(books: str):
    key = "platform_no, province, line, month, origin_month, premium_base, float_factor, order_count"
    columns = f"batch_id, kind, {key}, rulebook_hash, recorded_at, recorded_in"
    posting = "insert into posting select 777, posting_no, account_id, occurred_on, order_count, amount from posting"
    found = findings(
        books,
        f"insert into entry (entry_id, {columns}) select 777, {columns} from entry where entry_id = 1",
        *(f"{posting} where entry_id = 1 and posting_no = {number}" for number in (1, 2)),
    )
    assert (Code.UNFOUNDED, "entry", "entry 777") in {one[:3] for one in found}


def test_a_later_version_that_took_the_place_of_the_first_is_out_of_turn(books: str):
    """The conflicting version of A2 becomes the charge, the first version the conflict."""
    batch = value(books, "select batch_id from conflict where order_id = 'A2'")
    entry = value(books, "select entry_id from entry where batch_id = %s", batch)
    second = f"worker_id = 'W1', ordinal = 1, accepted_at = '{LATE}'"
    found = findings(
        books,
        f"update charge set {second}, entry_id = {entry} where order_id = 'A2'",
        f"update order_event set {second.replace('accepted_at', 'occurred_at')}, batch_id = {batch}"
        f" where {ACCEPTED.format('A2')}",
    )
    assert (Code.PRECEDENCE, "charge", "eleme A2") in {one[:3] for one in found}


def test_a_whole_batch_that_nobody_sent_breaks_the_chain(books: str):
    columns = "partition, rulebook_hash, recorded_at, events, new, duplicate, conflict, rejected, raw_bytes, raw_sha256"
    found = findings(
        books,
        f"insert into batch (batch_id, topic, first_offset, next_offset, {columns}, chain_before, chain_after)"
        f" select 777, topic, next_offset, next_offset + 1, {columns}, chain_after, chain_after from batch"
        " where topic = 'inbox'",
    )
    assert {(Code.CHAIN, "batch"), (Code.DAMAGED, "segment"), (Code.DIFFERS, "partition_head")} <= {
        (one.code, one.table) for one in found
    }


# ---- rulebooks that disagree

TAMPERED = {
    "a charge by completion taken out": (
        "delete from charge_change where order_id = 'X3'",
        (Code.MISSING, "eleme X3 charge", "row", "none"),
    ),
    "a reversal at the rate of the ending's rulebook": (
        "update charge_change set amount = -700 where order_id = 'X4'",
        (Code.DIFFERS, "eleme X4 reverse", "amount", "-700"),
    ),
    "a change moved to an entry of another batch": (
        "update charge_change set entry_id = 1 where order_id = 'X3'",
        (Code.DIFFERS, "eleme X3 charge", "entry_id", "batch 1, "),
    ),
    "a second charge, by a completion under rules by which completions charge": (
        "insert into charge_change select platform_no, 'X1', kind, entry_id, amount from charge_change"
        " where order_id = 'X3'",
        (Code.UNFOUNDED, "eleme X1 charge", "row", "700 毫 in entry "),
    ),
    "a charge given back, by a cancellation under rules by which cancellations reverse": (
        "insert into charge_change select platform_no, 'X2', kind, entry_id, -700 from charge_change"
        " where order_id = 'X4'",
        (Code.UNFOUNDED, "eleme X2 reverse", "row", "-700 毫 in entry "),
    ),
}


def test_each_order_has_the_changes_that_the_rulebook_of_its_acceptance_asks_for(books: str):
    query = "select order_id, kind, amount from charge_change where order_id like 'X%%' order by 1"
    assert rows(books, query) == [("X3", "charge", 700), ("X4", "reverse", -2_500)]


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_change_of_an_order_between_rulebooks_is_named(books: str, what: str):
    statement, (code, key, detail, found) = TAMPERED[what]
    named = [one for one in findings(books, statement) if one.table == "charge_change"]
    assert [(one.code, one.key, one.detail) for one in named] == [(code, key, detail)]
    assert named[0].found.startswith(found)


# ---- how findings are told


def test_findings_are_counted_all_and_listed_few(books: str):
    many = "worker_id is not null"
    with changed(books, f"update order_event set worker_id = worker_id || '?' where {many}"):
        report = replayed(books)
    changed_rows = value(books, f"select count(*) from order_event where {many}")
    assert report.findings.counts == {(Code.DIFFERS, "order_event"): changed_rows}
    assert len(report.findings.listed()) == 20 < changed_rows


def test_streams_come_and_go_one_at_a_time_since_the_driver_counts_them_without_a_lock(
    books: str, monkeypatch: pytest.MonkeyPatch
):
    """Two that came or went at once have made it lose count, which fails the replay (apache/arrow-adbc issue 4753)."""
    counting, met = Lock(), []

    def watched(count: Callable[[dbapi.Connection], Any]) -> Callable[[dbapi.Connection], Any]:
        def counted(connection: dbapi.Connection) -> Any:
            alone = counting.acquire(blocking=False)
            met.append(not alone)
            try:
                return count(connection)
            finally:
                time.sleep(0.02)  # long enough for another to meet it
                if alone:
                    counting.release()

        return counted

    monkeypatch.setattr(dbapi.Connection, "adbc_clone", watched(dbapi.Connection.adbc_clone))
    monkeypatch.setattr(dbapi.Connection, "close", watched(dbapi.Connection.close))
    assert replayed(books).findings.total == 0
    assert len(met) > 2
    assert not any(met)


def test_a_replay_sees_one_moment_while_ingest_goes_on(books: str):
    """What is booked after the snapshot is not seen, neither as batch nor as charge."""
    with connect.ledger(books, connect.INGEST) as engine, connect.ledger(books, connect.AUDIT) as reading:
        desk = Desk(engine, "meanwhile")

        def progress(_: int) -> Any:
            desk.hand_in(compact(accepted("meanwhile")))
            return nullcontext(lambda _: None)

        with tempfile.TemporaryDirectory() as spill:
            report = replay(reading, Path(spill), 1, progress)
    assert report.findings.kept == []
    assert replayed(books).findings.total == 0
