"""The platform's side through a real broker: packed, signed, in order, acknowledged or not, and told what was rejected.

In: events pushed by the client or the command to topics of the tests' own. Out: records there, books, rejections.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread, Timer
from threading import enumerate as threads
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kafka import KafkaConsumer, TopicPartition
from sqlalchemy import Engine
from streams import Running, charged, consume, consumer, make_topic, new_name, orders_of, produce
from support import ARRIVED, ROOT, accepted, completed, encode, ndjson, owner, replayed, value
from typer.testing import CliRunner, Result

from consumers import push
from consumers.kafka import rejected
from consumers.kafka.broker import running
from consumers.kafka.settings import Access
from consumers.push import Counts, NotAcknowledged, Pusher, partition_of
from ledger import signing
from ledger.cli import common
from ledger.cli.app import app
from ledger.errors import BadQuestion
from ledger.identity import verifies
from ledger.store import connect, registry
from schemas.orders import EVENTS_PER_RECORD_MAX, RECORD_BYTES_MAX, SIGNATURE_HEADER
from schemas.platforms import PlatformRegistration

KEY, STRANGE = Ed25519PrivateKey.from_private_bytes(b"k" * 32), Ed25519PrivateKey.from_private_bytes(b"s" * 32)
KUAISONG = PlatformRegistration.model_validate(
    {
        "platform_id": "kuaisong",
        "name": "Kuaisong",
        "name_zh": "快送",
        "uscc": "91310000MA1FL4Q87R",
        "lines": ["instant_delivery"],
        "provinces": {"31": "2026-07-01"},
    }
)
Run = Any


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A topic of four partitions that all platforms share."""
    return make_topic(bootstrap, new_name("orders"), 4)


@pytest.fixture
def signing_platform(ledger_url: str) -> str:
    """A platform that has signed for a month."""
    with connect.ledger(ledger_url, connect.REGISTRAR) as engine, engine.begin() as tx:
        registry.register(tx, KUAISONG)
        number = registry.find(tx, "kuaisong").platform_no
    since = ARRIVED - timedelta(days=30)
    with owner(ledger_url) as connection:
        connection.execute(
            "insert into platform_key (platform_no, public_key, registered_at, in_force_from) values (%s, %s, %s, %s)",
            (number, KEY.public_key().public_bytes_raw(), since, since + timedelta(hours=1)),
        )
    return "kuaisong"


@pytest.fixture
def ledger(engine: Engine, bootstrap: str, topic: str, rejections: str) -> Iterator[str]:
    """A ledger that consumes the topic meanwhile; its group."""
    group = new_name("group")
    with Running(consumer(engine, bootstrap, topic, group=group)):
        yield group


