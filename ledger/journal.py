"""The journal: double entry for premiums. Pure.

In: how many orders of each tariff a batch charged. Out: entries whose postings sum to zero. One entry
per batch, platform, province, line and month (and tariff, should it change within a month), one pair
of postings per local day. Debit is positive.

Chart of accounts 会计科目:

    premium_receivable  应收职业伤害保障费   by province and platform   what the platform owes the fund
    premium_income      职业伤害保障费收入   by province                what the provincial fund earned
    rounding_residue    尾差                 by province                what rounding to fen left over
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from ledger.rating import Tariff
from schemas.codes import Line

ACCOUNT_KINDS: dict[str, tuple[str, str]] = {
    "premium_receivable": ("premium receivable", "应收职业伤害保障费"),
    "premium_income": ("premium income", "职业伤害保障费收入"),
    "rounding_residue": ("rounding residue", "尾差"),
}


class Account(NamedTuple):
    """One account 会计科目 of the chart; `platform_no` only where the kind is kept by platform."""

    kind: str
    province: str
    platform_no: int | None


class Posting(NamedTuple):
    """One line of an entry. `amount` in 毫, debit positive."""

    account: Account
    occurred_on: date
    order_count: int
    amount: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A balanced entry 分录. `month` is the month it is booked in, `origin_month` the one it happened in."""

    kind: str
    platform_no: int
    province: str
    line: Line
    month: date
    origin_month: date
    premium_base: int
    float_factor: Decimal
    order_count: int
    postings: tuple[Posting, ...]

    def __post_init__(self) -> None:
        assert len(self.postings) >= 2
        assert sum(posting.amount for posting in self.postings) == 0


class EntryKey(NamedTuple):
    """What orders of one batch share when they share an entry."""

    platform_no: int
    province: str
    line: Line
    month: date
    premium_base: int
    float_factor: Decimal


def entry_key(tariff: Tariff) -> EntryKey:
    """The entry that an order of this tariff belongs to."""
    return EntryKey(
        tariff.platform_no,
        tariff.province,
        tariff.line,
        tariff.month,
        tariff.premium_base,
        tariff.float_factor,
    )


def premium_entries(counts: Mapping[Tariff, int], open_month: Callable[[str, date], date]) -> dict[EntryKey, Entry]:
    """Orders charged per tariff (negative: reversed) → entries.

    `open_month(province, month)`: the month that can still be booked in; a sealed month's late orders
    become an adjustment there, at the rate in force when they happened.
    """
    ordered = sorted(counts, key=lambda tariff: (entry_key(tariff), tariff.day))
    return {
        key: _premium_entry(key, list(tariffs), counts, open_month) for key, tariffs in groupby(ordered, key=entry_key)
    }


def _premium_entry(
    key: EntryKey,
    tariffs: list[Tariff],
    counts: Mapping[Tariff, int],
    open_month: Callable[[str, date], date],
) -> Entry:
    receivable = Account("premium_receivable", key.province, key.platform_no)
    income = Account("premium_income", key.province, None)
    postings: list[Posting] = []
    for day, alike in groupby(tariffs, key=lambda tariff: tariff.day):
        # More than one of a day where rulebooks agree on the rate, and orders of both are charged or reversed here.
        first, *others = alike
        count = sum((counts[tariff] for tariff in others), counts[first])
        postings.append(Posting(receivable, day, count, count * first.amount))
        postings.append(Posting(income, day, count, -count * first.amount))
    return Entry(
        "premium",
        key.platform_no,
        key.province,
        key.line,
        open_month(key.province, key.month),
        key.month,
        key.premium_base,
        key.float_factor,
        sum(counts[tariff] for tariff in tariffs),
        tuple(postings),
    )


def premium_accounts(tariffs: Iterable[Tariff]) -> set[Account]:
    """Every account that charges of these tariffs touch."""
    keys = {(tariff.province, tariff.platform_no) for tariff in tariffs}
    receivable = {Account("premium_receivable", province, platform_no) for province, platform_no in keys}
    return receivable | {Account("premium_income", province, None) for province, _ in keys}
