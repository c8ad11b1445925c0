"""The loop: records in, one transaction, the head advances. In: batches of records. Out: what became of them.

    read (pure) → prepare → [ claim → keep batch → post → keep the rest → advance ] in one transaction

A batch is wholly in or wholly out; delivered twice it changes nothing; a stale reader is fenced by the
compare-and-set on partition_head. `switch` is called after every step, so that tests can pull the plug there.
"""

import gc
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from time import monotonic
from typing import NamedTuple, Protocol

from psycopg import Error as DriverError
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from ledger import evidence
from ledger.calendar import day_number, day_of
from ledger.errors import BadQuestion
from ledger.evidence import Record
from ledger.identity import Stream
from ledger.intake import EventReader, Intake, Reader
from ledger.journal import EntryKey, entry_key, premium_accounts, premium_entries
from ledger.rating import Rating, Tariff
from ledger.rulebook import Rulebook
from ledger.settlement import open_month
from ledger.sift import Sifted
from ledger.store import gaps, heads, journal, record, reference, registry
from ledger.store.heads import Head
from ledger.store.queries import sql
from ledger.store.tables import batch as batch_table
from ledger.store.tables import segment as segment_table
from schemas.both import Both
from schemas.codes import Answer, Reason

EVENTS_PER_BATCH = 20_000  # a batch closes at or after about this many; twice as many gain little more
ORDINALS_MAX = 32_767
BATCH_BYTES_MAX = 16 * 1024 * 1024
RETRIES_MAX = 5
# Another transaction was quicker: deadlock, serialization, or the month was sealed since we looked.
RETRY_STATES = {"40P01", "40001", "DB003"}
STEPS = ("read", "prepared", "begun", "claimed", "posted", "kept", "advanced", "committed")

REGISTRY_SECONDS = 60  # after so long platforms and keys are looked up again; a key gives more notice than that

Switch = Callable[[str], None]


class Door(NamedTuple):
    """How records came in: as lines of a mapped file, or through a stream; neither: handed in as they are."""

    csv: EventReader | None = None
    stream: Stream | None = None


HANDED_IN = Door()


class Source(Protocol):
    """One partition of one topic."""

    topic: str
    partition: int
    door: Door
    answers_again: bool  # whether what is booked already is read and answered again

    def batches(self, from_offset: int) -> Iterator[list[Record]]:
        """Records from an offset on, in batches of about EVENTS_PER_BATCH events."""
        ...


@dataclass(slots=True)
class Outcome:
    """What became of one batch; `answers` in the order of its events. `premium` in 毫."""

    intake: Intake
    orders: int
    premium: int
    answers: list[Answer]
    head: Head

    def each(self) -> Iterator[tuple[int, int, Answer, Reason | None]]:
        """Offset, place in the record, answer and reason of every event, in order."""
        reasons = {rejection.ordinal: rejection.reason for rejection in self.intake.rejections}
        ordinals = (*self.intake.first_ordinals, self.intake.events)
        for line, first, after in zip(self.intake.records, ordinals, ordinals[1:], strict=False):
            for item, ordinal in enumerate(range(first, after)):
                yield line.offset, item, self.answers[ordinal], reasons.get(ordinal)