@pytest.fixture
def run(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, on the Kafka of the session, without any database."""
    monkeypatch.setenv("DANBAO_KAFKA_BOOTSTRAP", bootstrap)
    monkeypatch.setenv("DANBAO_LANG", "en")
    monkeypatch.setenv("DANBAO_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    monkeypatch.setattr(common.out, "width", 300)
    return lambda *arguments: CliRunner().invoke(app, ["push", *map(str, arguments)])


def told(result: Result, code: int) -> dict[str, Any]:
    assert result.exit_code == code, (result.output, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def records_of(bootstrap: str, topic: str) -> list[Any]:
    """All records of a topic, partition by partition, in order."""
    reading = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","), group_id=None, enable_auto_commit=False, auto_offset_reset="none"
    )
    try:
        places = [TopicPartition(topic, number) for number in sorted(reading.partitions_for_topic(topic))]
        reading.assign(places)
        ends = reading.end_offsets(places)
        for place in places:
            reading.seek(place, 0)
        found: list[Any] = []
        while len(found) < sum(ends.values()):
            found += [record for records in reading.poll(500).values() for record in records]
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        reading.close(autocommit=False)


def events_of(record: Any) -> list[Any]:
    read = json.loads(record.value)
    return read if isinstance(read, list) else [read]


# ---- the client


def test_events_of_an_order_stay_in_order_on_the_partition_that_any_client_would_take(bootstrap: str, topic: str):
    orders = [f"单{number}" for number in range(200)]
    with Pusher(Access(bootstrap), "eleme", topic, per_record=7) as pusher:
        for event in (*map(accepted, orders), *map(completed, orders)):
            pusher.push(event)
    assert pusher.counts.events == 400
    assert pusher.counts.orders == 200
    found = records_of(bootstrap, topic)
    assert pusher.counts.records == len(found)
    assert {record.partition for record in found} == {0, 1, 2, 3}
    kinds = defaultdict(list)
    for record in found:
        assert len(events_of(record)) <= 7
        assert partition_of(record.key, 4) == record.partition
        for event in events_of(record):
            assert partition_of(f"eleme/{event['subject']}".encode(), 4) == record.partition
            kinds[event["subject"]].append(event["type"])
    assert set(map(tuple, kinds.values())) == {("order.accepted", "order.completed")}


def test_five_thousand_events_fit_a_record_and_are_booked(engine: Engine, ledger_url: str, bootstrap: str):
    topic = make_topic(bootstrap, new_name("orders"))
    with Pusher(Access(bootstrap), "eleme", topic, per_record=EVENTS_PER_RECORD_MAX) as pusher:
        for number in range(12_000):
            pusher.push(accepted(f"O{number}"))
    assert [len(events_of(record)) for record in records_of(bootstrap, topic)] == [5_000, 5_000, 2_000]
    assert pusher.counts == Counts(records=3, events=12_000, orders=12_000)
    consume(engine, bootstrap, topic)
    assert charged(ledger_url) == 12_000
    assert replayed(ledger_url).findings.kept == []


def test_a_record_is_closed_before_it_is_too_large_and_waiting_bytes_are_bounded(bootstrap: str):
    topic = make_topic(bootstrap, new_name("orders"))
    long, pushed, most = "W" * 100_000, 600, 0
    with Pusher(Access(bootstrap), "eleme", topic, per_record=EVENTS_PER_RECORD_MAX) as pusher:
        for number in range(pushed):
            pusher.push(accepted(f"O{number}", worker=long))
            most = max(most, pusher._open_bytes + pusher._sent_bytes)
    assert most <= push.BUFFER_BYTES_MAX
    found = records_of(bootstrap, topic)
    assert all(len(record.value) <= RECORD_BYTES_MAX for record in found)
    assert sum(len(events_of(record)) for record in found) == pushed
    assert len(found[0].value) + 100_300 > RECORD_BYTES_MAX


def test_one_event_a_record_is_sent_byte_for_byte_under_its_own_key(bootstrap: str, topic: str):
    raw = b' {"subject": "A",  "source": "/platforms/eleme", "pay": 1.50}'
    with Pusher(Access(bootstrap), "eleme", topic, per_record=1) as pusher:
        pusher.push(raw)
    [record] = records_of(bootstrap, topic)
    assert (record.key, record.value, record.headers) == (b"eleme/A", raw, [])


def test_signatures_are_of_the_bytes_as_they_are_sent(bootstrap: str, topic: str):
    with Pusher(Access(bootstrap), "eleme", topic, key=KEY, per_record=3) as pusher:
        for number in range(20):
            pusher.push(accepted(f"O{number}"))
    for record in records_of(bootstrap, topic):
        [(name, signature)] = record.headers
        assert name == SIGNATURE_HEADER
        assert verifies(KEY.public_key().public_bytes_raw(), signature, record.value)


def test_on_a_topic_of_its_own_a_platform_need_not_sign(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, rejections: str
):
    with connect.ledger(ledger_url, connect.REGISTRAR) as registrar, registrar.begin() as tx:
        registry.register(tx, KUAISONG)
    for platform in ("kuaisong", "eleme"):
        with Pusher(Access(bootstrap), platform, topic) as pusher:
            pusher.push(accepted(f"of {platform}", platform=platform))
    consume(engine, bootstrap, {topic: "kuaisong"})
    assert orders_of(ledger_url) == ["of kuaisong"]
    assert value(ledger_url, "select reason from rejected_record") == "wrong_source"


def test_flush_returns_when_all_is_acknowledged_and_the_pusher_goes_on(bootstrap: str, topic: str):
    placed = []
    with Pusher(Access(bootstrap), "eleme", topic, on_placed=placed.append) as pusher:
        for turn in range(1, 4):
            pusher.push(accepted(f"O{turn}"))
            assert pusher.counts.events == turn - 1
            pusher.flush()
            assert pusher.counts.events == turn
    assert sorted(placed) == [(record.partition, record.offset) for record in records_of(bootstrap, topic)]


def test_what_is_not_of_the_platform_is_refused_and_the_rest_goes_on(bootstrap: str, topic: str):
    with Pusher(Access(bootstrap), "eleme", topic) as pusher:
        pusher.push(accepted("A"))
        with pytest.raises(BadQuestion, match="its source is '/platforms/example-delivery'"):
            pusher.push(accepted("B", platform="example-delivery"))
        with pytest.raises(BadQuestion, match="bytes, and a record holds"):
            pusher.push(accepted("C", worker="W" * RECORD_BYTES_MAX))
        pusher.push(accepted("D"))
    assert sorted(event["subject"] for record in records_of(bootstrap, topic) for event in events_of(record)) == [
        "A",
        "D",
    ]


def test_a_record_that_the_broker_refuses_is_said_and_the_pusher_can_be_used_again(bootstrap: str):
    small = make_topic(bootstrap, new_name("small"), max_message_bytes="20000")
    long = "".join(map(str, range(40_000)))  # which does not pack to less than a tenth
    pusher = Pusher(Access(bootstrap), "eleme", small, patience_s=20)
    pusher.push(accepted("long", worker=long))
    pusher.push(accepted("beside it"))
    with pytest.raises(NotAcknowledged, match=r"2 events were not acknowledged.*MessageSizeTooLarge"):
        pusher.flush()
    pusher.push(accepted("after"))
    pusher.close()
    assert pusher.counts == Counts(records=1, events=1, orders=1)
    assert [events_of(record)[0]["subject"] for record in records_of(bootstrap, small)] == ["after"]


def test_a_topic_that_does_not_exist_is_said(bootstrap: str):
    for name in (new_name("nowhere"), "nowhere at all"):
        with pytest.raises(NotAcknowledged, match="Kafka takes nothing for nowhere"):
            Pusher(Access(bootstrap), "eleme", name, patience_s=2)


def test_a_kafka_that_does_not_answer_is_said():
    with pytest.raises(NotAcknowledged, match=r"Kafka takes nothing for orders\.v1"):
        Pusher(Access("127.0.0.1:1"), "eleme", patience_s=2)


def test_a_block_that_fails_sends_nothing_more(bootstrap: str, topic: str):
    def fail_within() -> None:
        with Pusher(Access(bootstrap), "eleme", topic) as pusher:
            pusher.push(accepted("A"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert records_of(bootstrap, topic) == []


def test_a_broker_gone_for_a_moment_costs_no_event_and_gone_for_long_is_said(kafka_ground: Path):
    with running(kafka_ground / "gone" / "kafka", brokers=1) as cluster:
        [broker] = cluster.brokers
        topic = make_topic(cluster.bootstrap, "orders")
        pusher = Pusher(Access(cluster.bootstrap), "eleme", topic, per_record=10)
        pusher.push(accepted("first"))
        pusher.flush()
        broker.kill()
        back = Timer(1, broker.start)
        back.start()
        for number in range(1_000):
            pusher.push(accepted(f"O{number:04}"))
        pusher.close()
        back.join()
        assert pusher.counts.events == 1_001
        found = [event["subject"] for record in records_of(cluster.bootstrap, topic) for event in events_of(record)]
        assert found == ["first", *(f"O{number:04}" for number in range(1_000))]

        hasty = Pusher(Access(cluster.bootstrap), "eleme", topic, patience_s=4)
        broker.kill()
        hasty.push(accepted("lost"))
        with pytest.raises(NotAcknowledged, match="1 events were not acknowledged"):
            hasty.flush()
        broker.start()
        hasty.push(accepted("again"))
        hasty.close()
        assert hasty.counts.events == 1
        found = [event["subject"] for record in records_of(cluster.bootstrap, topic) for event in events_of(record)]
        assert found[1_001:] == ["again"]  # the producer that was given up sends nothing more
        assert [thread.name for thread in threads() if "danbao-push" in thread.name] == []


def test_push_blocks_while_the_brokers_take_nothing_and_no_more_memory_is_used(kafka_ground: Path):
    with running(kafka_ground / "slow" / "kafka", brokers=1) as cluster:
        [broker] = cluster.brokers
        topic = make_topic(cluster.bootstrap, "orders")
        pusher = Pusher(Access(cluster.bootstrap), "eleme", topic, patience_s=60)
        broker.kill()
        long = "W" * 50_000

        def push_all() -> None:
            for number in range(1_200):  # 60 MB
                pusher.push(accepted(f"O{number}", worker=long))

        pushing = Thread(target=push_all, daemon=True)
        pushing.start()
        pushing.join(5)
        assert pushing.is_alive()
        assert pusher._open_bytes + pusher._sent_bytes <= push.BUFFER_BYTES_MAX
        broker.start()
        pushing.join(60)
        assert not pushing.is_alive()
        pusher.close()
        assert pusher.counts.events == 1_200


PAGE = (ROOT / "deploy" / "PLATFORM.md").read_text("utf-8")


@pytest.mark.parametrize("lines", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), ids=["english", "chinese"])
def test_the_lines_of_the_page_push_signed_events(
    lines: str, bootstrap: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DANBAO_KAFKA_BOOTSTRAP", bootstrap)
    pem = tmp_path / "kuaisong.pem"
    pem.write_bytes(signing.private_pem(KEY))
    pem.chmod(0o600)
    assert '"orders.v1"' in lines
    batches = [[accepted(f"{turn}/{number}", platform="kuaisong") for number in range(5)] for turn in range(3)]
    exec(lines.replace("orders.v1", topic), {"batches": batches})
    found = records_of(bootstrap, topic)
    assert sum(len(events_of(record)) for record in found) == 15
    assert all(verifies(KEY.public_key().public_bytes_raw(), record.headers[0][1], record.value) for record in found)


# ---- the command


def test_a_file_is_pushed_and_counted_without_a_database(run: Run, bootstrap: str, topic: str, tmp_path: Path):
    file = ndjson(tmp_path / "orders.ndjson", accepted("A"), [accepted("B"), completed("B")], completed("A"))
    said = told(run(file, "--platform", "eleme", "--topic", topic, "--json"), 0)
    assert said.pop("seconds") > 0
    assert said.pop("events_per_second") > 0
    assert said.pop("records") == len(records_of(bootstrap, topic))
    assert said == {"topic": topic, "events": 4, "orders": 2}


def test_a_csv_is_pushed_through_its_mapping(run: Run, bootstrap: str, topic: str, tmp_path: Path):
    file = tmp_path / "orders.csv"
    file.write_text(
        "order_id,worker_id,accepted_at,completed_at,cancelled,pick_lat,pick_lng\n"
        "A,W1,2020-02-01 12:00:00,2020-02-01 12:30:00,False,,\n"
    )
    arguments = (file, "--platform", "eleme", "--topic", topic, "--map", "eleme", "--first-day", "2026-10-03", "--json")
    assert told(run(*arguments), 0)["events"] == 2
    [record] = records_of(bootstrap, topic)
    assert [event["time"] for event in events_of(record)] == ["2026-10-03T12:00:00+08:00", "2026-10-03T12:30:00+08:00"]


def test_a_file_with_another_platforms_event_is_refused_before_anything_is_sent(
    run: Run, bootstrap: str, topic: str, tmp_path: Path
):
    file = ndjson(tmp_path / "orders.ndjson", accepted("A"), accepted("B", platform="example-delivery"))
    said = told(run(file, "--platform", "eleme", "--topic", topic, "--json"), 2)
    assert "orders.ndjson, line 2: This event cannot be sent: its source is" in said["error"]
    assert records_of(bootstrap, topic) == []


def test_what_was_rejected_is_read_back_and_nothing_of_others(
    run: Run, bootstrap: str, topic: str, ledger: str, ledger_url: str, tmp_path: Path
):
    produce(bootstrap, topic, b"rubbish of another", partition=0)
    file = ndjson(tmp_path / "orders.ndjson", accepted("A"), [accepted("B", city="999999"), completed("B")])
    common_arguments = ("--platform", "eleme", "--topic", topic, "--answers", "60", "--group", ledger)
    said = told(run(file, *common_arguments, "--json"), 1)
    assert (said["passed"], said["events"], said["rejected"], said["reasons"]) == (True, 3, 1, {"unknown_city": 1})
    [one] = said["rejections"]
    assert json.loads(one["record"]) == accepted("B", city="999999")
    assert (one["place"], "GB/T 2260" in one["detail"]) == ("data.accepted_city", True)
    assert orders_of(ledger_url) == ["A"]
    shown = run(file, *common_arguments)
    assert shown.exit_code == 1
    assert "unknown_city, data.accepted_city: '999999' is not a city" in shown.stdout
    good = ndjson(tmp_path / "good.ndjson", accepted("C"))
    assert told(run(good, *common_arguments, "--json"), 0)["rejected"] == 0


@pytest.mark.parametrize(("key", "reason"), [(KEY, None), (STRANGE, "bad_signature"), (None, "unsigned")])
def test_only_what_is_signed_by_a_key_in_force_is_booked(
    run: Run,
    topic: str,
    signing_platform: str,
    ledger: str,
    ledger_url: str,
    tmp_path: Path,
    key: Ed25519PrivateKey | None,
    reason: str | None,
):
    file = ndjson(tmp_path / "orders.ndjson", *(accepted(f"O{number}", platform="kuaisong") for number in range(9)))
    arguments = [file, "--platform", signing_platform, "--topic", topic, "--answers", "60", "--group", ledger, "--json"]
    if key:
        pem = tmp_path / "kuaisong.pem"
        pem.write_bytes(signing.private_pem(key))
        pem.chmod(0o600)
        arguments += ["--key", pem]
    said = told(run(*arguments), 1 if reason else 0)
    assert said["reasons"] == ({reason: 9} if reason else {})
    assert charged(ledger_url) == (0 if reason else 9)
    assert value(ledger_url, "select count(*) from rejected_record") == (9 if reason else 0)


@pytest.mark.parametrize("how", ["never seen", "standing still"])
def test_a_ledger_that_is_not_seen_to_have_passed_leaves_doubt(
    run: Run, engine: Engine, bootstrap: str, topic: str, rejections: str, tmp_path: Path, how: str
):
    group = new_name("group")
    file = ndjson(tmp_path / "orders.ndjson", accepted("A"))
    if how == "standing still":
        with Running(consumer(engine, bootstrap, topic, group=group)):
            assert told(run(file, *doubtful(topic, group), "--json"), 0)["passed"] is True
    said = run(file, *doubtful(topic, group, 2), "--json")
    assert told(said, 3)["passed"] is (None if how == "never seen" else False)


def doubtful(topic: str, group: str, seconds: int = 60) -> tuple[str, ...]:
    return ("--platform", "eleme", "--topic", topic, "--answers", str(seconds), "--group", group)


def test_rejections_that_cannot_be_read_are_said_before_anything_is_sent(
    run: Run, bootstrap: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rejected, "TOPIC", new_name("nowhere"))
    file = ndjson(tmp_path / "orders.ndjson", accepted("A"))
    said = told(run(file, *doubtful(topic, "group"), "--json"), 1)
    assert "cannot be read from nowhere" in said["error"]
    assert records_of(bootstrap, topic) == []


def test_a_file_that_is_none_is_a_bad_question(run: Run, tmp_path: Path):
    assert "is not a file" in told(run(tmp_path / "none", "--platform", "eleme", "--json"), 2)["error"]
    file = tmp_path / "orders.csv"
    file.write_bytes(encode(accepted("A")))
    assert "is a CSV file" in told(run(file, "--platform", "eleme", "--json"), 2)["error"]
