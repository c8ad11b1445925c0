"""Watching a consumer: what is scraped, logged and traced is what was booked, and holds nothing of anybody's.

In: topics of a real broker, a database that goes away. Out: /metrics, /readyz, lines of JSON, spans, `danbao status`.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest
import sqlalchemy
from command import Started, answer, clean
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine
from streams import WAIT_S, asked, command, consume, consumer, make_topic, new_name, produce, wait_until
from support import Desk, accepted, completed, encode, libpq, new_ledger, owner, rows, rules, value

from consumers import health, trace
from consumers.kafka.settings import Access, producer_options
from consumers.steps import STEPS
from consumers.watch import Watch
from ledger.calendar import SHANGHAI
from ledger.store import connect, progress
from ledger.store.settle import seal

MARK = "XMARKX"  # in everything that a platform sends here
Sample = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A topic of two partitions that all platforms share."""
    return make_topic(bootstrap, new_name("orders"), 2)


def free_port() -> int:
    """A port that nobody listens on, and the one after it."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                next_one.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def get(port: int, page: str) -> tuple[int, str]:
    """Status and text of a page; 0 while nobody listens."""
    try:
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as there:
            there.request("GET", page)
            got = there.getresponse()
            return got.status, got.read().decode()
    except OSError:
        return 0, ""


def scrape(port: int) -> Sample:
    """Name and labels → value."""
    _, text = get(port, "/metrics")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def found(scraped: Sample, name: str, **labels: str) -> float:
    """One value; 0 where nothing was counted."""
    return scraped.get((name, tuple(sorted(labels.items()))), 0.0)


@contextmanager
def running(*arguments: Any, **environment: str) -> Iterator[Started]:
    """`danbao consume orders …` while the block lasts; it stops by itself when asked."""
    process = command(*arguments, **environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)


def marked(order: int, **terms: Any) -> dict[str, Any]:
    return accepted(f"{MARK}{order}", worker=f"W{MARK}", **terms)


# ---- metrics and health


def test_what_is_scraped_while_consuming_is_what_was_booked(ledger_url: str, bootstrap: str, topic: str) -> None:
    events: list[Any] = [marked(order) for order in range(30)]
    events += [marked(0), marked(1, city="110100"), b"{rubbish", marked(99, city="999999")]
    late = "2026-10-04T09:00:00+08:00"
    events.append(marked(100, platform="example-delivery", city="440100", time=late))
    produce(bootstrap, topic, *events, partition=0)
    port = free_port()
    with running(ledger_url, bootstrap, "--topic", topic, "--metrics-port", str(port), "--group", new_name("g")):
        wait_until(lambda: found(scrape(port), "danbao_records_total") == 35)
        wait_until(lambda: found(scrape(port), "danbao_partition_lag_records", topic=topic, partition="0") == 0)
        assert get(port, "/healthz") == (200, '{"turns": true}\n')
        assert get(port, "/readyz")[0] == 200
        assert get(port, "/elsewhere")[0] == 404
        scraped, text = scrape(port), get(port, "/metrics")[1]
    [sums] = rows(
        ledger_url,
        """select sum(events), sum(new), sum(duplicate), sum(conflict), sum(rejected), count(*), sum(raw_bytes)
            from batch""",
    )
    answers = {
        answer: sum(
            value
            for (name, labels), value in scraped.items()
            if name == "danbao_events_total" and dict(labels)["answer"] == answer
        )
        for answer in ("new", "duplicate", "conflict", "rejected")
    }
    assert list(answers.values()) == [int(one) for one in sums[1:5]] == [31, 1, 1, 2]
    assert found(scraped, "danbao_events_total", platform="eleme", answer="new") == 30
    assert found(scraped, "danbao_events_total", platform="example-delivery", answer="new") == 1
    assert found(scraped, "danbao_rejected_events_total", platform="eleme", reason="unknown_city") == 1
    assert found(scraped, "danbao_rejected_events_total", platform="unknown", reason="malformed") == 1
    assert found(scraped, "danbao_orders_total") == 31
    assert found(scraped, "danbao_batch_events_count") == sums[5]
    assert found(scraped, "danbao_batch_events_sum") == sums[0]
    assert found(scraped, "danbao_batch_raw_bytes_sum") == sum(len(encode(event)) for event in events)
    for step in STEPS.values():
        assert found(scraped, "danbao_batch_step_seconds_count", step=step) == sums[5]
    newest = found(scraped, "danbao_newest_acceptance_timestamp_seconds", platform="example-delivery", province="44")
    assert newest == datetime.fromisoformat(late).timestamp()
    assert MARK not in text


def test_readiness_turns_when_the_database_goes_away_and_comes_back(
    server_url: str, bootstrap: str, topic: str
) -> None:
    port = free_port()
    with new_ledger(server_url) as url:
        name = url.rpartition("/")[2].partition("?")[0]
        arguments = ("--topic", topic, "--metrics-port", str(port), "--group", new_name("g"), "--log", "json")
        with running(url, bootstrap, *arguments) as process:
            wait_until(lambda: any(name == "danbao_partition_lag_seconds" for name, _ in scrape(port)))
            wait_until(lambda: get(port, "/readyz")[0] == 200)
            with psycopg.connect(libpq(server_url), autocommit=True) as other:
                close(other, name)
                try:
                    produce(bootstrap, topic, marked(1), partition=0)
                    wait_until(lambda: get(port, "/readyz")[0] == 503)
                    assert json.loads(get(port, "/readyz")[1])["database_answers"] is False
                    assert get(port, "/healthz")[0] == 200
                    wait_until(lambda: found(scrape(port), "danbao_database_waits_total") > 0)
                finally:
                    other.execute(f"alter database {name} allow_connections true")
            wait_until(lambda: get(port, "/readyz")[0] == 200)
            wait_until(lambda: found(scrape(port), "danbao_records_total") == 1)
        said = [json.loads(line)["event"] for line in process.stderr.read().splitlines()]
    assert {"waiting_for_database", "database_answers"} <= set(said)


def close(other: psycopg.Connection[Any], name: str) -> None:
    """Let nobody into a database, and throw out who is in."""
    other.execute(f"alter database {name} allow_connections false")
    other.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])


def test_a_partition_that_is_stopped_is_told_and_the_others_go_on(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
) -> None:
    for partition in (0, 1):
        produce(bootstrap, topic, marked(partition), marked(partition + 10), partition=partition)
    consume(engine, bootstrap, topic)
    produce(bootstrap, topic, marked(20), marked(21), partition=0)
    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    admin.delete_records({TopicPartition(topic, 0): 4})
    admin.close()
    port = free_port()
    arguments = ("--topic", topic, "--metrics-port", str(port), "--group", new_name("g"), "--log", "json")
    with running(ledger_url, bootstrap, *arguments) as process:
        wait_until(lambda: found(scrape(port), "danbao_partition_stopped", topic=topic, partition="0") == 1)
        produce(bootstrap, topic, marked(30), partition=1)
        wait_until(lambda: found(scrape(port), "danbao_records_total") == 1)
        scraped = scrape(port)
        assert found(scraped, "danbao_partition_stopped", topic=topic, partition="1") == 0
        assert found(scraped, "danbao_partition_lag_records", topic=topic, partition="0") == 2
        assert json.loads(get(port, "/readyz")[1])["no_partition_stopped"] is False
    [told] = [line for line in lines(process) if line["event"] == "partition_stopped"]
    assert (told["offset"], told["broker_from"], told["broker_until"]) == (2, 4, 4)
    state = status(ledger_url, bootstrap, code=1)
    [gap] = [one for one in state["partitions"] if one["topic"] == topic and one["partition"] == 0]
    assert gap["gap"] is True


def lines(process: Started) -> list[dict[str, Any]]:
    """What a consumer logged; every line is an object."""
    return [json.loads(line) for line in process.stderr.read().splitlines()]


def worker(supervisor: Started, argument: str) -> int:
    """The process that was started with an argument."""
    children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
    [pid] = [pid for pid in children if argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    return int(pid)


def test_workers_are_scraped_port_by_port_and_one_that_dies_is_counted(
    ledger_url: str, bootstrap: str, topic: str
) -> None:
    port = free_port()
    arguments = ("--topic", topic, "--metrics-port", str(port), "--workers", "2", "--log", "json")
    with running(ledger_url, bootstrap, *arguments, "--group", new_name("g"), "--json") as process:
        for each in (port, port + 1):
            wait_until(lambda each=each: get(each, "/readyz")[0] == 200)
        os.kill(worker(process, f"--metrics-port={port}"), signal.SIGKILL)
        wait_until(lambda: found(scrape(port), "danbao_process_restarts_total") == 1, seconds=60)
        assert found(scrape(port + 1), "danbao_process_restarts_total") == 0
        produce(bootstrap, topic, marked(1), partition=0)
        produce(bootstrap, topic, marked(2), partition=1)
        both = lambda: [found(scrape(each), "danbao_records_total") for each in (port, port + 1)]  # noqa: E731
        wait_until(lambda: sum(both()) == 2)
    restarted = [line for line in lines(process) if line["event"] == "worker_restarted"]
    assert [(one["process"], one["exit_code"], one["times"]) for one in restarted] == [(1, -signal.SIGKILL, 1)]


# ---- logs


def test_a_log_for_machines_tells_what_happens_and_nothing_that_a_platform_sent(
    ledger_url: str, bootstrap: str, topic: str
) -> None:
    events: list[Any] = [marked(1), marked(2), completed(f"{MARK}1"), marked(1, line=MARK), b"{" + MARK.encode()]
    events += [marked(1, city="110100"), marked(3, city=MARK), marked(4, platform=MARK)]
    produce(bootstrap, topic, *events, partition=0)
    environment = {"DANBAO_KAFKA_USER": ""}
    process = command(ledger_url, bootstrap, "--topic", topic, "--to-end", "--log", "json", "--json", **environment)
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    assert MARK not in out + err
    said = [json.loads(line) for line in err.splitlines()]
    names = [line["event"] for line in said]
    assert {"joined", "assigned", "booked", "revoked"} <= set(names)
    booked = [line for line in said if line["event"] == "booked"]
    assert sum(line["events"] for line in booked) == 8
    totals = json.loads(out)
    for kind in ("new", "duplicate", "conflict", "rejected"):
        assert sum(line[kind] for line in booked) == totals[kind]
    assert set(booked[0]["steps_ms"]) == set(STEPS.values())


def test_what_nobody_foresaw_is_logged_without_the_row_that_the_database_quotes(
    ledger_url: str, bootstrap: str, topic: str
) -> None:
    rows_of = "create function refuse() returns trigger language plpgsql as"
    with psycopg.connect(libpq(ledger_url), autocommit=True) as owner:
        owner.execute(
            f"{rows_of} $$ begin raise 'refused: %', new.order_id using errcode = '23514', detail = new::text; end $$"
        )
        owner.execute("create trigger refuse before insert on charge for each row execute function refuse()")
        try:
            produce(bootstrap, topic, marked(1), partition=0)
            process = command(ledger_url, bootstrap, "--topic", topic, "--to-end", "--log", "json")
            out, err = process.communicate(timeout=WAIT_S)
        finally:
            owner.execute("drop trigger refuse on charge")
            owner.execute("drop function refuse")
    assert process.returncode == 1, err
    assert MARK not in out + err
    failed = json.loads(err.splitlines()[-1])
    assert (failed["event"], failed["sqlstate"]) == ("failed", "23514")
    assert any(one.startswith("loop.py:") for one in failed["where"])


# ---- traces


def test_a_batch_is_a_span_with_its_steps_and_leads_to_the_traces_of_its_records(
    engine: Engine, bootstrap: str, topic: str
) -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("tests")
    producer = KafkaProducer(**producer_options(Access(bootstrap), "tests"))
    with tracer.start_as_current_span("push") as push:
        headers = trace.headers()
    assert trace.headers() == []
    [(name, told)] = headers
    assert name == "traceparent"
    assert told.startswith(f"00-{push.context.trace_id:032x}-{push.context.span_id:016x}-".encode())
    for order, sent in enumerate((headers, headers, [("traceparent", b"rubbish")], [])):
        producer.send(topic, value=encode(marked(order)), headers=sent, partition=0)
    producer.close()
    watch = Watch(traces=trace.Traces(tracer))
    made = consumer(engine, bootstrap, topic, switch=watch.switch(lambda _: None))
    made.hooks = watch.hooks(made.booker, lambda _: None)
    made.run(to_end=True)
    spans = [span for span in kept.get_finished_spans() if span.name == f"process {topic}"]
    assert sum(span.attributes["danbao.events.new"] for span in spans) == 4
    links = {link.context.span_id for span in spans for link in span.links}
    assert links == {push.context.span_id}
    for span in spans:
        steps = [one for one in kept.get_finished_spans() if one.parent and one.parent.span_id == span.context.span_id]
        assert [one.name for one in steps] == list(STEPS.values())
        assert all(span.start_time <= one.start_time <= one.end_time <= span.end_time for one in steps)
        assert abs(span.end_time / 1e9 - time.time()) < WAIT_S
        assert MARK not in span.to_json()


def test_traces_are_sent_to_where_the_environment_says(ledger_url: str, bootstrap: str, topic: str) -> None:
    got: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    produce(bootstrap, topic, marked(1), partition=0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint = "http:" + f"//127.0.0.1:{server.server_address[1]}"
        there = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
        answer(command(ledger_url, bootstrap, "--topic", topic, "--to-end", "--json", **there))
        server.shutdown()
    assert [path for path, _ in got] == ["/v1/traces"]
    assert f"process {topic}".encode() in got[0][1]
    assert MARK.encode() not in got[0][1]


# ---- danbao status


def status(url: str, bootstrap: str | None, code: int = 0) -> dict[str, Any]:
    """What `danbao status --json` says."""
    return asked(url, bootstrap, "status", code=code)


def test_the_status_says_how_streams_and_books_stand(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
) -> None:
    today = datetime.now(UTC).astimezone(SHANGHAI)
    earlier = "2026-10-03T12:00:00+08:00"
    produce(bootstrap, topic, *(marked(order, time=earlier) for order in range(8)), b"rubbish", partition=0)
    consume(engine, bootstrap, topic)
    produce(bootstrap, topic, marked(20, time=(today - timedelta(minutes=5)).isoformat()), partition=0)
    produce(bootstrap, topic, marked(21, time=earlier, platform="example-delivery", city="440100"), partition=0)
    consume(engine, bootstrap, topic)
    produce(bootstrap, topic, marked(30), marked(31), partition=0)
    with connect.ledger(ledger_url, connect.SETTLE) as settling:
        seal(settling, "31", date(2026, 10, 1), rules())
    said = status(ledger_url, bootstrap)
    assert said["database"] == {"answers": True}
    assert said["broker"] == {"bootstrap": bootstrap, "answers": True}
    first, second = said["partitions"]
    assert (first["topic"], first["partition"], first["gap"]) == (topic, 0, False)
    assert (first["head"], first["end"], first["lag"]) == (11, 13, 2)
    assert first["events_per_second"] == round(11 / 60, 1)
    assert (second["partition"], second["head"], second["end"], second["lag"]) == (1, 0, 0, 0)
    fresh = {(one["platform"], one["province"]): one for one in said["freshness"]}
    days = [str((today - timedelta(minutes=5)).date()), "2026-10-03"]
    assert [fresh[key]["newest_day"] for key in (("eleme", "31"), ("example-delivery", "44"))] == days
    booked_at = datetime.fromisoformat(fresh["eleme", "31"]["booked_at"])
    assert booked_at == value(ledger_url, "select max(recorded_at) from batch")
    assert said["rejected_today"] == {"malformed": 1}
    assert [(one["province"], one["month"]) for one in said["settlements"]] == [("31", "2026-10")]
    assert said["sealed_months"] == {"2026-10": 1}
    assert said["months_to_settle"] == ["2026-10"]  # of the other province


def test_the_status_needs_no_kafka_and_says_when_one_does_not_answer(engine: Engine, ledger_url: str) -> None:
    assert Desk(engine, "inbox").answers(accepted("A"), b"rubbish") == ["new", "rejected"]
    assert Desk(engine, "file:1").answers(accepted("B")) == ["new"]
    books = status(ledger_url, None)
    assert books["broker"] is None
    [inbox] = books["partitions"]
    assert (inbox["topic"], inbox["head"], inbox["end"], inbox["lag"]) == ("inbox", 2, None, None)
    nobody = status(ledger_url, f"127.0.0.1:{free_port()}", code=1)
    assert nobody["broker"]["answers"] is False
    assert nobody["partitions"] == books["partitions"]


def test_the_status_says_that_the_database_does_not_answer(ledger_url: str, bootstrap: str) -> None:
    nowhere = sqlalchemy.make_url(ledger_url).set(database="nowhere").render_as_string(hide_password=False)
    said = status(nowhere, bootstrap, code=1)
    assert said["database"]["answers"] is False
    assert said["broker"]["answers"] is True


def test_rejections_are_counted_since_an_instant_whatever_came_before(engine: Engine, ledger_url: str) -> None:
    desk = Desk(engine)
    for _ in range(9):
        desk.hand_in(b"rubbish", accepted("A", city="999999"))
    with owner(ledger_url) as there, engine.connect() as reading:
        there.execute("set session_replication_role = replica")  # to move batches back in time
        for place, (batch_id,) in enumerate(rows(ledger_url, "select batch_id from batch order by batch_id")):
            back = timedelta(hours=9 - place)
            there.execute("update batch set recorded_at = now() - %s where batch_id = %s", [back, batch_id])
        for hours in range(11):
            since = datetime.now(UTC) - timedelta(hours=hours, minutes=30)
            counted = progress.rejected_recently(reading, since)
            assert counted == ({reason: min(hours, 9) for reason in ("malformed", "unknown_city")} if hours else {})


IDLE_SINCE = """select query_start from pg_stat_activity
    where state = 'idle' and datname = current_database() and pid <> pg_backend_pid()"""


def test_the_live_status_is_drawn_again_and_ends_when_asked(ledger_url: str) -> None:
    environment = clean({"DANBAO_DATABASE_URL": ledger_url, "DANBAO_HOME": "/nowhere"}, "en")
    process = Started(["status", "--watch"], environment)
    ends: set[datetime] = set()  # one on the connection that sees to the schema, one for its role, one for each look

    def has_looked_twice() -> bool:
        ends.update(end for (end,) in rows(ledger_url, IDLE_SINCE))
        return len(ends) >= 4

    wait_until(has_looked_twice)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert out.count("database answers") >= 1


def test_a_consumer_that_has_not_joined_yet_is_alive_and_not_ready(engine: Engine, bootstrap: str, topic: str) -> None:
    made = consumer(engine, bootstrap, topic)
    assert health.alive(made) == {"turns": True}
    probes = health.Probes(lambda: progress.answers(engine))
    assert health.ready(made, probes) == {"joined": False, "database_answers": True, "no_partition_stopped": True}


def test_a_port_that_is_taken_is_said_and_not_passed_over(ledger_url: str, bootstrap: str, topic: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = answer(command(ledger_url, bootstrap, "--topic", topic, "--metrics-port", port, "--json"), code=1)
        assert f"cannot be served at 127.0.0.1:{port}" in said["error"]
        process = command(ledger_url, bootstrap, "--topic", topic, "--metrics-port", port, "--log", "json")
        assert process.wait(WAIT_S) == 1
        assert lines(process)[-1]["event"] == "ended"
