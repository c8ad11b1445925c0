"""Gaps 缺口 that were accepted. In: where a partition stands and where the broker goes on. Out: the decision, for good.

A partition whose next record the broker no longer holds stands still, until somebody says that it shall go on without
what is missing. The batch after a gap begins at its first offset, as after any offset that holds no record.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from ledger.store.heads import Head
from ledger.store.tables import gap


class Gap(NamedTuple):
    """The records of a partition from the one offset to before the other are not to be had."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    why: str
    accepted_by: str
    accepted_at: datetime


def accept(engine: Engine, head: Head, next_offset: int, why: str) -> None:
    """Decide that a partition goes on from an offset; a second time changes nothing."""
    place = {"topic": head.topic, "partition": head.partition, "first_offset": head.next_offset}
    with engine.begin() as tx:
        tx.execute(insert(gap).values(place | {"next_offset": next_offset, "why": why}).on_conflict_do_nothing())


def goes_on_at(tx: Connection, head: Head) -> int:
    """Up to where nobody waits for records any more: the head, or the end of a gap there that was accepted."""
    there = gap.c
    at_head = (there.topic == head.topic, there.partition == head.partition, there.first_offset == head.next_offset)
    return tx.scalar(select(func.max(there.next_offset)).where(*at_head)) or head.next_offset


def accepted_since(tx: Connection, since: datetime | None) -> list[Gap]:
    """Every accepted gap, the earliest first; `since`: only those accepted from then on."""
    there = gap.c
    wanted = select(*(there[name] for name in Gap._fields)).order_by(there.accepted_at, there.topic, there.partition)
    if since is not None:
        wanted = wanted.where(there.accepted_at >= since)
    return [Gap(*row) for row in tx.execute(wanted)]
