"""Recording a batch: claim its keys, charge what is new, keep what is not. In: an intake. Out: what became of it.

Copy first under a savepoint; only a batch that meets a known key looks its keys up, drops what is
known and copies again. `charge` and `event_key` are the keys that never expire.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from psycopg.errors import UniqueViolation
from sqlalchemy import Connection, func, insert, select

from ledger.calendar import from_us, to_us
from ledger.intake import Acceptance, Intake, Key, Later, Rejection
from ledger.journal import EntryKey, entry_key
from ledger.rating import LINES, Rating, Tariff, change_by_ending
from ledger.sift import Conflict, KnownAcceptance, KnownLater, LaterKey, Sifted, sift
from ledger.store import copy_rows
from ledger.store.heads import Head
from ledger.store.queries import sql
from ledger.store.tables import batch, charge_change, conflict, rejected_record
from schemas.codes import Reason

CHANGES_LOCK = 2022_07_01_01
ATTEMPTS_MAX = 8  # each attempt drops at least one known key; more than a few means a fight between processes
_TYPES = {b"A": "order.accepted", b"R": "order.reassigned", b"C": "order.completed", b"X": "order.cancelled"}


@dataclass(slots=True)
class Known:
    """What the books already hold of a batch's keys."""

    acceptances: dict[Key, KnownAcceptance] = field(default_factory=dict)
    later: dict[LaterKey, KnownLater] = field(default_factory=dict)


def claim(tx: Connection, intake: Intake, batch_id: int, numbers: dict[EntryKey, int]) -> Sifted:
    """Store the events that are new, each key once for ever; says which were not."""
    known = Known()
    tariffs = {event.tariff for event in intake.acceptances}
    entry_ids = {tariff: numbers[entry_key(tariff)] for tariff in tariffs if tariff.charged_when_accepted}
    for _ in range(ATTEMPTS_MAX):
        sifted = sift(intake.acceptances, intake.later, known.acceptances, known.later)
        try:
            with tx.begin_nested():
                _copy(tx, sifted, batch_id, entry_ids)
        except UniqueViolation:
            _look_up(tx, sifted, known)
        else:
            return sifted
    raise AssertionError(f"keys still collide after {ATTEMPTS_MAX} look-ups")


def _copy(tx: Connection, sifted: Sifted, batch_id: int, entry_ids: dict[Tariff, int]) -> None:
    """COPY in key order: neighbouring keys touch the same index pages, and two processes cannot deadlock."""
    acceptances = sorted(sifted.acceptances)
    later = sorted(sifted.later)
    by_worker = sorted(sifted.acceptances, key=lambda acceptance: acceptance.worker_id)
    if acceptances:
        _copy_in(tx, "charge", copy_rows.charge_rows(acceptances, entry_ids))
    if later:
        _copy_in(tx, "event_key", copy_rows.event_key_rows(later, batch_id))
    if acceptances or later:
        _copy_in(tx, "order_event", copy_rows.order_event_rows(by_worker, later, batch_id))


def _copy_in(tx: Connection, table: str, rows: bytes) -> None:
    cursor = tx.connection.cursor()
    statement = f"copy {table} ({copy_rows.COPY_COLUMNS[table]}) from stdin (format binary)"
    with cursor.copy(statement) as copy:
        copy.write(rows)


def _look_up(tx: Connection, sifted: Sifted, known: Known) -> None:
    known.acceptances |= known_acceptances(tx, [event[:2] for event in sifted.acceptances])
    known.later |= known_later(tx, [event[:3] for event in sifted.later])


def known_acceptances(tx: Connection, keys: list[Key]) -> dict[Key, KnownAcceptance]:
    """What the books hold of these orders' acceptances."""
    if not keys:
        return {}
    numbers, orders = zip(*keys, strict=True)
    rows = tx.execute(sql("known_acceptances"), {"platform_nos": list(numbers), "order_ids": list(orders)})
    return {
        (row.platform_no, row.order_id): KnownAcceptance(
            to_us(row.accepted_at), row.worker_id, row.city, LINES[_letter(row.line)]
        )
        for row in rows
    }


def known_later(tx: Connection, keys: list[LaterKey]) -> dict[LaterKey, KnownLater]:
    """What the books hold under these later events' keys."""
    if not keys:
        return {}
    numbers, orders, slots = zip(*keys, strict=True)
    asked = {"platform_nos": list(numbers), "order_ids": list(orders), "slots": list(slots)}
    return {
        (row.platform_no, row.order_id, row.slot): KnownLater(
            to_us(row.occurred_at), _letter(row.kind).encode(), row.worker_id
        )
        for row in tx.execute(sql("known_later"), asked)
    }


