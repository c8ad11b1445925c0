"""`make bench`, python -m tests.bench [--events N] [--only NAME …]: measures, prints, writes build/bench.json.

In: nothing but a quiet machine. Out: the figures of the README, medians where a figure takes seconds, one run
where it takes minutes (30 M events stored).
"""

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg
from sqlalchemy import Connection, Row, create_engine, text

from ledger import rulebook
from ledger.store import connect, settle, windows
from tests.bench import orm_baseline, split, streams, support
from tests.bench.support import Report

RUNS = 3
QUESTION_RUNS = 5
STORED_EVENTS = 30_000_000


def main() -> None:
    """Measure everything, or what is asked for."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--events", type=int, default=STORED_EVENTS, help="events stored for the growth figures")
    parser.add_argument("--only", choices=sorted(GROUPS), nargs="*", default=sorted(GROUPS))
    wanted = parser.parse_args()
    print(support.machine(), flush=True)
    report = Report()
    with support.bench_server() as (url, directory):
        for name in wanted.only:
            GROUPS[name](report, url, directory, wanted.events)
            report.write()


def rates(report: Report, url: str, directory: Path, _: int) -> None:
    """How fast files are booked into an empty ledger, beside the baseline in the same run."""
    ones = support.simulate(directory / "1.ndjson", 250_000, seed=1, platforms=support.PAIR[0][0])
    packed = [
        support.simulate(directory / f"500-{seed}.ndjson", 250_000, seed=seed, per_record=500, platforms=names)
        for names, seed in support.PAIR
    ]
    series: dict[str, list[dict[str, float]]] = {}
    baseline = []
    for _ in range(RUNS):
        for name, files in (
            ("ingest_file_1", [ones]),
            ("ingest_file_500", packed[:1]),
            ("ingest_file_500_x2", packed),
        ):
            with support.fresh_database(url) as ledger:
                series.setdefault(name, []).append(support.ingest(ledger, *files))
        with support.fresh_database(url) as ledger:
            baseline.append(orm_baseline.events_per_second(ledger, ones, 20_000))
    for name, results in series.items():
        report.add(name, [result["eps"] for result in results], "events/s", support.split(results[-1]["steps"]))
    report.add("ingest_orm_baseline", baseline, "events/s")
    memory = [result["rss_mib"] for results in series.values() for result in results]
    report.add("consumer_rss_mib", [max(memory)], "MiB", "the largest of all ingest runs above")


def stored(report: Report, url: str, directory: Path, events: int) -> None:
    """The figures that depend on how much is stored: growth, windows, settlement, replay, bytes."""
    with support.fresh_database(url) as ledger:
        _grow(report, ledger, directory, events, "time", "ingest_growth_30m")
        _bytes(report, ledger)
        _rest(ledger)
        _windows(report, ledger)
        _settle(report, ledger)
        _replay(report, ledger)


def stored_random(report: Report, url: str, directory: Path, events: int) -> None:
    """Growth with order ids that are random rather than growing with time."""
    with support.fresh_database(url) as ledger:
        _grow(report, ledger, directory, events, "random", "ingest_growth_30m_random_ids")


def _grow(report: Report, ledger: str, directory: Path, events: int, ids: str, name: str) -> None:
    rates_ = []
    for number, file in enumerate(support.files(directory, events, ids)):
        result = support.ingest(ledger, file)
        file.unlink()
        rates_.append(result["eps"])
        print(f"  {ids} ids, file {number + 1}: {result['eps']:,.0f} events/s", flush=True)
    first, last = sum(rates_[:3]) / 3, sum(rates_[-3:]) / 3
    report.add(name, [last / first], "ratio", f"last three files ÷ first three: {last:,.0f} ÷ {first:,.0f} events/s")


def _rest(ledger: str) -> None:
    """What the server does by itself within a quarter of an hour; else that runs beside the rest, on the same cores."""
    with psycopg.connect(support.libpq(ledger), autocommit=True) as connection:
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


def _bytes(report: Report, ledger: str) -> None:
    engine = create_engine(ledger)
    with engine.connect() as connection:
        size = connection.scalar(
            text(
                "select sum(pg_total_relation_size(oid)) from pg_class"
                " where relkind = 'r' and relnamespace = 'public'::regnamespace"
            )
        )
        events = connection.scalar(text("select sum(events) from batch"))
        parts = connection.execute(
            text(
                "select regexp_replace(relname, '_[0-9]{8}$', '') as part, sum(pg_total_relation_size(oid))"
                " from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
                " group by 1 order by 2 desc limit 4"
            )
        ).all()
    engine.dispose()
    note = ", ".join(f"{part} {total / events:.0f}" for part, total in parts)
    report.add("bytes_per_event", [size / events], "bytes", note)


def _windows(report: Report, ledger: str) -> None:
    """Questions about workers of orders from all days, others in each run; the first run finds few pages in memory."""
    rules = rulebook.load()
    p99s, took = [], []
    with connect.ledger(ledger, connect.AUDIT) as engine, engine.connect() as connection:
        for seed in range(QUESTION_RUNS):
            orders = connection.execute(
                text(
                    "select platform_no, worker_id, accepted_at + interval '5 minutes' as at"
                    " from charge tablesample system (0.05) repeatable (:seed) limit 3000"
                ),
                {"seed": seed},
            ).all()
            random.Random(seed).shuffle(orders)
            took = [_answered(connection, rules, order) for order in orders]
            took.sort()
            p99s.append(took[int(len(took) * 0.99)])
    note = f"{len(took)} questions a run; the first run {p99s[0]:.2f}; p50 {took[len(took) // 2]:.2f} ms in the last"
    report.add("windows_p99_ms", p99s, "ms", note)


def _answered(connection: Connection, rules: rulebook.Rulebook, order: Row[Any]) -> float:
    """How long a question took, in ms."""
    started = perf_counter()
    windows.windows_at(connection, rules, order.platform_no, order.worker_id, order.at)
    return (perf_counter() - started) * 1000


def _settle(report: Report, ledger: str) -> None:
    rules = rulebook.load()
    took = []
    with connect.ledger(ledger, connect.SETTLE) as engine:
        with engine.connect() as connection:
            provinces = settle.open_provinces(connection, support.FIRST_DAY)
        for province in provinces:
            started = perf_counter()
            settle.seal(engine, province, support.FIRST_DAY, rules)
            took.append(perf_counter() - started)
    report.add("settle_s", took, "s", f"a province's month; the slowest of {len(took)}: {max(took):.3f} s")


def _replay(report: Report, ledger: str) -> None:
    danbao = Path(sys.executable).parent / "danbao"
    done = subprocess.run(
        [danbao, "audit", "replay", "--json"],
        check=False,
        capture_output=True,
        text=True,
        env={"DANBAO_DATABASE_URL": ledger, "PATH": "/usr/bin:/bin"},
    )
    if done.returncode:
        raise SystemExit(f"the replay failed or found something:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout)
    report.add("replay_eps", [result["events_per_second"]], "events/s", f"{result['events']:,} events, whole command")


def stream_rates(report: Report, url: str, directory: Path, _: int) -> None:
    """Rates through Kafka, the peer beside them."""
    streams.rates(report, url, directory)
    streams.visible(report, url, directory)


def stream_costs(report: Report, url: str, directory: Path, _: int) -> None:
    """Where the time of an event goes on its way through Kafka."""
    split.costs(report, url, directory)


def stream_stored(report: Report, url: str, directory: Path, events: int) -> None:
    """Through Kafka what depends on how much is there: memory with a backlog, growth."""
    streams.waiting(report, url, directory)
    streams.growth(report, url, directory, events)


GROUPS: dict[str, Callable[[Report, str, Path, int], None]] = {
    "rates": rates,
    "stream_costs": stream_costs,
    "stream_rates": stream_rates,
    "stream_stored": stream_stored,
    "stored": stored,
    "stored_random": stored_random,
}

if __name__ == "__main__":
    main()
