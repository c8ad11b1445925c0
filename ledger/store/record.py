"""Recording a batch: claim its keys, charge what is new, keep what is not. In: an intake. Out: what became of it.

Copy first under a savepoint; only a batch that meets a known key looks its keys up, drops what is
known and copies again. `charge` and `event_key` are the keys that never expire.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.errors import UniqueViolation
from sqlalchemy import Connection, Row, func, insert, select

from ledger.calendar import from_us, to_us
from ledger.intake import Acceptance, Intake, Key, Later, Rejection
from ledger.journal import EntryKey, entry_key
from ledger.rating import LINES, Tariff, change_by_ending
from ledger.sift import Conflict, KnownAcceptance, KnownLater, LaterKey, Sifted, sift
from ledger.store import copy_rows
from ledger.store.heads import Head
from ledger.store.queries import sql
from ledger.store.reference import ChangingRules
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
    """What an ending changes in an order's charge. `sign`: +1 charge, -1 reverse; the tariff is the acceptance's."""

    key: Key
    kind: str
    sign: int
    tariff: Tariff


def changes(tx: Connection, sifted: Sifted, rules: ChangingRules, platform_ids: Mapping[int, str]) -> list[Change]:
    """What endings change in charges: of the orders that this batch accepts or ends, those whose other half is known.

    Only rules other than the default let an ending change anything: where none are recorded, nothing more is asked.
    An order's acceptance and its ending may be booked by two processes at once, neither of which sees the other's. So
    a batch that accepts orders under such rules has a lock for itself from here to the commit, and every batch that
    ends orders shares it. Whoever comes second sees the other's half; and sees the rules too, which are recorded
    before anything is booked under them. The lock is a statement of its own because a statement sees what was
    committed before it began, not before it got the lock.
    """
    alone = not rules.own_is_plain and any(not event.tariff.plain for event in sifted.acceptances)
    if not alone and not sifted.later:
        return []
    lock = func.pg_advisory_xact_lock if alone else func.pg_advisory_xact_lock_shared
    tx.execute(select(lock(CHANGES_LOCK)))
    rules.look(tx)
    if not rules.ratings:
        return []
    here = {event[:2]: event.tariff for event in sifted.acceptances}
    ended = {event[:2]: event.kind for event in sifted.later if not event.slot}
    tariffs = here | _accepted_elsewhere(tx, [key for key in ended if key not in here], rules, platform_ids)
    changing = {key: tariff for key, tariff in tariffs.items() if not tariff.plain}
    before = known_later(tx, [(*key, "") for key in changing if key not in ended])
    ended |= {(number, order): known.kind for (number, order, _), known in before.items()}
    found = []
    for key in sorted(changing.keys() & ended.keys()):
        if change := change_by_ending(changing[key], ended[key]):
            found.append(Change(key, *change, changing[key]))
    return found


def _accepted_elsewhere(
    tx: Connection, keys: list[Key], rules: ChangingRules, platform_ids: Mapping[int, str]
) -> dict[Key, Tariff]:
    """Orders that other batches accepted under rules by which an ending can change the charge: their tariffs."""
    if not keys:
        return {}
    numbers, orders = zip(*keys, strict=True)
    asked = {"platform_nos": list(numbers), "order_ids": list(orders)}
    rows = tx.execute(sql("accepted_under"), asked).all()
    uncharged = _uncharged_under(tx, [row for row in rows if row.entry_id is None])
    found = {}
    for row in rows:
        key = row.platform_no, row.order_id
        rating = rules.ratings.get(uncharged[key] if row.entry_id is None else bytes(row.rulebook_hash))
        if rating:
            line, at = LINES[_letter(row.line)], to_us(row.accepted_at)
            tariff = rating.tariff_at(row.platform_no, platform_ids[row.platform_no], row.city, line, at)
            assert tariff, "what was booked had a tariff"
            charged = (tariff.amount, True) if tariff.charged_when_accepted else (0, False)
            assert charged == (row.amount, row.entry_id is not None), "the charge is what its rulebook says"
            found[key] = tariff
    return found


def _uncharged_under(tx: Connection, rows: Sequence[Row[Any]]) -> dict[Key, bytes]:
    """The rulebooks of acceptances to which no entry leads."""
    if not rows:
        return {}
    columns = ("platform_no", "order_id", "worker_id", "accepted_at")
    asked = {f"{column}s": [getattr(row, column) for row in rows] for column in columns}
    found = tx.execute(sql("uncharged_under"), asked)
    return {(row.platform_no, row.order_id): bytes(row.rulebook_hash) for row in found}


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
