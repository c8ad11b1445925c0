"""Streams through a real broker on the same cores: rates, the peer beside them, how soon an event is seen, memory.

In: a durable server and a directory. Out: rows of the report. Each topic is written once and read in every run into a
fresh database: our bookmark is in the books, so a new ledger begins at the first record.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from sqlalchemy import text

from consumers.kafka import broker
from consumers.kafka.settings import Access, producer_options
from ledger import rulebook
from ledger.store import connect, registry, windows
from tests.bench import support
from tests.bench.support import Report

RUNS = 5
PARTITIONS = 4
ORDERS = 250_000
WAITING_ORDERS = 2_500_000
PLATFORMS, OTHERS = (names for names, _ in support.PAIR)
TOPICS = (  # name, events a record, seed, platforms
    ("bench-1", 1, 1, PLATFORMS),
    ("bench-50", 50, 2, PLATFORMS),
    ("bench-500", 500, 3, PLATFORMS),
    ("bench-500-b", 500, 4, OTHERS),
)
SECONDS, RATE = 60, 10_000
BEFORE = 1_000  # events that a consumer booked before the others are sent


@contextmanager
def cluster(directory: Path) -> Iterator[str]:
    """A broker as `danbao kafka up` starts it; its bootstrap address."""
    running = broker.up(directory / "kafka", 1, broker.NOTHING, print)
    try:
        yield running.bootstrap
    finally:
        running.stop()


def produce(bootstrap: str, topic: str, file: Path) -> float:
    """Write a file's records to a topic made for it; events per second."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    settings = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "9437184"}
    wanted = {"num_partitions": PARTITIONS, "replication_factor": 1, "configs": settings}
    admin.create_topics({topic: wanted}, wait_for_metadata=True)
    admin.close()
    producer = KafkaProducer(**producer_options(Access(bootstrap), "bench"))
    started, events = time.monotonic(), 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines):
            producer.send(topic, value=line.rstrip(b"\n"), partition=number % PARTITIONS)
            events += line.count(b'"specversion"')
    producer.flush()
    producer.close()
    return events / (time.monotonic() - started)


def consume(url: str, bootstrap: str, *topics: str) -> dict[str, Any]:
    """Book topics from their first record to their end, one process each; events per second over all."""
    command = [sys.executable, "-m", "tests.bench.consume_worker", url, bootstrap]
    group = f"bench-{time.time_ns()}"
    workers = [subprocess.Popen([*command, one, f"{group}-{one}"], stdout=subprocess.PIPE, text=True) for one in topics]
    return support.together(workers)


