"""What must hold of chains, rulebooks, entries and settled months, and what is said where it does not.

In: rows as they would be read from sound books, and the same rows with one thing changed. Out: findings.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest

from ledger import evidence, rulebook
from ledger.evidence import GENESIS, Record
from ledger.journal import Account, premium_entries
from ledger.rating import Rating, Tariff
from ledger.replay.books import (
    DeclarationRow,
    EntryRow,
    SettlementRow,
    check_entries,
    check_roundings,
    check_settlement,
)
from ledger.replay.chain import BatchRow, HeadRow, check_chains, check_counts, check_segment
from ledger.replay.findings import Code, Finding, Findings, merged
from ledger.replay.rules import check_rates, read_rulebook
from ledger.settlement import MonthLine, declare, rounding_entry
from schemas.codes import Line

NOON = datetime(2026, 10, 3, 4, tzinfo=UTC)
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
RULES = rulebook.load()


def told(findings: Any) -> list[tuple[Code, str, str]]:
    return [(one.code, one.table, one.detail) for one in findings]


# ---- the chain


def chain(lengths: list[int], topic: str = "orders") -> tuple[list[BatchRow], list[HeadRow]]:
    """Batches of so many records each, and their head."""
    rows, value, at = [], GENESIS, 0
    for number, length in enumerate(lengths, 1):
        records = [Record(at + place, 0, b"{}") for place in range(length)]
        segment = evidence.seal(records, value, topic, 0, records[0].offset)
        counts = length, length, 0, 0, 0
        recorded_at = NOON + timedelta(minutes=number)
        place = number, topic, 0, at, at + length
        sealed = segment.raw_bytes, segment.raw_sha256, segment.chain_before, segment.chain_after
        rows.append(BatchRow(*place, b"h" * 32, recorded_at, *counts, *sealed))
        at, value = at + length, segment.chain_after
    return rows, [HeadRow(topic, 0, at, value)]


def test_batches_that_follow_one_another_make_a_sound_chain():
    rows, heads = chain([3, 1, 2])
    assert list(check_chains(rows, heads)) == []
    assert list(check_chains(list(reversed(rows)), heads)) == []


@pytest.mark.parametrize(
    ("place", "change", "expected"),
    [
        (1, {"chain_after": b"x" * 32}, [(Code.CHAIN, "batch", "chain_after")]),
        (2, {"chain_after": b"x" * 32}, [(Code.CHAIN, "batch", "chain_after")]),
        (1, {"chain_before": b"x" * 32}, [(Code.DIFFERS, "batch", "chain_before")]),
        (1, {"raw_sha256": b"x" * 32}, [(Code.CHAIN, "batch", "chain_after")]),
        (2, {"recorded_at": NOON}, [(Code.CHAIN, "batch", "recorded_at")]),
        (
            1,
            {"next_offset": 5},
            [(Code.CHAIN, "batch", "chain_after"), (Code.CHAIN, "batch", "first_offset")],
        ),
    ],
)
def test_one_change_in_a_chain_is_found_where_it_is(place: int, change: dict[str, Any], expected: list[Any]):
    rows, heads = chain([3, 1, 2])
    rows[place] = rows[place]._replace(**change)
    found = list(check_chains(rows, heads))
    assert told(found) == expected
    assert rows[place].key in {one.key for one in found}


def test_a_batch_taken_out_leaves_a_gap():
    rows, heads = chain([3, 1, 2])
    assert told(check_chains([rows[0], rows[2]], heads))[0] == (Code.CHAIN, "batch", "first_offset")


def test_a_last_batch_taken_out_leaves_a_head_beyond_the_end():
    rows, heads = chain([3, 1, 2])
    expected = [(Code.DIFFERS, "partition_head", "next_offset"), (Code.DIFFERS, "partition_head", "chain_hash")]
    assert told(check_chains(rows[:2], heads)) == expected


def test_heads_and_chains_come_in_pairs():
    rows, heads = chain([1])
    assert told(check_chains(rows, [])) == [(Code.MISSING, "partition_head", "row")]
    stray = HeadRow("nowhere", 0, 1, b"x" * 32)
    assert told(check_chains(rows, [*heads, stray])) == [(Code.UNFOUNDED, "partition_head", "row")]


def test_a_segment_is_held_against_its_batch():
    [row], _ = chain([2])
    framed = evidence.pack([Record(0, 0, b"{}"), Record(1, 0, b"{}")], 0)
    assert list(check_segment(row, framed, 2)) == []
    other = evidence.pack([Record(0, 0, b"{}"), Record(1, 0, b"[]")], 0)
    assert told(check_segment(row, other, 2)) == [(Code.DAMAGED, "segment", "raw_sha256")]
    wrong = row._replace(raw_sha256=b"x" * 32)
    assert told(check_segment(wrong, framed, 2)) == [(Code.DAMAGED, "batch", "raw_sha256")]
    assert told(check_segment(row, framed, 3)) == [(Code.DIFFERS, "batch", "next_offset")]


def test_counts_are_compared_one_by_one():
    [row], _ = chain([2])
    counted = {"events": 2, "new": 1, "duplicate": 1, "conflict": 0, "rejected": 0}
    assert told(check_counts(row, counted)) == [(Code.DIFFERS, "batch", "new"), (Code.DIFFERS, "batch", "duplicate")]


# ---- the rules


def test_the_recorded_rates_are_those_of_the_content():
    rules, faults = read_rulebook(RULES.hash, RULES.content)
    assert rules is not None
    assert faults == []
    rates = list(rules.rates())
    assert list(check_rates(rules.hash, rules, reversed(rates))) == []
    dearer = rates[0]._replace(premium_base=rates[0].premium_base + 1)
    assert told(check_rates(rules.hash, rules, [dearer, *rates[1:]])) == [(Code.DIFFERS, "rate", "premium_base")]
    assert told(check_rates(rules.hash, rules, rates[1:])) == [(Code.MISSING, "rate", "row")]


def test_a_rulebook_is_what_its_hash_says():
    other = RULES.content.replace("0.07", "0.08")
    _, faults = read_rulebook(RULES.hash, other)
    assert told(faults) == [(Code.DIFFERS, "rulebook", "rulebook_hash")]
    rules, faults = read_rulebook(sha256(b"{}").digest(), "{}")
    assert rules is None
    assert told(faults) == [(Code.DAMAGED, "rulebook", "content")]


# ---- entries


def tariff(day: int = 3, province: str = "31", platform: int = 1) -> Tariff:
    rating = Rating(RULES)
    found = rating.tariff(platform, "eleme", int(province) * 10_000 + 100, Line.INSTANT_DELIVERY, 20_727 + day)
    assert found is not None
    return found


def entry_rows(counts: dict[Tariff, int], batch: BatchRow) -> list[EntryRow]:
    """The rows that ingest writes for these orders."""
    made = premium_entries(counts, lambda _, month: month).values()
    return [
        EntryRow(
            *(number, batch.batch_id, one.kind, one.platform_no, one.province, str(one.line), one.month),
            *(one.origin_month, one.premium_base, one.order_count, batch.rulebook_hash, 99, batch.recorded_at),
            *(one.float_factor, dict(enumerate(one.postings, 1))),
        )
        for number, one in enumerate(made, 1)
    ]


@pytest.fixture
def batch() -> BatchRow:
    [row], _ = chain([5])
    return row


@pytest.fixture
def counts() -> dict[Tariff, int]:
    return {tariff(): 3, tariff(4): 1, tariff(province="21"): 2}


def test_the_entries_of_a_batch_are_what_its_orders_make(batch: BatchRow, counts: dict[Tariff, int]):
    assert list(check_entries(batch, counts, entry_rows(counts, batch), {}, None)) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "rounding"),
        ("platform_no", 2),
        ("province", "33"),
        ("line", "ride_hailing"),
        ("origin_month", date(2026, 9, 1)),
        ("premium_base", 701),
        ("float_factor", Decimal("1.0001")),
        ("order_count", 3),
        ("rulebook_hash", b"x" * 32),
        ("recorded_at", NOON),
    ],
)
def test_a_changed_entry_names_its_column(batch: BatchRow, counts: dict[Tariff, int], column: str, value: Any):
    rows = entry_rows(counts, batch)
    rows[1] = replace(rows[1], **{column: value})
    found = told(check_entries(batch, counts, rows, {(rows[1].province, date(2026, 9, 1)): NOON}, None))
    assert found == [(Code.DIFFERS, "entry", column)]


def test_changed_lost_and_added_postings_are_named(batch: BatchRow, counts: dict[Tariff, int]):
    rows = entry_rows(counts, batch)
    first = rows[0].postings[1]
    rows[0].postings[1] = first._replace(account=Account("premium_income", "31", None), amount=first.amount + 1)
    lost = rows[1].postings.pop(1)
    rows[1].postings[9] = lost
    assert told(check_entries(batch, counts, rows, {}, None)) == [
        (Code.DIFFERS, "posting", "account_id"),
        (Code.DIFFERS, "posting", "amount"),
        (Code.MISSING, "posting", "row"),
        (Code.UNFOUNDED, "posting", "row"),
    ]


def test_lost_and_added_entries_are_named(batch: BatchRow, counts: dict[Tariff, int]):
    rows = entry_rows(counts, batch)
    assert told(check_entries(batch, counts, rows[1:], {}, None)) == [(Code.MISSING, "entry", "row")]
    twice = [*rows, replace(rows[0], entry_id=9)]
    assert told(check_entries(batch, counts, twice, {}, None)) == [(Code.UNFOUNDED, "entry", "row")]


def test_entries_of_one_transaction_share_its_number(batch: BatchRow, counts: dict[Tariff, int]):
    rows = entry_rows(counts, batch)
    rows[1] = replace(rows[1], recorded_in=100)
    assert told(check_entries(batch, counts, rows, {}, None)) == [(Code.DIFFERS, "entry", "recorded_in")]


def test_a_late_order_may_be_booked_only_past_months_sealed_by_then(batch: BatchRow, counts: dict[Tariff, int]):
    rows = [replace(row, month=NOVEMBER) for row in entry_rows({tariff(): 1}, batch)]
    late = {tariff(): 1}
    key = "31", OCTOBER
    assert told(check_entries(batch, late, rows, {}, None)) == [(Code.SEAL, "entry", "month")]
    assert list(check_entries(batch, late, rows, {key: NOON}, None)) == []
    assert list(check_entries(batch, late, rows, {key: NOON}, NOON)) == []
    after = NOON + timedelta(hours=1)
    assert told(check_entries(batch, late, rows, {key: after}, NOON)) == [(Code.SEAL, "entry", "month")]


# ---- the settled month


LINES = [
    MonthLine(1, Line.INSTANT_DELIVERY, OCTOBER, 700, Decimal("1.2"), 3, 2520),
    MonthLine(2, Line.INSTANT_DELIVERY, OCTOBER, 700, Decimal(1), 10, 7000),
]


def settled() -> tuple[SettlementRow, dict[int, EntryRow]]:
    """The month of LINES as settle writes it, and its rounding entries."""
    declarations = declare(LINES)
    entry = rounding_entry("31", OCTOBER, declarations[0])
    assert entry is not None
    rounding = EntryRow(
        *(8, None, entry.kind, entry.platform_no, entry.province, str(entry.line), entry.month, entry.origin_month),
        *(entry.premium_base, 0, RULES.hash, 77, NOON, entry.float_factor, dict(enumerate(entry.postings, 1))),
    )
    rows = [DeclarationRow(1, declarations[0], 8), DeclarationRow(2, declarations[1], None)]
    due_on = RULES.due_on("31", OCTOBER)
    return SettlementRow("31", OCTOBER, 13, 9520, 95, due_on, RULES.hash, NOON, rows), {8: rounding}


def test_a_settled_month_is_what_its_entries_add_up_to():
    row, roundings = settled()
    assert list(check_settlement(row, LINES, roundings, RULES)) == []
    assert list(check_roundings([row], roundings)) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [("order_count", 12), ("amount", 9521), ("declared_fen", 96), ("due_on", date(2026, 11, 30))],
)
def test_a_changed_settlement_names_its_column(column: str, value: Any):
    row, roundings = settled()
    setattr(row, column, value)
    assert told(check_settlement(row, LINES, roundings, RULES)) == [(Code.DIFFERS, "settlement", column)]


def test_a_changed_declaration_names_its_column():
    row, roundings = settled()
    line = replace(row.declarations[1].declaration.of, platform_no=3)
    row.declarations[1] = DeclarationRow(2, replace(row.declarations[1].declaration, of=line), None)
    assert told(check_settlement(row, LINES, roundings, RULES)) == [(Code.DIFFERS, "declaration", "platform_no")]


def test_lost_and_added_declarations_are_named():
    row, roundings = settled()
    lost = row.declarations.pop()
    assert told(check_settlement(row, LINES, roundings, RULES)) == [(Code.MISSING, "declaration", "row")]
    row.declarations += [lost, DeclarationRow(3, lost.declaration, None)]
    found = told(check_settlement(row, LINES, roundings, RULES))
    assert (Code.UNFOUNDED, "declaration", "row") in found or (Code.DIFFERS, "declaration", "declaration_no") in found


def test_what_rounding_left_over_has_its_entry_and_no_other():
    row, roundings = settled()
    assert told(check_settlement(row, LINES, {}, RULES)) == [(Code.MISSING, "entry", "row")]
    first = roundings[8].postings[1]
    roundings[8].postings[1] = first._replace(amount=first.amount + 1)
    assert told(check_settlement(row, LINES, roundings, RULES)) == [(Code.DIFFERS, "posting", "amount")]
    assert told(check_roundings([], roundings)) == [(Code.UNFOUNDED, "entry", "row")]


def test_an_entry_sum_that_is_not_count_times_rate_is_named():
    row, roundings = settled()
    lines = [LINES[0], replace(LINES[1], amount=7001)]
    assert (Code.DIFFERS, "entry", "sum") in told(check_settlement(row, lines, roundings, RULES))


def test_a_settlement_under_rules_that_nobody_has_is_named():
    row, roundings = settled()
    expected = [(Code.UNREADABLE, "settlement", "rulebook_hash")]
    assert told(check_settlement(row, LINES, roundings, None)) == expected


# ---- findings


def test_findings_are_counted_all_and_what_others_follow_from_is_listed_first():
    findings = Findings()
    findings.add(Finding(Code.DIFFERS, "charge", str(number), "amount", "1", "2") for number in range(1_000))
    findings.add([Finding(Code.DAMAGED, "segment", "1", "payload", "a segment", "none")])
    assert findings.total == 1_001
    assert [one.table for one in findings.listed()] == ["segment", *["charge"] * 20]


def test_two_streams_are_laid_side_by_side_by_their_keys():
    pairs = merged([1, 2, 4], [20, 30, 40], lambda one: one, lambda other: other // 10)
    assert list(pairs) == [(1, None), (2, 20), (None, 30), (4, 40)]
