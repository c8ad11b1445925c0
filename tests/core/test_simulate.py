"""Simulated streams: repeatable, shaped like real orders, and their answers are known beforehand."""

import csv
import gzip
import hashlib
import json
import os
import subprocess
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from ledger.cli.simulate import simulate
from ledger.errors import BadQuestion
from ledger.examples import registrations, simulated
from ledger.simulate import Plan, Simulation, Tally
from ledger.simulate.faults import KINDS
from ledger.simulate.shapes import TABLE_SIZE, by_weight, cities, shapes, table
from schemas import orders
from schemas.codes import CITIES, PROVINCES, Line

ROOT = Path(__file__).parents[2]
REAL = ROOT / ".." / "shared" / "data"
SMALL = Plan(
    orders=400,
    seed=7,
    platforms=simulated(),
    provinces=tuple(PROVINCES),
    first_day=date(2026, 10, 1),
)
PERCENTS = (10, 25, 50, 75, 90, 95)


class Window(NamedTuple):
    worker: str
    accepted: float
    completed: float


def run(plan: Plan) -> tuple[list[bytes], Tally]:
    simulation = Simulation(plan)
    content = b"".join(simulation.chunks())
    assert content.endswith(b"\n")
    return content.splitlines(), simulation.tally


def events_of(lines: Iterable[bytes]) -> list[dict]:
    records = (json.loads(line) for line in lines)
    return [event for record in records for event in (record if isinstance(record, list) else [record])]


def quantile(values: list[float], percent: float) -> float:
    return values[min(len(values) - 1, int(percent / 100 * len(values)))]


def hour_shares(hours: Iterable[int]) -> list[float]:
    count = Counter(hours)
    return [count[hour] / count.total() for hour in range(24)]


def overlap_share(windows: Iterable[Window]) -> float:
    """Share of windows that begin while an earlier one of the same worker is open."""
    ends: dict[str, float] = {}
    overlaps = total = 0
    for window in sorted(windows):
        overlaps += window.accepted < ends.get(window.worker, -1)
        ends[window.worker] = max(window.completed, ends.get(window.worker, -1))
        total += 1
    return overlaps / total


# What the rules of answering say, in a few lines of plain dictionaries.


