"""The settled month 月度结算. Pure.

In: what the entries of one province's month add up to. Out: declared lines 申报缴费, each rounded once to
fen by the rule, and the entries that take the residue. A settled month never changes; what comes late
goes to the open month as an adjustment that names its month of origin.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from ledger.calendar import next_month
from ledger.journal import Account, Entry, Posting
from ledger.money import HAO_PER_FEN, round_to_fen
from schemas.codes import Line


@dataclass(frozen=True, slots=True)
class MonthLine:
    """What the entries of a month add up to for one platform, line, month of origin and rate. 毫."""

    platform_no: int
    line: Line
    origin_month: date
    premium_base: int
    float_factor: Decimal
    order_count: int
    amount: int


@dataclass(frozen=True, slots=True)
class Declaration:
    """A month line as it is declared: in whole fen. `residue` (毫) is what rounding added."""

    of: MonthLine
    declared_fen: int

    @property
    def residue(self) -> int:
        """Declared minus exact, in 毫; never as much as one fen."""
        return self.declared_fen * HAO_PER_FEN - self.of.amount


def open_month(sealed: set[tuple[str, date]], province: str, month: date) -> date:
    """The month that an order of `month` is booked in: its own, or the first after it that is not sealed."""
    while (province, month) in sealed:
        month = next_month(month)
    return month


def declare(lines: list[MonthLine]) -> list[Declaration]:
    """Month lines → declarations, in order. Count × base × factor must be what the books hold."""
    declared = []
    for line in sorted(lines, key=_order):
        exact = line.order_count * line.premium_base * line.float_factor
        assert exact == line.amount, f"{line}: the entries hold {line.amount} 毫, count × rate is {exact}"
        declaration = Declaration(line, round_to_fen(line.amount))
        assert abs(declaration.residue) < HAO_PER_FEN
        declared.append(declaration)
    return declared


def _order(line: MonthLine) -> tuple[int, Line, date, int, Decimal]:
    """No two lines of a month agree in all of these."""
    return line.platform_no, line.line, line.origin_month, line.premium_base, line.float_factor


def rounding_entry(province: str, month: date, declaration: Declaration) -> Entry | None:
    """The entry that brings what the platform owes to the declared fen; None where nothing is left over."""
    if not declaration.residue:
        return None
    line = declaration.of
    last_day = next_month(month) - timedelta(days=1)
    receivable = Account("premium_receivable", province, line.platform_no)
    residue = Account("rounding_residue", province, None)
    return Entry(
        "rounding",
        line.platform_no,
        province,
        line.line,
        month,
        line.origin_month,
        line.premium_base,
        line.float_factor,
        0,
        (
            Posting(receivable, last_day, 0, declaration.residue),
            Posting(residue, last_day, 0, -declaration.residue),
        ),
    )
