"""Recorded order events in words, and as plain values: what `windows` and `explain` say alike.

In: facts from `ledger.windows`. Out: plain dictionaries, and sentences in the reader's language.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ledger.calendar import SHANGHAI
from ledger.cli.common import out, say
from ledger.money import yuan
from schemas.codes import CITIES, FACT_NAMES, LINE_NAMES, PROVINCES, EventType, Line, Reason
from schemas.orders import REASON_MEANINGS

if TYPE_CHECKING:
    from ledger.windows import Order, OtherVersion, RecordedEvent

WIDE = 120  # columns that hold a fact with its two times
EVENTS = {
    EventType.ACCEPTED: ("accepted", "接单"),
    EventType.REASSIGNED: ("reassigned", "改派"),
    EventType.COMPLETED: ("completed", "完成"),
    EventType.CANCELLED: ("cancelled", "取消"),
}


# ---- plain values


def plain_order(order: "Order") -> dict[str, Any]:
    """What an order was charged, its events and the versions in conflict with them."""
    return {
        "premium": None if order.premium is None else yuan(order.premium),
        "events": [plain_event(event) for event in order.events],
        "conflicts": [plain_version(version) for version in order.conflicts],
    }


def plain_event(event: "RecordedEvent") -> dict[str, Any]:
    """An event with both times and its place."""
    return {
        "type": str(event.type),
        "occurred_at": local_time(event.occurred_at),
        "recorded_at": local_time(event.recorded_at),
        "worker": event.worker_id,
        "batch": event.batch_id,
        "ordinal": event.ordinal,
    }


def plain_version(version: "OtherVersion") -> dict[str, Any]:
    """A version in conflict with one that stands."""
    return {
        "differs": list(version.differs),
        "event": version.event,
        "recorded_at": local_time(version.recorded_at),
        "batch": version.batch_id,
        "ordinal": version.ordinal,
    }


def local_time(moment: datetime) -> str:
    """Local, with its offset, for machines."""
    return moment.astimezone(SHANGHAI).isoformat()


def seconds(gap: timedelta) -> int:
    """Whole seconds."""
    return gap // timedelta(seconds=1)


# ---- words


def event_text(event: dict[str, Any]) -> str:
    """When it happened, by whom, and when and where it was recorded."""
    occurred, recorded = (datetime.fromisoformat(event[name]) for name in ("occurred_at", "recorded_at"))
    by = say(f"  worker {event['worker']}", f"  人员 {event['worker']}") if event["worker"] else ""
    return clock(occurred) + by + recorded_text(recorded, event)


def recorded_text(recorded: datetime, place: dict[str, Any]) -> str:
    """When a fact was recorded, and where, to be put behind it."""
    return _gap() + say(
        f"recorded {clock(recorded)} (batch {place['batch']}, no. {place['ordinal']})",
        f"入账 {clock(recorded)}（批次 {place['batch']}，第 {place['ordinal']} 号）",
    )


def version_text(version: dict[str, Any]) -> str:
    """Another version of an event: what it says, and what of it differs."""
    event = version["event"]
    begins = f"{say(*EVENTS[EventType(event['type'])])} {clock(datetime.fromisoformat(event['time']))}"
    facts = say(", ", "，").join(str(event[name]) for name in ("worker_id", "line", "accepted_city") if event.get(name))
    differs = say("differs in ", "差异：") + fact_names(version["differs"])
    said = _gap().join(part for part in (begins, facts, differs) if part)
    return said + recorded_text(datetime.fromisoformat(version["recorded_at"]), version)


def _gap() -> str:
    """What stands between the parts of a fact: on a narrow screen each has a line of its own, and none is broken."""
    return "  " if out.width >= WIDE else "\n"


def fact_names(names: list[str]) -> str:
    """The facts in which two versions differ, in words."""
    return say(", ", "、").join(say(*FACT_NAMES[name]) for name in names)


def premium_text(premium: str | None) -> str:
    """What was charged; where nothing was, who owes the benefits (domain.md §5)."""
    if premium is None:
        return say(
            "none was charged: for such an order the platform itself owes the benefits",
            "未计收：此种订单的待遇由平台企业自行承担",
        )
    return say(f"{premium} yuan", f"{premium} 元")


def reason_text(reason: str) -> str:
    """Why a record was rejected: the code, and what it means."""
    meaning = REASON_MEANINGS[Reason(reason)]
    return say(f"{reason}: {meaning.en}", f"{reason}：{meaning.zh}")


def line_name(code: str | None) -> str:
    """A line of business in words."""
    return say(*LINE_NAMES[Line(code)]) if code else say("line unknown", "行业不明")


def city_name(code: str | None) -> str:
    """A city with its code."""
    if code is None:
        return say("city unknown", "城市不明")
    city, province = CITIES[code], PROVINCES[code[:2]]
    english = city.name_en or f"{city.name}, {province.name_en}"
    return f"{say(english, city.name)} ({code})"


def clock(moment: datetime) -> str:
    """A local time to the second, or to the fraction where it has one."""
    local = moment.astimezone(SHANGHAI)
    return local.strftime("%Y-%m-%d %H:%M:%S") + (f".{local.microsecond // 1000:03d}" if local.microsecond else "")


def span(gap: timedelta) -> str:
    """A length of time in its two largest units: 27 min 32 s."""
    rest = seconds(gap)
    sizes = ((86_400, " d", " 天"), (3_600, " h", " 小时"), (60, " min", " 分"), (1, " s", " 秒"))
    parts = []
    for size, *unit in sizes:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{say(*unit)}")
    return " ".join(parts[:2]) or say("0 s", "0 秒")
