"""Rejected records, for those who must hear of them and those who ask.

In: a partition, or what is asked for. Out: what was rejected and why, how far it was told, what is put in again.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import JSON, ColumnElement, Connection, Engine, and_, cast, func, select
from sqlalchemy.dialects.postgresql import insert

from ledger.store.heads import Head
from ledger.store.queries import sql
from ledger.store.tables import batch, rejected_record, rejections_told, retry, source

AT_A_TIME = 50  # records, of which none is told in part
FETCH_ROWS = 10_000
RAW_BYTES_SHOWN = 2_000
_RETRY_LOCK = 2022_07_01_01


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


class Key(NamedTuple):
    """What names a rejected record: its batch, its offset, and its place in the record's list (-1: the whole)."""

    batch_id: int
    record_offset: int
    item: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Key":
        """The key of a row that holds it."""
        return cls(*(row[name] for name in cls._fields))


class Asked(NamedTuple):
    """Which rejected records are asked for; None: whichever."""

    reason: str | None = None
    platform_id: str | None = None
    topic: str | None = None
    partition: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """What a rejected record and its batch must be like."""
        for column, wanted in (
            (rejected_record.c.reason, self.reason),
            (rejected_record.c.platform_id, self.platform_id),
            (batch.c.topic, self.topic),
            (batch.c.partition, self.partition),
        ):
            if wanted is not None:
                yield column == wanted
        if self.since is not None:
            yield batch.c.recorded_at >= self.since
        if self.until is not None:
            yield batch.c.recorded_at < self.until


_RECORDS = (
    rejected_record.join(batch, batch.c.batch_id == rejected_record.c.batch_id)
    .outerjoin(source, source.c.topic == batch.c.topic)
    .outerjoin(
        retry,
        and_(*(retry.c[name] == rejected_record.c[name] for name in Key._fields)),
    )
)
_KEY = tuple(rejected_record.c[name] for name in Key._fields)
_FACTS = (
    *_KEY,
    *(batch.c.topic, batch.c.partition, batch.c.recorded_at),
    *(rejected_record.c[name] for name in ("platform_id", "reason", "place", "detail")),
    func.length(rejected_record.c.raw).label("raw_bytes"),
    source.c.description.label("file"),
    source.c.header.is_not(None).label("header"),
    func.coalesce(source.c.stream, False).label("stream"),
    cast(source.c.mapping, JSON)["encoding"].as_string().label("encoding"),
    retry.c.inbox_offset,
)


def latest(tx: Connection, asked: Asked, limit: int) -> list[dict[str, Any]]:
    """Rejected records and items with the files they came from, the latest first, with the beginning of their bytes."""
    beginning = func.substring(rejected_record.c.raw, 1, RAW_BYTES_SHOWN).label("raw")
    wanted = select(*_FACTS, beginning).select_from(_RECORDS).where(*asked.conditions())
    rows = tx.execute(wanted.order_by(*(column.desc() for column in _KEY)).limit(limit))
    return [dict(row._mapping) for row in rows]


def reasons(tx: Connection, asked: Asked) -> dict[str, int]:
    """How many there are for each reason that were not retried, the most first."""
    count, reason = func.count(), rejected_record.c.reason
    left = retry.c.inbox_offset.is_(None)
    wanted = select(reason, count.label("events")).select_from(_RECORDS).where(left, *asked.conditions())
    wanted = wanted.group_by(reason)
    return {row.reason: row.events for row in tx.execute(wanted.order_by(count.desc(), reason))}


def one(tx: Connection, key: Key) -> dict[str, Any] | None:
    """One rejected record with all of its bytes; None where there is none of that name."""
    wanted = select(*_FACTS, rejected_record.c.raw).select_from(_RECORDS).where(*_named(key))
    return next((dict(found._mapping) for found in tx.execute(wanted)), None)


def _named(key: Key) -> list[ColumnElement[bool]]:
    return [column == value for column, value in zip(_KEY, key, strict=True)]


# ---- retries


def keys(tx: Connection, asked: Asked) -> Iterator[dict[str, Any]]:
    """All that are asked for, without their bytes, the earliest first."""
    wanted = select(*_FACTS).select_from(_RECORDS).where(*asked.conditions()).order_by(*_KEY)
    for row in tx.execute(wanted.execution_options(yield_per=FETCH_ROWS)):
        yield dict(row._mapping)


def put_again(engine: Engine, wanted: Sequence[Key]) -> int:
    """Put records into the inbox as they came, all or none; those retried before are passed over. Returns how many."""
    put = 0
    with engine.begin() as tx:
        tx.execute(select(func.pg_advisory_xact_lock(_RETRY_LOCK)))  # one retry at a time sees what another did
        for key in wanted:
            there = select(rejected_record.c.raw).select_from(_RECORDS)
            raw = tx.scalar(there.where(*_named(key), retry.c.inbox_offset.is_(None)))
            if raw is None:
                continue
            place = tx.scalar(select(func.inbox_put(raw)))
            tx.execute(insert(retry).values(**key._asdict(), inbox_offset=place))
            put += 1
    return put


def answered(tx: Connection, inbox_offsets: Sequence[int]) -> dict[int, str]:
    """What became of retried records, by their place in the inbox: waits, rejected, or passed (new or not)."""
    rows = tx.execute(sql("retries_answered"), {"offsets": list(inbox_offsets)})
    return {row.inbox_offset: row.answer for row in rows}