@dataclass(slots=True)
class Totals:
    """Outcomes added up over a run. `orders` and `premium` are what this run added to the books."""

    records: int = 0
    events: int = 0
    orders: int = 0
    premium: int = 0
    answers: Counter[Answer] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Add one batch."""
        self.records += len(outcome.intake.records)
        self.events += outcome.intake.events
        self.orders += outcome.orders
        self.premium += outcome.premium
        self.answers.update(outcome.answers)
        self.reasons.update(rejection.reason for rejection in outcome.intake.rejections)


class Booker:
    """Books batches into one ledger under one rulebook. Knows what its transactions refer to."""

    def __init__(self, engine: Engine, rules: Rulebook, switch: Switch = lambda step: None) -> None:
        self._engine = engine
        self._rules = rules
        self._rating = Rating(rules)
        self._changing = reference.ChangingRules(self._rating)
        self._switch = switch
        self._accounts = journal.Accounts()
        self._days: set[date] = set()
        with engine.begin() as tx:
            reference.keep_rulebook(tx, rules)
            self._changing.look(tx)
            self._known = registry.known(tx)
        self._looked = monotonic()

    @property
    def platform_ids(self) -> dict[int, str]:
        """Number → name of every platform that is known."""
        return {row.platform_no: row.platform_id for row in self._known.platforms}

    def head(self, topic: str, partition: int) -> Head:
        """How far a partition is booked."""
        with self._engine.connect() as connection:
            return heads.read(connection, topic, partition)

    def head_and_last(self, topic: str, partition: int) -> tuple[Head, bytes | None]:
        """How far a partition is booked, and the last record that is."""
        with self._engine.connect() as connection:
            head = heads.read(connection, topic, partition)
            return head, heads.last_record(connection, head)

    def goes_on_at(self, head: Head) -> int:
        """Up to where nobody waits for a partition's records any more."""
        with self._engine.connect() as connection:
            return gaps.goes_on_at(connection, head)

    def intakes(self, records: list[Record], door: Door) -> Iterator[Intake]:
        """Read a batch; in parts where it holds more events than an `ordinal` can number."""
        intake = self.read(records, door)
        if intake.events <= ORDINALS_MAX:
            yield intake
        else:
            middle = len(records) // 2
            yield from self.intakes(records[:middle], door)
            yield from self.intakes(records[middle:], door)

    def read(self, records: list[Record], door: Door = HANDED_IN) -> Intake:
        """Decode, validate and rate; a platform registered a moment ago is known."""
        if monotonic() - self._looked > REGISTRY_SECONDS:
            self._look()
        intake = self._reader(door).read(records)
        if any(rejection.reason == Reason.UNKNOWN_PLATFORM for rejection in intake.rejections) and self._look():
            intake = self._reader(door).read(records)
        self._switch("read")
        return intake

    def _look(self) -> bool:
        """Look platforms and keys up again; whether anything is new."""
        before = self._known
        with self._engine.connect() as connection:
            self._known = registry.known(connection)
        self._looked = monotonic()
        return self._known != before

    def book(self, intake: Intake, head: Head) -> Outcome:
        """Book one batch that begins at the head. Fenced when another process moved the head."""
        assert intake.records[0].offset >= head.next_offset, "nothing is booked twice"
        for attempt in range(1, RETRIES_MAX + 1):
            self._prepare(intake)
            try:
                with self._engine.begin() as tx:
                    outcome = self._transact(tx, intake, head)
            except (DBAPIError, DriverError) as error:
                if _constraint(error) == heads.BATCH_AT_OFFSET:
                    raise heads.fenced(head) from None
                if _state(error) not in RETRY_STATES or attempt == RETRIES_MAX:
                    raise
            else:
                self._switch("committed")
                return outcome
        raise AssertionError("the last attempt returns or raises")

    def again(self, records: list[Record], door: Door, head: Head) -> Outcome:
        """Records below the head, seen again: what was booked is a duplicate, what was rejected stays so."""
        intake = self.read(records, door)
        with self._engine.connect() as connection:
            intake.rejections = record.standing_rejections(connection, intake, head)
        return Outcome(intake, 0, 0, _answers(intake, Sifted(duplicates=list(range(intake.events)))), head)

    def _reader(self, door: Door) -> Reader:
        return Reader(registry.for_intake(*self._known), self._rating, *door)

    def _prepare(self, intake: Intake) -> None:
        """Make what the batch refers to: its days and the days after them, and its accounts."""
        wanted = {event.tariff.day for event in intake.acceptances}
        wanted |= {day_of(number) for number in {day_number(event.occurred_us) for event in intake.later}}
        missing = wanted - self._days
        if missing:
            missing |= {day + timedelta(days=1) for day in missing}
            reference.make_days(self._engine, sorted(missing - self._days))
            self._days |= missing
        self._accounts.ensure(self._engine, premium_accounts(_tariffs(intake)))
        self._switch("prepared")

    def _transact(self, tx: Connection, intake: Intake, head: Head) -> Outcome:
        """The one transaction; see the module's docstring for its steps."""
        batch_id, numbers = _reserve(tx, {entry_key(tariff) for tariff in _tariffs(intake)})
        self._switch("begun")
        sifted = record.claim(tx, intake, batch_id, numbers)
        self._switch("claimed")
        after = self._keep_batch(tx, intake, sifted, head, batch_id)
        counts = self._post(tx, sifted, batch_id, numbers)
        self._switch("posted")
        record.keep_conflicts(tx, sifted.conflicts, batch_id)
        record.keep_rejections(tx, intake.rejections, batch_id)
        self._switch("kept")
        heads.advance(tx, head, after)
        self._switch("advanced")
        premium = sum(count * tariff.amount for tariff, count in counts.items())
        return Outcome(intake, len(sifted.acceptances), premium, _answers(intake, sifted), after)

    def _keep_batch(self, tx: Connection, intake: Intake, sifted: Sifted, head: Head, batch_id: int) -> Head:
        """Keep the raw bytes, chained to the batch before; returns where the head goes."""
        segment = evidence.seal(intake.records, head.chain_hash, head.topic, head.partition, head.next_offset)
        after = Head(head.topic, head.partition, intake.records[-1].offset + 1, segment.chain_after)
        tx.execute(
            batch_table.insert().values(
                batch_id=batch_id,
                topic=head.topic,
                partition=head.partition,
                first_offset=head.next_offset,
                next_offset=after.next_offset,
                rulebook_hash=self._rules.hash,
                events=intake.events,
                new=len(sifted.acceptances) + len(sifted.later),
                duplicate=len(sifted.duplicates),
                conflict=len(sifted.conflicts),
                rejected=len(intake.rejections),
                raw_bytes=segment.raw_bytes,
                raw_sha256=segment.raw_sha256,
                chain_before=segment.chain_before,
                chain_after=segment.chain_after,
            )
        )
        tx.execute(segment_table.insert().values(batch_id=batch_id, payload=segment.payload))
        return after

    def _post(self, tx: Connection, sifted: Sifted, batch_id: int, numbers: dict[EntryKey, int]) -> Counter[Tariff]:
        """Write the entries for what was charged; returns the orders charged per tariff."""
        changes = record.changes(tx, sifted, self._changing, self.platform_ids)
        if changes:
            self._accounts.ensure(self._engine, premium_accounts(change.tariff for change in changes))
        counts = record.counts(sifted, changes)
        sealed = reference.sealed_months(tx, {tariff.province for tariff in counts})
        entries = premium_entries(counts, lambda province, month: open_month(sealed, province, month))
        if missing := entries.keys() - numbers.keys():
            numbers |= _reserve(tx, missing)[1]
        numbered = {numbers[key]: entry for key, entry in entries.items()}
        journal.post(tx, numbered, self._accounts, self._rules.hash, batch_id)
        record.keep_changes(tx, changes, numbers)
        return counts


