"""Gathering all that leads to an order: charge, rate, entries, settlement, raw records. In: its id. Out: values.

Nothing is decided here but one thing: whether what is gathered agrees with itself (`findings`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from ledger.calendar import local_day
from ledger.identity import Stream
from ledger.intake import Reader
from ledger.locate import Evidence, check_event, locate
from ledger.mapping import CsvReader, Mapping
from ledger.rating import Rating
from ledger.replay.chain import BatchRow
from ledger.replay.findings import Finding, differences
from ledger.rulebook import Premium, Rulebook
from ledger.store import reference, registry
from ledger.store import windows as events
from ledger.store.queries import sql
from ledger.store.registry import PlatformRow
from ledger.store.tables import (
    account,
    batch,
    charge,
    charge_change,
    declaration,
    entry,
    posting,
    segment,
    settlement,
    source,
)
from ledger.windows import Order

BATCHES_MAX = 50  # of an order with more, the raw records of the first ones are unpacked


@dataclass(frozen=True, slots=True)
class Booked:
    """An entry, its postings with their accounts, and the settlement of its month, where there is one."""

    entry: Row[Any]
    postings: list[Row[Any]]
    settlement: Row[Any] | None
    declaration: Row[Any] | None


class Rejected(NamedTuple):
    """A rejected record that mentions the order."""

    batch_id: int
    offset: int
    item: int
    reason: str
    place: str
    detail: str


class Origin(NamedTuple):
    """Where the records of a batch come from: their encoding, and the file, where it is one, with a header or not."""

    encoding: str
    file: str | None
    header: bool


@dataclass(slots=True)
class Explanation:
    """What leads to an order. `charge` and `premium` None: it was never accepted, as far as recorded."""

    platform: PlatformRow
    order: Order
    charge: Row[Any] | None
    premium: Premium | None
    rulebook_hash: bytes | None
    changes: list[Row[Any]]
    entries: dict[int, Booked]
    evidence: dict[int, Evidence]
    origins: dict[int, Origin]
    rejected: list[Rejected]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Unheard:
    """An order of which nothing is recorded: where else its id turns up."""

    platform: PlatformRow
    rejected: list[Rejected]
    elsewhere: list[str]


def explain(connection: Connection, platform: PlatformRow, order_id: str) -> Explanation | Unheard:
    """From the order to its charge, and on to the bytes that the platform sent."""
    order = events.order(connection, platform.platform_no, order_id)
    if order is None:
        return Unheard(platform, _mentions(connection, platform, order_id), _elsewhere(connection, platform, order_id))
    key = charge.c.platform_no == platform.platform_no, charge.c.order_id == order_id
    charged = connection.execute(select(charge).where(*key)).one_or_none()
    changes = _changes(connection, platform, order_id)
    numbers = {row.entry_id for row in (charged, *changes) if row and row.entry_id is not None}
    library = _Library(connection)
    evidence, origins = _evidence(connection, order, library)
    rulebook_hash, premium = _rate(connection, platform, order, library)
    complete = order.acceptance and order.ending
    found = Explanation(
        platform,
        order,
        charged,
        premium,
        rulebook_hash,
        changes,
        {number: _booked(connection, number) for number in sorted(numbers)},
        evidence,
        origins,
        [] if complete else _mentions(connection, platform, order_id),
    )
    found.findings += _findings(found)
    return found


def _changes(connection: Connection, platform: PlatformRow, order_id: str) -> list[Row[Any]]:
    changed = charge_change.c
    wanted = select(charge_change).where(changed.platform_no == platform.platform_no, changed.order_id == order_id)
    return list(connection.execute(wanted.order_by(changed.entry_id)))


def _booked(connection: Connection, entry_id: int) -> Booked:
    row = connection.execute(select(entry).where(entry.c.entry_id == entry_id)).one()
    lines = (
        select(posting, account.c.kind, account.c.province, account.c.platform_no)
        .join(account, account.c.account_id == posting.c.account_id)
        .where(posting.c.entry_id == entry_id)
        .order_by(posting.c.posting_no)
    )
    sealed = select(settlement).where(settlement.c.province == row.province, settlement.c.month == row.month)
    alike = ("province", "month", "platform_no", "line", "origin_month", "premium_base", "float_factor")
    declared = select(declaration).where(*(declaration.c[name] == getattr(row, name) for name in alike))
    return Booked(
        row,
        list(connection.execute(lines)),
        connection.execute(sealed).one_or_none(),
        connection.execute(declared).one_or_none(),
    )


# ---- evidence


class _Library:
    """Readers like the ones that booked: the rulebook of the batch, the mapping of its topic."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._platforms = registry.for_intake(*registry.known(connection))
        self._rulebooks: dict[bytes, Rulebook] = {}

    def rulebook(self, rulebook_hash: bytes) -> Rulebook:
        """A recorded rulebook, read once."""
        if rulebook_hash not in self._rulebooks:
            self._rulebooks[rulebook_hash] = reference.rulebook_of(self._connection, rulebook_hash)
        return self._rulebooks[rulebook_hash]

    def reader(self, row: BatchRow) -> tuple[Reader, Origin]:
        """The reader of a batch, and where its records come from."""
        rating = Rating(self.rulebook(row.rulebook_hash))
        of = self._connection.execute(select(source).where(source.c.topic == row.topic)).one_or_none()
        stream = Stream(row.topic, of.platform_no) if of and of.stream else None
        if of is None or of.mapping is None:
            return Reader(self._platforms, rating, None, stream), Origin("utf-8", of.description if of else None, False)
        mapping = Mapping.from_content(of.mapping)
        csv = CsvReader(mapping, of.header, of.shift_days).events
        return Reader(self._platforms, rating, csv, stream), Origin(mapping.shape.encoding, of.description, True)


