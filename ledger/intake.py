"""Intake: raw records → acceptances, later events and rejections. Pure.

In: records, the platform registry, the rating, and for CSV a reader. Out: what holds, each with its
place (`ordinal`) in the batch, and what does not, each with the reason, the place and what to do.
Every record is answered for: one event, or one per item of a list, or one rejection.

A packed record is validated as one list, one by one only when that fails. Several records are never
joined to go faster: two bad records could make a good one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from ledger.calendar import SCHEME_BEGAN, US_PER_SECOND, day_begins_us, day_number, to_us
from ledger.evidence import Record
from ledger.identity import Registered, Stream, is_vouched, refusal
from ledger.identity_number import CHARS, is_identity_number
from ledger.mapping import Unmapped
from ledger.rating import Rating, Tariff
from schemas import orders
from schemas.codes import CITIES, EventType, Line, Reason, no_city

SCHEME_BEGAN_US = day_begins_us(SCHEME_BEGAN)
AHEAD_US_MAX = orders.EVENT_MINUTES_AHEAD_MAX * 60 * US_PER_SECOND
CITY_NUMBERS: dict[str, int] = {code: int(code) for code in CITIES}
DETAIL_CHARS_MAX = 400
PLACE_CHARS_MAX = 100
EVENT_TYPES = ", ".join(EventType)
# How a text is written whose pattern or length would say nothing to a person.
WRITTEN = {
    "source": f"must be {orders.SOURCE_BEGINS} and the platform's id, such as {orders.SOURCE_BEGINS}example-delivery",
    "time": "must be RFC 3339 with offset, such as 2026-10-03T12:10:00+08:00",
    "pay": "must be yuan as text, such as 6.50",
}

PLAINLY = {"missing": "is missing", "extra_forbidden": "there is no such field"}  # pydantic's are for programmers

Event = dict[str, Any]
EventReader = Callable[[bytes], list[Event]]
Key = tuple[int, str]


class Acceptance(NamedTuple):
    """An order accepted: the facts that its charge rests on. `occurred_us`: µs since 1970 UTC."""

    platform_no: int
    order_id: str
    occurred_us: int
    worker_id: str
    city: int
    line: Line
    ordinal: int
    tariff: Tariff


class Later(NamedTuple):
    """What happened to an order after its acceptance. Slot: '' for an ending, or its event id."""

    platform_no: int
    order_id: str
    slot: str
    occurred_us: int
    kind: bytes  # b"R" reassigned, b"C" completed, b"X" cancelled
    worker_id: str | None
    ordinal: int


class Rejection(NamedTuple):
    """A record (item -1) or one item of its list that cannot be booked."""

    ordinal: int
    offset: int
    item: int
    platform_id: str | None
    reason: Reason
    place: str
    detail: str
    raw: bytes


@dataclass(slots=True)
class Intake:
    """One batch, read. `first_ordinals[i]` is the ordinal of the first event of record i."""

    records: list[Record]
    acceptances: list[Acceptance] = field(default_factory=list)
    later: list[Later] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    first_ordinals: list[int] = field(default_factory=list)
    events: int = 0


class _Refused(Exception):
    """An event that has the right shape but cannot be booked."""

    def __init__(self, reason: Reason, place: str, detail: str) -> None:
        self.reason, self.place, self.detail = reason, place, detail


class Reader:
    """Reads batches under one registry and one rulebook.

    `platforms`: CloudEvents source → platform. `csv`: turns one CSV line into events, when the records
    are lines of a mapped file; it may raise Unmapped. `stream`: the topic that the records came through,
    when platforms write there themselves; then it is asked who sent them.
    """

    def __init__(
        self,
        platforms: Mapping[str, Registered],
        rating: Rating,
        csv: EventReader | None = None,
        stream: Stream | None = None,
    ) -> None:
        self._platforms = platforms
        self._rating = rating
        self._csv = csv
        self._stream = stream
        known = {platform for platform in platforms.values() if stream and not is_vouched(platform, stream)}
        self._asked = frozenset(platform.platform_no for platform in known)
        self._judged: tuple[Record, Registered, tuple[Reason, str, str] | None] | None = None

    def vouched(self) -> dict[str, int]:
        """Source → platform, for those whose records need no look at who sent them."""
        return {name: of.platform_no for name, of in self._platforms.items() if of.platform_no not in self._asked}

    def read(self, records: list[Record]) -> Intake:
        """Decode, validate and rate one batch of records."""
        intake = Intake(records)
        for record in records:
            intake.first_ordinals.append(intake.events)
            try:
                events = self.decode(record.raw)
            except _Refused as refused:
                self._reject(intake, record, -1, None, refused, record.raw)
                continue
            except ValidationError as error:
                self._one_by_one(intake, record, error)
                continue
            look = self._csv is None and not _plain(record.raw)
            if isinstance(events, list):
                for item, event in enumerate(events):
                    self._take(intake, record, item, event, look)
            else:
                self._take(intake, record, -1, events, look)
        return intake

    def decode(self, raw: bytes) -> list[Event] | Event:
        """A record's bytes → its event, or its list of events. ValidationError where the shape is wrong."""
        if self._csv:
            return self._decode_csv(raw)
        if len(raw) > orders.RECORD_BYTES_MAX:
            limit = orders.RECORD_BYTES_MAX
            raise _Refused(Reason.TOO_LARGE, "record", f"{len(raw)} bytes; a record holds {limit} at most")
        shape = orders.event_list if _is_list(raw) else orders.one_event
        events: list[Event] | Event = shape.validate_json(raw)
        return events

    def _decode_csv(self, raw: bytes) -> list[Event]:
        assert self._csv is not None
        try:
            events: list[Event] = orders.event_list.validate_python(self._csv(raw))
        except Unmapped as unmapped:
            raise _Refused(Reason.UNMAPPED, unmapped.place, unmapped.detail) from None
        for event in events:
            _check_text(event)
        return events

    def _take(self, intake: Intake, record: Record, item: int, event: Event, look: bool) -> None:
        """Book one well-shaped event into the intake, or say why it cannot be. `look`: at its texts, too."""
        try:
            if look:
                _check_text(event)
            self._place(intake, record, event)
        except _Refused as refused:
            raw = record.raw if item < 0 else to_json(event)
            platform = self._platforms.get(event["source"])
            self._reject(intake, record, item, platform and platform.platform_id, refused, raw)
        else:
            intake.events += 1

    def _place(self, intake: Intake, record: Record, event: Event) -> None:
        platform = self._platforms.get(event["source"])
        if platform is None:
            raise _unknown_platform(event["source"])
        if platform.platform_no in self._asked and (refused := self._refusal(record, platform)):
            raise _Refused(*refused)
        occurred_us = _instant(event["time"], record.arrived_us)
        platform_no, order_id, data = platform.platform_no, event["subject"], event["data"]
        match event["type"]:
            case "order.accepted":
                line = data["line"]
                city = CITY_NUMBERS.get(data["accepted_city"])
                if city is None:
                    raise _unknown_city(data["accepted_city"])
                tariff = self._rating.tariff(platform_no, platform.platform_id, city, line, day_number(occurred_us))
                if tariff is None:
                    raise _no_rate(line, event["time"])
                intake.acceptances.append(
                    Acceptance(
                        platform_no,
                        order_id,
                        occurred_us,
                        _worker(data),
                        city,
                        line,
                        intake.events,
                        tariff,
                    )
                )
            case "order.completed":
                intake.later.append(Later(platform_no, order_id, "", occurred_us, b"C", None, intake.events))
            case "order.cancelled":
                intake.later.append(Later(platform_no, order_id, "", occurred_us, b"X", None, intake.events))
            case _:
                intake.later.append(
                    Later(
                        platform_no,
                        order_id,
                        event["id"],
                        occurred_us,
                        b"R",
                        _worker(data),
                        intake.events,
                    )
                )

    def _refusal(self, record: Record, platform: Registered) -> tuple[Reason, str, str] | None:
        """Why the record is not the platform's; asked once for all events of a record that name one platform."""
        assert self._stream is not None
        if self._judged is None or self._judged[0] is not record or self._judged[1] is not platform:
            self._judged = record, platform, refusal(record, platform, self._stream)
        return self._judged[2]

    def _reject(
        self, intake: Intake, record: Record, item: int, platform: str | None, why: _Refused, raw: bytes
    ) -> None:
        place, detail = _shown(why.place, PLACE_CHARS_MAX), _shown(why.detail, DETAIL_CHARS_MAX)
        intake.rejections.append(
            Rejection(intake.events, record.offset, item, platform, why.reason, place, detail, raw)
        )
        intake.events += 1

    def _one_by_one(self, intake: Intake, record: Record, error: ValidationError) -> None:
        """A record whose shape is wrong: a single event is rejected; a list is taken item by item."""
        whole = _whole_record_fault(record.raw, error) if self._csv is None else _shape(error)
        if whole:
            self._reject(intake, record, -1, None, whole, record.raw)
            return
        values = from_json(record.raw)
        if len(values) > orders.EVENTS_PER_RECORD_MAX:
            self._reject(intake, record, -1, None, _too_many(), record.raw)
            return
        for item, value in enumerate(values):
            raw = to_json(value)
            try:
                event = orders.one_event.validate_json(raw)
            except ValidationError as fault:
                self._reject(intake, record, item, None, _shape(fault), raw)
            else:
                self._take(intake, record, item, event, look=True)


