"""Batches, replayed. In: the batches and the terms they were read on. Out: every event held against its rows.

Several batches at a time, in as many threads as there are cores: parsing and comparing happen in DuckDB,
outside Python's lock. What does not match is kept on the desk for `judgement`.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

import psycopg
from duckdb import DuckDBPyConnection
from sqlalchemy import Connection

from ledger.intake import Rejection
from ledger.replay.chain import BatchRow
from ledger.replay.findings import Code, Finding
from ledger.store.replay.books import Advance
from ledger.store.replay.desk import FIRST_PLACE, PLACES, from_place, place_of, put, run
from ledger.store.replay.events import Terms, Yield, open_segments, read_events
from ledger.store.replay.tariffs import Tariffs
from ledger.store.replay.terms import Reading

EVENTS_AT_A_TIME = 250_000  # fewer, larger questions: each costs some 20 ms before it begins
BYTES_AT_A_TIME = 64 * 1024 * 1024
_PAYLOADS = "select batch_id, payload from segment where batch_id = any(%s)"


@dataclass(slots=True)
class Replayed:
    """What all batches yielded beside what is on the desk; `events` and `rejected` by batch."""

    events: dict[int, int] = field(default_factory=dict)
    rejected: dict[int, int] = field(default_factory=dict)
    unreadable: set[int] = field(default_factory=set)
    records: int = 0


_Chunk = list[tuple[BatchRow, Terms]]  # neighbouring batches, each with how it is read


def replay_batches(
    desk: DuckDBPyConnection,
    connection: Connection,
    reading: Reading,
    tariffs: Tariffs,
    rows: list[BatchRow],
    workers: int,
    whole: bool,
    advance: Advance,
) -> Iterator[Finding | Replayed]:
    """Replay them all; findings come as they are met, and last of all the sums. `whole`: against order_event, too."""
    total = Replayed()
    waiting: deque[tuple[_Chunk, Future[Yield]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for chunk in _chunks(desk, reading, rows, total):
            if isinstance(chunk, Finding):
                yield chunk
                continue
            payloads = _payloads(connection, chunk)
            waiting.append((chunk, pool.submit(_replay, desk, chunk, tariffs, payloads, whole)))
            if len(waiting) > workers + 1:
                yield from _finished(desk, waiting, total, advance)
        while waiting:
            yield from _finished(desk, waiting, total, advance)
    yield total


def _chunks(
    desk: DuckDBPyConnection, reading: Reading, rows: list[BatchRow], total: Replayed
) -> Iterator[_Chunk | Finding]:
    """Neighbouring batches, as many as fit; a finding for one that has no terms."""
    chunk: _Chunk = []
    events = size = 0
    for row in rows:
        terms = reading.terms(row)
        if isinstance(terms, Finding):
            _set_aside(desk, total, [row.batch_id])
            yield terms
            continue
        if events >= EVENTS_AT_A_TIME or size >= BYTES_AT_A_TIME:
            yield chunk
            chunk, events, size = [], 0, 0
        chunk.append((row, terms))
        events, size = events + row.events, size + row.raw_bytes
    if chunk:
        yield chunk


def _payloads(connection: Connection, chunk: _Chunk) -> dict[int, bytes]:
    driver = cast("psycopg.Connection[tuple[int, bytes]]", connection.connection.driver_connection)
    with driver.cursor(binary=True) as cursor:
        cursor.execute(_PAYLOADS, ([row.batch_id for row, _ in chunk],))
        return dict(cursor.fetchall())


def _finished(
    desk: DuckDBPyConnection, waiting: deque[tuple[_Chunk, Future[Yield]]], total: Replayed, advance: Advance
) -> Iterator[Finding]:
    """Wait for the oldest chunk and add up what it yielded."""
    chunk, future = waiting.popleft()
    result = future.result()
    total.events |= result.events
    total.rejected |= {batch_id: len(rejections) for batch_id, rejections in result.rejections.items() if rejections}
    total.records += result.records
    _set_aside(desk, total, result.unreadable)
    _keep_rejections(desk, result.rejections)
    advance(sum(row.events for row, _ in chunk))
    yield from result.findings


def _set_aside(desk: DuckDBPyConnection, total: Replayed, batch_ids: list[int]) -> None:
    total.unreadable.update(batch_ids)
    put(desk, "unreadable", [(batch_id,) for batch_id in batch_ids])


def _replay(
    desk: DuckDBPyConnection, chunk: _Chunk, tariffs: Tariffs, payloads: dict[int, bytes], whole: bool
) -> Yield:
    """One chunk, in a thread of its own with its own cursor."""
    result = Yield()
    opened = open_segments(chunk, payloads, result)
    if not opened:
        return result
    with desk.cursor() as cursor:
        ids = [one.row.batch_id for one in opened]
        put(cursor, "replayed", [(batch_id,) for batch_id in ids])
        read_events(cursor, tariffs, opened, result)
        run(cursor, "count_orders")
        span = {"first": place_of(min(ids), -FIRST_PLACE), "last": place_of(max(ids), PLACES - FIRST_PLACE - 1)}
        run(cursor, "match_charges", **span)
        run(cursor, "match_event_keys", **span)
        if run(cursor, "odd_claims").fetchall() == [(True,)]:
            run(cursor, "keep_odd_claims")
        if whole:
            run(cursor, "match_order_events", **span)
            run(cursor, "keep_odd_order_events")
            if run(cursor, "repeated", **span).fetchall():
                result.findings += [_repeated(*row) for row in run(cursor, "repeated_rows", **span).fetchall()]
    return result


def _repeated(place: int, times: int) -> Finding:
    batch_id, ordinal = from_place(place)
    return Finding(
        Code.UNFOUNDED, "order_event", f"batch {batch_id} ordinal {ordinal}", "row", "once", f"{times} times"
    )


def _keep_rejections(desk: DuckDBPyConnection, rejections: dict[int, list[Rejection]]) -> None:
    """Put what was rejected on the desk, to be compared in order."""
    rows = [
        (batch_id, item.offset, item.item, item.platform_id, str(item.reason), item.place, item.detail, item.raw)
        for batch_id, items in rejections.items()
        for item in items
    ]
    put(desk, "rejection", rows)
