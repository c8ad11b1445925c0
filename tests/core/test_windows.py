"""Order windows: cases/windows.yaml, as a claims officer reads them, and what holds for any history of orders."""

import json
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ledger import rulebook
from ledger.errors import BadQuestion
from ledger.rulebook import Rulebook
from ledger.windows import (
    NO_DOUBT_OF_COVER,
    Cover,
    Order,
    OtherVersion,
    RecordedEvent,
    Verdict,
    Window,
    judge,
    look_back,
    windows_of,
)
from schemas.codes import Doubt, EventType, Line

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "windows.yaml").read_text("utf-8"))["cases"]
HOURS = {"ride_hailing": 24, "food_delivery": 12, "instant_delivery": 12, "intra_city_freight": 48}
NOON = datetime.fromisoformat("2026-10-03T12:00+08:00")


@cache
def rules() -> Rulebook:
    """The packaged rules, but for the longest windows, which are those of the case file."""
    content = json.loads(rulebook.load().content)
    for rule in content["longest_windows"]:
        rule["hours"] = HOURS[rule["line"]]
    return Rulebook.from_content(json.dumps(content))


def instant(text: str) -> datetime:
    """ "12:10" or "10-04 00:05"."""
    day, _, clock = text.rpartition(" ")
    return datetime.fromisoformat(f"2026-{day or '10-03'}T{clock}+08:00")


def event_of(row: dict[str, Any], ordinal: int) -> RecordedEvent:
    kind = next(kind for kind in ("accepted", "reassigned", "completed", "cancelled") if kind in row)
    occurred_at = instant(row[kind])
    recorded_at = instant(row["recorded"]) if "recorded" in row else occurred_at
    return RecordedEvent(EventType(f"order.{kind}"), occurred_at, recorded_at, row.get("by"), 1, ordinal)


def version_of(row: dict[str, Any], ordinal: int) -> OtherVersion:
    said = {"type": f"order.{row['conflict']}", "time": instant(row["time"]).isoformat()}
    return OtherVersion(tuple(row["differs"]), said, instant(row["time"]), 2, ordinal)


def order_of(order_id: str, rows: list[dict[str, Any]]) -> Order:
    """The rows of one order as the ledger keeps them."""
    events = [event_of(row, ordinal) for ordinal, row in enumerate(rows) if "conflict" not in row]
    versions = [version_of(row, ordinal) for ordinal, row in enumerate(rows) if "conflict" in row]
    accepted = [event for event in events if event.type is EventType.ACCEPTED]
    ended = [event for event in events if event.worker_id is None]
    line = next((row.get("line", "instant_delivery") for row in rows if "accepted" in row), None)
    return Order(
        order_id,
        line and Line(line),
        "310100" if line else None,
        700 if line else None,
        accepted[0] if accepted else None,
        tuple(event for event in events if event.type is EventType.REASSIGNED),
        ended[0] if ended else None,
        tuple(versions),
    )


def orders_of(rows: list[dict[str, Any]]) -> list[Order]:
    ids = dict.fromkeys(row["order"] for row in rows)
    return [order_of(order_id, [row for row in rows if row["order"] == order_id]) for order_id in ids]


def answer(case: dict[str, Any]) -> Cover:
    return judge(orders_of(case["events"]), case["worker"], instant(case["at"]), rules())


