"""The journal: balanced entries, one per platform, province, line, month and rate."""

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.calendar import month_of, next_month
from ledger.journal import (
    ACCOUNT_KINDS,
    Account,
    Entry,
    Posting,
    entry_key,
    premium_accounts,
    premium_entries,
)
from ledger.rating import Tariff
from ledger.settlement import open_month
from schemas.codes import Line

OCTOBER = date(2026, 10, 1)
DELIVERY = Line.INSTANT_DELIVERY


def tariff(
    day: date = OCTOBER,
    premium_base: int = 700,
    platform_no: int = 7,
    province: str = "31",
    line: Line = DELIVERY,
    float_factor: str = "1",
) -> Tariff:
    factor = Decimal(float_factor)
    amount = int(premium_base * factor)
    return Tariff(platform_no, province, line, day, month_of(day), premium_base, factor, amount, True, False)


def own_month(province: str, month: date) -> date:
    return month


def booked(counts: dict[Tariff, int]) -> list[Entry]:
    return list(premium_entries(counts, own_month).values())


# Shape


def test_a_batch_of_one_tariff_is_one_entry_of_two_postings():
    (entry,) = booked({tariff(): 12})
    assert (entry.kind, entry.platform_no, entry.province, entry.line) == ("premium", 7, "31", DELIVERY)
    assert (entry.month, entry.origin_month, entry.order_count) == (OCTOBER, OCTOBER, 12)
    assert (entry.premium_base, entry.float_factor) == (700, Decimal(1))
    assert entry.postings == (
        Posting(Account("premium_receivable", "31", 7), OCTOBER, 12, 8_400),
        Posting(Account("premium_income", "31", None), OCTOBER, 12, -8_400),
    )


def test_the_days_of_a_month_share_an_entry_and_keep_their_own_postings():
    (entry,) = booked({tariff(OCTOBER + timedelta(days=day)): day + 1 for day in range(31)})
    assert entry.order_count == sum(range(1, 32))
    assert [posting.occurred_on.day for posting in entry.postings[::2]] == list(range(1, 32))
    assert len(entry.postings) == 62


@pytest.mark.parametrize(
    "other",
    [
        tariff(platform_no=8),
        tariff(province="44"),
        tariff(line=Line.RIDE_HAILING),
        tariff(day=date(2026, 9, 30)),
        tariff(premium_base=2_500),
        tariff(float_factor="1.2"),
    ],
)
def test_what_differs_in_platform_province_line_month_or_rate_has_an_entry_of_its_own(other: Tariff):
    assert len(booked({tariff(): 1, other: 1})) == 2


def test_a_rate_that_changes_within_a_month_makes_two_entries_of_that_month():
    before, after = tariff(date(2026, 10, 14)), tariff(date(2026, 10, 15), premium_base=2_500)
    first, second = booked({before: 3, after: 2})
    assert first.month == second.month == OCTOBER
    assert {(entry.premium_base, entry.order_count) for entry in (first, second)} == {(700, 3), (2_500, 2)}


def test_rulebooks_that_agree_on_the_rate_share_the_postings_of_a_day():
    """They are told apart by what they say of endings, which no entry shows."""
    (entry,) = booked({tariff(): 5, tariff(OCTOBER + timedelta(days=1)): 2, tariff(): -1})
    assert entry.order_count == 6
    assert [(posting.occurred_on.day, posting.order_count, posting.amount) for posting in entry.postings] == [
        (1, 4, 2_800),
        (1, 4, -2_800),
        (2, 2, 1_400),
        (2, 2, -1_400),
    ]


def test_a_float_factor_enters_the_amount_exactly():
    (entry,) = booked({tariff(premium_base=700, float_factor="1.2"): 7})
    assert entry.postings[0].amount == 7 * 840


def test_entries_come_in_the_order_of_their_keys_whatever_order_they_were_counted_in():
    tariffs = [tariff(platform_no=number, province=province) for number in (9, 7, 8) for province in ("44", "31")]
    forwards = premium_entries(dict.fromkeys(tariffs, 1), own_month)
    backwards = premium_entries(dict.fromkeys(reversed(tariffs), 1), own_month)
    assert list(forwards.items()) == list(backwards.items())
    assert list(forwards) == sorted(forwards)


def test_nothing_charged_is_nothing_booked():
    assert booked({}) == []


# Reversals, sealed months


def test_a_reversal_is_an_entry_with_a_negative_count_and_turned_signs():
    (entry,) = booked({tariff(): -3})
    assert entry.order_count == -3
    assert [posting.amount for posting in entry.postings] == [-2_100, 2_100]


def test_a_charge_and_its_reversal_in_one_batch_leave_an_entry_of_nothing():
    (entry,) = booked({tariff(): 0})
    assert (entry.order_count, [posting.amount for posting in entry.postings]) == (0, [0, 0])


def test_an_order_of_a_sealed_month_goes_to_the_open_month_and_names_its_own():
    sealed = {("31", OCTOBER), ("31", date(2026, 11, 1))}
    entries = premium_entries(
        {tariff(): 1, tariff(province="44"): 1}, lambda province, month: open_month(sealed, province, month)
    )
    late, in_time = sorted(entries.values(), key=lambda entry: entry.province)
    assert (late.province, late.month, late.origin_month) == ("31", date(2026, 12, 1), OCTOBER)
    assert (in_time.province, in_time.month, in_time.origin_month) == ("44", OCTOBER, OCTOBER)
    assert {posting.occurred_on for posting in late.postings} == {OCTOBER}


# Always


def test_an_entry_that_does_not_balance_cannot_be_made():
    (entry,) = booked({tariff(): 1})
    receivable, income = entry.postings
    with pytest.raises(AssertionError):
        replace(entry, postings=(receivable, income._replace(amount=-699)))
    with pytest.raises(AssertionError):
        replace(entry, postings=(receivable._replace(amount=0),))


TARIFFS = st.builds(
    tariff,
    st.dates(date(2026, 8, 1), date(2026, 11, 30)),
    st.sampled_from([100, 700, 2_500]),
    st.sampled_from([7, 8]),
    st.sampled_from(["31", "44"]),
    st.sampled_from(list(Line)),
    st.sampled_from(["0.5", "1", "1.2"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(TARIFFS, max_size=30), st.data())
def test_any_counts_balance_and_add_up(tariffs: list[Tariff], data: st.DataObject):
    counts = {each: data.draw(st.integers(-50, 50)) for each in tariffs}
    entries = premium_entries(counts, own_month)
    assert entries.keys() == {entry_key(each) for each in tariffs}
    by_account: Counter[Account] = Counter()
    for key, entry in entries.items():
        assert sum(posting.amount for posting in entry.postings) == 0
        members = [each for each in tariffs if entry_key(each) == key]
        assert entry.order_count == sum(counts[each] for each in members)
        assert len(entry.postings) == 2 * len({each.day for each in members})
        assert all(entry.month <= posting.occurred_on < next_month(entry.month) for posting in entry.postings)
        for posting in entry.postings:
            by_account[posting.account] += posting.amount
    owed = sum(amount for account, amount in by_account.items() if account.kind == "premium_receivable")
    assert owed == sum(count * each.amount for each, count in counts.items())
    assert by_account.keys() == premium_accounts(tariffs)


def test_accounts_are_of_the_chart_and_receivables_name_their_platform():
    for account in premium_accounts([tariff(), tariff(platform_no=8, province="44")]):
        assert account.kind in ACCOUNT_KINDS
        assert (account.platform_no is not None) == (account.kind == "premium_receivable")
