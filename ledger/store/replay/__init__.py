"""Replay 审计重放: from the segments alone the ledger again, and compared with the books to the last 毫.

In: an engine in the role of audit, a directory to spill into. Out: findings. The way of it:

    snapshot   one look at the database for all connections, while ingest goes on
    books      charges, event keys, entries and postings come to a desk of DuckDB, by their place; order events
               only where they are not what charges and event keys say, as the database is asked at the end
    batches    segments are unpacked, read on the terms of their time, rated; each event is held against its rows
    judgement  what did not match: duplicates, conflicts and rejections as recorded, or findings
    accounts   entries, changes of charges and settled months from what was counted

The decisions are the ledger's own: Reader, Rating, sift, premium_entries, declare. The queries only clear
what is equal in every value; whatever they cannot clear goes to those functions.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from duckdb import DuckDBPyConnection
from sqlalchemy import Connection, Engine, select
from stdnum.cn import uscc

from ledger.calendar import from_us, to_us
from ledger.replay.books import EntryRow
from ledger.replay.chain import check_chains
from ledger.replay.findings import Code, Finding, Findings, missing, text
from ledger.replay.rules import check_rates, read_rulebook
from ledger.rulebook import Rate, Rulebook
from ledger.store import tables
from ledger.store.queries import sql
from ledger.store.replay.accounts import Changes, followers, judge_entries, judge_settlements, judge_sums
from ledger.store.replay.batches import Replayed, replay_batches
from ledger.store.replay.books import Advance, EntryKeys, Registers, load, order_events_agree, registers
from ledger.store.replay.desk import open_desk, open_questions, put, run
from ledger.store.replay.inbox import judge_inbox
from ledger.store.replay.judgement import (
    Names,
    judge_conflicts,
    judge_counts,
    judge_rejections,
    judge_rows,
    settle_answers,
)
from ledger.store.replay.snapshot import Snapshot, taken
from ledger.store.replay.tariffs import Tariffs
from ledger.store.replay.terms import Reading

Progress = Callable[[int], AbstractContextManager[Advance]]


@dataclass(slots=True)
class Report:
    """What a replay covered, and what it found.

    `whole`: order_event was held against its records row by row; else `agree` says whether its sums are right.
    """

    findings: Findings = field(default_factory=Findings)
    batches: int = 0
    records: int = 0
    events: int = 0
    whole: bool = False
    agree: bool = True


def replay(engine: Engine, spill: Path, workers: int, progress: Progress) -> Report:
    """Replay everything. `progress`: from the number of steps to what is told of each one done.

    Order events are brought over only where they must be: where they are not what charges and event keys say, or where
    one of those is found wrong, for then an order event that says the same is wrong, too. All is replayed once more.
    """
    with taken(engine) as snapshot:
        report = _replayed(snapshot, spill, workers, progress, whole=False)
        wrong = not report.agree or report.findings.tables() & {"charge", "event_key"}
        if wrong and not report.whole:
            report = _replayed(snapshot, spill, workers, progress, whole=True)
    return report


def _replayed(snapshot: Snapshot, spill: Path, workers: int, progress: Progress, whole: bool) -> Report:
    report = Report()
    with open_desk(spill) as desk:
        facts = registers(snapshot.connection)
        report.findings.add(check_chains(facts.batches, facts.heads))
        with progress(2 * sum(row.events for row in facts.batches)) as advance:
            _replay(_Run(desk, snapshot, facts, workers, advance, whole), report)
    return report


@dataclass(slots=True)
class _Run:
    """What the steps of one replay share."""

    desk: DuckDBPyConnection
    snapshot: Snapshot
    facts: Registers
    workers: int
    advance: Advance
    whole: bool
    keys: EntryKeys = field(default_factory=EntryKeys)

    @property
    def connection(self) -> Connection:
        return self.snapshot.connection


def _replay(run_: _Run, report: Report) -> None:
    found = report.findings
    rulebooks = _rulebooks(run_.connection, run_.facts, found)
    _put_registers(run_.desk, run_.facts, rulebooks)
    # Charges without an entry are placed by their order events.
    run_.whole = report.whole = run_.whole or not all(rules.plain_orders() for rules in rulebooks.values())
    load(run_.desk, run_.snapshot, run_.keys, run_.whole, run_.advance)
    found.add(_platforms(run_.desk, run_.facts))
    races = [(row.batch_id, row.platform_no) for row in run_.connection.execute(sql("replay_races"))]
    reading = Reading(run_.desk, run_.facts, rulebooks, races)
    tariffs = Tariffs(run_.keys, list(reading.ratings.values()), run_.facts.platform_ids)
    replayed = Replayed()
    stream = replay_batches(
        run_.desk, run_.connection, reading, tariffs, run_.facts.batches, run_.workers, run_.whole, run_.advance
    )
    for item in stream:
        if isinstance(item, Finding):
            found.add([item])
        else:
            replayed = item
    with ThreadPoolExecutor(1) as pool:
        agreeing = None if run_.whole else pool.submit(order_events_agree, run_.snapshot)
        _judge(run_, reading, tariffs, replayed, rulebooks, found)
        report.agree = agreeing is None or agreeing.result()
    report.batches, report.records = len(run_.facts.batches), replayed.records
    report.events = sum(replayed.events.values())


def _judge(
    run_: _Run,
    reading: Reading,
    tariffs: Tariffs,
    replayed: Replayed,
    rulebooks: dict[bytes, Rulebook],
    found: Findings,
) -> None:
    """Everything that is judged when all batches are replayed."""
    desk, facts, connection = run_.desk, run_.facts, run_.connection
    names = Names(facts.platform_ids, run_.keys)
    open_questions(desk, run_.workers)
    settle_answers(desk, run_.whole)
    found.add(judge_rows(desk, names))
    found.add(judge_conflicts(desk, connection, tariffs, replayed.unreadable))
    found.add(judge_rejections(desk, connection, replayed.unreadable))
    found.add(judge_counts(desk, facts.batches, replayed))
    found.add(judge_inbox(connection, facts.batches))
    by_batch = {row.batch_id: row.rulebook_hash for row in facts.batches}
    ratings = {
        batch_id: reading.ratings[key]
        for batch_id, key in by_batch.items()
        if key in rulebooks and not rulebooks[key].plain_orders()
    }
    changes = Changes(ratings, names, run_.keys)
    found.add(changes.judge(desk))
    roundings: dict[int, EntryRow] = {}
    found.add(judge_entries(desk, facts, tariffs, changes.counts, replayed.unreadable, roundings))
    found.add(judge_settlements(desk, facts, rulebooks, roundings))
    found.add(judge_sums(desk))


def _rulebooks(connection: Connection, facts: Registers, found: Findings) -> dict[bytes, Rulebook]:
    """Every recorded rulebook that can be read, by its hash; its rate rows are compared with it."""
    rulebooks = {}
    rates: dict[bytes, list[Rate]] = {}
    for row in connection.execute(select(tables.rate)):
        last = row.in_force.upper and row.in_force.upper - timedelta(days=1)
        period = row.in_force.lower, last, row.premium_base, row.mark, row.source
        rates.setdefault(row.rulebook_hash, []).append(Rate(row.line, row.province, row.platform_id, *period))
    for row in connection.execute(select(tables.rulebook)):
        rules, faults = read_rulebook(row.rulebook_hash, row.content)
        found.add(faults)
        if rules:
            rulebooks[row.rulebook_hash] = rules
            found.add(check_rates(row.rulebook_hash, rules, rates.pop(row.rulebook_hash, [])))
    for key in {*rates, *(row.rulebook_hash for row in facts.batches)} - rulebooks.keys():
        found.add([missing("rulebook", key.hex(), "rates and batches name it")])
    return rulebooks


def _platforms(desk: DuckDBPyConnection, facts: Registers) -> Iterator[Finding]:
    """Platforms whose code is none, or that had orders charged before they were registered: those count as known."""
    for row in facts.platforms:
        if not uscc.is_valid(row.uscc):
            yield Finding(Code.DAMAGED, "platform", row.platform_id, "uscc", "a check digit that fits", row.uscc)
    for platform_no, recorded_us in run(desk, "first_entries").fetchall():
        charged_at, registered_at = from_us(recorded_us), facts.registered_at.get(platform_no)
        if registered_at is None:
            yield missing("platform", f"platform {platform_no}", f"its orders were charged from {text(charged_at)} on")
        elif registered_at > charged_at:
            expected = f"not after {text(charged_at)}, when its orders were charged"
            key = f"platform {platform_no}"
            yield Finding(Code.DIFFERS, "platform", key, "registered_at", expected, text(registered_at))
            facts.registered_at[platform_no] = charged_at


def _put_registers(desk: DuckDBPyConnection, facts: Registers, rulebooks: dict[bytes, Rulebook]) -> None:
    """Batches and accounts, as the queries on the desk need them."""
    plain = {key: rules.plain_orders() for key, rules in rulebooks.items()}
    partitions = {(row.topic, row.partition): number for number, row in enumerate(facts.batches)}
    rows = [
        (
            row.batch_id,
            partitions[row.topic, row.partition],
            row.first_offset,
            to_us(row.recorded_at),
            to_us(after) if after else None,
            plain.get(row.rulebook_hash, True),
        )
        for row, after in followers(facts.batches)
    ]
    put(desk, "batch", rows)
    put(desk, "account", [(number, one.kind) for number, one in facts.accounts.items()])
