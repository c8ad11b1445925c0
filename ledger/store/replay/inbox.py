"""The inbox against the segments. In: batches of the topic `inbox`. Out: findings where they disagree."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice

from sqlalchemy import Connection, select

from ledger import evidence
from ledger.calendar import to_us
from ledger.evidence import Record
from ledger.replay.chain import BatchRow
from ledger.replay.findings import Code, Finding, text
from ledger.store.tables import inbox

TOPIC = "inbox"
FETCH_ROWS = 1_000


def judge_inbox(connection: Connection, batches: list[BatchRow]) -> Iterator[Finding]:
    """Every batch of the inbox holds the very records that lie there, and all of them."""
    ours = sorted((row for row in batches if row.topic == TOPIC), key=lambda row: row.first_offset)
    if not ours:
        return
    wanted = select(inbox).where(inbox.c.record_offset < ours[-1].next_offset).order_by(inbox.c.record_offset)
    rows = connection.execute(wanted.execution_options(yield_per=FETCH_ROWS))
    records = (Record(row.record_offset, to_us(row.arrived_at), row.record) for row in rows)
    for batch in ours:
        held = list(islice(records, batch.next_offset - batch.first_offset))
        digest = sha256(evidence.pack(held, batch.first_offset)).digest()
        if digest != batch.raw_sha256:
            yield Finding(Code.DIFFERS, TOPIC, batch.key, "record", text(batch.raw_sha256), text(digest))
