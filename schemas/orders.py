"""Order events on the wire: CloudEvents 1.0 JSON, no fact said twice.

In: the bytes of one record, holding one event or a list of up to 5,000. Out: validated dictionaries
of the shapes below. `source` = the platform, `id` = the platform's event number, `subject` = the
order, `time` = when it occurred. Checks that need the registry, the rules or the clock (known
platform, known city, not in the future) are in `ledger.intake`; here is only the shape.

`TypedDict` rather than model classes: the hot path validates them at about half the cost.
"""

import re
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Discriminator, FailFast, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from schemas.both import Both
from schemas.codes import CITIES, PLATFORM_ID, Answer, Line, Reason

EVENTS_PER_RECORD_MAX = 5_000
TEXT_CHARS_MAX = 64
RECORD_BYTES_MAX = 8 * 1024 * 1024
EVENT_MINUTES_AHEAD_MAX = 10
ORDERS_TOPIC = "orders.v1"  # which all platforms share; orders.v1.NAME is the own topic of the platform NAME
REJECTED_TOPIC = "orders.rejected.v1"
SIGNATURE_HEADER = "danbao-signature"  # of a stream's record: a detached Ed25519 signature of its bytes, 64 bytes
SOURCE_BEGINS = "/platforms/"

# A pattern on text, not a datetime: pydantic would also take "1790000000" for a time.
_DAY = r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
RFC_3339 = rf"^{_DAY}T{_CLOCK}:[0-5][0-9](\.[0-9]{{1,6}})?(Z|[+-]{_CLOCK})$"


def _escaped(code: int) -> str:
    """A character as Python and ECMAScript both write it in a pattern."""
    return f"\\u{code:04x}" if code <= 0xFFFF else chr(code)


# Characters that cannot be seen or that change how others are shown: two texts that look alike must be alike.
# A list of ours and not Python's isprintable(), which answers by the Unicode version that Python came with:
# a replay years later must refuse the same records.
_UNSEEN_RANGES = (
    (0x0000, 0x001F),  # control characters
    (0x007F, 0x00A0),  # more of them, and the no-break space
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),  # grapheme joiner
    (0x061C, 0x061C),  # direction of writing
    (0x115F, 0x1160),  # Hangul fillers
    (0x1680, 0x1680),  # a space
    (0x17B4, 0x17B5),  # Khmer vowels that are not written
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0x2000, 0x200F),  # spaces, joiners, direction of writing
    (0x2028, 0x202F),  # line ends, direction of writing
    (0x205F, 0x206F),  # the same
    (0x3000, 0x3000),  # ideographic space
    (0x3164, 0x3164),  # Hangul filler
    (0xE000, 0xF8FF),  # private use
    (0xFDD0, 0xFDEF),  # no characters
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFA0, 0xFFA0),  # Hangul filler
    (0xFFF0, 0xFFFB),  # marks of other layers
    (0xFFFE, 0xFFFF),  # no characters
    (0x1D173, 0x1D17A),  # musical beams
    (0xE0000, 0x10FFFF),  # tags, variation selectors, private use
)
_UNSEEN = "".join(f"{_escaped(first)}-{_escaped(last)}" for first, last in _UNSEEN_RANGES)
UNSEEN = re.compile(f"[{_UNSEEN}]")
SEEN_TEXT = f"^[^{_UNSEEN}]+$"

Identifier = Annotated[
    str,
    Field(
        min_length=1,
        max_length=TEXT_CHARS_MAX,
        description="no control or invisible characters",
        json_schema_extra={"pattern": SEEN_TEXT},  # ledger.intake holds to it, where a record is not plain ASCII
    ),
]
WorkerId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=TEXT_CHARS_MAX,
        description="the platform's own number of the worker; an identity number (GB 11643) is refused",
        json_schema_extra={"pattern": SEEN_TEXT},
    ),
]
Source = Annotated[
    str,
    Field(
        min_length=12,
        max_length=43,
        description="a registered platform, by its id or an alias",
        examples=[f"{SOURCE_BEGINS}example-delivery"],
        json_schema_extra={"pattern": f"^{SOURCE_BEGINS}{PLATFORM_ID[1:]}"},
    ),
]
CityCode = Annotated[
    str,
    Field(
        min_length=6,
        max_length=6,
        description="GB/T 2260",
        examples=["310100"],
        json_schema_extra={"enum": sorted(CITIES)},
    ),
]
PAY = r"^[0-9]{1,6}(\.[0-9]{1,4})?$"
Pay = Annotated[str, Field(pattern=PAY, description="yuan, as text", examples=["6.50"])]
Time = Annotated[
    str,
    Field(
        pattern=RFC_3339,
        description="RFC 3339 with offset: when it occurred",
        examples=["2026-10-03T12:10:00+08:00"],
        json_schema_extra={"format": "date-time"},
    ),
]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]

_strict = ConfigDict(extra="forbid", strict=True)


@with_config(_strict)
class Position(TypedDict):
    """WGS 84, degrees."""

    lat: Latitude
    lng: Longitude


