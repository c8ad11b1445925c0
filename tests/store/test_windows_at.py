"""Order windows asked of the database: what the gathering finds is what the whole history says, and little is read.

In: events handed in at a desk. Out: covers from `windows_at`, the plan of its query, the command's answer.
"""

import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import pytest
import typer
from sqlalchemy import Connection, Engine, text
from support import Desk, accepted, cancelled, completed, event, reassigned, rules, rules_where, value
from typer.testing import CliRunner, Result

from ledger.calendar import SHANGHAI
from ledger.cli import windows as command
from ledger.store import registry, windows
from ledger.windows import Cover, Near, Verdict, judge
from schemas.codes import Doubt

NOON = datetime.fromisoformat("2026-10-03T12:00+08:00")


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def clock(minutes: int) -> str:
    return at(minutes).isoformat()


def asked(engine: Engine, worker: str, moment: datetime, platform: str = "eleme") -> Cover:
    with engine.connect() as connection:
        number = registry.find(connection, platform).platform_no
        return windows.windows_at(connection, rules(), number, worker, moment)


def order_ids(cover: Cover) -> list[str]:
    return sorted(window.order.order_id for window in cover.windows)


@pytest.fixture
def desk(engine: Engine) -> Desk:
    """Where events are handed in."""
    return Desk(engine)


# ---- what is told


def test_the_events_behind_a_window_are_given_with_both_times_and_their_place(engine: Engine, desk: Desk):
    desk.hand_in(accepted("other", worker="W2"))
    desk.hand_in([accepted("A"), completed("A")])
    [window] = asked(engine, "W1", at(10)).windows
    order = window.order
    assert (order.line, order.city, order.premium) == ("instant_delivery", "310100", 700)
    assert [(one.type, one.ordinal) for one in order.events] == [("order.accepted", 0), ("order.completed", 1)]
    assert [one.occurred_at for one in order.events] == [at(0), at(30)]
    assert len({(one.batch_id, one.recorded_at) for one in order.events}) == 1


def test_an_order_recorded_before_the_instant_is_no_late_declaration(engine: Engine, desk: Desk):
    now = datetime.now(UTC).astimezone(SHANGHAI).replace(microsecond=0)
    begun, ended = (now - timedelta(minutes=30)).isoformat(), (now + timedelta(minutes=8)).isoformat()
    desk.hand_in([accepted("A", begun), completed("A", ended)], arrived=now)
    cover = asked(engine, "W1", now + timedelta(minutes=5))
    assert cover.verdict is Verdict.COVERED
    assert cover.windows[0].doubts == ()


def test_a_conflicting_version_is_given_as_evidence_and_as_a_doubt(engine: Engine, desk: Desk):
    desk.hand_in([accepted("A"), completed("A")], accepted("A", clock(1), worker="W9"), completed("A", clock(99)))
    [window] = asked(engine, "W1", at(10)).windows
    assert Doubt.CONFLICT in window.doubts
    assert [version.differs for version in window.order.conflicts] == [("time", "worker"), ("time",)]
    assert window.order.conflicts[0].event["worker_id"] == "W9"


def test_what_an_order_was_charged_follows_the_rules_it_was_booked_under(engine: Engine):
    desk = Desk(engine, book=rules_where("completed", "keep"))
    desk.hand_in([accepted("A"), completed("A"), accepted("B")])
    paid = {window.order.order_id: window.order.premium for window in asked(engine, "W1", at(10)).windows}
    assert paid == {"A": 700, "B": None}


def test_a_charge_that_was_reversed_is_nothing_but_not_missing(engine: Engine):
    Desk(engine, book=rules_where("accepted", "reverse")).hand_in([accepted("A"), cancelled("A")])
    [window] = asked(engine, "W1", at(10)).windows
    assert window.order.premium == 0


def test_where_no_entry_leads_to_the_acceptance_its_batch_is_found_all_the_same(engine: Engine):
    desk = Desk(engine, book=rules_where("completed", "keep"))
    desk.hand_in(accepted("earlier", worker="W9"))
    desk.hand_in(accepted("A", worker="W2"), reassigned("A", "W1", clock(5)))
    [window] = asked(engine, "W1", at(10)).windows
    assert {one.batch_id for one in window.order.events} == {window.begun_by.batch_id}


