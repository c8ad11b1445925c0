"""Rejected records, for those who must hear of them and those who ask.

In: a partition, or what is asked for. Out: what was rejected and why, and how far it was told.
"""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects.postgresql import insert

from ledger.store.heads import Head
from ledger.store.queries import sql
from ledger.store.tables import rejections_told

AT_A_TIME = 50  # records, of which none is told in part


class Rejected(NamedTuple):
    """A rejected record, or one event of its list (item -1: the record as a whole), with where it came from.

    `platform_id`: whose it says it is; `owner_id`: whose own topic it came by.
    """

    topic: str
    partition: int
    record_offset: int
    item: int
    platform_id: str | None
    owner_id: str | None
    reason: str
    place: str
    detail: str
    raw: bytes


def untold(engine: Engine, head: Head) -> list[Rejected]:
    """The next records of a partition that were rejected and not told yet, whole records, in order."""
    with engine.connect() as connection:
        told = connection.scalar(
            select(rejections_told.c.next_offset).where(
                rejections_told.c.topic == head.topic, rejections_told.c.partition == head.partition
            )
        )
        asked = {
            "topic": head.topic,
            "partition": head.partition,
            "since": told or 0,
            "until": head.next_offset,
            "records": AT_A_TIME,
        }
        return [Rejected(**row) for row in connection.execute(sql("untold_rejections"), asked).mappings()]


def keep_told(engine: Engine, head: Head, next_offset: int) -> None:
    """Note how far a partition's rejections were told; the mark never goes back."""
    row = {"topic": head.topic, "partition": head.partition, "next_offset": next_offset}
    statement = insert(rejections_told).values(row)
    ahead = statement.on_conflict_do_update(
        index_elements=["topic", "partition"],
        set_={"next_offset": statement.excluded.next_offset},
        where=rejections_told.c.next_offset < statement.excluded.next_offset,
    )
    with engine.begin() as tx:
        tx.execute(ahead)


class Asked(NamedTuple):
    """Which rejected records are asked for; None: whichever."""

    reason: str | None = None
    platform_id: str | None = None
    topic: str | None = None
    partition: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def latest(tx: Connection, asked: Asked, limit: int) -> list[dict[str, Any]]:
    """Rejected records and items with the files they came from, the latest first."""
    rows = tx.execute(sql("rejected"), asked._asdict() | {"limit": limit})
    return [dict(row._mapping) for row in rows]


def reasons(tx: Connection, asked: Asked) -> dict[str, int]:
    """How many there are for each reason, the most first."""
    return {row.reason: row.events for row in tx.execute(sql("rejected_reasons"), asked._asdict())}
