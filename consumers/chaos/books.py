"""The books of one run, as the model of the campaign sees them. In: a ledger. Out: Books, and what a replay finds."""

import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from sqlalchemy import Connection, func, select

from consumers.chaos.model import ACCEPTED, ENDED, Books, Facts, Key
from ledger import evidence
from ledger.store import connect, tables
from ledger.store.replay import replay

KINDS = {"R": "order.reassigned", "C": "order.completed", "X": "order.cancelled"}
ANSWERS = ("new", "duplicate", "conflict", "rejected")


def read(url: str) -> Books:
    """The whole ledger."""
    with connect.ledger(url, connect.AUDIT) as engine:
        with tempfile.TemporaryDirectory() as spill:
            report = replay(engine, Path(spill), 1, lambda _: nullcontext(lambda _: None))
        with engine.connect() as tx:
            columns = tables.platform.c.platform_no, tables.platform.c.platform_id
            platforms = dict(tx.execute(select(*columns)).tuples().all())
            conflict = tables.conflict.c
            head = tables.partition_head.c
            return Books(
                facts=_facts(tx, platforms),
                charges=tx.scalar(select(func.count()).select_from(tables.charge)) or 0,
                answers=_answers(tx),
                conflicts=Counter(
                    (platforms[number], order)
                    for number, order in tx.execute(select(conflict.platform_no, conflict.order_id))
                ),
                rejected=_rejected(tx),
                heads=dict(tx.execute(select(head.partition, head.next_offset)).tuples().all()),
                raw=_raw(tx),
                findings=[str(finding) for finding in report.findings.kept],
            )


def _facts(tx: Connection, platforms: dict[int, str]) -> dict[Key, Facts]:
    """What stands of each order."""
    charge, later = tables.charge.c, tables.event_key.c
    facts: dict[Key, Facts] = {}
    accepted = select(charge.platform_no, charge.order_id, charge.accepted_at, charge.worker_id, charge.city)
    for number, order, *rest in tx.execute(accepted):
        facts[platforms[number], order, ACCEPTED] = tuple(rest)
    columns = later.platform_no, later.order_id, later.slot, later.kind, later.occurred_at, later.worker_id
    for number, order, slot, kind, *rest in tx.execute(select(*columns)):
        facts[platforms[number], order, slot or ENDED] = (KINDS[kind], *rest)
    return facts


def _answers(tx: Connection) -> dict[str, int]:
    sums = tx.execute(select(*(func.coalesce(func.sum(tables.batch.c[name]), 0) for name in ANSWERS))).one()
    return {name: int(number) for name, number in zip(ANSWERS, sums, strict=True)}


def _rejected(tx: Connection) -> set[tuple[int, int]]:
    """Partition and offset of every rejected record."""
    batch, rejected = tables.batch, tables.rejected_record
    joined = rejected.join(batch, rejected.c.batch_id == batch.c.batch_id)
    found = tx.execute(select(batch.c.partition, rejected.c.record_offset).select_from(joined))
    return {(partition, offset) for partition, offset in found}


def _raw(tx: Connection) -> dict[int, list[bytes]]:
    """Partition → the records of its segments, in order."""
    batch, segment = tables.batch, tables.segment
    joined = batch.join(segment, segment.c.batch_id == batch.c.batch_id)
    wanted = select(batch.c.partition, batch.c.first_offset, segment.c.payload).select_from(joined)
    raw: dict[int, list[bytes]] = {}
    for partition, first, payload in tx.execute(wanted.order_by(batch.c.partition, batch.c.first_offset)):
        raw.setdefault(partition, []).extend(one.raw for one in evidence.unpack(evidence.decompress(payload), first))
    return raw
