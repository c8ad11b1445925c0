"""Gathering what is recorded of a worker around an instant. In: platform, worker, instant. Out: a Cover.

Two queries, of which the second need not be planned anew: what became the worker's as far back as a window of
its line can reach (other days are not read), then, by key, all facts of the few orders of those that are worth
a look. Where nothing covers the instant, two more, for what was near: as far back as any window can reach,
and the order that came next.
"""

from collections import defaultdict
from datetime import datetime, timedelta
from functools import cache
from typing import Any, LiteralString, NamedTuple

from psycopg import Connection as DriverConnection
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, TextClause
from sqlalchemy.dialects.postgresql import psycopg

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
NOTHING_ASKED = dict.fromkeys(("worker_id", "at", "begun", "begun_at", "unbounded", "order_id"))


class Seen(NamedTuple):
    """When the worker last got an order up to an instant, and when next; both None: never seen."""

    before: datetime | None
    after: datetime | None


def windows_at(connection: Connection, rulebook: Rulebook, platform_no: int, worker_id: str, at: datetime) -> Cover:
    """Whether the worker was executing an order of the platform at the instant."""
    asked = {"platform_no": platform_no, "worker_id": worker_id, "at": at, "unbounded": never_bounded(rulebook, at)}
    longest = look_back(rulebook, at)
    cover = judge(_begun(connection, asked, longest), worker_id, at, rulebook)
    if cover.windows:
        return cover
    return judge(_near(connection, asked, longest[None]), worker_id, at, rulebook)


def _begun(connection: Connection, asked: dict[str, Any], longest: dict[Line | None, timedelta]) -> list[Order]:
    """The orders worth a look of those that became the worker's so long before the instant, by line."""
    spans = {
        "lines": [(LINE_CODES[line] if line else LINE_NOT_SAID).decode() for line in longest],
        "sinces": [asked["at"] - length for length in longest.values()],
    }
    [begun] = _rows(connection, sql("worker_orders"), asked | spans | {"earliest": min(spans["sinces"])})
    return _facts(connection, asked | begun._asdict())


def _near(connection: Connection, asked: dict[str, Any], longest: timedelta) -> list[Order]:
    """The orders worth a look of those that became the worker's within that time, whatever their line, and the next."""
    reach = {"since": asked["at"] - longest, "until": asked["at"] + NEAR_AFTER}
    [near] = _rows(connection, sql("worker_near"), asked | reach)
    return _facts(connection, asked | near._asdict())


def order(connection: Connection, platform_no: int, order_id: str) -> Order | None:
    """All that is recorded of one order; None where nothing is."""
    return next(iter(_facts(connection, {"platform_no": platform_no, "order_id": order_id})), None)


def _facts(connection: Connection, asked: dict[str, Any]) -> list[Order]:
    """The orders that are asked for by id, and those begun by the worker that are worth a look."""
    rows: dict[str, list[Any]] = defaultdict(list)
    for row in _rows(connection, sql("order_facts"), NOTHING_ASKED | asked):
        rows[row.order_id].append(row)
    return [_order(connection, asked["platform_no"], order_id, found) for order_id, found in rows.items()]


def _rows(connection: Connection, query: TextClause, asked: dict[str, Any]) -> list[Any]:
    """What a named query finds, by the driver itself: SQLAlchemy's share would double the time of an answer."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, DriverConnection)
    with driver.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(_driver_text(query), asked).fetchall()


@cache
def _driver_text(query: TextClause) -> LiteralString:
    """The query with the driver's own marks for parameters."""
    return str(query.compile(dialect=psycopg.dialect()))  # type: ignore[no-untyped-call]


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