class Model:
    """Answers record by record as the ledger must: new, duplicate, conflict, or rejected with a reason."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, ...], tuple] = {}
        self.count: Counter[str] = Counter()
        self.platforms = {f"/platforms/{platform.platform_id}" for platform in simulated()}

    def take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            self.count["malformed"] += 1
            return
        if record == []:
            self.count["empty_list"] += 1
        for event in record if isinstance(record, list) else [record]:
            self.count[self.answer(event)] += 1

    def answer(self, event: dict) -> str:
        try:
            orders.one_event.validate_json(json.dumps(event))
        except ValidationError:
            return "invalid"
        if event["source"] not in self.platforms:
            return "unknown_platform"
        if datetime.fromisoformat(event["time"]) < datetime.fromisoformat("2022-07-01T00:00:00+08:00"):
            return "before_scheme"
        slot, data = "", event["data"]
        if event["type"] == "order.accepted":
            slot = "accepted"
            if data["accepted_city"] not in CITIES:
                return "unknown_city"
        elif event["type"] == "order.reassigned":
            slot = event["id"]
        content = (event["type"], event["time"], *sorted(data.items()))
        if event["type"] == "order.cancelled":
            content = content[:2]
        first = self.known.setdefault((event["source"], event["subject"], slot), content)
        return "new" if first is content else "duplicate" if first == content else "conflict"


@pytest.mark.parametrize("per_record", [1, 7, 5_000])
@pytest.mark.parametrize("faults", ["none", "some", "all"])
@pytest.mark.parametrize("ids", ["time", "random"])
def test_the_tally_says_what_must_be_answered(per_record, faults, ids):
    plan = replace(SMALL, orders=1_500, per_record=per_record, faults=faults, ids=ids)
    lines, tally = run(plan)
    model = Model()
    for line in lines:
        model.take(line)
    assert len(lines) == tally.records
    assert model.count.pop("new") == tally.new
    assert model.count.pop("duplicate", 0) == tally.duplicate
    assert model.count.pop("conflict", 0) == tally.conflict
    assert model.count == tally.rejected_by_reason
    accepted = {key for key in model.known if key[2] == "accepted"}
    assert len(accepted) == tally.orders == tally.new_by_type["order.accepted"] == plan.orders


def test_one_plan_gives_the_same_bytes_whatever_the_hash_seed():
    code = (
        "import sys, typer; from ledger.cli.simulate import simulate;"
        " app = typer.Typer(); app.command()(simulate); app()"
    )
    hashes = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, "--orders", "300", "--faults", "all"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        hashes.add(hashlib.sha256(done.stdout).hexdigest())
    assert len(hashes) == 1
    assert run(SMALL)[0] == run(SMALL)[0]
    assert run(SMALL)[0] != run(replace(SMALL, seed=8))[0]


def test_without_faults_every_event_is_well_formed_and_comes_in_order_of_time():
    lines, tally = run(SMALL)
    times = []
    for line in lines:
        event = orders.one_event.validate_json(line)
        times.append(datetime.fromisoformat(event["time"]).timestamp())
    assert tally.events == tally.new == len(times)
    assert all(after - before > -3 for before, after in pairwise(times))
    assert (tally.duplicate, tally.conflict, tally.rejected) == (0, 0, 0)
    assert not tally.faults


def test_every_order_is_accepted_once_and_ends_once_after_it():
    accepted, ended = {}, {}
    for event in events_of(run(replace(SMALL, orders=3_000))[0]):
        key = (event["source"], event["subject"])
        time = datetime.fromisoformat(event["time"])
        if event["type"] == "order.accepted":
            accepted[key] = time
        elif event["type"] != "order.reassigned":
            assert key not in ended
            ended[key] = time
    assert len(accepted) == len(ended) == 3_000
    assert all(accepted[key] < end for key, end in ended.items())


def test_packed_records_hold_the_same_events_in_the_same_order():
    single, tally = run(SMALL)
    packed, packed_tally = run(replace(SMALL, per_record=50))
    assert events_of(packed) == events_of(single)
    assert packed_tally.records == len(packed) == -(-tally.records // 50)


def test_all_faults_has_every_kind_even_in_few_orders():
    _, tally = run(replace(SMALL, orders=len(KINDS), faults="all"))
    assert set(tally.faults) == set(KINDS)
    _, tally = run(replace(SMALL, orders=20_000, faults="all"))
    assert set(tally.faults) == set(KINDS)
    assert 0.04 < tally.faults.total() / tally.events < 0.06
    _, tally = run(replace(SMALL, orders=20_000, faults="some"))
    assert 0.008 < tally.faults.total() / tally.events < 0.012


def test_order_ids_grow_with_time_or_are_all_over_the_place():
    def ids(kind: str) -> list[str]:
        events = events_of(run(replace(SMALL, orders=2_000, ids=kind, platforms=simulated()[:1]))[0])
        return [event["subject"] for event in events if event["type"] == "order.accepted"]

    growing, random = ids("time"), ids("random")
    for found in (growing, random):
        assert len(set(found)) == 2_000
        assert {len(number) for number in found} == {16}
    in_order = [int(after) > int(before) - 3_000_000 for before, after in pairwise(growing)]
    assert all(in_order)  # an acceptance arrives two seconds late at most
    assert 0.45 < sum(after > before for before, after in pairwise(random)) / 2_000 < 0.55


def test_only_the_platforms_and_provinces_asked_for_appear():
    plan = replace(SMALL, platforms=simulated()[2:3], provinces=("31", "21"), orders=200)
    accepted = [event for event in events_of(run(plan)[0]) if event["type"] == "order.accepted"]
    assert {event["source"] for event in accepted} == {"/platforms/example-rides"}
    assert {event["data"]["line"] for event in accepted} == {"ride_hailing"}
    assert {event["data"]["accepted_city"][:2] for event in accepted} == {"31", "21"}


def test_orders_are_accepted_on_the_days_asked_for():
    plan = replace(SMALL, orders=900, first_day=date(2022, 7, 1), days=2)
    accepted = [event for event in events_of(run(plan)[0]) if event["type"] == "order.accepted"]
    days = Counter(event["time"][:10] for event in accepted)
    assert set(days) == {"2022-07-01", "2022-07-02"}
    assert abs(days["2022-07-01"] - 450) <= 4


def test_a_single_order_is_a_plan_too():
    lines, tally = run(replace(SMALL, orders=1))
    assert tally.orders == 1
    assert len(lines) == tally.new


@pytest.mark.parametrize(
    "wrong",
    [
        {"orders": 0},
        {"orders": 100_000_000},
        {"seed": -1},
        {"days": 0},
        {"days": 367},
        {"per_record": 5_001},
        {"ids": "uuid"},
        {"faults": "many"},
        {"first_day": date(2022, 6, 30)},
    ],
)
def test_a_plan_out_of_bounds_is_a_bad_question(wrong):
    with pytest.raises(BadQuestion, match="--"):
        replace(SMALL, **wrong)


def test_example_platforms_are_marked_and_have_valid_codes_of_their_own():
    known = registrations()
    assert len({platform.platform_id for platform in known}) == len(known)
    assert len({platform.uscc for platform in known}) == len(known)
    assert all("example" in platform.name and "示例" in platform.name_zh for platform in known)
    assert {platform.platform_id for platform in simulated()} == {
        "example-delivery", "example-eats", "example-rides", "example-freight"
    }  # fmt: skip
    assert all(set(platform.provinces) == set(PROVINCES) for platform in simulated())
    assert all(cities(province) for province in PROVINCES)


@given(st.integers(0, 10**7), st.lists(st.floats(0.001, 1_000), min_size=1, max_size=50))
def test_shares_by_weight_add_up(total, weights):
    parts = by_weight(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) < 2


def test_a_table_gives_back_its_quantiles():
    quantiles = {0: 10.0, 50: 20.0, 100: 40.0}
    drawn = table(quantiles)
    assert len(drawn) == TABLE_SIZE
    assert drawn == sorted(drawn)
    assert quantile(drawn, 25) == pytest.approx(15, rel=0.01)
    assert quantile(drawn, 75) == pytest.approx(30, rel=0.01)


# The command.


@pytest.fixture
def command():
    app = typer.Typer()
    app.command()(simulate)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_manifest_counts_and_hashes_the_file(command, tmp_path):
    plain = tmp_path / "a.ndjson"
    done = command("--orders", 200, "--seed", 5, "--faults", "all", "--out", plain, "--json")
    assert done.exit_code == 0, done.output
    manifest = json.loads(done.stdout)
    lines, tally = run(replace(SMALL, orders=200, seed=5, faults="all"))
    assert plain.read_bytes().splitlines() == lines
    assert manifest["sha256"] == hashlib.sha256(plain.read_bytes()).hexdigest()
    assert manifest["bytes"] == plain.stat().st_size
    for name in ("orders", "records", "events", "new", "duplicate", "conflict", "rejected"):
        assert manifest[name] == getattr(tally, name)
    assert manifest["rejected_by_reason"]["before_scheme"] == tally.faults["before_scheme"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ndjson"]


def test_compressed_files_hold_the_same_and_are_the_same_each_time(command, tmp_path):
    unpack = {
        "gz": gzip.decompress,
        "zst": lambda raw: zstandard.ZstdDecompressor().decompressobj().decompress(raw),
    }
    for suffix, open_up in unpack.items():
        manifests = []
        for name in ("one", "two"):
            path = tmp_path / f"{name}.ndjson.{suffix}"
            manifests.append(json.loads(command("--orders", 50, "--out", path, "--json").stdout))
            content = open_up(path.read_bytes())
            assert hashlib.sha256(content).hexdigest() == manifests[-1]["content_sha256"]
        assert manifests[0]["sha256"] == manifests[1]["sha256"]


def test_orders_go_to_stdout_and_the_counts_to_stderr(command):
    done = command("--orders", 20, "--provinces", "31, 辽宁省", "--platforms", "example-freight")
    assert done.exit_code == 0
    accepted = [event for event in events_of(done.stdout.encode().splitlines()) if event["type"] == "order.accepted"]
    assert len(accepted) == 20
    assert {event["data"]["accepted_city"][:2] for event in accepted} <= {"31", "21"}
    assert "20" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ("--json",),
        ("--platforms", "meal-planet"),
        ("--provinces", "99"),
        ("--first-day", "tomorrow"),
        ("--out", "/nowhere/at/all.ndjson"),
    ],
)
def test_a_mistake_is_a_bad_question(command, wrong):
    assert command("--orders", 10, *wrong).exit_code == 2


# Against the real files.


def rows_of(name: str) -> list[dict[str, str]]:
    path = REAL / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"the research copies of real orders are not at {path.parent}")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _days(text: str) -> float:
    day, clock = text.split()
    hour, minute, second = map(int, clock.split(":"))
    return int(day) * 86_400 + hour * 3_600 + minute * 60 + second


def real_delivery() -> tuple[list[int], list[Window]]:
    rows = rows_of("eleme_dalian_orders")
    windows = [
        Window(
            row["worker_id"],
            datetime.fromisoformat(row["accepted_at"]).timestamp(),
            datetime.fromisoformat(row["completed_at"]).timestamp(),
        )
        for row in rows
        if row["completed_at"]
    ]
    return [int(row["accepted_at"][11:13]) for row in rows], windows


def real_freight() -> tuple[list[int], list[Window]]:
    rows = rows_of("sendy_nairobi_orders")

    def second(row: dict[str, str], name: str) -> int:
        return int(row[f"{name}_dom"]) * 86_400 + int(row[f"{name}_tod_s"])

    windows = [
        Window(row["platform"] + row["worker_id"], second(row, "accepted"), second(row, "completed")) for row in rows
    ]
    return [int(row["accepted_tod_s"]) // 3_600 for row in rows], windows


def real_rides() -> tuple[list[int], list[Window]]:
    """Deliveries by car, the nearest to rides: from arrival at the restaurant on; UTC moved by -8 hours."""
    rows = [row for row in rows_of("doordash_sample_orders") if row["driver_at_restaurant"]]
    windows = [Window(row["driver_id"], _days(row["driver_at_restaurant"]), _days(row["delivered"])) for row in rows]
    hours = [(int(row["driver_at_restaurant"][3:5]) - 8) % 24 for row in rows]
    return hours, [window for window in windows if window.completed >= window.accepted]


def simulated_line(platform_id: str) -> tuple[list[int], list[Window]]:
    platform = next(one for one in simulated() if one.platform_id == platform_id)
    plan = replace(SMALL, orders=20_000, platforms=(platform,))
    accepted, completed, reassigned = {}, {}, set()
    for event in events_of(run(plan)[0]):
        time = datetime.fromisoformat(event["time"])
        if event["type"] == "order.accepted":
            accepted[event["subject"]] = (event["data"]["worker_id"], time)
        elif event["type"] == "order.completed":
            completed[event["subject"]] = time
        elif event["type"] == "order.reassigned":
            reassigned.add(event["subject"])
    windows = [
        Window(accepted[order][0], accepted[order][1].timestamp(), end.timestamp())
        for order, end in completed.items()
        if order not in reassigned
    ]
    return [time.hour for _, time in accepted.values()], windows


REAL_LINES = {
    "example-delivery": (Line.INSTANT_DELIVERY, real_delivery),
    "example-freight": (Line.INTRA_CITY_FREIGHT, real_freight),
    "example-rides": (Line.RIDE_HAILING, real_rides),
}


def _durations(windows: list[Window]) -> list[float]:
    return sorted(window.completed - window.accepted for window in windows)


@pytest.mark.parametrize("platform_id", REAL_LINES)
def test_the_shapes_are_those_of_the_real_files(platform_id):
    line, read = REAL_LINES[platform_id]
    hours, windows = read()
    shape, durations = shapes().lines[line], _durations(windows)
    assert shape.hour_shares == pytest.approx(hour_shares(hours), abs=0.0001)
    assert shape.overlap_share == pytest.approx(overlap_share(windows), abs=0.0001)
    for percent, seconds in shape.duration_s.items():
        nearby = bisect_left(durations, seconds) / len(durations)
        assert nearby == pytest.approx(percent / 100, abs=0.002)


@pytest.mark.parametrize("platform_id", REAL_LINES)
def test_simulated_orders_have_the_shape_of_the_real_ones(platform_id):
    _, read = REAL_LINES[platform_id]
    hours, windows = read()
    drawn_hours, drawn_windows = simulated_line(platform_id)
    assert hour_shares(drawn_hours) == pytest.approx(hour_shares(hours), abs=0.002)
    assert overlap_share(drawn_windows) == pytest.approx(overlap_share(windows), abs=0.03)
    durations, drawn = _durations(windows), _durations(drawn_windows)
    for percent in PERCENTS:
        assert quantile(drawn, percent) == pytest.approx(quantile(durations, percent), rel=0.05), percent


def test_every_line_that_is_simulated_has_been_compared():
    assert {line for line, _ in REAL_LINES.values()} == set(shapes().lines)
    assert {platform.lines[0] for platform in simulated()} <= set(shapes().lines)
