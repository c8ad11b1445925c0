"""Days and months are cut in Asia/Shanghai: the fixed offset agrees with the time zone database."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.calendar import (
    SCHEME_BEGAN,
    SHANGHAI,
    US_PER_DAY,
    day_begins_us,
    day_number,
    day_of,
    from_us,
    month_of,
    next_month,
    number_of,
    to_us,
)

ZONE = ZoneInfo("Asia/Shanghai")
MOMENTS = st.datetimes(datetime(2022, 6, 30), datetime(2099, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
DAYS = st.dates(SCHEME_BEGAN, date(2099, 12, 31))


@given(MOMENTS)
def test_the_local_day_is_the_one_of_the_time_zone_database(moment: datetime):
    assert day_of(day_number(to_us(moment))) == moment.astimezone(ZONE).date()


@given(MOMENTS)
def test_an_instant_survives_to_the_microsecond(moment: datetime):
    back = from_us(to_us(moment))
    assert back == moment
    assert back.isoformat() == moment.astimezone(ZONE).isoformat()


@given(DAYS)
def test_a_day_begins_at_local_midnight_and_not_a_microsecond_earlier(day: date):
    begins = day_begins_us(day)
    assert from_us(begins).replace(tzinfo=None) == datetime.combine(day, datetime.min.time())
    assert day_of(day_number(begins)) == day
    assert day_of(day_number(begins - 1)) == day - timedelta(days=1)
    assert day_begins_us(day + timedelta(days=1)) - begins == US_PER_DAY


@given(DAYS)
def test_day_numbers_lead_back_to_their_day(day: date):
    assert day_of(number_of(day)) == day


@given(DAYS)
def test_months_follow_each_other_without_a_gap(day: date):
    month = month_of(day)
    assert month <= day < next_month(month)
    assert month.day == next_month(month).day == 1
    assert month_of(next_month(month) - timedelta(days=1)) == month
    assert next_month(day) == next_month(month)


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("2022-06-30T15:59:59.999999+00:00", "2022-06-30"),
        ("2022-06-30T16:00:00+00:00", "2022-07-01"),
        ("2026-10-03T00:00:00+08:00", "2026-10-03"),
        ("2024-02-29T23:59:59+08:00", "2024-02-29"),
        ("2026-12-31T16:00:00+00:00", "2027-01-01"),
    ],
)
def test_the_day_changes_at_sixteen_hours_utc(written: str, day: str):
    assert str(day_of(day_number(to_us(datetime.fromisoformat(written))))) == day


def test_december_is_followed_by_january():
    assert next_month(date(2026, 12, 1)) == date(2027, 1, 1)


def test_instants_are_shown_in_shanghai():
    assert from_us(0).isoformat() == "1970-01-01T08:00:00+08:00"
    assert from_us(0).tzinfo is SHANGHAI
