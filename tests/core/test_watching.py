"""What watches a consumer, without one: counting, laps, headers, lines; and that dashboards name what there is."""

import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from consumers.health import TURN_S, Probes, turns
from consumers.kafka.ends import Held
from consumers.kafka.fetch import Lag
from consumers.log import Log
from consumers.loop import STEPS as SWITCHES
from consumers.metrics import Metrics, answered, newest
from consumers.steps import STEPS, Lap, Steps
from consumers.trace import LINKS_MAX, contexts
from ledger.cli.status import partitions
from ledger.cli.statusview import clock, number, page
from ledger.intake import Acceptance, Intake, Later
from ledger.rating import Tariff
from schemas.codes import Answer, Line

DEPLOY = Path(__file__).parents[2] / "deploy"
NEW, DUPLICATE, CONFLICT, REJECTED = Answer.NEW, Answer.DUPLICATE, Answer.CONFLICT, Answer.REJECTED
DAY = date(2026, 10, 3)
MARK = "XMARKX"


def tariff(platform: int = 1, province: str = "31", day: date = DAY) -> Tariff:
    return Tariff(platform, province, Line.INSTANT_DELIVERY, day, DAY.replace(day=1), 400, Decimal(1), 400, True, False)


def acceptance(ordinal: int, of: Tariff, occurred_us: int = 0) -> Acceptance:
    return Acceptance(of.platform_no, MARK, occurred_us, MARK, int(of.province) * 10_000, of.line, ordinal, of)


def later(ordinal: int, platform: int) -> Later:
    return Later(platform, MARK, "", 0, b"C", None, ordinal)


def series(metrics: Metrics) -> set[str]:
    """The names that a scrape may hold."""
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return (
        {sample.name for family in families for sample in family.samples}
        | {
            f"danbao_{name}"
            for name in ("events_total", "rejected_events_total", "newest_acceptance_timestamp_seconds")
        }
        | {f"danbao_batch_step_seconds_{part}" for part in ("sum", "count", "bucket")}
    )


# ---- counting


def test_events_are_counted_by_platform_and_answer_wherever_they_stand_in_the_batch():
    one, two = tariff(1), tariff(2)
    intake = Intake([], [acceptance(0, one), acceptance(3, two), acceptance(5, one)], [later(1, 2), later(4, 1)])
    answers = [NEW, DUPLICATE, REJECTED, CONFLICT, NEW, DUPLICATE]
    assert answered(intake, answers) == {(1, NEW): 2, (1, DUPLICATE): 1, (2, CONFLICT): 1, (2, DUPLICATE): 1}


def test_the_newest_order_is_found_in_any_order_over_days_and_lines():
    shanghai, next_day, beijing = tariff(), tariff(day=date(2026, 10, 4)), tariff(province="11")
    events = [acceptance(0, next_day, 900), acceptance(1, shanghai, 500), acceptance(2, beijing, 70)]
    events += [acceptance(3, shanghai, 800), acceptance(4, beijing, 60), acceptance(5, tariff(2), 1)]
    expected = {(1, "31"): 900, (1, "11"): 70, (2, "31"): 1}
    assert newest(events) == newest(events[::-1]) == expected
    assert newest([]) == {}


