"""Rejected records, for those who must hear of them. In: a partition. Out: what was rejected, and how far told."""

from typing import NamedTuple

from sqlalchemy import Engine, select
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
