"""Days and months, cut in Asia/Shanghai. In: microseconds since 1970 UTC. Out: local dates and months.

The scheme began on 2022-07-01 and China has kept UTC+8 without summer time since 1991, so a fixed
offset is exact for every instant that the ledger can hold.
"""

from datetime import UTC, date, datetime, timedelta, timezone

SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")
SCHEME_BEGAN = date(2022, 7, 1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US_PER_SECOND = 1_000_000
US_PER_DAY = 86_400 * US_PER_SECOND
_OFFSET_US = 8 * 3600 * US_PER_SECOND
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def to_us(moment: datetime) -> int:
    """An aware datetime → microseconds since 1970 UTC, exactly."""
    gap = moment - EPOCH
    return (gap.days * 86_400 + gap.seconds) * US_PER_SECOND + gap.microseconds


def from_us(us: int) -> datetime:
    """Microseconds since 1970 UTC → datetime in Asia/Shanghai."""
    return (EPOCH + timedelta(microseconds=us)).astimezone(SHANGHAI)


def local_day(moment: datetime) -> date:
    """The local day of an aware datetime."""
    return moment.astimezone(SHANGHAI).date()


def day_number(us: int) -> int:
    """The local day of an instant, as days since 1970-01-01."""
    return (us + _OFFSET_US) // US_PER_DAY


def day_of(number: int) -> date:
    """Days since 1970-01-01 → date."""
    return date.fromordinal(_EPOCH_DAY + number)


def number_of(day: date) -> int:
    """Date → days since 1970-01-01."""
    return day.toordinal() - _EPOCH_DAY


def day_begins_us(day: date) -> int:
    """The first instant of a local day, in microseconds since 1970 UTC."""
    return number_of(day) * US_PER_DAY - _OFFSET_US


def month_of(day: date) -> date:
    """The first day of the day's month; months are kept as that date."""
    return day.replace(day=1)


def next_month(month: date) -> date:
    """The first day of the following month."""
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)
