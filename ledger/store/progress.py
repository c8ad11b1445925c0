"""How far streams are booked, and how the books stand. In: where to count from. Out: sums, rows.

What is looked at every few seconds costs the same however much is stored: heads, the ends of indexes, small tables.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Row, func, select
from sqlalchemy.exc import SQLAlchemyError

from ledger.store.queries import sql
from ledger.store.tables import batch, partition_head, settlement, source

BATCHES_MAX = 600  # looked at for the rate of a partition


class Sealed(NamedTuple):
    """A settled month of a province, and what was declared."""

    province: str
    month: date
    declared_fen: int
    sealed_at: datetime


def answers(engine: Engine) -> bool:
    """Whether the database answers."""
    try:
        with engine.connect() as connection:
            return connection.scalar(select(1)) == 1
    except SQLAlchemyError:  # also that no connection was free
        return False


def last_batch(connection: Connection) -> int:
    """The number of the latest batch; 0 where there is none."""
    return connection.scalar(select(func.coalesce(func.max(batch.c.batch_id), 0))) or 0


def booked_since(connection: Connection, batch_id: int, topics: Sequence[str]) -> dict[str, int]:
    """Records, events, answers, orders and premium (毫) of the batches after a given one."""
    return dict(connection.execute(sql("booked_since"), {"batch_id": batch_id, "topics": topics}).mappings().one())


def rejected_since(connection: Connection, batch_id: int, topics: Sequence[str]) -> dict[str, Any]:
    """Events rejected in those batches, by reason."""
    rows = connection.execute(sql("rejected_since"), {"batch_id": batch_id, "topics": topics})
    return {row.reason: row.events for row in rows}


def streams(connection: Connection) -> list[str]:
    """The topics that were consumed."""
    return list(connection.scalars(select(source.c.topic).where(source.c.stream).order_by(source.c.topic)))


def stream_heads(connection: Connection, since: datetime) -> Sequence[Row[Any]]:
    """Topic, partition, next_offset, booked_at, events since then, and goes_on_at, of streams and the inbox."""
    return connection.execute(sql("stream_heads"), {"since": since, "batches": BATCHES_MAX}).all()


def heads(connection: Connection, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Topic and partition → the offset to be booked next."""
    there = partition_head.c
    wanted = select(there.topic, there.partition, there.next_offset).where(there.topic.in_(topics))
    return {(row.topic, row.partition): row.next_offset for row in connection.execute(wanted)}


def freshness(connection: Connection) -> Sequence[Row[Any]]:
    """Platform, province, the newest day that has orders, and when orders of that day were last booked."""
    return connection.execute(sql("freshness")).all()


def rejected_recently(connection: Connection, since: datetime) -> dict[str, int]:
    """Reason → events rejected since then."""
    return {row.reason: row.events for row in connection.execute(sql("rejected_recently"), {"since": since})}


def settlements(connection: Connection) -> list[Sealed]:
    """Every settlement, the newest of a province first."""
    there = settlement.c
    wanted = select(there.province, there.month, there.declared_fen, there.sealed_at)
    return [Sealed(*row) for row in connection.execute(wanted.order_by(there.province, there.month.desc()))]
