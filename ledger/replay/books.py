"""Entries, postings and settled months, held against what must be in them. Pure.

In: how many orders a batch charged per tariff, or what the entries of a month add up to; and the rows as
recorded. Out: findings. What an entry or a declaration must say is the ledger's own `premium_entries`,
`declare` and `rounding_entry`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from operator import attrgetter

from ledger.calendar import next_month
from ledger.journal import Entry, EntryKey, Posting, premium_entries
from ledger.rating import Tariff
from ledger.replay.chain import BatchRow
from ledger.replay.findings import Code, Finding, differences, missing, text, unfounded
from ledger.rulebook import Rulebook
from ledger.settlement import Declaration, MonthLine, declare, rounding_entry
from schemas.codes import Line

Sealed = Mapping[tuple[str, date], datetime]


@dataclass(slots=True)
class EntryRow:
    """An entry as it is recorded; its postings by their number."""

    entry_id: int
    batch_id: int | None
    kind: str
    platform_no: int
    province: str
    line: str
    month: date
    origin_month: date
    premium_base: int
    order_count: int
    rulebook_hash: bytes
    recorded_in: int
    recorded_at: datetime
    float_factor: Decimal
    postings: dict[int, Posting] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """How findings name it."""
        return f"entry {self.entry_id}"

    @property
    def identity(self) -> tuple[int, str, str, date, int, Decimal]:
        """What the orders of one entry share, as in `EntryKey`."""
        return self.platform_no, self.province, self.line, self.origin_month, self.premium_base, self.float_factor


# ---- a batch

_FACTS = ("kind", "platform_no", "province", "line", "origin_month", "premium_base", "float_factor", "order_count")
_facts = attrgetter(*_FACTS)


def check_entries(
    batch: BatchRow,
    counts: Mapping[Tariff, int],
    recorded: list[EntryRow],
    sealed: Sealed,
    followed_at: datetime | None,
) -> Iterator[Finding]:
    """The entries of one batch. `followed_at`: when its partition's next batch began, so that this one was over."""
    expected = premium_entries(counts, lambda _, month: month)
    pairs, lost, strange = _paired(expected, recorded)
    for entry, row in pairs:
        stamps = {"rulebook_hash": batch.rulebook_hash, "recorded_at": batch.recorded_at}
        yield from _check_entry(entry, row, stamps)
        yield from _check_month(row, sealed, followed_at)
    for entry in lost:
        yield missing("entry", batch.key, _described(entry))
    for row in strange:
        yield unfounded(
            "entry", row.key, f"{batch.key}: {row.order_count} orders of {' '.join(map(text, row.identity))}"
        )
    for row in recorded:
        if row.recorded_in != recorded[0].recorded_in:
            first = {"recorded_in": recorded[0].recorded_in}
            yield from differences("entry", row.key, first, {"recorded_in": row.recorded_in})


def _paired(
    expected: Mapping[EntryKey, Entry], recorded: list[EntryRow]
) -> tuple[list[tuple[Entry, EntryRow]], list[Entry], list[EntryRow]]:
    """Entries and rows by what identifies them, and the rest by what is most alike; what is left on either side."""
    rest = {tuple(key): entry for key, entry in expected.items()}
    pairs, strange = [], []
    for row in recorded:
        if entry := rest.pop(row.identity, None):
            pairs.append((entry, row))
        else:
            strange.append(row)
    while rest and strange:
        row = strange.pop()
        nearest = max(rest, key=lambda key: sum(a == b for a, b in zip(key, row.identity, strict=True)))
        pairs.append((rest.pop(nearest), row))
    return pairs, list(rest.values()), strange


def _check_entry(expected: Entry, row: EntryRow, stamps: Mapping[str, object]) -> Iterator[Finding]:
    if _facts(expected) != _facts(row) or any(getattr(row, column) != value for column, value in stamps.items()):
        columns = {**dict(zip(_FACTS, _facts(expected), strict=True)), **stamps}
        key = row.key if row.batch_id is None else f"{row.key} of batch {row.batch_id}"
        yield from differences("entry", key, columns, {column: getattr(row, column) for column in columns})
    for number, posting in enumerate(expected.postings, 1):
        key = f"{row.key} posting {number}"
        found = row.postings.get(number)
        if found is None:
            yield missing("posting", key, _columns(posting))
        elif found != posting:
            yield from differences("posting", key, _columns(posting), _columns(found))
    for number in sorted(row.postings.keys() - set(range(1, len(expected.postings) + 1))):
        yield unfounded("posting", f"{row.key} posting {number}", _columns(row.postings[number]))


def _columns(posting: Posting) -> dict[str, object]:
    """A posting as its row; the account by what it is for."""
    kind, province, platform_no = posting.account
    account = f"{kind} {province}" if platform_no is None else f"{kind} {province} platform {platform_no}"
    return {"account_id": account, **dict(zip(Posting._fields[1:], posting[1:], strict=True))}


def _check_month(row: EntryRow, sealed: Sealed, followed_at: datetime | None) -> Iterator[Finding]:
    """A late order is booked in the first month that was still open: every month before that was sealed by then."""
    month = row.origin_month
    while month < row.month:
        sealed_at = sealed.get((row.province, month))
        if sealed_at is None or (followed_at and sealed_at > followed_at):
            yield Finding(Code.SEAL, "entry", row.key, "month", f"{month:%Y-%m}, open then", f"{row.month:%Y-%m}")
            return
        month = next_month(month)