def _evidence(connection: Connection, order: Order, library: _Library) -> tuple[dict[int, Evidence], dict[int, Origin]]:
    """By batch: what it yields of the order; and where its records come from."""
    wanted: dict[int, set[int]] = {}
    for event in order.events:
        wanted.setdefault(event.batch_id, set()).add(event.ordinal)
    for version in order.conflicts:
        wanted.setdefault(version.batch_id, set()).add(version.ordinal)
    evidence: dict[int, Evidence] = {}
    origins: dict[int, Origin] = {}
    for number in list(wanted)[:BATCHES_MAX]:
        columns = (batch.c[name] for name in BatchRow._fields)
        row = BatchRow(*connection.execute(select(*columns).where(batch.c.batch_id == number)).one())
        payload = connection.scalar(select(segment.c.payload).where(segment.c.batch_id == number))
        reader, origins[number] = library.reader(row)
        evidence[number] = locate(row, payload or b"", reader, wanted[number])
    return evidence, origins


def _rate(
    connection: Connection, platform: PlatformRow, order: Order, library: _Library
) -> tuple[bytes | None, Premium | None]:
    """The rate by the rulebook under which the acceptance was booked, which its batch names."""
    accepted = order.acceptance
    if accepted is None or order.line is None or order.city is None:
        return None, None
    named = select(batch.c.rulebook_hash).where(batch.c.batch_id == accepted.batch_id)
    rulebook_hash = connection.execute(named).scalar_one()
    day = local_day(accepted.occurred_at)
    rules = library.rulebook(rulebook_hash)
    return rulebook_hash, rules.premium(order.line, order.city[:2], platform.platform_id, day)


def _findings(found: Explanation) -> Iterable[Finding]:
    """Where the books, the rules and the raw records do not agree about this order."""
    for one in found.evidence.values():
        yield from one.findings
    for event in found.order.events:
        there = found.evidence.get(event.batch_id)
        if there and (there.located or not there.findings):
            yield from check_event(there.batch, found.order, event, there.located.get(event.ordinal))
    if found.charge and found.premium and found.charge.entry_id is not None:
        key = f"{found.platform.platform_id} {found.order.order_id}"
        booked = found.entries[found.charge.entry_id].entry
        rate = {"premium_base": found.premium.premium_base, "float_factor": found.premium.float_factor}
        yield from differences("charge", key, {"amount": found.premium.amount}, found.charge._asdict())
        yield from differences("entry", f"entry {booked.entry_id}", rate, booked._asdict())


# ---- an order that is not there


def _mentions(connection: Connection, platform: PlatformRow, order_id: str) -> list[Rejected]:
    asked = {"platform_id": platform.platform_id, "order_id": order_id}
    return [Rejected(*row) for row in connection.execute(sql("mentions"), asked)]


def _elsewhere(connection: Connection, platform: PlatformRow, order_id: str) -> list[str]:
    """Other platforms with an order of that id."""
    others = [row for row in registry.all_platforms(connection) if row.platform_no != platform.platform_no]
    numbers = charge.c.platform_no.in_([row.platform_no for row in others])
    known = set(connection.scalars(select(charge.c.platform_no).where(numbers, charge.c.order_id == order_id)))
    return [row.platform_id for row in others if row.platform_no in known]