def _is_list(raw: bytes) -> bool:
    """Whether the record is a JSON list; space before it is allowed, as JSON does."""
    return raw.lstrip()[:1] == b"["


def _shown(text: str, chars_max: int) -> str:
    """What a platform sent, made fit for a text column and a terminal."""
    return orders.UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text)[:chars_max]


def _plain(raw: bytes) -> bool:
    """Whether no text in the record can hold what is not seen: the usual case, told at a glance."""
    return raw.isascii() and b"\\" not in raw and b"\x7f" not in raw


def _check_text(event: Event) -> None:
    data = event["data"]
    for place, value in (
        ("id", event["id"]),
        ("source", event["source"]),
        ("subject", event["subject"]),
        ("data.worker_id", data.get("worker_id", "")),
        ("data.reason", data.get("reason", "")),
    ):
        if orders.UNSEEN.search(value):
            raise _Refused(Reason.INVALID, place, "text must not hold control or invisible characters")


def _instant(time: str, arrived_us: int) -> int:
    """RFC 3339 → µs since 1970 UTC, inside the scheme and not ahead of the record's arrival."""
    try:
        occurred_us = to_us(datetime.fromisoformat(time))
    except ValueError as error:
        raise _Refused(Reason.INVALID, "time", f"{time!r} is no instant: {error}") from None
    if occurred_us < SCHEME_BEGAN_US:
        raise _Refused(
            Reason.BEFORE_SCHEME,
            "time",
            f"{time} is before the scheme began on {SCHEME_BEGAN}; for older files give --first-day",
        )
    if occurred_us > arrived_us + AHEAD_US_MAX:
        raise _Refused(
            Reason.IN_FUTURE,
            "time",
            f"{time} is more than {orders.EVENT_MINUTES_AHEAD_MAX} minutes after the record arrived; check the clock",
        )
    return occurred_us


