"""The answers of the loop: new, duplicate, conflict or rejected, one per event, and an answer means committed.

In: order events in batches, on one desk or several. Out: the answers, and what stands in the books: an order
is charged once and ends once, whatever day, time, worker, city or line a later version claims.
"""

import json
from typing import Any

import pytest
from sqlalchemy import Engine
from support import (
    ARRIVED,
    NOON,
    Desk,
    Event,
    accepted,
    cancelled,
    chain_faults,
    charges_without_books,
    completed,
    differences,
    event,
    facts,
    premiums,
    reassigned,
    rows,
    value,
)

from consumers.loop import HANDED_IN, ORDINALS_MAX
from ledger.calendar import to_us
from ledger.evidence import Record
from ledger.store import connect, registry
from schemas.codes import Line
from schemas.platforms import PlatformRegistration

TEN_PAST, HALF_PAST = "2026-10-03T12:10:00+08:00", "2026-10-03T12:30:00+08:00"
ONE_SHANGHAI_ORDER = {("eleme", "31", "2026-10"): 700}

# The first version, the second, what is answered, and in what it differs.
SECOND_VERSIONS: dict[str, tuple[Event, Event, str, list[str]]] = {
    "the same": (accepted("A"), accepted("A"), "duplicate", []),
    "the same at another place on earth": (accepted("A"), accepted("A", "2026-10-03T04:00:00Z"), "duplicate", []),
    "another time": (accepted("A"), accepted("A", TEN_PAST), "conflict", ["time"]),
    "a moment later": (accepted("A"), accepted("A", "2026-10-03T12:00:00.000001+08:00"), "conflict", ["time"]),
    "another day": (accepted("A"), accepted("A", "2026-10-04T12:00:00+08:00"), "conflict", ["time"]),
    "another month": (accepted("A"), accepted("A", "2026-09-03T12:00:00+08:00"), "conflict", ["time"]),
    "another worker": (accepted("A"), accepted("A", worker="W2"), "conflict", ["worker"]),
    "another city": (accepted("A"), accepted("A", city="310200"), "rejected", []),
    "another province": (accepted("A"), accepted("A", city="440100"), "conflict", ["city"]),
    "another line": (accepted("A"), accepted("A", line="ride_hailing"), "conflict", ["line"]),
    "all at once": (
        accepted("A"),
        accepted("A", TEN_PAST, "W2", "440100", "ride_hailing"),
        "conflict",
        ["time", "worker", "city", "line"],
    ),
    "the same ending": (completed("A"), completed("A"), "duplicate", []),
    "an ending at another time": (completed("A"), completed("A", TEN_PAST), "conflict", ["time"]),
    "another ending": (completed("A"), cancelled("A", HALF_PAST), "conflict", ["type"]),
    "a completion after a cancellation": (cancelled("A"), completed("A"), "conflict", ["type", "time"]),
    "a reassignment sent again": (reassigned("A", "W2"), reassigned("A", "W2"), "duplicate", []),
    "a reassignment to another": (reassigned("A", "W2"), reassigned("A", "W3"), "conflict", ["worker"]),
    "a reassignment at another time": (
        reassigned("A", "W2"),
        reassigned("A", "W2", HALF_PAST),
        "conflict",
        ["time"],
    ),
    "a second reassignment": (reassigned("A", "W2"), reassigned("A", "W3", number="2"), "new", []),
    "the same number of another order": (reassigned("A", "W2"), reassigned("B", "W2"), "new", []),
}


@pytest.fixture
def desk(engine: Engine) -> Desk:
    """Where events are handed in."""
    return Desk(engine)


def eleme_events(url: str) -> list[Any]:
    return rows(url, "select kind::text, order_id, worker_id from order_event order by occurred_at, kind")


# ---- second versions


@pytest.mark.parametrize("name", SECOND_VERSIONS)
@pytest.mark.parametrize("apart", ["one batch", "two batches", "two desks"])
def test_the_first_version_stands(engine: Engine, ledger_url: str, name: str, apart: str) -> None:
    first, second, answer, differs = SECOND_VERSIONS[name]
    match apart:
        case "one batch":
            answers = Desk(engine).answers(first, second)
        case "two batches":
            desk = Desk(engine)
            answers = desk.answers(first) + desk.answers(second)
        case _:
            answers = Desk(engine, "one").answers(first) + Desk(engine, "other").answers(second)
    assert answers == ["new", answer]
    assert differences(ledger_url) == ([differs] if answer == "conflict" else [])
    stands = first["type"] == "order.accepted"
    assert premiums(ledger_url) == (ONE_SHANGHAI_ORDER if stands else {})
    assert value(ledger_url, "select count(*) from order_event") == answers.count("new")
    assert charges_without_books(ledger_url) == 0


def test_a_conflict_keeps_the_second_version_whole(desk: Desk, ledger_url: str) -> None:
    desk.hand_in(accepted("A"), accepted("A", "2026-10-04T12:00:00+08:00", worker="W2", city="440100"))
    [(kept,)] = rows(ledger_url, "select event from conflict")
    assert kept == {
        "type": "order.accepted",
        "time": "2026-10-04T12:00:00+08:00",
        "worker_id": "W2",
        "line": "instant_delivery",
        "accepted_city": "440100",
    }