def copy(url: str, bootstrap: str, topic: str) -> float:
    """The peer: the same topic through Bytewax into one table; events per second."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.bytewax_copy", url, bootstrap, topic],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result = json.loads(done.stdout)
    return float(result["events"] / result["seconds"])


def rates(report: Report, url: str, directory: Path) -> None:
    """One, fifty and five hundred events a record, and the peer, all in turn in each run."""
    with cluster(directory) as bootstrap:
        produced = {}
        for name, per_record, seed, platforms in TOPICS:
            options = {"seed": seed, "per_record": per_record, "platforms": platforms}
            file = support.simulate(directory / f"{name}.ndjson", ORDERS, **options)
            produced[name] = produce(bootstrap, name, file)
            file.unlink()
        series: dict[str, list[dict[str, Any]]] = {}
        copies: dict[str, list[float]] = {}
        for _ in range(RUNS):
            for name, topics in (
                ("kafka_1", ["bench-1"]),
                ("kafka_50", ["bench-50"]),
                ("kafka_500_x2", ["bench-500", "bench-500-b"]),
            ):
                with support.fresh_database(url) as ledger:
                    series.setdefault(name, []).append(consume(ledger, bootstrap, *topics))
            for per_record in (1, 500):
                with support.fresh_database(url) as ledger:
                    rate = copy(ledger, bootstrap, f"bench-{per_record}")
                    copies.setdefault(f"bytewax_copy_{per_record}", []).append(rate)
        for name, results in series.items():
            report.add(name, [result["eps"] for result in results], "events/s", support.split(results[-1]["steps"]))
        for name, rates_ in copies.items():
            report.add(name, rates_, "events/s", "plain COPY of the parsed events, at least once, no books")
        report.add("kafka_produced", [produced["bench-500"]], "events/s", "500 a record, for scale")


def visible(report: Report, url: str, directory: Path) -> None:
    """How long after it is produced an acceptance is seen by `danbao windows`, at 10,000 events a second."""
    with cluster(directory) as bootstrap, support.fresh_database(url) as ledger:
        file = support.simulate(directory / "visible.ndjson", SECONDS * RATE, seed=9)
        lines = file.read_bytes().splitlines(keepends=True)[: BEFORE + SECONDS * RATE]
        file.write_bytes(b"".join(lines[:BEFORE]))
        produce(bootstrap, "bench-visible", file)
        file.write_bytes(b"".join(lines[BEFORE:]))
        worker = [sys.executable, "-m", "tests.bench.consume_worker"]
        command = [*worker, ledger, bootstrap, "bench-visible", "v", "--stay"]
        consumer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        _wait_until_booked(ledger, BEFORE)
        sending = [sys.executable, "-m", "tests.bench.platform", bootstrap, "bench-visible", str(PARTITIONS), str(RATE)]
        with subprocess.Popen([*sending, str(file)], stdout=subprocess.PIPE, text=True) as platform:
            took = _seen(ledger, platform)
        assert platform.returncode == 0
        file.unlink()
        assert consumer.stdin is not None
        consumer.stdin.close()
        assert consumer.wait(60) == 0
    took.sort()
    late = took[int(len(took) * 0.99)]
    note = f"{len(took)} acceptances, p50 {took[len(took) // 2]:.0f} ms, worst {took[-1]:.0f} ms"
    report.add("visible_p99_ms", [late], "ms", note)


def _wait_until_booked(ledger: str, events: int) -> None:
    """A consumer that runs has joined its group and made the days: joining takes seconds, once."""
    with connect.ledger(ledger, connect.AUDIT) as engine, engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        while (connection.scalar(text("select sum(events) from batch")) or 0) < events:
            time.sleep(0.1)


def _seen(ledger: str, platform: subprocess.Popen[str]) -> list[float]:
    """Ask for the windows of the orders that the platform tells of until each is there; how long each took, in ms."""
    rules, took = rulebook.load(), []
    waiting: dict[tuple[str, str, str], float] = {}
    telling = threading.Thread(target=_listen, args=(platform, waiting))
    telling.start()
    with connect.ledger(ledger, connect.AUDIT) as engine, engine.connect() as connection:
        numbers = {f"/platforms/{row.platform_id}": row.platform_no for row in registry.all_platforms(connection)}
        while telling.is_alive() or waiting:
            for key, sent_at in list(waiting.items()):
                source, worker, order = key
                found = windows.order(connection, numbers[source], order)
                if found and found.acceptance:
                    at = found.acceptance.occurred_at
                    cover = windows.windows_at(connection, rules, numbers[source], worker, at)
                    if any(window.order.order_id == order for window in cover.windows):
                        took.append((time.monotonic() - sent_at) * 1000)
                        del waiting[key]
            connection.rollback()
            time.sleep(0.01)
    return took


def _listen(platform: subprocess.Popen[str], waiting: dict[tuple[str, str, str], float]) -> None:
    assert platform.stdout is not None
    for line in platform.stdout:
        told, sent_at = line.split("\t")
        source, worker, order = json.loads(told)
        waiting[source, worker, order] = float(sent_at)


def waiting(report: Report, url: str, directory: Path) -> None:
    """The memory of a consumer that finds five million events waiting."""
    with cluster(directory) as bootstrap, support.fresh_database(url) as ledger:
        file = support.simulate(directory / "waiting.ndjson", WAITING_ORDERS, seed=4, per_record=500)
        produce(bootstrap, "bench-waiting", file)
        file.unlink()
        result = consume(ledger, bootstrap, "bench-waiting")
    note = f"at 1/4, 1/2, 3/4 of them: {', '.join(f'{mib:.0f}' for mib in result['rss_on_the_way'])} MiB"
    report.add("kafka_consumer_rss_mib", [result["rss_mib"]], "MiB", note)


def growth(report: Report, url: str, directory: Path, events: int) -> None:
    """Rate with so many events stored ÷ rate when empty, through Kafka."""
    rates_ = []
    with cluster(directory) as bootstrap, support.fresh_database(url) as ledger:
        for number, file in enumerate(support.files(directory, events, "time")):
            topic = f"bench-growth-{number}"
            produce(bootstrap, topic, file)
            file.unlink()
            rates_.append(consume(ledger, bootstrap, topic)["eps"])
            print(f"  stream {number + 1}: {rates_[-1]:,.0f} events/s", flush=True)
            admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
            admin.delete_topics([topic])
            admin.close()
    first, last = sum(rates_[:3]) / 3, sum(rates_[-3:]) / 3
    note = f"last three topics ÷ first three: {last:,.0f} ÷ {first:,.0f} events/s, {events:,} events"
    report.add("kafka_growth_30m", [last / first], "ratio", note)