def switch_from_environment() -> Switch:
    """The switch for tests of whole commands: DANBAO_CRASH_AT=step ends this process there, as kill -9 does."""
    step = os.environ.get("DANBAO_CRASH_AT")
    if step is None:
        return lambda _: None
    if step not in STEPS:
        raise BadQuestion(
            Both(f"DANBAO_CRASH_AT={step} is no step.", f"DANBAO_CRASH_AT={step} 不是处理步骤。"),
            Both(f"Steps: {', '.join(STEPS)}", f"处理步骤：{'、'.join(STEPS)}"),
        )

    def pull(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return pull


def run(booker: Booker, source: Source, totals: Totals, on_outcome: Callable[[Outcome], None] = lambda _: None) -> None:
    """Book a source from where its head stands; what lies below the head is answered as duplicate."""
    # A batch is tens of thousands of small objects without cycles: the collector would walk them again and
    # again and halve the speed of validation. It runs between batches instead.
    gc.disable()
    try:
        _run(booker, source, totals, on_outcome)
    finally:
        gc.enable()


def _run(booker: Booker, source: Source, totals: Totals, on_outcome: Callable[[Outcome], None]) -> None:
    head = booker.head(source.topic, source.partition)
    for records in source.batches(0 if source.answers_again else head.next_offset):
        known = max(0, head.next_offset - records[0].offset)
        outcomes = [booker.again(records[:known], source.door, head)] if known else []
        fresh = records[known:]
        assert not fresh or fresh[0].offset == head.next_offset, "nothing is skipped"
        for intake in booker.intakes(fresh, source.door) if fresh else ():
            outcomes.append(booker.book(intake, head))
            head = outcomes[-1].head
        for outcome in outcomes:
            totals.add(outcome)
            on_outcome(outcome)
        outcomes.clear()
        gc.collect(1)


def _tariffs(intake: Intake) -> set[Tariff]:
    return {event.tariff for event in intake.acceptances}


def _reserve(tx: Connection, keys: Iterable[EntryKey]) -> tuple[int, dict[EntryKey, int]]:
    """A batch number, and a number for each entry that the batch may make."""
    wanted = sorted(keys)
    batch_id, numbers = tx.execute(sql("reserve_ids"), {"entries": len(wanted)}).one()
    return batch_id, dict(zip(wanted, numbers, strict=True))


def _answers(intake: Intake, sifted: Sifted) -> list[Answer]:
    """One answer per event, in order."""
    answers = [Answer.NEW] * intake.events
    for ordinal in sifted.duplicates:
        answers[ordinal] = Answer.DUPLICATE
    for conflict in sifted.conflicts:
        answers[conflict.event.ordinal] = Answer.CONFLICT
    for rejection in intake.rejections:
        answers[rejection.ordinal] = Answer.REJECTED
    return answers


def _state(error: DBAPIError | DriverError) -> str | None:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None)


def _constraint(error: DBAPIError | DriverError) -> str | None:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return cause.diag.constraint_name if isinstance(cause, DriverError) else None
