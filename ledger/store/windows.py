"""Gathering what is recorded of a worker around an instant. In: platform, worker, instant. Out: a Cover.

One query: what became the worker's as far back as a window of its line can reach (other days are not read), and, by
key, all facts of the few orders of those that are worth a look. Where nothing covers the instant, one more, for what
was near: as far back as any window can reach, and the order that came next.

Each day is asked by its own name. Through the parent of the days the server would have to plan anew for each question
which of them it concerns, and that would take as long as all the rest.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, LiteralString, NamedTuple

from psycopg import Connection as DriverConnection
from psycopg.rows import namedtuple_row
from psycopg.sql import SQL, Identifier, Placeholder
from sqlalchemy import Connection, TextClause
from sqlalchemy.dialects.postgresql import psycopg

from ledger.calendar import local_day
from ledger.rating import LINE_CODES, LINES
from ledger.rulebook import Rulebook
from ledger.store.copy_rows import LINE_NOT_SAID
from ledger.store.queries import sql
from ledger.windows import NEAR_AFTER, Cover, Order, OtherVersion, RecordedEvent, judge, look_back, never_bounded
from schemas.codes import EventType, Line

KINDS = {
    "A": EventType.ACCEPTED,
    "R": EventType.REASSIGNED,
    "C": EventType.COMPLETED,
    "X": EventType.CANCELLED,
}
NOTHING_ASKED = dict.fromkeys(("worker_id", "at", "until", "lines", "sinces", "unbounded", "order_id"))
DAY = timedelta(days=1)


class Seen(NamedTuple):
    """When the worker last got an order up to an instant, and when next; both None: never seen."""

    before: datetime | None
    after: datetime | None


def windows_at(connection: Connection, rulebook: Rulebook, platform_no: int, worker_id: str, at: datetime) -> Cover:
    """Whether the worker was executing an order of the platform at the instant."""
    asked = {"platform_no": platform_no, "worker_id": worker_id, "at": at, "unbounded": never_bounded(rulebook, at)}
    longest = look_back(rulebook, at)
    cover = judge(_gathered(connection, asked, longest, at), worker_id, at, rulebook)
    if cover.windows:
        return cover
    furthest = dict.fromkeys(longest, longest[None])
    return judge(_gathered(connection, asked, furthest, at + NEAR_AFTER), worker_id, at, rulebook)


def _gathered(
    connection: Connection, asked: dict[str, Any], reach: Mapping[Line | None, timedelta], until: datetime
) -> list[Order]:
    """The orders worth a look of those that became the worker's so long before the instant, by line; and the first one
    after it and not after `until`."""
    sinces = {_code(line): asked["at"] - length for line, length in reach.items()}
    begin = {line: local_day(since) for line, since in sinces.items()}
    days = _days(connection, min(begin.values()), local_day(until))
    lines = {name: _array(line for line, first in begin.items() if first <= day) for day, name in days.items()}
    span = {"until": until, "lines": _array(sinces), "sinces": _array(map(str, sinces.values()))}
    return _facts(connection, asked | span | lines, tuple(lines))


def _code(line: Line | None) -> str:
    return (LINE_CODES[line] if line else LINE_NOT_SAID).decode()


def _array(values: Iterable[str]) -> str:
    """An array as PostgreSQL writes it: in psycopg's way it would take a tenth of the time of an answer."""
    return f"{{{','.join(values)}}}"


def _days(connection: Connection, first: date, last: date) -> dict[date, str]:
    """Those of the days that have order events, and the names of their tables.

    A day that was made stays, so what is known of days is kept with the connection.
    """
    wanted = [first + DAY * number for number in range((last - first).days + 1)]
    known: dict[date, str] = connection.info.setdefault("order_days", {})
    if any(day not in known for day in wanted):
        known |= {row.day: row.name for row in connection.execute(sql("order_days"), {"days": wanted})}
    return {day: known[day] for day in wanted if day in known}


def order(connection: Connection, platform_no: int, order_id: str) -> Order | None:
    """All that is recorded of one order; None where nothing is."""
    return next(iter(_facts(connection, {"platform_no": platform_no, "order_id": order_id})), None)


