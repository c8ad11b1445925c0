"""Times as a platform's export writes them → RFC 3339 text, moved by whole days.

In: the name of a format (`iso`, `unix_s`, `unix_ms`, `day_seconds`) or a strptime pattern, the offset
for times written without one, and a number of days. Out: a function from written time to RFC 3339;
ValueError (or OverflowError, out of the calendar) where the text is no such time. The clock time of
the day never changes: only the date is moved.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo

# Where a file writes no month, its rows are read in this one: 31 days, long before the scheme.
STAND_IN_YEAR, STAND_IN_MONTH = 2000, 1

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T]((?:[01]\d|2[0-3]):[0-5]\d)(:[0-5]\d(?:\.\d{1,6})?)?"
    r"(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)?",
    re.ASCII,
)
_DAY_SECONDS = re.compile(r"(\d{1,2}) (\d{1,5})", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,16}", re.ASCII)


class _Days(dict[str, str]):
    """2020-02-01 → the same day moved, remembered: a file has few days and many rows."""

    def __init__(self, shift_days: int) -> None:
        super().__init__()
        self._shift = timedelta(days=shift_days)

    def __missing__(self, day: str) -> str:
        moved = self[day] = (date.fromisoformat(day) + self._shift).isoformat()
        return moved


def clock(time_format: str, zone: str, shift_days: int) -> Callable[[str], str]:
    """A format → what reads a time written in it; `zone` such as +08:00 where the text carries no offset."""
    if time_format == "iso":
        return _iso(zone, _Days(shift_days))
    offset = datetime.strptime(zone, "%z").tzinfo
    assert offset is not None
    match time_format:
        case "unix_s":
            read = _unix(1, offset)
        case "unix_ms":
            read = _unix(1_000, offset)
        case "day_seconds":
            read = _day_seconds(offset)
        case _:
            read = _pattern(time_format, offset)
    shift = timedelta(days=shift_days)
    return lambda written: (read(written) + shift).isoformat()


def _iso(zone: str, days: _Days) -> Callable[[str], str]:
    def read(written: str) -> str:
        match = _ISO.fullmatch(written)
        if match is None:
            raise ValueError(written)
        day, minutes, seconds, offset = match.groups()
        return f"{days[day]}T{minutes}{seconds or ':00'}{offset or zone}"

    return read


def _unix(per_second: int, zone: tzinfo) -> Callable[[str], datetime]:
    def read(written: str) -> datetime:
        if not _WHOLE.fullmatch(written):
            raise ValueError(written)
        since = timedelta(microseconds=int(written) * (1_000_000 // per_second))
        return (datetime(1970, 1, 1, tzinfo=UTC) + since).astimezone(zone)

    return read


def _day_seconds(zone: tzinfo) -> Callable[[str], datetime]:
    def read(written: str) -> datetime:
        match = _DAY_SECONDS.fullmatch(written)
        if match is None or int(match[2]) >= 86_400:
            raise ValueError(written)
        midnight = datetime(STAND_IN_YEAR, STAND_IN_MONTH, int(match[1]), tzinfo=zone)
        return midnight + timedelta(seconds=int(match[2]))

    return read


def _pattern(time_format: str, zone: tzinfo) -> Callable[[str], datetime]:
    """A strptime pattern; what it does not write of year and month is the stand-in's."""
    has_year = any(directive in time_format for directive in ("%Y", "%y", "%G", "%c", "%x"))
    ahead, more = ("", "") if has_year else (f"{STAND_IN_YEAR} ", "%Y ")

    def read(written: str) -> datetime:
        moment = datetime.strptime(ahead + written, more + time_format)  # noqa: DTZ007  the zone follows
        return moment if moment.tzinfo else moment.replace(tzinfo=zone)

    return read
