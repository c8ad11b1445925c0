"""Code lists: provinces and cities (GB/T 2260, dated), lines of business, event types, reason codes.

In: `gb2260.tsv` beside this file. Out: plain dictionaries and enumerations. One word, one meaning:
the spelling here is the spelling in the database, on the wire and in the tests.
"""

import re
from datetime import date
from enum import StrEnum
from importlib.resources import files
from typing import NamedTuple

from schemas.both import Both

# A platform's short id, as it stands in CloudEvents `source` after /platforms/.
PLATFORM_ID = r"^[a-z0-9][a-z0-9_-]{0,31}$"
ANY = "any"  # in a rule: every province, platform or line; so no platform may be called that


class Line(StrEnum):
    """Line of business 行业."""

    RIDE_HAILING = "ride_hailing"
    FOOD_DELIVERY = "food_delivery"
    INSTANT_DELIVERY = "instant_delivery"
    INTRA_CITY_FREIGHT = "intra_city_freight"


LINE_NAMES: dict[Line, tuple[str, str]] = {
    Line.RIDE_HAILING: ("ride-hailing", "出行"),
    Line.FOOD_DELIVERY: ("food delivery", "外卖"),
    Line.INSTANT_DELIVERY: ("instant delivery", "即时配送"),
    Line.INTRA_CITY_FREIGHT: ("intra-city freight", "同城货运"),
}


class EventType(StrEnum):
    """What happened to an order, as CloudEvents `type`."""

    ACCEPTED = "order.accepted"
    REASSIGNED = "order.reassigned"
    COMPLETED = "order.completed"
    CANCELLED = "order.cancelled"


# The facts in which two versions of one event can differ.
FACT_NAMES: dict[str, tuple[str, str]] = {
    "time": ("time", "时间"),
    "worker": ("worker", "人员"),
    "city": ("city", "城市"),
    "line": ("line", "行业"),
    "type": ("type of ending", "结束类型"),
}


class Answer(StrEnum):
    """What became of one event. An answer means committed."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why a record or an event was rejected."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    INVALID = "invalid"
    EMPTY_LIST = "empty_list"
    TOO_MANY_EVENTS = "too_many_events"
    UNKNOWN_PLATFORM = "unknown_platform"
    UNKNOWN_CITY = "unknown_city"
    BEFORE_SCHEME = "before_scheme"
    IN_FUTURE = "in_future"
    NO_RATE = "no_rate"
    UNMAPPED = "unmapped"
    WRONG_SOURCE = "wrong_source"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad_signature"


class Doubt(StrEnum):
    """Why an order window is weaker evidence than it looks (domain.md §3)."""

    OPEN = "open"
    BOUNDED_BY_RULE = "bounded_by_rule"
    LATE_DECLARED = "late_declared"
    OUT_OF_ORDER = "out_of_order"
    OVERLAP = "overlap"
    REASSIGNED_AWAY = "reassigned_away"
    CONFLICT = "conflict"
    NO_ACCEPTANCE = "no_acceptance"


class Area(NamedTuple):
    """A province or city: its names, and the days on which its code is in force."""

    code: str
    name: str
    name_en: str
    since: date | None
    until: date | None


def _areas() -> list[Area]:
    lines = files("schemas").joinpath("gb2260.tsv").read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith(("#", "code")))
    return [
        Area(code, name, english, *(date.fromisoformat(day) if day else None for day in (since, until)))
        for code, name, english, since, until in rows
    ]


_ALL = _areas()
PROVINCES: dict[str, Area] = {area.code[:2]: area for area in _ALL if area.code.endswith("0000")}
CITIES: dict[str, Area] = {area.code: area for area in _ALL if not area.code.endswith("0000")}


def short_name(province: Area) -> str:
    """A province as people call it: 上海, 内蒙古, 广西."""
    return re.sub("(省|市|(维吾尔|壮族|回族)?自治区)$", "", province.name)


def no_city(code: str) -> Both:
    """Why a text is no city's code, and which code may be meant: of a district its city, of a name the city's."""
    of_district = [f"{code[:4]}00"] if code[:4].isdigit() and len(code) == 6 else []
    meant = [found for found in of_district if found in CITIES]
    meant += [area.code for area in CITIES.values() if code and area.name.removesuffix("市") == code.removesuffix("市")]
    if not meant:
        return Both(
            f"{code!r} is not a city of GB/T 2260; give the six digits of the prefecture-level city (310100: Shanghai)",
            f"{code!r} 不是 GB/T 2260 的城市代码；请写地级市的六位代码（310100：上海市）",
        )
    city = CITIES[meant[0]]
    return Both(
        f"{code!r} is not the code of a city; give the prefecture-level city: {city.code}",
        f"{code!r} 不是城市代码；请写所属的地级市：{city.code}（{city.name}）",
    )
