"""Sealing a month. In: a province and a month. Out: its settlement, made once and for ever.

Ingest may run all the while: entries take a shared lock on their month, sealing takes it alone, so
every entry is either in the settlement or goes to the open month.
"""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, Engine, func, select, text

from ledger.errors import DanbaoError
from ledger.journal import Account
from ledger.rulebook import Rulebook
from ledger.settlement import Declaration, MonthLine, declare, rounding_entry
from ledger.store import journal, reference
from ledger.store.queries import sql
from ledger.store.tables import declaration as declaration_table
from ledger.store.tables import settlement as settlement_table
from schemas.both import Both
from schemas.codes import Line

# A namespace of its own for "a settlement of this month is running", beside the lock on the month itself.
_RUNNING = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Settled:
    """A province's month: its declared lines, and when it was sealed. `sealed_at` None: a dry run."""

    province: str
    month: date
    declarations: list[Declaration]
    due_on: date
    sealed_at: datetime | None
    changed: bool


class Busy(DanbaoError):
    """Another settlement of the same province and month is running."""


def open_provinces(tx: Connection, month: date) -> list[str]:
    """Provinces that have entries in the month and no settlement of it."""
    rows = tx.execute(sql("unsealed_months"), {"month": month})
    return [row.province for row in rows if row.month == month]


def unsettled_months(tx: Connection, until: date) -> list[date]:
    """Months up to a day that have entries in some province which has not settled them, in order."""
    return sorted({row.month for row in tx.execute(sql("unsealed_months"), {"month": until})})


def settled_provinces(tx: Connection, month: date) -> list[str]:
    """Provinces whose month is sealed."""
    wanted = select(settlement_table.c.province).where(settlement_table.c.month == month)
    return list(tx.scalars(wanted.order_by(settlement_table.c.province)))


def preview(tx: Connection, province: str, month: date, rules: Rulebook) -> Settled:
    """What a settlement would declare now, or what it did declare; writes nothing."""
    if found := _existing(tx, province, month):
        return found
    return Settled(province, month, declare(_lines(tx, province, month)), rules.due_on(province, month), None, False)


def seal(engine: Engine, province: str, month: date, rules: Rulebook) -> Settled:
    """Settle and seal. A month settled before is returned as it stands; Busy while another settles it."""
    _refuse_earlier_open(engine, province, month)
    with engine.begin() as tx:
        lock = func.month_lock(province, month)
        if not tx.scalar(select(func.pg_try_advisory_xact_lock(lock + _RUNNING))):
            raise Busy(
                Both(
                    f"Another settlement of {month:%Y-%m} in province {province} is running.",
                    f"省份 {province} 的 {month:%Y-%m} 正由另一进程结算。",
                ),
                Both(
                    "Let it finish, then look: danbao settle gives the result that stands.",
                    "请待其完成，再用 danbao settle 查看结算结果。",
                ),
            )
        if found := _existing(tx, province, month):
            return found
        tx.execute(select(func.pg_advisory_xact_lock(lock)))
        reference.keep_rulebook(tx, rules)
        declarations = declare(_lines(tx, province, month))
        accounts = _accounts(engine, province, declarations)
        due_on = rules.due_on(province, month)
        entry_ids = _round(tx, province, month, declarations, accounts, rules.hash)
        sealed_at = _keep(tx, province, month, declarations, entry_ids, due_on, rules.hash)
    return Settled(province, month, declarations, due_on, sealed_at, True)


def _refuse_earlier_open(engine: Engine, province: str, month: date) -> None:
    with engine.connect() as connection:
        rows = connection.execute(sql("unsealed_months"), {"month": month})
        earlier = [row.month for row in rows if row.province == province and row.month < month]
    if earlier:
        months = ", ".join(f"{one:%Y-%m}" for one in earlier)
        raise DanbaoError(
            Both(
                f"Province {province} has earlier months that are not settled: {months}.",
                f"省份 {province} 尚有更早的月份未结算：{months}。",
            ),
            Both(
                f"Months are settled in order: danbao settle {earlier[0]:%Y-%m} --province {province}",
                f"须按月份先后结算：danbao settle {earlier[0]:%Y-%m} --province {province}",
            ),
        )


