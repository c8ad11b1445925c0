"""partition_head: bookmark, fence against a stale consumer, and head of the evidence chain, in one row."""

from typing import NamedTuple

from sqlalchemy import Connection, Insert, Update, select, update
from sqlalchemy.dialects.postgresql import insert

from ledger.errors import Fenced
from ledger.evidence import GENESIS, decompress, unpack
from ledger.store.tables import batch, partition_head, segment
from schemas.both import Both

# The key of `batch` that refuses a second batch at one offset: a stale process meets it before the head.
BATCH_AT_OFFSET = "batch_topic_partition_first_offset_key"


class Head(NamedTuple):
    """How far a partition is booked, and the chain's value there."""

    topic: str
    partition: int
    next_offset: int
    chain_hash: bytes


def read(tx: Connection, topic: str, partition: int) -> Head:
    """The head; a partition never seen begins at offset 0 with an empty chain."""
    row = tx.execute(
        select(partition_head.c.next_offset, partition_head.c.chain_hash).where(
            partition_head.c.topic == topic, partition_head.c.partition == partition
        )
    ).one_or_none()
    return Head(topic, partition, row.next_offset, row.chain_hash) if row else Head(topic, partition, 0, GENESIS)


def last_record(tx: Connection, head: Head) -> bytes | None:
    """The last record booked before the head, as it was sent; None where nothing is booked."""
    found = tx.execute(
        select(batch.c.first_offset, segment.c.payload)
        .join(segment, segment.c.batch_id == batch.c.batch_id)
        .where(
            batch.c.topic == head.topic,
            batch.c.partition == head.partition,
            batch.c.first_offset < head.next_offset,
        )
        .order_by(batch.c.first_offset.desc())
        .limit(1)
    ).one_or_none()
    if found is None:
        return None
    *_, last = unpack(decompress(found.payload), found.first_offset)
    return last.raw


def advance(tx: Connection, before: Head, after: Head) -> None:
    """Compare and set. Fenced when another process moved the head since `before` was read."""
    assert before[:2] == after[:2]
    assert before.next_offset < after.next_offset
    row = after._asdict()
    statement: Insert | Update
    if before.chain_hash == GENESIS:
        statement = insert(partition_head).values(row).on_conflict_do_nothing()
    else:
        statement = (
            update(partition_head)
            .where(
                partition_head.c.topic == before.topic,
                partition_head.c.partition == before.partition,
                partition_head.c.next_offset == before.next_offset,
                partition_head.c.chain_hash == before.chain_hash,
            )
            .values(next_offset=after.next_offset, chain_hash=after.chain_hash)
        )
    if tx.execute(statement.execution_options(preserve_rowcount=True)).rowcount != 1:
        raise fenced(before)


def fenced(before: Head) -> Fenced:
    """What to tell a process that another one has overtaken."""
    return Fenced(
        Both(
            f"Another process booked {before.topic}[{before.partition}] beyond offset {before.next_offset}.",
            f"另一进程已将 {before.topic}[{before.partition}] 入账至偏移 {before.next_offset} 之后。",
        ),
        Both(
            "Nothing was lost: this batch was rolled back. Let one process read a partition.",
            "没有数据丢失：本批次已回滚。一个分区只应由一个进程读取。",
        ),
    )
