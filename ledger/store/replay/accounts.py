"""Entries, changes of charges, and settled months, judged. In: the desk when every event is answered. Out: findings."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

from duckdb import DuckDBPyConnection

from ledger.calendar import from_us
from ledger.journal import Account, Posting, entry_key
from ledger.rating import LINES, Rating, Tariff, change_by_ending
from ledger.replay.books import EntryRow, check_entries, check_roundings, check_settlement
from ledger.replay.chain import BatchRow, chains
from ledger.replay.findings import Code, Finding, differences, merged, missing, text, unfounded
from ledger.rulebook import Rulebook
from ledger.settlement import MonthLine
from ledger.store.replay.books import EntryKeys, Registers, line_of
from ledger.store.replay.desk import from_place, run
from ledger.store.replay.judgement import Named, Names, named_rows, rows_of
from ledger.store.replay.tariffs import Tariffs

# ---- changes of charges


@dataclass(frozen=True, slots=True)
class Change:
    """What an ending changed in an order's charge, and in which batch; the tariff is the acceptance's."""

    batch_id: int
    kind: str
    sign: int
    tariff: Tariff

    @property
    def amount(self) -> int:
        """By how much, in 毫."""
        return self.sign * self.tariff.amount


class Changes:
    """What endings change in charges, by the rulebook of the batch that holds the order's acceptance.

    `ratings`: by batch, where the batch's rulebook lets an ending change a charge.
    """

    def __init__(self, ratings: dict[int, Rating], names: Names, keys: EntryKeys) -> None:
        self._ratings = ratings
        self._names = names
        self._keys = keys
        self.counts: dict[int, Counter[Tariff]] = {}

    def judge(self, desk: DuckDBPyConnection) -> Iterator[Finding]:
        """Recorded changes against those that had to be; counts them by batch."""
        ended = named_rows(run(desk.cursor(), "ended_orders")) if self._ratings else iter(())
        recorded = named_rows(run(desk.cursor(), "recorded_changes"))
        groups = (list(group) for _, group in groupby(recorded, key=_order))
        for order, group in merged(ended, groups, _order, lambda group: _order(group[0])):
            found = group or []
            change = self._expected(order, {row["batch_id"] for row in found}) if order else None
            key = self._names.order(*_order(order or found[0]))
            if change:
                self.counts.setdefault(change.batch_id, Counter())[change.tariff] += change.sign
            yield from self._compared(key, change, found)

    def _expected(self, order: Named, recorded_in: set[int]) -> Change | None:
        """The change of an order that has ended. Which of two partitions was later is told by where it is recorded."""
        accepted_in, ended_in = from_place(order["place"])[0], from_place(order["end_place"])[0]
        rating = self._ratings.get(accepted_in)
        if rating is None:
            return None
        line = LINES[chr(order["line"])]
        name = self._names.platform(order["platform_no"])
        tariff = rating.tariff_at(order["platform_no"], name, order["city"], line, order["us"])
        effect = tariff and change_by_ending(tariff, bytes([order["kind"]]))
        if not (tariff and effect):
            return None
        either = {"end": [ended_in], "acceptance": [accepted_in], None: [ended_in, accepted_in]}[order["later"]]
        made_in = next((batch_id for batch_id in either if {batch_id} == recorded_in), either[0])
        return Change(made_in, *effect, tariff)

    def _compared(self, key: str, change: Change | None, found: list[Named]) -> Iterator[Finding]:
        rest = [row for row in found if change is None or row["kind"] != change.kind]
        for row in rest:
            what = f"{row['amount']} 毫 in entry {row['entry_id']}"
            yield unfounded("charge_change", f"{key} {row['kind']}", what)
        if change is None:
            return
        link = f"batch {change.batch_id}, {self._keys.name(self._keys.number(entry_key(change.tariff)))}"
        if len(rest) == len(found):
            yield missing("charge_change", f"{key} {change.kind}", f"{change.amount} 毫, {link}")
        for row in found:
            if row["kind"] == change.kind:
                there = f"batch {text(row['batch_id'])}, {self._keys.name(row['key_no'])}"
                expected = {"amount": change.amount, "entry_id": link}
                recorded = {"amount": row["amount"], "entry_id": there}
                yield from differences("charge_change", f"{key} {change.kind}", expected, recorded)


def _order(row: Named) -> tuple[int, str]:
    return row["platform_no"], row["order_id"]


# ---- entries


def judge_entries(
    desk: DuckDBPyConnection,
    facts: Registers,
    tariffs: Tariffs,
    changes: dict[int, Counter[Tariff]],
    unreadable: set[int],
    roundings: dict[int, EntryRow],
) -> Iterator[Finding]:
    """The entries of every batch that was read; those of settlements are put into `roundings`."""
    batches = {row.batch_id: row for row in facts.batches}
    sealed = {(row.province, row.month): row.sealed_at for row in facts.settlements}
    followed = {row.batch_id: after for row, after in followers(facts.batches)}
    counts = _counts(desk, tariffs, changes)
    for counted, group in merged(counts, _entries(desk, facts.accounts), _first, _first):
        batch_id = _first(counted or group)
        rows = group[1] if group else []
        if batch_id == NO_BATCH:
            roundings.update({row.entry_id: row for row in rows})
        elif batch_id in unreadable:
            continue
        elif batch := batches.get(batch_id):
            orders = counted[1] if counted else {}
            yield from check_entries(batch, orders, rows, sealed, followed.get(batch_id))
        else:
            for row in rows:
                yield unfounded("entry", row.key, f"batch {batch_id}, which there is not")
    for entry_id, found, before in run(desk, "transactions").fetchall():
        yield Finding(Code.DIFFERS, "entry", f"entry {entry_id}", "recorded_in", f"above {before}", text(found))


NO_BATCH = 1 << 63  # sorts after every batch


def followers(batches: list[BatchRow]) -> Iterator[tuple[BatchRow, datetime | None]]:
    """Each batch with the moment at which the next one of its partition began."""
    for chain in chains(batches):
        for row, after in zip(chain, [*chain[1:], None], strict=True):
            yield row, after.recorded_at if after else None


def _first(pair: tuple[int, Any] | None) -> int:
    assert pair is not None
    return pair[0]


def _counts(
    desk: DuckDBPyConnection, tariffs: Tariffs, changes: dict[int, Counter[Tariff]]
) -> Iterator[tuple[int, Counter[Tariff]]]:
    """Orders charged per tariff by batch, changes of charges included."""
    rows = rows_of(run(desk.cursor(), "orders_by_batch"))
    charged: Iterator[tuple[int, Counter[Tariff]]] = (
        (
            batch_id,
            Counter(
                {
                    tariffs.by_number[number]: orders
                    for _, number, orders in group
                    if tariffs.by_number[number].charged_when_accepted
                }
            ),
        )
        for batch_id, group in groupby(rows, key=_first)
    )
    for one, other in merged(charged, sorted(changes.items(), key=_first), _first, _first):
        counts = one[1] if one else Counter()
        for tariff, change in (other[1] if other else {}).items():
            counts[tariff] += change
        if counts:
            yield _first(one or other), counts


def _entries(desk: DuckDBPyConnection, accounts: dict[int, Account]) -> Iterator[tuple[int, list[EntryRow]]]:
    """Every entry with its postings, by batch."""
    for batch_id, group in groupby(rows_of(run(desk.cursor(), "batch_entries")), key=itemgetter(1)):
        entries: list[EntryRow] = []
        for *entry, recorded_us, factor, number, account_id, day, orders, amount in group:
            if not entries or entries[-1].entry_id != entry[0]:
                entries.append(EntryRow(*(*entry, from_us(recorded_us), Decimal(factor))))
            if number is not None:
                account = accounts.get(account_id) or Account(f"none of number {account_id}", "", None)
                entries[-1].postings[number] = Posting(account, day, orders, amount)
        yield NO_BATCH if batch_id is None else batch_id, entries


# ---- settlements and sums


def judge_settlements(
    desk: DuckDBPyConnection, facts: Registers, rulebooks: dict[bytes, Rulebook], roundings: dict[int, EntryRow]
) -> Iterator[Finding]:
    """Every settled month is what its entries add up to."""
    lines: dict[tuple[str, date], list[MonthLine]] = {}
    for row in named_rows(run(desk.cursor(), "month_lines")):
        rate = row["origin_month"], row["premium_base"], Decimal(row["float_factor"])
        line = MonthLine(row["platform_no"], line_of(row["line"]), *rate, row["order_count"], row["amount"])
        lines.setdefault((row["province"], row["month"]), []).append(line)
    for settlement in facts.settlements:
        rules = rulebooks.get(settlement.rulebook_hash)
        yield from check_settlement(
            settlement, lines.get((settlement.province, settlement.month), []), roundings, rules
        )
    yield from check_roundings(facts.settlements, roundings)
    for key in facts.stray_declarations:
        yield unfounded("declaration", key, "a line of a month that was not settled")


def judge_sums(desk: DuckDBPyConnection) -> Iterator[Finding]:
    """Audit check number one: postings of an entry sum to zero, and its charges to what they post."""
    for row in named_rows(run(desk.cursor(), "sums")):
        key = f"entry {text(row['entry_id'])}"
        if not row["known"]:
            yield missing("entry", key, f"{row['lines']} postings and charges of {row['charged']} 毫 name it")
        elif row["total"] or row["lines"] < 2:
            yield Finding(Code.SUM, "posting", key, "amount", "0", f"{row['total']} over {row['lines']} postings")
        else:
            yield Finding(Code.SUM, "charge", key, "amount", f"{row['posted']} posted", f"{row['charged']} charged")
