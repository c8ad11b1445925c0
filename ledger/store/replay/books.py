"""The books, brought to the desk. In: a snapshot. Out: tables by the place of each row, and small facts as values."""

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import pyarrow as pa
from duckdb import DuckDBPyConnection
from sqlalchemy import Connection, Table, select, text

from ledger.journal import Account, EntryKey
from ledger.replay.books import DeclarationRow, SettlementRow
from ledger.replay.chain import BatchRow, HeadRow
from ledger.settlement import Declaration, MonthLine
from ledger.store import registry, tables
from ledger.store.queries import sql
from ledger.store.registry import KeyRow, PlatformRow
from ledger.store.replay.desk import put, run
from ledger.store.replay.snapshot import Snapshot
from schemas.codes import Line

Advance = Callable[[int], None]


@dataclass(slots=True)
class EntryKeys:
    """A number for what the orders of one entry share: both sides are compared by it."""

    numbers: dict[EntryKey, int] = field(default_factory=dict)

    def number(self, key: EntryKey) -> int:
        """The key's number, the same for equal keys."""
        return self.numbers.setdefault(key, len(self.numbers))

    def name(self, number: int | None) -> str:
        """The key in words."""
        if number is None:
            return "no entry"
        key = list(self.numbers)[number]
        parts = (f"platform {key.platform_no}", key.province, key.line, f"{key.month:%Y-%m}")
        return " ".join((*parts, f"{key.premium_base} × {key.float_factor}"))


@dataclass(frozen=True, slots=True)
class Registers:
    """What is small enough to be values."""

    batches: list[BatchRow]
    heads: list[HeadRow]
    platforms: list[PlatformRow]
    keys: list[KeyRow]
    registered_at: dict[int, datetime]
    sources: dict[str, Any]
    accounts: dict[int, Account]
    settlements: list[SettlementRow]
    stray_declarations: list[str]

    @property
    def platform_ids(self) -> dict[int, str]:
        """The platforms' ids by their numbers."""
        return {row.platform_no: row.platform_id for row in self.platforms}


def registers(connection: Connection) -> Registers:
    """Read the small tables."""
    there = tables.platform
    registered = connection.execute(select(there.c.platform_no, there.c.registered_at))
    accounts = connection.execute(select(tables.account))
    return Registers(
        [BatchRow(*row) for row in _rows(connection, tables.batch, BatchRow._fields, "batch_id")],
        [HeadRow(*row) for row in _rows(connection, tables.partition_head, HeadRow._fields, "topic")],
        *registry.known(connection),
        {row.platform_no: row.registered_at for row in registered},
        {row.topic: row for row in connection.execute(select(tables.source))},
        {row.account_id: Account(row.kind, row.province, row.platform_no) for row in accounts},
        *_settlements(connection),
    )


def _rows(connection: Connection, table: Table, columns: tuple[str, ...], order: str) -> Iterator[Any]:
    wanted = select(*(table.c[name] for name in columns)).order_by(table.c[order])
    return iter(connection.execute(wanted))


def line_of(name: str) -> Line:
    """The line of that name; a name that is none (a changed row) stays text, so that it can be found to differ."""
    try:
        return Line(name)
    except ValueError:
        return cast(Line, name)


def _settlements(connection: Connection) -> tuple[list[SettlementRow], list[str]]:
    """Settlements with their lines, and lines that belong to none."""
    settlement, declaration = tables.settlement.c, tables.declaration
    names = [name for name in SettlementRow.__slots__ if name != "declarations"]
    rows = connection.execute(select(*(settlement[name] for name in names)))
    found = {(row.province, row.month): SettlementRow(*row) for row in rows}
    strays = []
    for row in connection.execute(select(declaration).order_by(declaration.c.declaration_no)):
        line = MonthLine(
            *(row.platform_no, line_of(row.line), row.origin_month, row.premium_base, row.float_factor),
            *(row.order_count, row.amount),
        )
        kept = DeclarationRow(row.declaration_no, Declaration(line, row.declared_fen), row.entry_id)
        if of := found.get((row.province, row.month)):
            of.declarations.append(kept)
        else:
            strays.append(f"{row.province} {row.month:%Y-%m} line {row.declaration_no}")
    return sorted(found.values(), key=lambda row: (row.month, row.province)), strays