def _letter(value: str | bytes) -> str:
    """PostgreSQL's "char", which the driver gives as bytes or text."""
    return value.decode() if isinstance(value, bytes) else value


@dataclass(frozen=True, slots=True)
class Change:
    """What an ending changes in an order's charge, where the rules say so. `sign`: +1 charge, -1 reverse."""

    key: Key
    kind: str
    sign: int
    tariff: Tariff


def changes(tx: Connection, sifted: Sifted, rating: Rating, platform_ids: dict[int, str]) -> list[Change]:
    """Charges that depend on how an order ended; only rules other than the default need them.

    An order's acceptance and its ending may be booked by two processes at once, neither of which sees the
    other's. From here to the commit they take turns, so that the second one sees both.
    """
    tx.execute(select(func.pg_advisory_xact_lock(CHANGES_LOCK)))
    accepted = {event[:2]: event.tariff for event in sifted.acceptances}
    ended = {event[:2]: event.kind for event in sifted.later if not event.slot}
    elsewhere = known_acceptances(tx, [key for key in ended if key not in accepted])
    for key, known in elsewhere.items():
        tariff = rating.tariff_at(key[0], platform_ids[key[0]], known.city, known.line, known.occurred_us)
        if tariff:
            accepted[key] = tariff
    before = known_later(tx, [(*key, "") for key in accepted if key not in ended])
    ended |= {(number, order): known.kind for (number, order, _), known in before.items()}
    found = []
    for key in sorted(accepted.keys() & ended.keys()):
        if change := change_by_ending(accepted[key], ended[key]):
            found.append(Change(key, *change, accepted[key]))
    return found


def keep_changes(tx: Connection, found: list[Change], numbers: dict[EntryKey, int]) -> None:
    """Write the charge changes of a batch."""
    if found:
        rows = [
            {
                "platform_no": change.key[0],
                "order_id": change.key[1],
                "kind": change.kind,
                "entry_id": numbers[entry_key(change.tariff)],
                "amount": change.sign * change.tariff.amount,
            }
            for change in found
        ]
        tx.execute(insert(charge_change), rows)


def counts(sifted: Sifted, found: list[Change]) -> Counter[Tariff]:
    """Orders charged per tariff; reversed ones count negative."""
    total = Counter(event.tariff for event in sifted.acceptances if event.tariff.charged_when_accepted)
    for change in found:
        total[change.tariff] += change.sign
    return total


def keep_conflicts(tx: Connection, conflicts: list[Conflict], batch_id: int) -> None:
    """Keep the versions that came second."""
    if conflicts:
        rows = [
            {
                "batch_id": batch_id,
                "ordinal": item.event.ordinal,
                "platform_no": item.event.platform_no,
                "order_id": item.event.order_id,
                "differs": list(item.differs),
                "event": _facts(item.event),
            }
            for item in conflicts
        ]
        tx.execute(insert(conflict), rows)


def _facts(event: Acceptance | Later) -> dict[str, Any]:
    kind = b"A" if isinstance(event, Acceptance) else event.kind
    facts: dict[str, Any] = {
        "type": _TYPES[kind],
        "time": from_us(event.occurred_us).isoformat(),
        "worker_id": event.worker_id,
    }
    if isinstance(event, Acceptance):
        facts |= {"line": str(event.line), "accepted_city": str(event.city)}
    return facts


def keep_rejections(tx: Connection, rejections: list[Rejection], batch_id: int) -> None:
    """Keep what was rejected, whole, with the reason and the place."""
    if rejections:
        rows = [
            {
                "batch_id": batch_id,
                "record_offset": item.offset,
                "item": item.item,
                "platform_id": item.platform_id,
                "reason": str(item.reason),
                "place": item.place,
                "detail": item.detail,
                "raw": item.raw,
            }
            for item in rejections
        ]
        tx.execute(insert(rejected_record), rows)


def standing_rejections(tx: Connection, intake: Intake, head: Head) -> list[Rejection]:
    """What was rejected of these records when they were booked, as it was said then."""
    first, last = intake.records[0].offset, intake.records[-1].offset
    wanted = (
        select(rejected_record)
        .join(batch, batch.c.batch_id == rejected_record.c.batch_id)
        .where(batch.c.topic == head.topic, batch.c.partition == head.partition)
        .where(batch.c.next_offset > first, batch.c.first_offset <= last)
        .where(rejected_record.c.record_offset.between(first, last))
    )
    ordinals = {line.offset: ordinal for line, ordinal in zip(intake.records, intake.first_ordinals, strict=True)}
    return [
        Rejection(
            ordinals[row.record_offset] + max(row.item, 0),
            row.record_offset,
            row.item,
            row.platform_id,
            Reason(row.reason),
            row.place,
            row.detail,
            row.raw,
        )
        for row in tx.execute(wanted)
    ]
