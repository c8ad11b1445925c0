"""Order streams through a real broker: booked once, in any shape, rejected with a reason, and told of.

In: topics of the tests' own. Out: the same books as from a file, the topic of rejected records.
"""

import json
import lzma
import random
from pathlib import Path
from typing import Any

import pytest
from command import answer
from kafka import KafkaProducer
from sqlalchemy import Engine
from streams import (
    charged,
    command,
    consume,
    consumer,
    heads,
    make_topic,
    new_name,
    notices,
    numbered,
    orders_of,
    produce,
    read_all,
    wait_until,
)
from support import accepted, cancelled, completed, encode, replayed, rows, value

from consumers.kafka import rejected
from consumers.kafka.settings import Access, producer_options
from consumers.orders import Hooks
from schemas.codes import Answer, Reason


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A topic of two partitions that all platforms share."""
    return make_topic(bootstrap, new_name("orders"), 2)


def test_a_stream_is_booked_from_where_the_ledger_stands(engine: Engine, ledger_url: str, bootstrap: str, topic: str):
    produce(bootstrap, topic, *(accepted(order) for order in numbered(range(40))))
    first = consume(engine, bootstrap, topic)
    assert (first.totals.answers[Answer.NEW], charged(ledger_url)) == (40, 40)
    produce(bootstrap, topic, *(completed(order) for order in numbered(range(40))))
    again = consume(engine, bootstrap, topic)
    assert (again.totals.events, again.totals.answers[Answer.NEW]) == (40, 40)
    assert sum(heads(ledger_url).values()) == 80
    assert replayed(ledger_url).findings.kept == []


def test_records_of_any_packing_and_any_codec_are_booked_alike(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    for number, codec in enumerate((None, "gzip", "snappy", "lz4", "zstd")):
        orders = [accepted(f"{codec}-{place}") for place in range(30)]
        produce(bootstrap, topic, orders[0], orders[1:20], *orders[20:], partition=number % 2, compression_type=codec)
    consume(engine, bootstrap, topic)
    assert charged(ledger_url) == 150
    assert replayed(ledger_url).findings.kept == []


def test_what_a_platform_rolled_back_never_happened_and_the_gaps_replay(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    options = producer_options(Access(bootstrap), "tests") | {"transactional_id": new_name("transaction")}
    producer = KafkaProducer(**options)
    producer.init_transactions()
    for number, kept in enumerate((True, False, True)):
        producer.begin_transaction()
        producer.send(topic, value=encode(accepted(f"T{number}")), partition=0)
        producer.flush()
        (producer.commit_transaction if kept else producer.abort_transaction)()
    producer.close()
    consume(engine, bootstrap, topic)
    assert orders_of(ledger_url) == ["T0", "T2"]
    assert heads(ledger_url)[topic, 0] == 5  # each transaction ends with a marker, which is no record
    assert replayed(ledger_url).findings.kept == []


@pytest.mark.parametrize("first", [0, 1])
def test_a_topic_of_a_platforms_own_without_keys_is_booked_right_whichever_partition_comes_first(
    engine: Engine, ledger_url: str, bootstrap: str, first: int
):
    own = make_topic(bootstrap, new_name("own"), 2)
    orders = list(numbered(range(20)))
    halves = [(accepted(order) for order in orders), (completed(order) for order in orders)]
    for half in (first, 1 - first):
        produce(bootstrap, own, *halves[half], partition=half)
        made = consume(engine, bootstrap, {own: "eleme"})
        assert (made.totals.events, made.totals.answers[Answer.NEW]) == (20, 20)
    assert charged(ledger_url) == 20
    assert value(ledger_url, "select count(*) from event_key where slot = ''") == 20
    assert replayed(ledger_url).findings.kept == []


def test_events_of_one_order_may_come_by_any_partition_in_any_order(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    dice = random.Random(7)
    events: list[Any] = []
    for order in numbered(range(60)):
        events += [accepted(order), dice.choice([completed, cancelled])(order), accepted(order)]
    dice.shuffle(events)
    for half, partition in ((events[::2], 0), (events[1::2], 1)):
        produce(bootstrap, topic, *half, partition=partition)
    consume(engine, bootstrap, topic)
    assert orders_of(ledger_url) == numbered(range(60))
    assert value(ledger_url, "select sum(duplicate) from batch") == 60
    assert replayed(ledger_url).findings.kept == []


def test_a_topic_of_a_platforms_own_with_other_keys_and_headers_is_booked_right(
    engine: Engine, ledger_url: str, bootstrap: str
):
    own = make_topic(bootstrap, new_name("kuaisong.dd.orders"), 3, message_timestamp_type="CreateTime")
    producer = KafkaProducer(**producer_options(Access(bootstrap), "tests"))
    for place, order in enumerate(numbered(range(50))):
        event, key = encode(accepted(order, platform="eleme")), b"k%d" % (place % 3)
        producer.send(own, value=event, key=key, headers=[("x", b"y")])
    producer.send(own, value=encode(accepted("stranger", platform="example-delivery")))
    producer.close()
    consume(engine, bootstrap, {own: "eleme"})
    assert charged(ledger_url) == 50
    assert rows(ledger_url, "select reason, platform_id from rejected_record") == [("wrong_source", "example-delivery")]
    assert replayed(ledger_url).findings.kept == []


# ---- what cannot be booked


def bomb() -> bytes:
    return b"[" + b" " * (40 * 1024 * 1024) + b"]"


def test_poison_of_every_sort_is_rejected_kept_told_of_and_blocks_nothing(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, rejections: str
):
    produce(bootstrap, topic, accepted("before"), partition=0)
    poison = [b"", b"\xff\xfe\x00", b"{", random.Random(1).randbytes(5_000), b"[[[[[[[[[[" * 400, lzma.compress(b"{}")]
    produce(bootstrap, topic, *poison, accepted("A", city="999999"), partition=0)
    options = {"compression_type": "zstd", "max_request_size": 64 * 1024 * 1024}
    produce(bootstrap, topic, bomb(), partition=0, **options)
    produce(bootstrap, topic, accepted("after"), partition=0)
    consume(engine, bootstrap, topic)
    assert orders_of(ledger_url) == ["after", "before"]
    kept = rows(ledger_url, "select record_offset, reason, raw from rejected_record order by record_offset")
    assert [offset for offset, _, _ in kept] == list(range(1, 9))
    assert [bytes(raw) for _, _, raw in kept[:6]] == poison
    assert {reason for _, reason, _ in kept} == {Reason.MALFORMED, Reason.UNKNOWN_CITY}
    assert bytes(kept[-1][2]).startswith(b"A record batch that cannot be read: it unpacks to more than")
    assert replayed(ledger_url).findings.kept == []
    told = read_all(bootstrap, rejections, 8)
    assert [record.value for record in told] == [bytes(raw) for _, _, raw in kept]
    headers = dict(told[6].headers)
    assert headers["danbao-reason"] == b"unknown_city"
    assert (headers["danbao-topic"], headers["danbao-offset"], headers["danbao-item"]) == (topic.encode(), b"7", b"-1")
    assert b"GB/T 2260" in headers["danbao-detail"]
    assert told[6].key == b"eleme"


def test_rejections_that_could_not_be_told_are_told_later_and_none_never(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
):
    missing = new_name("rejected")
    monkeypatch.setattr(rejected, "TOPIC", missing)
    monkeypatch.setattr(rejected, "PATIENCE_MS", 1_000)
    produce(bootstrap, topic, b"1", b"2", partition=0)
    said, listen = notices()
    consume(engine, bootstrap, topic, hooks=Hooks(on_notice=listen))
    assert any("it is told later" in line for line in said)
    make_topic(bootstrap, missing)
    produce(bootstrap, topic, accepted("A"), partition=0)
    consume(engine, bootstrap, topic)
    assert [record.value for record in read_all(bootstrap, missing, 2)] == [b"1", b"2"]
    assert rows(ledger_url, "select next_offset from rejections_told") == [(2,)]


# ---- the command


def test_the_command_books_with_two_workers_and_says_what_it_booked(ledger_url: str, bootstrap: str, topic: str):
    produce(bootstrap, topic, *([accepted(order), completed(order)] for order in numbered(range(300))), b"rubbish")
    told = answer(command(ledger_url, bootstrap, "--topic", topic, "--to-end", "--workers", "2", "--json"))
    counted = {name: told[name] for name in ("records", "events", "orders", "new", "rejected", "premium", "reasons")}
    assert counted == {
        "records": 301,
        "events": 601,
        "orders": 300,
        "new": 600,
        "rejected": 1,
        "premium": "21.00",
        "reasons": {"malformed": 1},
    }
    assert charged(ledger_url) == 300


def test_workers_stop_when_their_supervisor_is_killed(ledger_url: str, bootstrap: str, topic: str):
    produce(bootstrap, topic, *(accepted(order) for order in numbered(range(20))))
    supervisor = command(ledger_url, bootstrap, "--topic", topic, "--workers", "2")
    try:
        wait_until(lambda: charged(ledger_url) == 20)
        workers = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
        assert len(workers) == 2
    finally:
        supervisor.kill()
        supervisor.communicate()  # ends when the last of them has let go of the pipes
    assert not any(command_line(pid) for pid in workers)


def command_line(pid: str) -> bytes:
    """Of a process; nothing of one that has ended, whether or not somebody has asked for its exit code."""
    file = Path(f"/proc/{pid}/cmdline")
    return file.read_bytes() if file.exists() else b""


def test_one_process_says_the_same(ledger_url: str, bootstrap: str, topic: str):
    produce(bootstrap, topic, *(accepted(order) for order in numbered(range(20))))
    told = answer(command(ledger_url, bootstrap, "--topic", topic, "--to-end", "--json"))
    assert (told["events"], told["orders"], told["premium"]) == (20, 20, "1.40")


def test_a_topic_stays_whose_it_was(engine: Engine, bootstrap: str, topic: str, ledger_url: str):
    consumer(engine, bootstrap, topic)
    told = answer(command(ledger_url, bootstrap, "--topic", topic, "--platform", "eleme", "--to-end", "--json"), 2)
    assert "shared by all platforms" in told["error"]


def test_a_topic_that_does_not_exist_is_said(ledger_url: str, bootstrap: str):
    told = answer(command(ledger_url, bootstrap, "--topic", new_name("nowhere"), "--to-end", "--json"), 1)
    assert "nowhere" in json.dumps(told)