def test_every_conflict_is_counted_and_a_repeated_one_too(desk: Desk, ledger_url: str) -> None:
    desk.hand_in(accepted("A"))
    for _ in range(3):
        assert desk.answers(accepted("A", worker="W2")) == ["conflict"]
    assert (
        value(ledger_url, "select sum(conflict) from batch") == 3 == value(ledger_url, "select count(*) from conflict")
    )
    assert premiums(ledger_url) == ONE_SHANGHAI_ORDER


def test_the_same_order_number_of_two_platforms_is_two_orders(desk: Desk, ledger_url: str) -> None:
    assert desk.answers(accepted("A"), accepted("A", platform="doordash", city="440300")) == ["new", "new"]
    assert premiums(ledger_url) == ONE_SHANGHAI_ORDER | {("doordash", "44", "2026-10"): 700}


@pytest.mark.parametrize("order", ["A" * 64, "单" * 64, "a b", "'; drop table charge; --", "\\N", "😀", "x\u00a0y"])
def test_any_text_can_be_an_order_number(desk: Desk, ledger_url: str, order: str) -> None:
    again = [one | {"id": "1"} for one in (accepted(order), completed(order), reassigned(order, order))]
    expected = "rejected" if "\u00a0" in order else "new"
    assert desk.answers(*again) == [expected] * 3
    assert desk.answers(*again) == ["rejected" if expected == "rejected" else "duplicate"] * 3


# ---- any order of arrival


def test_a_completion_waits_for_its_acceptance(desk: Desk, ledger_url: str) -> None:
    assert desk.answers(completed("A")) == ["new"]
    assert premiums(ledger_url) == {}
    assert desk.answers(accepted("A")) == ["new"]
    assert premiums(ledger_url) == ONE_SHANGHAI_ORDER
    assert eleme_events(ledger_url) == [("A", "A", "W1"), ("C", "A", None)]


def test_completion_and_acceptance_may_come_in_one_batch_the_wrong_way_round(desk: Desk, ledger_url: str) -> None:
    assert desk.answers([completed("A"), reassigned("A", "W2"), accepted("A")]) == ["new"] * 3
    assert premiums(ledger_url) == ONE_SHANGHAI_ORDER
    assert eleme_events(ledger_url) == [("A", "A", "W1"), ("R", "A", "W2"), ("C", "A", None)]


def test_an_order_may_end_before_it_was_accepted_by_its_own_clock(desk: Desk, ledger_url: str) -> None:
    assert desk.answers(accepted("A", TEN_PAST), completed("A", NOON)) == ["new", "new"]


# ---- rejected