def test_a_lag_is_told_by_the_age_of_the_oldest_record_and_unknown_ones_not_at_all():
    metrics, now_us = Metrics(), time.time_ns() // 1_000
    lags = [Lag("t", 0, 7, False, now_us - 30_000_000), Lag("t", 1, None, False, None), Lag("t", 2, 4, True, None)]
    metrics.watch(lambda: lags)
    text = generate_latest(metrics.registry).decode()
    found = {
        (sample.name.removeprefix("danbao_partition_"), sample.labels["partition"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("danbao_partition")
    }
    assert 30 <= found.pop(("lag_seconds", "0")) < 60
    assert found == {
        ("lag_records", "0"): 7,
        ("lag_records", "2"): 4,
        ("lag_seconds", "1"): 0,
        ("stopped", "0"): 0,
        ("stopped", "1"): 0,
        ("stopped", "2"): 1,
    }


def test_counting_a_batch_costs_little_beside_booking_it():
    kinds = [tariff(platform, province) for platform in range(4) for province in ("11", "31", "44")]
    events = [acceptance(place, kinds[place % 12], place) for place in range(20_000)]
    intake, answers = Intake([], events), [NEW] * 20_000
    began = time.process_time()
    answered(intake, answers)
    newest(events)
    assert time.process_time() - began < 0.1  # some 6 ms on a quiet machine; a batch takes 200 to book


# ---- steps


def ticking(*times: float) -> Callable[[], float]:
    return iter(times).__next__


def test_every_switch_of_the_loop_ends_a_step():
    assert tuple(STEPS) == SWITCHES
    assert len(set(STEPS.values())) == len(STEPS)


def test_steps_follow_each_other_and_a_retry_is_counted_again():
    steps = Steps(ticking(10.0, 11.0, 13.0, 20.0, 21.0, 30.0))
    steps.begin((1.0, 2.0))
    for step in ("prepared", "read", "begun", "prepared", "begun"):  # the reading thread reads on meanwhile
        steps.reached(step)
    laps = [("read", 1, 2), ("prepare", 10, 11), ("begin", 11, 13), ("prepare", 13, 20), ("begin", 20, 21)]
    assert steps.take() == [Lap(*lap) for lap in laps]
    steps.reached("committed")
    assert steps.take() == [Lap("commit", 21, 30)]


# ---- traces


def test_only_traceparents_lead_to_spans_each_once_and_no_more_than_there_may_be():
    good = [b"00-%032x-%016x-01" % (number, number) for number in range(1, LINKS_MAX + 10)]
    assert [one.span_id for one in contexts([b"", b"\xff", good[0], good[0], good[1][:-1], good[2]])] == [1, 3]
    assert len(contexts(good)) == LINKS_MAX


# ---- lines for machines


def logged(write: Callable[[Log], Any]) -> list[dict[str, Any]]:
    stream = BytesIO()
    write(Log(stream))
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_and_what_in_one_object():
    [line] = logged(lambda log: log.told("fenced", {"topic": "t\n", "partition": 1}))
    assert (line["event"], line["topic"], line["partition"]) == ("fenced", "t\n", 1)
    assert datetime.fromisoformat(line["at"]).tzinfo == UTC


def test_an_error_that_quotes_a_row_is_told_without_it():
    def fail(log: Log) -> None:
        try:
            raise ValueError(f"(1, {MARK})")
        except ValueError as error:
            log.failed(ValueError, error, error.__traceback__)

    [line] = logged(fail)
    assert (line["event"], line["error"], line["cause"]) == ("failed", "builtins.ValueError", "ValueError")
    assert line["where"][-1].endswith(" fail")
    assert MARK not in json.dumps(line)


@pytest.mark.parametrize("what", ["thread", "main", "library"])
def test_nothing_else_reaches_stderr_once_the_log_has_taken_it_over(what: str):
    program = f"""
import sys, threading, logging
from consumers.log import Log
Log(sys.stderr.buffer).take_over()
def fail(): raise RuntimeError("{MARK}")
if "{what}" == "library": logging.getLogger("kafka.conn").warning("%s did not answer", "{MARK}")
elif "{what}" == "thread": one = threading.Thread(target=fail); one.start(); one.join()
else: fail()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    [line] = [json.loads(one) for one in done.stderr.splitlines()]
    assert line["event"] == ("library" if what == "library" else "failed")
    assert MARK not in done.stderr
    assert done.returncode == (1 if what == "main" else 0)


def test_a_library_is_named_beside_what_it_says():
    stream = BytesIO()
    before = logging.root.handlers[:]
    try:
        Log(stream).take_over()
        logging.getLogger("kafka.conn").warning("%s closed", MARK)
    finally:
        logging.root.handlers[:] = before
        sys.excepthook = sys.__excepthook__
        import threading

        threading.excepthook = threading.__excepthook__
    [line] = [json.loads(one) for one in stream.getvalue().splitlines()]
    assert (line["library"], line["level"], line["text"]) == ("kafka.conn", "warning", "%s closed")


# ---- health


def test_a_loop_that_stands_still_is_not_alive():
    assert turns(100.0, 100.0 + TURN_S - 1)
    assert not turns(100.0, 100.0 + TURN_S + 1)


def test_a_database_that_stands_still_takes_one_probe_however_many_ask():
    asked: list[int] = []
    go_on = Event()

    def stand_still() -> bool:
        asked.append(1)
        return go_on.wait(60)

    probes = Probes(stand_still)
    assert [probes.answered(0.05) for _ in range(3)] == [False] * 3
    assert len(asked) == 1
    go_on.set()
    assert probes.answered(60)


def test_a_probe_that_fails_is_no_answer():
    answers = iter([False, True])
    probes = Probes(lambda: next(answers))
    assert [probes.answered(60), probes.answered(60)] == [False, True]


# ---- danbao status


def row(topic: str, partition: int, head: int, goes_on_at: int | None = None) -> dict[str, Any]:
    place = {"topic": topic, "partition": partition, "head": head, "goes_on_at": goes_on_at or head}
    return place | {"booked_at": None, "events_per_second": 0.0}


def test_heads_stand_beside_what_the_broker_holds_and_gaps_are_seen():
    booked = [row("a", 0, 5), row("a", 1, 5), row("a", 2, 5), row("inbox", 0, 9)]
    held = {("a", 0): Held(0, 8), ("a", 1): Held(6, 8), ("a", 2): Held(0, 4), ("a", 3): Held(0, 2)}
    found = partitions(booked, held)
    assert [(one["partition"], one["end"], one["lag"], one["gap"]) for one in found[:4]] == [
        (0, 8, 3, False),
        (1, 8, 3, True),
        (2, 4, 0, True),
        (3, 2, 2, False),
    ]
    [accepted, half] = partitions([row("a", 1, 5, 6), row("b", 0, 5, 6)], {("a", 1): Held(6, 8), ("b", 0): Held(7, 8)})
    assert (accepted["gap"], half["gap"]) == (False, True), "a gap that was accepted, and one that grew since"
    assert (found[4]["topic"], found[4]["end"], found[4]["lag"], found[4]["gap"]) == ("inbox", None, None, False)


def test_figures_and_instants_are_written_for_people():
    assert (number(1_234_567), number(None), number(0)) == ("1,234,567", "–", "0")
    assert clock(datetime(2026, 10, 3, 4, 5, 6, tzinfo=UTC)) == "10-03 12:05:06"
    assert clock(None) == "–"


def test_a_page_shows_that_the_database_is_away():
    shown = Console(width=120, record=True, file=StringIO())
    away = {"at": datetime.now(UTC), "database": {"answers": False}, "broker": None, "partitions": []}
    shown.print(page(away))
    assert "does not answer" in shown.export_text() or "没有应答" in shown.export_text()


# ---- deploy


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "streams.json").read_text("utf-8"))
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text("utf-8"))
    return shown + [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]


def test_dashboards_and_alerts_name_only_what_a_consumer_tells():
    metrics = Metrics()
    metrics.watch(lambda: [Lag("t", 0, 1, False, None)])
    there = series(metrics)
    named = {name for text in expressions() for name in re.findall(r"\b(?:danbao|process)_\w+", text)}
    assert len(named) > 10
    assert named - there == set()


def test_no_label_can_hold_more_than_a_short_list():
    labels = set()
    metrics = Metrics()
    for metric in vars(metrics).values():
        labels |= set(getattr(metric, "_labelnames", ()))
    assert labels == {"platform", "province", "answer", "reason", "step"}