def _described(entry: Entry) -> str:
    return (
        f"{entry.order_count} orders of platform {entry.platform_no}, {entry.province}, {entry.line},"
        f" {entry.origin_month:%Y-%m}, {entry.premium_base} × {entry.float_factor}"
    )


# ---- a settled month


@dataclass(frozen=True, slots=True)
class DeclarationRow:
    """A declared line as it is recorded."""

    declaration_no: int
    declaration: Declaration
    entry_id: int | None


@dataclass(slots=True)
class SettlementRow:
    """A settlement as it is recorded; its lines in order."""

    province: str
    month: date
    order_count: int
    amount: int
    declared_fen: int
    due_on: date
    rulebook_hash: bytes
    sealed_at: datetime
    declarations: list[DeclarationRow] = field(default_factory=list)

    @property
    def key(self) -> str:
        """How findings name it."""
        return f"{self.province} {self.month:%Y-%m}"


def check_settlement(
    row: SettlementRow, lines: list[MonthLine], roundings: Mapping[int, EntryRow], rules: Rulebook | None
) -> Iterator[Finding]:
    """A settlement: what the month's entries add up to, declared, rounded once, the residue booked."""
    sound = [line for line in lines if _exact(line) == line.amount]
    for line in lines:
        yield from differences("entry", f"{row.key} {_line_text(line)}", {"sum": _exact(line)}, {"sum": line.amount})
    expected = declare(sound)
    yield from _check_declarations(row, expected, roundings)
    totals: dict[str, object] = {
        "order_count": sum(line.order_count for line in lines),
        "amount": sum(line.amount for line in lines),
        "declared_fen": sum(item.declared_fen for item in expected),
    }
    if rules is None:
        rulebook = text(row.rulebook_hash)
        yield Finding(Code.UNREADABLE, "settlement", row.key, "rulebook_hash", "a recorded rulebook", rulebook)
    else:
        totals["due_on"] = rules.due_on(row.province, row.month)
    yield from differences("settlement", row.key, totals, {column: getattr(row, column) for column in totals})


def _exact(line: MonthLine) -> int | Decimal:
    return line.order_count * line.premium_base * line.float_factor


def _line_key(line: MonthLine) -> tuple[int, Line, date, int, Decimal]:
    return line.platform_no, line.line, line.origin_month, line.premium_base, line.float_factor


def _line_text(line: MonthLine) -> str:
    return (
        f"platform {line.platform_no} {line.line} {line.origin_month:%Y-%m} {line.premium_base} × {line.float_factor}"
    )


def _check_declarations(
    row: SettlementRow, expected: list[Declaration], roundings: Mapping[int, EntryRow]
) -> Iterator[Finding]:
    """Declared lines by what they are for, the rest by their number."""
    found = {_line_key(item.declaration.of): item for item in row.declarations}
    pairs = [(number, one, found.pop(_line_key(one.of), None)) for number, one in enumerate(expected, 1)]
    rest = {item.declaration_no: item for item in found.values()}
    for number, declaration, same in pairs:
        key = f"{row.key} line {number}"
        if item := same or rest.pop(number, None):
            recorded = _row(item.declaration_no, item.declaration)
            yield from differences("declaration", key, _row(number, declaration), recorded)
            yield from _check_rounding(row, declaration, item, roundings)
        else:
            yield missing("declaration", key, _row(number, declaration))
    for item in rest.values():
        what = _row(item.declaration_no, item.declaration)
        yield unfounded("declaration", f"{row.key} line {item.declaration_no}", what)


def _row(number: int, declaration: Declaration) -> dict[str, object]:
    """A declared line as its row."""
    columns = ("platform_no", "line", "origin_month", "premium_base", "float_factor", "order_count", "amount")
    line = {name: getattr(declaration.of, name) for name in columns}
    return {"declaration_no": number, **line, "declared_fen": declaration.declared_fen}


def _check_rounding(
    row: SettlementRow, declaration: Declaration, item: DeclarationRow, roundings: Mapping[int, EntryRow]
) -> Iterator[Finding]:
    """The rounding entry of a declared line, where rounding left something over."""
    key = f"{row.key} line {item.declaration_no}"
    expected = rounding_entry(row.province, row.month, declaration)
    entry = roundings.get(item.entry_id) if item.entry_id is not None else None
    if expected is None:
        yield from differences("declaration", key, {"entry_id": None}, {"entry_id": item.entry_id})
    elif entry is None:
        yield missing("entry", key, f"the rounding of {declaration.residue} 毫 (entry {text(item.entry_id)})")
    else:
        stamps = {"month": row.month, "rulebook_hash": row.rulebook_hash, "recorded_at": row.sealed_at}
        yield from _check_entry(expected, entry, stamps)


def check_roundings(rows: Iterable[SettlementRow], roundings: Mapping[int, EntryRow]) -> Iterator[Finding]:
    """Every rounding entry belongs to one declared line."""
    named = {item.entry_id for row in rows for item in row.declarations}
    for entry_id, entry in roundings.items():
        if entry_id not in named:
            yield unfounded("entry", entry.key, f"a rounding in {entry.province} {entry.month:%Y-%m}")
