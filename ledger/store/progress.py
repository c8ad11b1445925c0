"""How far streams are booked. In: topics, and a batch to count from. Out: sums of what was booked since."""

from typing import Any

from sqlalchemy import Connection, func, select

from ledger.store.queries import sql
from ledger.store.tables import batch


def last_batch(connection: Connection) -> int:
    """The number of the latest batch; 0 where there is none."""
    return connection.scalar(select(func.coalesce(func.max(batch.c.batch_id), 0))) or 0


def booked_since(connection: Connection, batch_id: int, topics: list[str]) -> dict[str, int]:
    """Records, events, answers, orders and premium (毫) of the batches after a given one."""
    return dict(connection.execute(sql("booked_since"), {"batch_id": batch_id, "topics": topics}).mappings().one())


def rejected_since(connection: Connection, batch_id: int, topics: list[str]) -> dict[str, Any]:
    """Events rejected in those batches, by reason."""
    return dict(connection.execute(sql("rejected_since"), {"batch_id": batch_id, "topics": topics}).tuples().all())