def _facts(connection: Connection, asked: dict[str, Any], days: tuple[str, ...] = ()) -> list[Order]:
    """The orders that are asked for by id, and those begun by the worker in the tables of these days that are worth a
    look; `asked` holds, by the name of each table, which lines."""
    rows: dict[str, list[Any]] = defaultdict(list)
    for row in _rows(connection, _order_facts(days), NOTHING_ASKED | asked):
        rows[row.order_id].append(row)
    return [_order(connection, asked["platform_no"], order_id, found) for order_id, found in rows.items()]


@lru_cache(maxsize=100)  # as many as psycopg keeps prepared
def _order_facts(days: tuple[str, ...]) -> LiteralString:
    """The query for the facts of orders, of which those of the worker are looked for in the tables of these days."""
    part = SQL(_driver_text(sql("worker_day")))
    parts = [part.format(day=Identifier(day), lines=Placeholder(day)) for day in days]
    return SQL(_driver_text(sql("order_facts"))).format(days=SQL("\n").join(parts)).as_string(None)


def _rows(connection: Connection, query: LiteralString, asked: dict[str, Any]) -> list[Any]:
    """What a query finds, by the driver itself: SQLAlchemy's share would double the time of an answer."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, DriverConnection)
    with driver.cursor(row_factory=namedtuple_row) as cursor:
        # At once, not when it was asked five times: to parse and plan it takes longer than the answer.
        return cursor.execute(query, asked, prepare=True).fetchall()


def _driver_text(query: TextClause) -> LiteralString:
    """The query without its comments and with the driver's own marks for parameters."""
    lines = str(query.compile(dialect=psycopg.dialect())).splitlines()  # type: ignore[no-untyped-call]
    return "\n".join(line for line in lines if not line.startswith("--"))


def _order(connection: Connection, platform_no: int, order_id: str, rows: list[Any]) -> Order:
    events: dict[str, list[RecordedEvent]] = {kind: [] for kind in KINDS}
    versions: list[OtherVersion] = []
    line = city = premium = None
    for row in rows:
        place = row.recorded_at, row.batch_id
        if row.kind == "conflict":
            versions.append(OtherVersion(tuple(row.differs), row.event, *place, row.ordinal))
            continue
        if row.kind == "A":
            line, city, premium = LINES[row.line], str(row.city), _premium(row)
            if row.batch_id is None:
                place = _acceptance_recorded(connection, platform_no, row)
        events[row.kind].append(
            RecordedEvent(KINDS[row.kind], row.occurred_at, place[0], row.worker_id, place[1], row.ordinal)
        )
    accepted, ended = events["A"], events["C"] + events["X"]
    assert len(accepted) <= 1, "an order is accepted once"
    assert len(ended) <= 1, "an order ends once"
    return Order(
        order_id,
        line,
        city,
        premium,
        accepted[0] if accepted else None,
        tuple(sorted(events["R"], key=lambda event: (event.occurred_at, event.batch_id, event.ordinal))),
        ended[0] if ended else None,
        tuple(sorted(versions, key=lambda version: (version.batch_id, version.ordinal))),
    )


def _premium(row: Any) -> int | None:
    """What the order was charged, changes included; None where nothing ever was."""
    if row.entry_id is None and row.changed is None:
        return None
    return int(row.amount + (row.changed or 0))


def _acceptance_recorded(connection: Connection, platform_no: int, row: Any) -> tuple[datetime, int]:
    """When and in which batch an acceptance was recorded, under a rule that made no entry for it."""
    asked = {
        "platform_no": platform_no,
        "order_id": row.order_id,
        "worker_id": row.worker_id,
        "occurred_at": row.occurred_at,
    }
    found = connection.execute(sql("acceptance_batch"), asked).one()
    return found.recorded_at, found.batch_id


def worker_seen(connection: Connection, platform_no: int, worker_id: str, at: datetime) -> Seen:
    """When the platform's records know the worker at all; reads every day, so only where nothing is near."""
    asked = {"platform_no": platform_no, "worker_id": worker_id, "at": at}
    return Seen(*connection.execute(sql("worker_seen"), asked).one())
