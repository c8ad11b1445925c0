"""Rating 按单计费: what one order costs, by rule. Pure.

In: platform, line, place and day of acceptance. Out: the tariff that applies (base amount × float
factor, whole 毫) or None where no rate is in force. domain.md §2: labour is insured where the order is
accepted, at the rate in force when it happened.

Rulebooks may disagree about a past day. The one under which an order's acceptance is booked then decides about
the order for ever: what it costs, which event charges it, whether a cancellation gives the charge back. Its
ending may be booked before or after, elsewhere, and under a rulebook that says otherwise: the sum is the same.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from ledger.calendar import day_number, day_of, month_of
from ledger.rulebook import Rulebook
from schemas.codes import Line

# One letter each in the database; the order of the alphabet has no meaning.
LINE_CODES: dict[Line, bytes] = {
    Line.RIDE_HAILING: b"R",
    Line.FOOD_DELIVERY: b"F",
    Line.INSTANT_DELIVERY: b"D",
    Line.INTRA_CITY_FREIGHT: b"G",
}
LINES: dict[str, Line] = {code.decode(): line for line, code in LINE_CODES.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Tariff:
    """What every order of one platform, province, line and local day costs, and which event charges it."""

    platform_no: int
    province: str
    line: Line
    day: date
    month: date
    premium_base: int
    float_factor: Decimal
    amount: int
    charged_when_accepted: bool
    reversed_when_cancelled: bool

    @property
    def plain(self) -> bool:
        """Whether no ending changes what the acceptance charged."""
        return self.charged_when_accepted and not self.reversed_when_cancelled


class Rating:
    """A rulebook's tariffs, each worked out once; `tariff` is called for every order."""

    def __init__(self, rulebook: Rulebook) -> None:
        self.rulebook = rulebook
        self._known: dict[tuple[int, int, Line, int], Tariff | None] = {}

    def tariff(self, platform_no: int, platform_id: str, city: int, line: Line, day_number: int) -> Tariff | None:
        """The tariff, or None when no rate is in force. `city`: GB/T 2260 as a number; day: days since 1970."""
        key = (platform_no, city // 10_000, line, day_number)
        try:
            return self._known[key]
        except KeyError:
            found = self._known[key] = self._work_out(platform_no, platform_id, str(city)[:2], line, day_number)
            return found

    def _work_out(self, platform_no: int, platform_id: str, province: str, line: Line, number: int) -> Tariff | None:
        day = day_of(number)
        premium = self.rulebook.premium(line, province, platform_id, day)
        if premium is None:
            return None
        rule = self.rulebook.order_rule(line, province, day)
        return Tariff(
            platform_no,
            province,
            line,
            day,
            month_of(day),
            premium.premium_base,
            premium.float_factor,
            premium.amount,
            rule.charging_event == "accepted",
            rule.on_cancellation == "reverse",
        )

    def tariff_at(self, platform_no: int, platform_id: str, city: int, line: Line, occurred_us: int) -> Tariff | None:
        """The tariff at an instant (µs since 1970 UTC)."""
        return self.tariff(platform_no, platform_id, city, line, day_number(occurred_us))


def change_by_ending(tariff: Tariff, ending: bytes) -> tuple[str, int] | None:
    """What an ending (b"C" completed, b"X" cancelled) changes in an order's charge: a kind and a sign, or nothing.

    `tariff`: by the rulebook under which the order's acceptance is booked, whichever the ending is booked under. So an
    order is charged once, by its acceptance or else by its completion; and a cancellation gives back the very
    amount that the acceptance charged, or nothing.
    """
    if ending == b"C" and not tariff.charged_when_accepted:
        return "charge", 1
    if ending == b"X" and tariff.charged_when_accepted and tariff.reversed_when_cancelled:
        return "reverse", -1
    return None
