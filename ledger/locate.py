"""Finding events again in the raw records that they were read from. Pure.

In: a batch as recorded, its stored segment, a Reader like the one that booked it, and places in the
batch (ordinals). Out: for each ordinal the record and the item that hold the event, as the platform sent
them, what the Reader makes of it, and findings where the evidence does not hold.

Which record an ordinal belongs to is never counted here: the Reader is asked to read the batch again.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from json import JSONDecoder
from typing import NamedTuple

from ledger import evidence
from ledger.calendar import SHANGHAI, from_us
from ledger.evidence import Damage, Record
from ledger.intake import Acceptance, Intake, Later, Reader, Rejection
from ledger.replay.chain import BatchRow, check_segment
from ledger.replay.findings import Code, Finding, differences, text
from ledger.windows import Order, RecordedEvent
from schemas.codes import EventType

READ_AS = {
    b"R": EventType.REASSIGNED,
    b"C": EventType.COMPLETED,
    b"X": EventType.CANCELLED,
}
_decode = JSONDecoder().raw_decode
_GAP = re.compile(r"[ \t\r\n,]*")


class Located(NamedTuple):
    """Where an event stands. `item`: its place among the `items` events of the record, from 0.

    `raw`: the item's own bytes where the record is a list, else the record's.
    """

    offset: int
    arrived_us: int
    item: int
    items: int
    record_bytes: int
    raw: bytes
    read: Acceptance | Later | Rejection


@dataclass(slots=True)
class Evidence:
    """What a batch yields: where its events are, and what does not hold."""

    batch: BatchRow
    located: dict[int, Located] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def locate(batch: BatchRow, payload: bytes, reader: Reader, ordinals: Iterable[int]) -> Evidence:
    """Unpack a segment, hold it against the hashes of its batch, and find the events in it."""
    found = Evidence(batch)
    linked = evidence.link(
        batch.chain_before, batch.raw_sha256, batch.topic, batch.partition, batch.first_offset, batch.next_offset
    )
    if linked != batch.chain_after:
        found.findings.append(
            Finding(Code.CHAIN, "batch", batch.key, "chain_after", text(linked), text(batch.chain_after))
        )
    try:
        framed = evidence.decompress(payload)
        records = list(evidence.unpack(framed, batch.first_offset))
    except Damage as damage:
        found.findings.append(Finding(Code.DAMAGED, "segment", batch.key, "payload", "the stored bytes", str(damage)))
        return found
    found.findings += check_segment(batch, framed, records[-1].offset + 1 if records else batch.first_offset)
    intake = reader.read(records)
    read = _by_ordinal(intake)
    found.located = {ordinal: _place(intake, ordinal, read[ordinal]) for ordinal in set(ordinals) & read.keys()}
    return found


def _by_ordinal(intake: Intake) -> dict[int, Acceptance | Later | Rejection]:
    read: dict[int, Acceptance | Later | Rejection] = {event.ordinal: event for event in intake.acceptances}
    read |= {event.ordinal: event for event in intake.later}
    return read | {event.ordinal: event for event in intake.rejections}


def _place(intake: Intake, ordinal: int, read: Acceptance | Later | Rejection) -> Located:
    place = bisect_right(intake.first_ordinals, ordinal) - 1
    record, first = intake.records[place], intake.first_ordinals[place]
    after = (*intake.first_ordinals, intake.events)[place + 1]
    items, item = after - first, ordinal - first
    raw = item_bytes(record, item) if items > 1 else record.raw
    return Located(record.offset, record.arrived_us, item, items, len(record.raw), raw, read)


def item_bytes(record: Record, item: int) -> bytes:
    """The bytes of one item of a JSON list, as they were sent; the whole record where it is no such list."""
    if record.raw[:1] != b"[":
        return record.raw
    try:
        written = record.raw.decode()
        at = 1
        for _ in range(item + 1):
            begins = _first_after(written, at)
            _, at = _decode(written, begins)
    except (ValueError, RecursionError):
        return record.raw
    return written[begins:at].encode()


def _first_after(written: str, at: int) -> int:
    """Where the next item begins: behind the comma, and the space around it."""
    gap = _GAP.match(written, at)
    assert gap is not None, "the pattern also matches nothing"
    return gap.end()


def check_event(batch: BatchRow, order: Order, event: RecordedEvent, located: Located | None) -> Iterable[Finding]:
    """The record says of an event what the books say."""
    key = f"{batch.key} ordinal {event.ordinal}"
    if located is None:
        yield Finding(Code.UNFOUNDED, "order_event", key, "row", "none", f"{event.type} of {order.order_id}")
        return
    expected = _facts(located.read)
    books = {
        "type": event.type,
        "order_id": order.order_id,
        "occurred_at": event.occurred_at.astimezone(SHANGHAI),
        "worker_id": event.worker_id,
    }
    if isinstance(located.read, Acceptance):
        expected |= {"city": located.read.city, "line": located.read.line}
        books |= {"city": int(order.city or 0), "line": order.line}
    table = "charge" if event.type is EventType.ACCEPTED else "event_key"
    yield from differences(table, key, expected, books)


def _facts(read: Acceptance | Later | Rejection) -> dict[str, object]:
    if isinstance(read, Rejection):
        return {"type": f"rejected: {read.reason}", "order_id": None, "occurred_at": None, "worker_id": None}
    kind = EventType.ACCEPTED if isinstance(read, Acceptance) else READ_AS[read.kind]
    return {
        "type": kind,
        "order_id": read.order_id,
        "occurred_at": from_us(read.occurred_us),
        "worker_id": read.worker_id,
    }