def test_the_same_worker_number_on_another_platform_is_somebody_else(engine: Engine, desk: Desk):
    desk.hand_in(accepted("A", platform="eleme"), accepted("B", platform="example-delivery"))
    assert order_ids(asked(engine, "W1", at(10), "eleme")) == ["A"]
    assert order_ids(asked(engine, "W1", at(10), "example-delivery")) == ["B"]


def test_order_ids_may_hold_whatever_can_be_printed(engine: Engine, desk: Desk):
    ids = ['a,"b', "{x}", "\\", "货 1", "NULL", "%s", ":at", "''"]
    desk.hand_in([accepted(one) for one in ids])
    assert order_ids(asked(engine, "W1", at(10))) == sorted(ids)


def test_the_near_misses_are_the_nearest(engine: Engine, desk: Desk):
    desk.hand_in([accepted("A", clock(-60)), completed("A", clock(-40)), accepted("B", clock(-50))])
    desk.hand_in([completed("B", clock(-20)), accepted("C", clock(15)), accepted("D", clock(90))])
    cover = asked(engine, "W1", at(0))
    assert [(near.nearness, near.window.order.order_id) for near in cover.near] == [("before", "B"), ("after", "C")]


def test_an_order_passed_on_long_before_does_not_hide_the_one_that_ended_last(engine: Engine, desk: Desk):
    desk.hand_in([accepted("A", clock(-60)), reassigned("A", "W2", clock(-50)), completed("A", clock(-5))])
    desk.hand_in([accepted("B", clock(-40)), completed("B", clock(-10))])
    [near] = asked(engine, "W1", at(0)).near
    assert (near.window.order.order_id, near.gap) == ("B", timedelta(minutes=10))


def test_a_worker_far_from_any_order_is_told_apart_from_one_never_seen(engine: Engine, desk: Desk):
    desk.hand_in(accepted("A", clock(0)), accepted("B", clock(60 * 24 * 20)))
    with engine.connect() as connection:
        number = registry.find(connection, "eleme").platform_no
        assert windows.worker_seen(connection, number, "W1", at(60 * 24 * 9)) == (at(0), at(60 * 24 * 20))
        assert windows.worker_seen(connection, number, "nobody", at(0)) == (None, None)


# ---- the whole history


def shuffled_history(dice: random.Random) -> list[dict[str, Any]]:
    """Orders of three workers within five days, in any order, with all that can go wrong."""
    events: list[dict[str, Any]] = []
    for number in range(60):
        order, begins = f"O{number}", dice.randrange(-3600, 3600)
        line = dice.choice(["instant_delivery", "ride_hailing", "intra_city_freight"])
        if dice.random() < 0.95:
            events.append(accepted(order, clock(begins), f"W{dice.randrange(3)}", line=line))
        for pass_ in range(dice.choice([0, 0, 0, 1, 2])):
            moment = clock(begins + dice.randrange(-10, 60))
            events.append(reassigned(order, f"W{dice.randrange(3)}", moment, str(pass_)))
        if dice.random() < 0.9:
            lasts = dice.choice([dice.randrange(-5, 90), dice.randrange(90, 3000)])
            kind: Callable[..., dict[str, Any]] = dice.choice([completed, cancelled])
            events.append(kind(order, clock(begins + lasts)))
        if dice.random() < 0.1:
            events.append(accepted(order, clock(begins + 3), "W0", line=line))
    dice.shuffle(events)
    return events


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_few_orders_that_are_gathered_give_the_answer_of_all_orders(engine: Engine, desk: Desk, seed: int):
    dice = random.Random(seed)
    events = shuffled_history(dice)
    for place in range(0, len(events), 40):
        desk.hand_in(events[place : place + 40])
    with engine.connect() as connection:
        number = registry.find(connection, "eleme").platform_no
        every = [order for n in range(60) if (order := windows.order(connection, number, f"O{n}"))]
        for _ in range(150):
            moment, worker = at(dice.randrange(-4000, 5000)), f"W{dice.randrange(3)}"
            expected = judge(every, worker, moment, rules())
            found = windows.windows_at(connection, rules(), number, worker, moment)
            assert found.windows == expected.windows
            assert found.verdict == expected.verdict
            if all(within_reach(near, moment) for near in expected.near):
                assert found.near == expected.near


def within_reach(near: Near, moment: datetime) -> bool:
    """Whether the gathering looks so far for a near miss."""
    return moment - timedelta(hours=48) <= near.window.start <= moment + windows.NEAR_AFTER