def test_one_bad_item_of_a_list_does_not_harm_its_neighbours(desk: Desk, ledger_url: str) -> None:
    bad = accepted("B") | {"extra": 1}
    assert desk.answers([accepted("A"), bad, completed("A"), 7, accepted("C", city="999999")]) == [
        *("new", "rejected", "new", "rejected", "rejected")
    ]
    kept = rows(ledger_url, "select item, reason, place from rejected_record order by item")
    assert kept == [(1, "invalid", "extra"), (3, "invalid", "record"), (4, "unknown_city", "data.accepted_city")]
    [(raw,)] = rows(ledger_url, "select raw from rejected_record where item = 1")
    assert json.loads(raw) == bad


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"no json", "malformed"),
        (b"[]", "empty_list"),
        (b"{}", "invalid"),
        (b'"text"', "invalid"),
        (b"[" * 5000, "malformed"),
        (b"\xff\xfe", "malformed"),
        (json.dumps(accepted("A")).encode()[:-9], "malformed"),
        (b"[" + b"1," * 5000 + b"1]", "too_many_events"),
        (b" " * (8 * 1024 * 1024 + 1), "too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:8].decode("latin-1"),
)
def test_a_record_that_cannot_be_read_is_kept_whole_with_the_reason(
    desk: Desk, ledger_url: str, record: bytes, reason: str
) -> None:
    assert desk.answers(accepted("B"), record, accepted("C")) == ["new", "rejected", "new"]
    kept = rows(ledger_url, "select record_offset, item, reason, raw from rejected_record")
    assert kept == [(1, -1, reason, record)]
    assert chain_faults(ledger_url) == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (accepted("A", platform="nobody"), "unknown_platform"),
        (accepted("A", city="310199"), "unknown_city"),
        (accepted("A", "2022-06-30T23:59:59+08:00"), "before_scheme"),
        (accepted("A", "2026-11-20T12:10:01+08:00"), "in_future"),
        (accepted("A", line="food_delivery"), "no_rate"),
        (accepted("A", "2026-02-30T12:00:00+08:00"), "invalid"),
        (accepted("A", "2026-10-03T12:00:00"), "invalid"),
        (accepted(""), "invalid"),
        (accepted("A" * 65), "invalid"),
        (accepted("A", worker="W\u0000"), "invalid"),
        (accepted("A\u0007"), "invalid"),
        (accepted("A") | {"a\u0000b" * 500: 1}, "invalid"),
        (accepted("A", platform="\u0000" * 9), "invalid"),
        (accepted("A", platform="kuai song"), "unknown_platform"),
        (event("paid", "A", NOON, {}), "invalid"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_event_that_cannot_be_booked_is_kept_with_the_reason_and_stops_nothing(
    desk: Desk, ledger_url: str, bad: Event, reason: str
) -> None:
    assert desk.answers(accepted("B"), bad, [bad, accepted("C")]) == ["new", "rejected", "rejected", "new"]
    assert rows(ledger_url, "select reason from rejected_record") == [(reason,)] * 2
    assert chain_faults(ledger_url) == []


def test_what_was_rejected_leaves_its_key_free(desk: Desk, ledger_url: str) -> None:
    assert desk.answers(accepted("A", city="310199"), accepted("A")) == ["rejected", "new"]


# ---- a platform registered meanwhile


KUAISONG = PlatformRegistration(
    platform_id="kuaisong",
    name="Kuaisong",
    name_zh="快送",
    uscc="91310000MA1FL4Q87R",
    lines=(Line.INSTANT_DELIVERY,),
    provinces={"31": "2026-07-01"},
)


def test_a_platform_registered_a_moment_ago_is_known(desk: Desk, ledger_url: str) -> None:
    order = accepted("A", platform="kuaisong")
    assert desk.answers(order) == ["rejected"]
    [(detail,)] = rows(ledger_url, "select detail from rejected_record")
    assert "danbao platforms add kuaisong" in detail
    with connect.ledger(ledger_url, connect.REGISTRAR) as registrar, registrar.begin() as tx:
        registry.register(tx, KUAISONG)
    assert desk.answers(order) == ["new"]  # the same process, that knew nothing of it
    assert premiums(ledger_url) == {("kuaisong", "31", "2026-10"): 700}


def test_an_order_in_a_province_where_its_platform_never_registered_is_insured_all_the_same(
    desk: Desk, ledger_url: str
) -> None:
    assert desk.answers(accepted("A", city="650100")) == ["new"]
    assert premiums(ledger_url) == {("eleme", "65", "2026-10"): 700}


# ---- large batches


def test_a_batch_of_more_events_than_ordinals_is_booked_in_parts(desk: Desk, ledger_url: str) -> None:
    lists = [[completed(f"{number}-{place}") for place in range(5_000)] for number in range(7)]
    records = [Record(offset, to_us(ARRIVED), json.dumps(events).encode()) for offset, events in enumerate(lists)]
    head, parts = desk.head, 0
    for intake in desk.booker.intakes(records, HANDED_IN):
        assert intake.events <= ORDINALS_MAX
        outcome = desk.booker.book(intake, head)
        assert set(outcome.answers) == {"new"}
        head, parts = outcome.head, parts + 1
    assert parts == 2
    assert head.next_offset == 7
    assert value(ledger_url, "select count(*) from event_key") == 35_000
    assert chain_faults(ledger_url) == []


# ---- the books


def test_one_entry_per_platform_province_line_month_and_rate(desk: Desk, ledger_url: str) -> None:
    desk.hand_in(
        accepted("A"),
        accepted("B", "2026-10-04T12:00:00+08:00"),
        accepted("C", "2026-09-30T12:00:00+08:00"),
        accepted("D", city="440100"),
        accepted("E", line="ride_hailing"),
        accepted("F", platform="example-eats"),
    )
    entries = "select line, month::text, premium_base, order_count from entry join platform using (platform_no)"
    assert sorted(rows(ledger_url, f"{entries} where province = '31'")) == [
        ("instant_delivery", "2026-09-01", 700, 1),
        ("instant_delivery", "2026-10-01", 700, 2),
        ("instant_delivery", "2026-10-01", 2500, 1),
        ("ride_hailing", "2026-10-01", 100, 1),
    ]
    days = rows(ledger_url, "select distinct occurred_on::text from posting order by 1")
    assert [day for (day,) in days] == ["2026-09-30", "2026-10-03", "2026-10-04"]
    assert charges_without_books(ledger_url) == 0


def test_a_batch_of_nothing_new_posts_nothing_but_keeps_its_evidence(desk: Desk, ledger_url: str) -> None:
    desk.hand_in(accepted("A"))
    before = facts(ledger_url)
    assert desk.answers(accepted("A"), b"rubbish") == ["duplicate", "rejected"]
    after = facts(ledger_url)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"batch", "segment", "partition_head", "rejected_record"}
    assert chain_faults(ledger_url) == []


def test_each_charge_leads_to_its_entry_and_its_segment(desk: Desk, ledger_url: str) -> None:
    desk.hand_in(completed("Z"), [accepted("A"), accepted("B", city="440100")])
    led = rows(
        ledger_url,
        """select order_id, province, ordinal, payload is not null from charge join entry using (entry_id)
            join segment using (batch_id) order by 1""",
    )
    assert led == [("A", "31", 1, True), ("B", "44", 2, True)]