def _accounts(engine: Engine, province: str, declarations: list[Declaration]) -> journal.Accounts:
    """The accounts that rounding may touch."""
    wanted = {Account("premium_receivable", province, item.of.platform_no) for item in declarations}
    accounts = journal.Accounts()
    accounts.ensure(engine, wanted | {Account("rounding_residue", province, None)})
    return accounts


def _lines(tx: Connection, province: str, month: date) -> list[MonthLine]:
    rows = tx.execute(sql("month_lines"), {"province": province, "month": month})
    return [
        MonthLine(
            row.platform_no,
            Line(row.line),
            row.origin_month,
            row.premium_base,
            row.float_factor,
            int(row.order_count),
            int(row.amount),
        )
        for row in rows
    ]


def _round(
    tx: Connection,
    province: str,
    month: date,
    declarations: list[Declaration],
    accounts: journal.Accounts,
    rulebook_hash: bytes,
) -> dict[int, int]:
    """Post the rounding entries; returns entry number by place of the declaration."""
    made = [(place, rounding_entry(province, month, item)) for place, item in enumerate(declarations, 1)]
    entries = [(place, entry) for place, entry in made if entry]
    sequence = text("select nextval(pg_get_serial_sequence('entry', 'entry_id')) from generate_series(1, :count)")
    numbers = list(tx.scalars(sequence, {"count": len(entries)}))
    numbered = {number: entry for number, (_, entry) in zip(numbers, entries, strict=True)}
    journal.post(tx, numbered, accounts, rulebook_hash, None)
    return {place: number for number, (place, _) in zip(numbers, entries, strict=True)}


def _keep(
    tx: Connection,
    province: str,
    month: date,
    declarations: list[Declaration],
    entry_ids: dict[int, int],
    due_on: date,
    rulebook_hash: bytes,
) -> datetime:
    rows = [
        {
            "province": province,
            "month": month,
            "declaration_no": place,
            "platform_no": item.of.platform_no,
            "line": str(item.of.line),
            "origin_month": item.of.origin_month,
            "premium_base": item.of.premium_base,
            "float_factor": item.of.float_factor,
            "order_count": item.of.order_count,
            "amount": item.of.amount,
            "declared_fen": item.declared_fen,
            "entry_id": entry_ids.get(place),
        }
        for place, item in enumerate(declarations, 1)
    ]
    if rows:
        tx.execute(declaration_table.insert(), rows)
    sealed = settlement_table.insert().values(
        province=province,
        month=month,
        order_count=sum(item.of.order_count for item in declarations),
        amount=sum(item.of.amount for item in declarations),
        declared_fen=sum(item.declared_fen for item in declarations),
        due_on=due_on,
        rulebook_hash=rulebook_hash,
    )
    sealed_at = tx.scalar(sealed.returning(settlement_table.c.sealed_at))
    assert isinstance(sealed_at, datetime)
    return sealed_at


def _existing(tx: Connection, province: str, month: date) -> Settled | None:
    there = settlement_table
    row = tx.execute(select(there).where(there.c.province == province, there.c.month == month)).one_or_none()
    if row is None:
        return None
    lines = declaration_table
    wanted = select(lines).where(lines.c.province == province, lines.c.month == month)
    declarations = [
        Declaration(
            MonthLine(
                line.platform_no,
                Line(line.line),
                line.origin_month,
                line.premium_base,
                line.float_factor,
                line.order_count,
                line.amount,
            ),
            line.declared_fen,
        )
        for line in tx.execute(wanted.order_by(lines.c.declaration_no))
    ]
    return Settled(province, month, declarations, row.due_on, row.sealed_at, False)