# ---- the large tables


def load(desk: DuckDBPyConnection, snapshot: Snapshot, keys: EntryKeys, whole: bool, advance: Advance) -> None:
    """Bring entries, postings, charges and event keys to the desk, and order events, too, if `whole`."""
    _load(desk, snapshot, "replay_entry", "load_entries")
    _number_entries(desk, keys)
    with ThreadPoolExecutor(1) as pool:
        charges = pool.submit(_load, desk, snapshot, "replay_charge", "load_charges", advance)
        _load(desk, snapshot, "replay_event_key", "load_event_keys", advance)
        with _incoming(desk, snapshot, "replay_posting") as cursor:
            cursor.execute("insert into posting by name select * from incoming")
        with _incoming(desk, snapshot, "replay_charge_change") as cursor:
            cursor.execute("insert into change by name select * from incoming")
        charges.result()
    if whole:
        _load(desk, snapshot, "replay_order_event", "load_order_events")
    if whole and desk.execute("select exists (from charge where entry_id is null)").fetchall() == [(True,)]:
        run(desk, "place_uncharged")


def _load(
    desk: DuckDBPyConnection, snapshot: Snapshot, query: str, statement: str, advance: Advance = lambda _: None
) -> None:
    with _incoming(desk, snapshot, query, advance) as cursor:
        run(cursor, statement)


def order_events_agree(snapshot: Snapshot) -> bool:
    """Whether each row of order_event repeats one of charge or event_key, and each of those is repeated.

    The database is asked, at a third of the cost of bringing the rows over. Where they agree, and charges and event
    keys are what the segments yield, order events are, too.
    """
    seed = secrets.randbits(62)
    with ThreadPoolExecutor(2) as pool:
        stated, claimed = pool.map(lambda stated: _order_event_sums(snapshot, seed, stated), (True, False))
    return stated == claimed


def _order_event_sums(snapshot: Snapshot, seed: int, stated: bool) -> dict[int | None, tuple[int, Decimal]]:
    """By batch, the number of order events and the sum of their marks: as stated, or as claimed by the other books."""
    with snapshot.another() as connection:
        connection.execute(text("set local work_mem = '64MB'"))  # the entries are looked up for each charge
        # The judging of entries goes on beside this, and helpers would take its core.
        connection.execute(text("set local max_parallel_workers_per_gather = 0"))
        query = sql("replay_order_event_sums").text.replace("{mark}", sql("order_event_mark").text)
        rows = connection.execute(text(query), {"seed": seed, "stated": stated})
        return {row.batch_id: (row.events, row.marks) for row in rows}


@contextmanager
def _incoming(
    desk: DuckDBPyConnection, snapshot: Snapshot, query: str, advance: Advance = lambda _: None
) -> Iterator[DuckDBPyConnection]:
    """A connection to the desk on which the query's rows can be read, once, as the view `incoming`."""
    with snapshot.stream(query) as rows, desk.cursor() as cursor:

        def told() -> Iterator[pa.RecordBatch]:
            for batch in rows:
                advance(batch.num_rows)
                yield batch

        cursor.register("incoming", pa.RecordBatchReader.from_batches(rows.schema, told()))
        yield cursor
        cursor.unregister("incoming")


def _number_entries(desk: DuckDBPyConnection, keys: EntryKeys) -> None:
    """Give the entries the numbers of what their orders share."""
    numbers: list[tuple[Any, ...]] = []
    for row in run(desk, "entry_identities").fetchall():
        platform_no, province, line, month, base, factor = row
        key = EntryKey(platform_no, province, line_of(line), month, base, Decimal(factor))
        numbers.append((*row, keys.number(key)))
    put(desk, "identity", numbers)
    run(desk, "number_entries")