def told(window: Window) -> list[Any]:
    """A window as the case file writes it."""
    ended_by = window.ended_by.type.removeprefix("order.") if window.ended_by else "rule"
    return [window.order.order_id, window.start, window.end, ended_by, list(window.doubts)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_officer_is_told_what_the_case_says(case: dict[str, Any]):
    cover = answer(case)
    expected = [
        [order, instant(start), instant(end), ended_by, doubts]
        for order, start, end, ended_by, doubts in case.get("windows", [])
    ]
    assert [told(window) for window in cover.windows] == expected
    assert cover.verdict == case["verdict"]
    near = [[near.nearness, near.window.order.order_id, near.gap / timedelta(minutes=1)] for near in cover.near]
    assert near == case.get("near", [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_it_does_not_matter_in_which_order_the_orders_are_gathered(case: dict[str, Any]):
    there = orders_of(case["events"])
    at = instant(case["at"])
    assert judge(reversed(there), case["worker"], at, rules()) == judge(there, case["worker"], at, rules())


def test_every_doubt_occurs_in_a_case():
    assert {doubt for case in CASES for window in case.get("windows", []) for doubt in window[4]} == set(Doubt)


def test_every_verdict_occurs_in_a_case():
    assert {case["verdict"] for case in CASES} == set(Verdict)


def test_the_look_back_is_the_longest_window_of_the_line_and_of_any_where_it_is_not_known():
    hours = {line: length / timedelta(hours=1) for line, length in look_back(rules(), NOON).items()}
    assert hours == {
        Line.FOOD_DELIVERY: 12,
        Line.INSTANT_DELIVERY: 12,
        Line.RIDE_HAILING: 24,
        Line.INTRA_CITY_FREIGHT: 48,
        None: 48,
    }


def test_where_a_rule_grew_shorter_the_look_back_is_that_of_the_longer_one():
    content = json.loads(rules().content)
    [until] = [rule for rule in content["longest_windows"] if rule["line"] == "instant_delivery"]
    content["longest_windows"].append(until | {"hours": 6, "in_force_from": "2026-10-03"})
    until["in_force_until"] = "2026-10-02"
    assert look_back(Rulebook.from_content(json.dumps(content)), NOON)[Line.INSTANT_DELIVERY] == timedelta(hours=12)


def test_an_instant_before_every_rule_is_a_bad_question():
    with pytest.raises(BadQuestion, match="No longest window"):
        look_back(rules(), datetime.fromisoformat("2001-01-01T12:00+08:00"))


def test_the_rule_of_the_day_of_acceptance_bounds_the_window():
    content = json.loads(rules().content)
    [until] = [rule for rule in content["longest_windows"] if rule["line"] == "instant_delivery"]
    since = until | {"hours": 6, "in_force_from": "2026-10-04"}
    until["in_force_until"] = "2026-10-03"
    content["longest_windows"].append(since)
    changed = Rulebook.from_content(json.dumps(content))
    [order] = orders_of([{"order": "A", "accepted": "23:59", "by": "W1"}])
    [before] = windows_of(order, "W1", NOON, changed)
    [order] = orders_of([{"order": "A", "accepted": "10-04 00:00", "by": "W1"}])
    [after] = windows_of(order, "W1", NOON, changed)
    assert (before.rule.hours, after.rule.hours) == (12, 6)


# ---- any history

WORKERS = ("W1", "W2")
MINUTES = st.integers(-2000, 2000)


def event(kind: EventType, minutes: int, recorded: int, worker: str | None, ordinal: int) -> RecordedEvent:
    at = NOON + timedelta(minutes=minutes)
    return RecordedEvent(kind, at, at + timedelta(minutes=recorded), worker, 1, ordinal)


@st.composite
def histories(draw: st.DrawFn) -> list[Order]:
    """A few orders with any times at all."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        late = draw(st.integers(0, 600))
        accepted = draw(st.booleans())
        ended = draw(st.sampled_from([None, EventType.COMPLETED, EventType.CANCELLED]))
        passed = draw(st.lists(st.tuples(MINUTES, st.sampled_from(WORKERS)), max_size=3))
        found.append(
            Order(
                f"O{number}",
                draw(st.sampled_from(Line)) if accepted else None,
                "310100" if accepted else None,
                700 if accepted else None,
                event(EventType.ACCEPTED, draw(MINUTES), late, draw(st.sampled_from(WORKERS)), 0) if accepted else None,
                tuple(event(EventType.REASSIGNED, at, late, to, 1 + place) for place, (at, to) in enumerate(passed)),
                event(ended, draw(MINUTES), 0, None, 9) if ended else None,
            )
        )
    return found


@given(histories(), MINUTES)
def test_a_cover_keeps_its_promises(history: list[Order], minutes: int):
    at = NOON + timedelta(minutes=minutes)
    cover = judge(history, "W1", at, rules())
    assert (cover.verdict is Verdict.NOT_COVERED) == (not cover.windows)
    firm = any(NO_DOUBT_OF_COVER.issuperset(window.doubts) for window in cover.windows)
    assert (cover.verdict is Verdict.COVERED) == firm
    assert not (cover.windows and cover.near)
    for window in cover.windows:
        assert window.start <= at < window.end <= window.start + window.longest
        assert window.begun_by.worker_id == "W1"
        known_line = window.order.line if window.begun_by.type is EventType.ACCEPTED else None
        assert at - look_back(rules(), at)[known_line] < window.start, "the gathering reaches every window that covers"
    for near in cover.near:
        assert not near.window.covers(at)
        assert near.gap >= timedelta()


@given(histories(), MINUTES)
def test_what_comes_to_light_later_never_makes_a_firm_window_out_of_nothing(history: list[Order], minutes: int):
    """Of orders accepted by others and never passed on, nobody else has a window."""
    at = NOON + timedelta(minutes=minutes)
    assert judge(history, "W3", at, rules()) == Cover(at, Verdict.NOT_COVERED, (), ())


@given(histories())
def test_at_every_instant_an_orderly_order_has_one_holder_at_most(history: list[Order]):
    for order in history:
        windows = [window for worker in WORKERS for window in windows_of(order, worker, NOON, rules())]
        if any(Doubt.OUT_OF_ORDER in window.doubts for window in windows):
            continue
        windows.sort(key=lambda window: (window.start, window.end))
        for one, other in pairwise(windows):
            assert one.end <= other.start
