"""Intake: every record is answered for, each event taken or rejected with the reason and the place."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import rulebook
from ledger.calendar import SHANGHAI, to_us
from ledger.evidence import Record
from ledger.identity import Registered
from ledger.intake import DETAIL_CHARS_MAX, PLACE_CHARS_MAX, Intake, Reader, Rejection, sources
from ledger.mapping import Unmapped
from ledger.rating import Rating
from schemas import orders
from schemas.codes import Line, Reason

ARRIVED = to_us(datetime(2026, 10, 3, 13, 0, tzinfo=SHANGHAI))
RATING = Rating(rulebook.load())
PLATFORMS = sources([(Registered(7, "tasty"), ["tasty-old"]), (Registered(8, "rides"), [])])
READER = Reader(PLATFORMS, RATING)
INVISIBLE = "text must not hold control or invisible characters"
NOTHING = object()
IDENTITY_NUMBER = "11010519491231002X"  # the example of GB 11643


def event(**changes: Any) -> dict[str, Any]:
    """An acceptance in Shanghai; `data` is merged in, NOTHING takes a field away."""
    made: dict[str, Any] = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/platforms/tasty",
        "type": "order.accepted",
        "subject": "o-1",
        "time": "2026-10-03T12:10:00+08:00",
        "data": {"worker_id": "w-1", "line": "instant_delivery", "accepted_city": "310100"},
    }
    if isinstance(changes.get("data"), dict):
        changes["data"] = made["data"] | changes["data"]
    made |= changes
    if isinstance(made["data"], dict):
        made["data"] = {name: value for name, value in made["data"].items() if value is not NOTHING}
    return {name: value for name, value in made.items() if value is not NOTHING}


def later(kind: str, **changes: Any) -> dict[str, Any]:
    """An event after the acceptance."""
    made = event(type=f"order.{kind}", time="2026-10-03T12:40:00+08:00")
    made["data"] = {"reassigned": {"worker_id": "w-2"}, "cancelled": {"reason": "no_show"}}.get(kind, {})
    return made | changes


def raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()


def read(*records: Any, reader: Reader = READER) -> Intake:
    return reader.read([Record(offset, ARRIVED, raw(record)) for offset, record in enumerate(records)])


def rejected(record: Any) -> Rejection:
    intake = read(record)
    assert (intake.events, intake.acceptances, intake.later) == (1, [], [])
    return intake.rejections[0]


def many(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [event(subject=f"o-{number}", **changes) for number in range(count)]


def answered(intake: Intake) -> list[int]:
    """The ordinals of everything that a batch was answered with."""
    return sorted(item.ordinal for item in (*intake.acceptances, *intake.later, *intake.rejections))


# What holds


def test_an_acceptance_becomes_the_facts_that_its_charge_rests_on():
    (accepted,) = read(event()).acceptances
    assert accepted[:7] == (
        7,
        "o-1",
        to_us(datetime(2026, 10, 3, 12, 10, tzinfo=SHANGHAI)),
        "w-1",
        310100,
        Line.INSTANT_DELIVERY,
        0,
    )
    assert (accepted.tariff.province, str(accepted.tariff.day), accepted.tariff.amount) == (
        "31",
        "2026-10-03",
        700,
    )


@pytest.mark.parametrize(
    ("kind", "slot", "letter", "worker"),
    [("completed", "", b"C", None), ("cancelled", "", b"X", None), ("reassigned", "e-1", b"R", "w-2")],
)
def test_a_later_event_keeps_its_slot_and_its_letter(kind: str, slot: str, letter: bytes, worker: str | None):
    (found,) = read(later(kind)).later
    assert (found.platform_no, found.order_id, found.slot) == (7, "o-1", slot)
    assert (found.kind, found.worker_id, found.ordinal) == (letter, worker, 0)
    assert found.occurred_us == to_us(datetime(2026, 10, 3, 12, 40, tzinfo=SHANGHAI))


def test_pay_and_position_are_taken_but_not_needed():
    extra = {"pay": "6.50", "position": {"lat": 31.2, "lng": 121}}
    assert len(read(event(data=extra, datacontenttype="application/json")).acceptances) == 1


def test_an_alias_leads_to_the_same_platform():
    assert read(event(source="/platforms/tasty-old")).acceptances[0].platform_no == 7


def test_a_rejection_names_the_platform_by_its_id_and_not_by_its_alias():
    assert rejected(event(source="/platforms/tasty-old", data={"accepted_city": "999999"})).platform_id == "tasty"


def test_the_same_instant_may_be_written_with_any_offset():
    written = ("2026-10-03T12:10:00+08:00", "2026-10-03T04:10:00Z", "2026-10-02T23:40:00.000-04:30")
    found = read([event(subject=str(number), time=time) for number, time in enumerate(written)])
    assert len({accepted.occurred_us for accepted in found.acceptances}) == 1


def test_the_local_day_decides_the_tariff():
    (accepted,) = read(event(time="2025-06-30T16:00:00Z")).acceptances
    assert (str(accepted.tariff.day), accepted.tariff.amount) == ("2025-07-01", 700)
    (accepted,) = read(event(time="2025-06-30T15:59:59.999999Z")).acceptances
    assert (str(accepted.tariff.day), accepted.tariff.amount) == ("2025-06-30", 400)


def test_ten_minutes_ahead_is_not_yet_the_future():
    assert len(read(event(time="2026-10-03T13:10:00+08:00")).acceptances) == 1


def test_the_first_instant_of_the_scheme_is_inside_it():
    assert len(read(later("completed", time="2022-07-01T00:00:00+08:00")).later) == 1


def test_ids_may_be_chinese_and_sixty_four_characters_long():
    (accepted,) = read(event(subject="单" * 64, data={"worker_id": "骑手 42"})).acceptances
    assert (accepted.order_id, accepted.worker_id) == ("单" * 64, "骑手 42")


def test_a_record_may_begin_with_space():
    assert len(read(b" \r\n\t" + raw(many(2))).acceptances) == 2
    assert len(read(b" " + raw(event())).acceptances) == 1


def test_of_a_field_that_stands_twice_the_last_is_read():
    twice = raw(event()).replace(b'"subject": "o-1"', b'"subject": "o-1", "subject": "o-2"')
    assert read(twice).acceptances[0].order_id == "o-2"
    (found,) = read(b"[" + twice + b", 1]").acceptances
    assert found.order_id == "o-2"


# What does not hold: one row per reason

WHOLE: list[tuple[Reason, Any, str, str]] = [
    (
        Reason.TOO_LARGE,
        b" " * (orders.RECORD_BYTES_MAX + 1),
        "record",
        "8388609 bytes; a record holds 8388608",
    ),
    (Reason.MALFORMED, b"", "record", "Invalid JSON"),
    (Reason.MALFORMED, b"{", "record", "Invalid JSON"),
    (Reason.MALFORMED, b"[" * 100_000, "record", "recursion limit"),
    (Reason.MALFORMED, b"[1, 2", "record", "Invalid JSON"),
    (Reason.MALFORMED, raw(event()) + b"{}", "record", "trailing characters"),
    (Reason.MALFORMED, raw(event(subject="a")).replace(b'"a"', b'"\xff"'), "record", "invalid unicode"),
    (Reason.MALFORMED, raw(event(subject="a")).replace(b'"a"', b'"a\x00"'), "record", "control character"),
    (Reason.MALFORMED, raw(event(subject="a")).replace(b'"a"', b'"\\ud800"'), "record", "hex escape"),
    (Reason.EMPTY_LIST, b"[ ]", "record", "the list is empty"),
    (Reason.TOO_MANY_EVENTS, many(5_001), "record", "5000 events at most"),
    (Reason.TOO_MANY_EVENTS, [1] * 5_001, "record", "5000 events at most"),
    (Reason.TOO_MANY_EVENTS, [*many(5_000), 1], "record", "5000 events at most"),
    (Reason.UNKNOWN_PLATFORM, event(source="/platforms/unheard"), "source", "danbao platforms add unheard"),
    (
        Reason.UNKNOWN_PLATFORM,
        event(source="/Platforms/tasty"),
        "source",
        "/Platforms/tasty does not begin with /platforms/; write /platforms/tasty",
    ),
    (Reason.UNKNOWN_PLATFORM, event(source="unheard-of-here"), "source", "write /platforms/unheard-of-here"),
    (Reason.INVALID, event(source="rides"), "source", "must be /platforms/ and the platform's id"),
    (Reason.INVALID, event(source="/platforms/" + "x" * 33), "source", "must be /platforms/ and the platform's id"),
    (
        Reason.UNKNOWN_CITY,
        event(data={"accepted_city": "310115"}),
        "data.accepted_city",
        "give the prefecture-level city: 310100",
    ),
    (
        Reason.UNKNOWN_CITY,
        event(data={"accepted_city": "310000"}),
        "data.accepted_city",
        "'310000' is not a city",
    ),
    (Reason.UNKNOWN_CITY, event(data={"accepted_city": "a\0bcde"}), "data.accepted_city", "'a\\x00bcde'"),
    (Reason.BEFORE_SCHEME, event(time="2022-06-30T23:59:59.999999+08:00"), "time", "give --first-day"),
    (Reason.BEFORE_SCHEME, later("completed", time="2020-02-29T12:00:00Z"), "time", "before the scheme"),
    (Reason.IN_FUTURE, event(time="2026-10-03T13:10:00.000001+08:00"), "time", "check the clock"),
    (
        Reason.IN_FUTURE,
        event(time="2099-12-31T23:59:59Z"),
        "time",
        "more than 10 minutes after the record arrived",
    ),
    (
        Reason.NO_RATE,
        event(data={"line": "food_delivery"}),
        "data.line",
        "no premium is in force for food_delivery",
    ),
    (Reason.INVALID, event(data={"worker_id": IDENTITY_NUMBER}), "data.worker_id", "is an identity number; send"),
    (Reason.INVALID, later("reassigned", data={"worker_id": IDENTITY_NUMBER}), "data.worker_id", "own number"),
    (Reason.INVALID, 17, "record", "object"),
    (Reason.INVALID, None, "record", "object"),
    (Reason.INVALID, "order", "record", "object"),
    (Reason.INVALID, {}, "type", "must be one of order.accepted"),
    (Reason.INVALID, event(type="order.lost"), "type", "must be one of order.accepted"),
    (Reason.INVALID, event(type="\0" * 3), "type", "must be one of order.accepted"),
    (Reason.INVALID, event(type=["order.accepted"]), "type", "must be one of order.accepted"),
    (Reason.INVALID, event(data={"worker_id": NOTHING}), "data.worker_id", "is missing"),
    (Reason.INVALID, event(subject=NOTHING), "subject", "is missing"),
    (Reason.INVALID, event(data=[]), "data", "object"),
    (Reason.INVALID, event(data={"note": "x"}), "data.note", "there is no such field"),
    (Reason.INVALID, event(traceparent="00-1"), "traceparent", "there is no such field"),
    (Reason.INVALID, later("completed", data={"worker_id": "w"}), "data.worker_id", "there is no such field"),
    (Reason.INVALID, event(specversion="0.3"), "specversion", "'1.0'"),
    (Reason.INVALID, event(specversion=1.0), "specversion", "'1.0'"),
    (Reason.INVALID, event(datacontenttype="text/json"), "datacontenttype", "application/json"),
    (Reason.INVALID, event(subject=""), "subject", "at least 1 character"),
    (Reason.INVALID, event(subject="o" * 65), "subject", "at most 64 characters"),
    (Reason.INVALID, event(subject=17), "subject", "valid string"),
    (Reason.INVALID, event(id=None), "id", "valid string"),
    (Reason.INVALID, event(data={"worker_id": {"id": {"id": [[]]}}}), "data.worker_id", "valid string"),
    (Reason.INVALID, event(data={"line": "rockets"}), "data.line", "'ride_hailing'"),
    (Reason.INVALID, event(data={"accepted_city": 310100}), "data.accepted_city", "valid string"),
    (Reason.INVALID, event(data={"accepted_city": "3101"}), "data.accepted_city", "at least 6"),
    (Reason.INVALID, event(data={"pay": 6.5}), "data.pay", "valid string"),
    (Reason.INVALID, event(data={"pay": "-1"}), "data.pay", "yuan as text, such as 6.50"),
    (Reason.INVALID, event(data={"pay": "1.00001"}), "data.pay", "yuan as text, such as 6.50"),
    (Reason.INVALID, event(data={"pay": "٣.٥"}), "data.pay", "yuan as text, such as 6.50"),
    (
        Reason.INVALID,
        event(data={"position": {"lat": 91, "lng": 0}}),
        "data.position.lat",
        "less than or equal to 90",
    ),
    (Reason.INVALID, event(data={"position": {"lat": "31", "lng": 0}}), "data.position.lat", "valid number"),
    (Reason.INVALID, event(data={"position": {"lat": float("nan"), "lng": 0}}), "data.position.lat", "90"),
    (Reason.INVALID, event(data={"position": {"lat": 31}}), "data.position.lng", "is missing"),
    (Reason.INVALID, event(time=1790000000), "time", "valid string"),
    (Reason.INVALID, event(time="1790000000"), "time", "RFC 3339 with offset"),
    (Reason.INVALID, event(time="2026-10-03T12:10:00"), "time", "RFC 3339 with offset"),
    (Reason.INVALID, event(time="2026-10-03 12:10:00+08:00"), "time", "RFC 3339 with offset"),
    (Reason.INVALID, event(time="2026-10-03T24:00:00+08:00"), "time", "RFC 3339 with offset"),
    (Reason.INVALID, event(time="2026-10-03T12:10:60+08:00"), "time", "RFC 3339 with offset"),
    (Reason.INVALID, event(time="2026-10-03T12:10:00+05:99"), "time", "RFC 3339 with offset"),
    (Reason.INVALID, event(time="2026-10-03T12:10:00+24:00"), "time", "RFC 3339 with offset"),
    (Reason.INVALID, event(time="2026-10-03T12:10:00.1234567Z"), "time", "RFC 3339 with offset"),
    (Reason.INVALID, event(time="2026-10-03T12:10:00Z\n"), "time", "RFC 3339 with offset"),
    (Reason.INVALID, event(time="2026-13-03T12:10:00Z"), "time", "RFC 3339 with offset"),
    (Reason.INVALID, event(time="2026-02-30T12:10:00Z"), "time", "'2026-02-30T12:10:00Z' is no instant"),
    (Reason.INVALID, event(subject="a\0b"), "subject", INVISIBLE),
    (Reason.INVALID, event(subject="a\x7fb"), "subject", INVISIBLE),
    (Reason.INVALID, event(subject="a\u200bb"), "subject", INVISIBLE),
    (Reason.INVALID, event(id="a\u202eb"), "id", INVISIBLE),
    (Reason.INVALID, event(data={"worker_id": "w\u3000"}), "data.worker_id", INVISIBLE),
    (Reason.INVALID, event(data={"worker_id": "w\U000e0041"}), "data.worker_id", INVISIBLE),
    (Reason.INVALID, event(source="/platforms/ta\0sty"), "source", INVISIBLE),
    (Reason.INVALID, later("cancelled", data={"reason": "\x1b[2J"}), "data.reason", INVISIBLE),
    (Reason.INVALID, later("reassigned", data={"worker_id": "\ufeffw"}), "data.worker_id", INVISIBLE),
]


@pytest.mark.parametrize(("reason", "record", "place", "detail"), WHOLE)
def test_a_record_is_rejected_with_the_reason_and_the_place(reason: Reason, record: Any, place: str, detail: str):
    found = rejected(record)
    assert (found.reason, found.place, found.ordinal, found.offset, found.item) == (reason, place, 0, 0, -1)
    assert detail in found.detail
    assert found.raw == raw(record)


def test_every_reason_has_a_record_that_is_rejected_for_it():
    by_sender = {Reason.WRONG_SOURCE, Reason.UNSIGNED, Reason.BAD_SIGNATURE}  # tests/core/test_identity.py
    assert {row[0] for row in WHOLE} | {Reason.UNMAPPED} == set(Reason) - by_sender


@pytest.mark.parametrize(
    ("name", "place"),
    [("ev\0il", "ev\ufffdil"), ("x" * 9_999, "x" * PLACE_CHARS_MAX), ("\x1b[2J", "\ufffd[2J")],
)
def test_what_a_platform_calls_a_field_cannot_harm_the_books_or_the_terminal(name: str, place: str):
    assert rejected(event(**{name: 1})).place == place


def test_a_detail_is_never_longer_than_its_limit():
    found = rejected(event(source="/platforms/" + "x" * 32))
    assert 0 < len(found.detail) <= DETAIL_CHARS_MAX


def test_what_a_worker_is_called_is_not_repeated_in_the_detail():
    assert "身份证" not in rejected(event(data={"worker_id": "身份证" * 40})).detail


# Lists


def test_a_list_is_taken_item_by_item_when_one_is_bad():
    bad = event(time="yesterday")
    found = read([event(subject="a"), bad, later("completed", subject="b"), "junk", event(subject="c")])
    assert [accepted.order_id for accepted in found.acceptances] == ["a", "c"]
    assert [item.order_id for item in found.later] == ["b"]
    assert [(item.item, item.ordinal, item.reason, item.place) for item in found.rejections] == [
        (1, 1, Reason.INVALID, "time"),
        (3, 3, Reason.INVALID, "record"),
    ]
    assert [json.loads(item.raw) for item in found.rejections] == [bad, "junk"]
    assert answered(found) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (event(subject="x\u200b"), Reason.INVALID),
        (event(data={"worker_id": "w\0"}), Reason.INVALID),
        (event(data={"accepted_city": "999999"}), Reason.UNKNOWN_CITY),
        (event(source="/platforms/unheard"), Reason.UNKNOWN_PLATFORM),
        (event(time="2031-01-01T00:00:00Z"), Reason.IN_FUTURE),
        ([[[{}]]], Reason.INVALID),
    ],
)
def test_one_bad_event_of_a_list_takes_none_with_it(bad: Any, reason: Reason):
    found = read([event(subject="a"), bad, event(subject="c")])
    assert [accepted.order_id for accepted in found.acceptances] == ["a", "c"]
    assert [(item.item, item.reason) for item in found.rejections] == [(1, reason)]
    assert json.loads(found.rejections[0].raw) == bad


def test_a_list_of_five_thousand_is_taken_whole():
    found = read(many(5_000))
    assert len(found.acceptances) == found.events == 5_000


def test_five_thousand_bad_events_have_five_thousand_answers():
    found = read(many(5_000, id=""))
    assert [item.item for item in found.rejections] == list(range(5_000))


# One answer per event


def test_ordinals_go_on_over_the_records_of_a_batch():
    found = read(event(), b"{", [event(), 1, event()], [], later("completed"))
    assert found.first_ordinals == [0, 1, 2, 5, 6]
    assert found.events == 7
    assert answered(found) == list(range(7))


GOOD_OR_BAD = st.sampled_from(
    [
        (event(), 1),
        (later("cancelled"), 1),
        (event(subject="\u200b"), 1),
        (event(source="/platforms/unheard"), 1),
        (b"nonsense", 1),
        ([], 1),
        (many(3), 3),
        ([event(), 17, event(time="2020-01-01T00:00:00Z"), {}], 4),
        ([event(subject="\0"), event()], 2),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(GOOD_OR_BAD, max_size=12))
def test_every_event_has_exactly_one_answer(batch: list[tuple[Any, int]]):
    found = read(*(record for record, _ in batch))
    sizes = [size for _, size in batch]
    assert found.events == sum(sizes)
    assert answered(found) == list(range(found.events))
    assert found.first_ordinals == [sum(sizes[:number]) for number in range(len(sizes))]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=64),
        JUNK.map(json.dumps).map(str.encode),
        st.lists(st.one_of(JUNK, st.just(event())), max_size=4).map(json.dumps).map(str.encode),
        st.tuples(st.sampled_from(["id", "subject", "time", "type", "source", "data"]), JUNK)
        .map(lambda change: json.dumps(event() | {change[0]: change[1]}))
        .map(str.encode),
    )
)
def test_no_junk_stops_the_reader_or_goes_unanswered(junk: bytes):
    found = read(junk)
    assert answered(found) == list(range(found.events))
    assert found.events >= 1
    for rejection in found.rejections:
        assert not orders.UNSEEN.search(rejection.place + rejection.detail)


# Lines of a mapped file


def csv_reader(events: Callable[[bytes], list[dict[str, Any]]]) -> Reader:
    return Reader(PLATFORMS, RATING, events)


def refuse(line: bytes) -> list[dict[str, Any]]:
    raise Unmapped("column from", f"{line.decode()!r} is no time")


def test_a_row_that_the_mapping_cannot_read_is_unmapped():
    (found,) = read(b"17,soon", reader=csv_reader(refuse)).rejections
    assert (found.reason, found.place, found.item) == (Reason.UNMAPPED, "column from", -1)
    assert (found.detail, found.raw) == ("'17,soon' is no time", b"17,soon")


def test_a_row_answers_for_each_of_its_events():
    def rows(_: bytes) -> list[dict[str, Any]]:
        return [event(), later("completed", time="2026-10-04T12:40:00+08:00")]

    found = read(b"a,b", b"c,d", reader=csv_reader(rows))
    assert found.first_ordinals == [0, 2]
    assert [(item.ordinal, item.item, item.reason) for item in found.rejections] == [
        (1, 1, Reason.IN_FUTURE),
        (3, 1, Reason.IN_FUTURE),
    ]


@pytest.mark.parametrize("bad", [event(subject="o" * 65), event(subject="o\u200b"), event(time="2099")])
def test_a_row_that_makes_a_misshapen_event_is_rejected_whole(bad: dict[str, Any]):
    found = read(b"a,b", reader=csv_reader(lambda _: [event(), bad]))
    assert (found.acceptances, found.events) == ([], 1)
    assert (found.rejections[0].item, found.rejections[0].raw) == (-1, b"a,b")


def test_arrival_is_each_record_s_own():
    early = ARRIVED - int(timedelta(hours=2).total_seconds()) * 1_000_000
    found = READER.read([Record(0, early, raw(event())), Record(1, ARRIVED, raw(event()))])
    assert [item.reason for item in found.rejections] == [Reason.IN_FUTURE]
    assert [item.ordinal for item in found.acceptances] == [1]