def _worker(data: dict[str, Any]) -> str:
    """The worker's number, which is not the one by which the state knows him; a refusal does not say it again."""
    worker_id: str = data["worker_id"]
    if len(worker_id) == CHARS and is_identity_number(worker_id):
        raise _Refused(
            Reason.INVALID,
            "data.worker_id",
            "is an identity number; send the platform's own number of the worker",
        )
    return worker_id


def _unknown_platform(source: str) -> _Refused:
    if not source.startswith(orders.SOURCE_BEGINS):
        meant = orders.SOURCE_BEGINS + source.rpartition("/")[2]
        return _Refused(
            Reason.UNKNOWN_PLATFORM, "source", f"{source} does not begin with {orders.SOURCE_BEGINS}; write {meant}"
        )
    platform_id = source.removeprefix(orders.SOURCE_BEGINS)
    return _Refused(
        Reason.UNKNOWN_PLATFORM,
        "source",
        f"{source} is not registered; register it with: danbao platforms add {platform_id} --name NAME"
        " --name-zh 名称 --uscc CODE --line LINE --province PROVINCE=FIRST-DAY",
    )


def _unknown_city(code: str) -> _Refused:
    return _Refused(Reason.UNKNOWN_CITY, "data.accepted_city", no_city(code).en)


def _no_rate(line: Line, time: str) -> _Refused:
    return _Refused(
        Reason.NO_RATE,
        "data.line",
        f"no premium is in force for {line} at {time}; see: danbao rules show --at {time[:10]}",
    )


def _too_many() -> _Refused:
    limit = orders.EVENTS_PER_RECORD_MAX
    return _Refused(Reason.TOO_MANY_EVENTS, "record", f"a record holds {limit} events at most; send several")


def _shape(error: ValidationError) -> _Refused:
    """The first fault of a shape, without echoing what the platform sent in it."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if fault["type"].startswith("union_tag"):
        return _Refused(Reason.INVALID, "type", f"must be one of {EVENT_TYPES}")
    reason = Reason.MALFORMED if fault["type"] == "json_invalid" else Reason.INVALID
    named = fault["loc"][1:] if isinstance(next(iter(fault["loc"]), None), int) else fault["loc"]  # of a row's events
    place = ".".join(str(part) for part in named if not str(part).startswith("order.")) or "record"
    if fault["type"] in ("string_pattern_mismatch", "string_too_short", "string_too_long"):
        return _Refused(reason, place, WRITTEN.get(place.rpartition(".")[2], fault["msg"]))
    return _Refused(reason, place, PLAINLY.get(fault["type"], fault["msg"]))


def _whole_record_fault(raw: bytes, error: ValidationError) -> _Refused | None:
    """Why the record as a whole cannot be read, or None where it is a list to take item by item."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if not _is_list(raw) or fault["type"] == "json_invalid":
        return _shape(error)
    if fault["type"] == "too_long":
        return _too_many()
    if fault["type"] == "too_short":
        return _Refused(Reason.EMPTY_LIST, "record", "the list is empty")
    return None


def sources(platforms: Iterable[tuple[Registered, list[str]]]) -> dict[str, Registered]:
    """Every platform with its aliases → the registry that a Reader takes."""
    return {
        orders.SOURCE_BEGINS + name: platform
        for platform, aliases in platforms
        for name in (platform.platform_id, *aliases)
    }