# ---- how it is read


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The plan of each query that is asked, line by line, with what it found."""
    shown: list[list[str]] = []
    ask = windows._rows

    def asked(connection: Connection, query: LiteralString, values: dict[str, Any]) -> list[Any]:
        connection.execute(text("set local enable_seqscan = off"))
        explained = ask(connection, f"explain (analyze, buffers off) {query}", values)
        shown.append([line for (line,) in explained])
        return ask(connection, query, values)

    monkeypatch.setattr(windows, "_rows", asked)
    return shown


def days_read(plan: list[str]) -> list[int]:
    return sorted({int(day) for line in plan for day in re.findall(r" on order_event_202610(\d\d)", line)})


def test_only_the_days_that_a_window_can_reach_are_read_and_by_index(
    engine: Engine, desk: Desk, plans: list[list[str]]
):
    for day in range(10):
        desk.hand_in(accepted(f"O{day}", f"2026-10-{1 + day:02}T12:00:00+08:00"))
    assert asked(engine, "W1", at(-1)).verdict is Verdict.NOT_COVERED
    assert [days_read(plan) for plan in plans] == [[1, 2, 3], [1, 2, 3, 4]]
    assert "Seq Scan" not in str(plans)


def test_of_days_that_only_windows_of_other_lines_can_reach_nothing_is_read(
    engine: Engine, desk: Desk, plans: list[list[str]]
):
    for day in range(1, 4):
        desk.hand_in(accepted(f"O{day}", f"2026-10-{day:02}T23:00:00+08:00"))
    assert order_ids(asked(engine, "W1", at(690))) == ["O3"]
    [plan] = plans
    scans = [node for node in "\n".join(plan).split("->") if " on order_event_2026" in node]
    found = [re.findall(r"worker_id_line_idx on order_event_(\d+) .*rows=(\d)", scan) for scan in scans]
    assert sorted(found) == [[("20261001", "0")], [("20261002", "0")], [("20261003", "1")]]
    assert "Rows Removed by Filter" not in str(scans)


def test_days_that_are_made_while_questions_are_asked_are_read_too(engine: Engine, desk: Desk):
    with engine.connect() as connection:
        number = registry.find(connection, "eleme").platform_no
        assert windows.windows_at(connection, rules(), number, "W1", NOON).windows == ()
        desk.hand_in(accepted("A"))
        assert order_ids(windows.windows_at(connection, rules(), number, "W1", NOON)) == ["A"]


def test_an_old_order_of_a_short_line_is_still_named_as_near_where_nothing_covers(engine: Engine, desk: Desk):
    desk.hand_in([accepted("A", clock(-60 * 20)), accepted("B", clock(-60 * 30)), completed("B", clock(-60 * 29))])
    cover = asked(engine, "W1", at(0))
    assert [(near.nearness, near.window.order.order_id) for near in cover.near] == [("beyond_rule", "A")]


def test_an_orders_facts_are_read_by_key_alone(engine: Engine, desk: Desk, plans: list[list[str]]):
    desk.hand_in(accepted("A"))
    with engine.connect() as connection:
        assert windows.order(connection, registry.find(connection, "eleme").platform_no, "A")
    shown = str(plans)
    assert "Seq Scan" not in shown
    for index in ("charge_pkey", "event_key_pkey", "conflict_order"):
        assert index in shown


# ---- the command


app = typer.Typer()
app.command()(command.windows)


@pytest.fixture
def ask(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`danbao windows` on this ledger, in English unless said otherwise."""
    monkeypatch.setenv("DANBAO_DATABASE_URL", ledger_url)

    def run(worker: str, moment: str, *more: str, platform: str = "eleme", language: str = "en") -> Result:
        monkeypatch.setenv("DANBAO_LANG", language)
        return CliRunner().invoke(app, ["--platform", platform, "--worker", worker, "--at", moment, *more])

    return run


def told_late(desk: Desk) -> None:
    desk.hand_in([accepted("8801"), completed("8801"), accepted("8802", clock(5))])


def test_the_exit_code_says_the_verdict(ask: Callable[..., Result], desk: Desk):
    now = datetime.now(UTC).astimezone(SHANGHAI).replace(microsecond=0)
    begun = (now - timedelta(minutes=30)).isoformat()
    desk.hand_in([accepted("A", begun, "W9"), completed("A", (now + timedelta(minutes=9)).isoformat())], arrived=now)
    told_late(desk)
    assert ask("W9", (now + timedelta(minutes=5)).isoformat()).exit_code == 0
    assert ask("W1", clock(-5)).exit_code == 1
    assert ask("W1", clock(10)).exit_code == 3