@with_config(_strict)
class AcceptedData(TypedDict):
    """Who accepted, in which line of business, and where (接单地)."""

    worker_id: WorkerId
    line: Annotated[Line, Field(strict=False)]
    accepted_city: CityCode
    pay: NotRequired[Pay]
    position: NotRequired[Position]


@with_config(_strict)
class ReassignedData(TypedDict):
    """Who has the order from now on."""

    worker_id: WorkerId
    pay: NotRequired[Pay]
    position: NotRequired[Position]


@with_config(_strict)
class CompletedData(TypedDict):
    """Nothing is required: the order and the time are in the envelope."""

    pay: NotRequired[Pay]
    position: NotRequired[Position]


@with_config(_strict)
class CancelledData(TypedDict):
    """Why, in the platform's own code."""

    reason: Identifier
    pay: NotRequired[Pay]
    position: NotRequired[Position]


@with_config(_strict)
class _Envelope(TypedDict):
    specversion: Literal["1.0"]
    id: Identifier
    source: Source
    subject: Identifier
    time: Time
    datacontenttype: NotRequired[Literal["application/json"]]


@with_config(_strict)
class Accepted(_Envelope):
    """A worker accepted the order; cover begins."""

    type: Literal["order.accepted"]
    data: AcceptedData


@with_config(_strict)
class Reassigned(_Envelope):
    """The order passed to another worker."""

    type: Literal["order.reassigned"]
    data: ReassignedData


@with_config(_strict)
class Completed(_Envelope):
    """The order was fulfilled; cover ends."""

    type: Literal["order.completed"]
    data: CompletedData


@with_config(_strict)
class Cancelled(_Envelope):
    """The order was called off; cover ends."""

    type: Literal["order.cancelled"]
    data: CancelledData


OrderEvent = Annotated[Accepted | Reassigned | Completed | Cancelled, Discriminator("type")]
# Stops at the first fault: where a list has one, its items are looked at one by one.
EventList = Annotated[list[OrderEvent], FailFast(), Field(min_length=1, max_length=EVENTS_PER_RECORD_MAX)]


@with_config(_strict)
class EventAnswer(TypedDict):
    """What became of one event: the `item`th of the record at `offset`. `reason` only where rejected."""

    topic: str
    offset: Annotated[int, Field(ge=0)]
    item: Annotated[int, Field(ge=0, lt=EVENTS_PER_RECORD_MAX)]
    answer: Answer
    reason: Reason | None


REASON_MEANINGS: dict[Reason, Both] = {
    Reason.TOO_LARGE: Both(f"the record has more than {RECORD_BYTES_MAX} bytes", f"记录超过 {RECORD_BYTES_MAX} 字节"),
    Reason.MALFORMED: Both("the record is not JSON in UTF-8", "记录不是 UTF-8 编码的 JSON"),
    Reason.INVALID: Both("the event does not have the published shape", "事件不符合公布的格式"),
    Reason.EMPTY_LIST: Both("the record is a list of no events", "记录是不含事件的空列表"),
    Reason.TOO_MANY_EVENTS: Both(
        f"the record is a list of more than {EVENTS_PER_RECORD_MAX} events",
        f"记录所含事件超过 {EVENTS_PER_RECORD_MAX} 个",
    ),
    Reason.UNKNOWN_PLATFORM: Both("no platform is registered under the source", "事件来源不是已登记的平台企业"),
    Reason.UNKNOWN_CITY: Both("the city is not in GB/T 2260", "城市代码不在 GB/T 2260 中"),
    Reason.BEFORE_SCHEME: Both(
        "the time is before the scheme began on 2022-07-01 (Asia/Shanghai)",
        "发生时间早于制度施行日 2022-07-01（北京时间）",
    ),
    Reason.IN_FUTURE: Both(
        f"the time is more than {EVENT_MINUTES_AHEAD_MAX} minutes after the record arrived",
        f"发生时间比记录到达时间晚 {EVENT_MINUTES_AHEAD_MAX} 分钟以上",
    ),
    Reason.NO_RATE: Both(
        "no premium is in force for the line of business on that day", "该行业当日没有生效的缴费基准额"
    ),
    Reason.UNMAPPED: Both("a row of a file cannot be read by its mapping", "文件中的行无法按映射读取"),
    Reason.WRONG_SOURCE: Both(
        "the event came through another platform's own topic", "事件经由其他平台企业的专用主题报送"
    ),
    Reason.UNSIGNED: Both("the record should be signed and is not", "记录应当签名而未签名"),
    Reason.BAD_SIGNATURE: Both("the signature is not the platform's", "签名不是该平台企业的有效签名"),
}

# What comes with a record of REJECTED_TOPIC, each as text in UTF-8 under danbao-NAME.
REJECTED_HEADERS: dict[str, str] = {
    "reason": "why, as a code",
    "place": "where in the record",
    "detail": "what was wrong, and what to do",
    "topic": "the topic that the record was sent to",
    "partition": "its partition there",
    "offset": "its offset there",
    "item": "which event of the record's list, from 0; -1: the record as a whole",
    "cut": "how many bytes it had, where it was too long to be sent back whole; else absent",
}

one_event: TypeAdapter[Any] = TypeAdapter(OrderEvent)
event_list: TypeAdapter[Any] = TypeAdapter(EventList)