@pytest.mark.parametrize(
    ("worker", "moment", "platform", "told"),
    [
        ("W1", "2026-10-03T12:10", "eleme", "not an instant with an offset"),
        ("W1", "noon", "eleme", "not an instant with an offset"),
        ("W1", "2022-06-30T23:59:59+08:00", "eleme", "before the scheme began"),
        ("W1", "0001-01-01T00:00+23:00", "eleme", "before the scheme began"),
        ("W1", "9999-12-31T23:59-23:00", "eleme", "has not come yet"),
        ("W1", clock(10), "nobody", "not a registered platform"),
        ("", clock(10), "eleme", "no worker number"),
        ("W\x1b[2J", clock(10), "eleme", "no worker number"),
        ("W" * 65, clock(10), "eleme", "no worker number"),
    ],
)
def test_a_bad_question_is_answered_with_2_and_what_to_do(
    ask: Callable[..., Result], worker: str, moment: str, platform: str, told: str
):
    result = ask(worker, moment, platform=platform)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
    assert "what to do" in result.stderr


def test_machines_get_one_object(ask: Callable[..., Result], desk: Desk):
    told_late(desk)
    answer = json.loads(ask("W1", clock(10), "--json").stdout)
    assert (answer["verdict"], answer["at"]) == ("doubtful", "2026-10-03T12:10:00+08:00")
    assert answer["doubts"] == ["open", "bounded_by_rule", "late_declared", "overlap"]
    first, second = answer["windows"]
    assert (first["order"], first["end"], first["ended_by"]) == ("8801", "2026-10-03T12:30:00+08:00", "completed")
    assert first["premium"] == "0.07"
    assert [one["type"] for one in first["events"]] == ["order.accepted", "order.completed"]
    assert (second["ended_by"], second["longest_hours"]) == ("rule", 12)
    assert answer["near"] == []


def test_people_get_a_drawing_and_a_sentence_for_each_doubt(ask: Callable[..., Result], desk: Desk):
    told_late(desk)
    shown = ask("W1", clock(10)).stdout
    assert "Doubtful" in shown
    assert "8801" in shown
    assert "┃" in shown
    assert "▲ 2026-10-03 12:10:00" in shown
    assert "no completion, cancellation or reassignment is recorded" in shown
    shown = ask("W1", clock(10), language="zh").stdout
    assert "存疑" in shown
    assert "没有完成、取消或改派的记录" in shown


def test_a_near_miss_says_how_far_off_it_was(ask: Callable[..., Result], desk: Desk):
    told_late(desk)
    assert "the next window, 5 min later" in ask("W1", clock(-5)).stdout
    assert "此后最近的时段，晚 5 分" in ask("W1", clock(-5), language="zh").stdout


def test_a_worker_never_seen_is_not_covered_and_said_to_be_unknown(ask: Callable[..., Result], desk: Desk):
    told_late(desk)
    result = ask("W404", clock(10))
    assert result.exit_code == 1
    assert "unknown on this platform" in result.stdout
    assert json.loads(ask("W404", clock(10), "--json").stdout)["seen"] == {"before": None, "after": None}


def test_a_worker_seen_on_other_days_is_told_when(ask: Callable[..., Result], desk: Desk):
    told_late(desk)
    result = ask("W1", clock(-60 * 24 * 7))
    assert result.exit_code == 1
    assert "the next 2026-10-03 12:00:00" in result.stdout


def test_what_platforms_send_cannot_dress_up_as_markup(ask: Callable[..., Result], desk: Desk):
    desk.hand_in(accepted("[bold]A[/]", worker="[red]W"), event("completed", "[bold]A[/]", clock(30), {}))
    assert "order [bold]A[/]" in ask("[red]W", clock(10)).stdout


def test_an_order_without_a_premium_names_who_owes_the_benefits(
    ask: Callable[..., Result], desk: Desk, ledger_url: str
):
    desk.hand_in(reassigned("A", "W1", clock(0)), completed("A"))
    assert value(ledger_url, "select count(*) from charge") == 0
    assert "the platform itself owes the benefits" in ask("W1", clock(10)).stdout
