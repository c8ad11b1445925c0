"""The stream consumer under faults of the broker and of producers: whatever goes away, comes twice or comes broken.

In: a real broker and a real PostgreSQL, and one fault for each test, that its name says. Out: the orders that were
produced, each charged once, evidence whole, a replay without findings. Failures of other systems that we must not
have are named by their number. What cannot go on says so, and nothing behind a gap is booked.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata
from sqlalchemy import Engine
from streams import (
    Running,
    assert_sound,
    charged,
    consume,
    consumer,
    heads,
    make_topic,
    new_name,
    notices,
    numbered,
    orders_of,
    produce,
    wait_until,
)
from support import accepted, completed, encode, rows, value

from consumers.kafka import fetch
from consumers.kafka.broker import Broker, Cluster, running
from consumers.kafka.settings import Access, producer_options
from consumers.orders import Hooks
from ledger.errors import DanbaoError
from ledger.store import connect, registry
from schemas.codes import Answer, Reason
from schemas.orders import SIGNATURE_HEADER

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def mortal(broker: Cluster, kafka_ground: Path) -> Iterator[Cluster]:
    """A broker that tests may kill, which soon gives up transactions that nobody ends."""
    patience = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"}
    with running(kafka_ground / "mortal" / "kafka", brokers=1, settings=patience) as cluster:
        yield cluster


class Crash(Exception):
    """The process ends here."""


def crash_at(step: str) -> Callable[[str], None]:
    def pull(reached: str) -> None:
        if reached == step:
            raise Crash(step)

    return pull


# ---- the broker


def test_a_broker_killed_and_started_again_is_waited_for(engine: Engine, ledger_url: str, mortal: Cluster):
    name = make_topic(mortal.bootstrap, new_name("faults"))
    produce(mortal.bootstrap, name, *map(accepted, numbered(range(10))))
    with Running(consumer(engine, mortal.bootstrap, name)) as ours:
        wait_until(lambda: charged(ledger_url) == 10)
        [only] = mortal.brokers
        only.kill()
        only.start()
        produce(mortal.bootstrap, name, *map(accepted, numbered(range(10, 20))))
        wait_until(lambda: charged(ledger_url) == 20)
        assert ours.alive
    assert_sound(ledger_url, numbered(range(20)))


def test_a_broker_that_dies_while_a_consumer_begins_is_waited_for(
    engine: Engine, ledger_url: str, mortal: Cluster, monkeypatch: pytest.MonkeyPatch
):
    """Between the client's welcome and its first question (chaos seed 2071)."""
    name, enter = make_topic(mortal.bootstrap, new_name("faults")), fetch.enter
    produce(mortal.bootstrap, name, *map(accepted, numbered(range(10))))
    [only] = mortal.brokers
    coming_back = Thread(target=only.start)

    def entered(*terms: Any) -> Any:
        client = enter(*terms)
        only.kill()
        coming_back.start()
        return client

    monkeypatch.setattr(fetch, "enter", entered)
    with Running(consumer(engine, mortal.bootstrap, name)) as ours:
        wait_until(lambda: charged(ledger_url) == 10 or not ours.alive)
        assert ours.failure is None
    coming_back.join()
    assert_sound(ledger_url, numbered(range(10)))


def leader(cluster: Cluster, topic: str) -> Broker | None:
    """The broker that leads the topic's one partition; None while one is asked that is dead, or there is no leader."""
    try:
        with administered(cluster.bootstrap) as admin:
            [described] = admin.describe_topics([topic])
    except KafkaError:
        return None
    number = described["partitions"][0]["leader_id"]
    return next((one for one in cluster.brokers if one.node_id == number), None)


def test_a_leader_that_moves_takes_the_stream_along(
    engine: Engine, ledger_url: str, broker: Cluster, kafka_ground: Path
):
    with running(kafka_ground / "moves" / "kafka", brokers=3) as cluster:
        name = make_topic(cluster.bootstrap, new_name("faults"), copies=3, min_insync_replicas="2")
        produce(cluster.bootstrap, name, *map(accepted, numbered(range(10))))
        with Running(consumer(engine, cluster.bootstrap, name)) as ours:
            wait_until(lambda: charged(ledger_url) == 10)
            lost = leader(cluster, name)
            assert lost is not None
            lost.kill()
            wait_until(lambda: leader(cluster, name) not in (lost, None))
            left = ",".join(one.address for one in cluster.brokers if one is not lost)
            produce(left, name, *map(accepted, numbered(range(10, 20))))
            wait_until(lambda: charged(ledger_url) == 20)
            assert ours.alive
        assert_sound(ledger_url, numbered(range(20)))
        for one in cluster.brokers:
            one.kill()


@contextmanager
def administered(bootstrap: str) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    try:
        yield admin
    finally:
        admin.close()


def test_a_group_set_back_to_an_older_offset_changes_nothing(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    group = new_name("group")
    produce(bootstrap, topic, *map(accepted, numbered(range(20))))
    consume(engine, bootstrap, topic, group=group)
    place = TopicPartition(topic, 0)
    setting = KafkaConsumer(bootstrap_servers=bootstrap.split(","), group_id=group, enable_auto_commit=False)
    setting.assign([place])
    setting.commit({place: OffsetAndMetadata(3, "", -1)})
    setting.close(autocommit=False)
    produce(bootstrap, topic, *map(accepted, numbered(range(18, 22))))
    again = consume(engine, bootstrap, topic, group=group)
    assert again.totals.answers == {Answer.DUPLICATE: 2, Answer.NEW: 2}
    assert_sound(ledger_url, numbered(range(22)))


def again_from_nothing(bootstrap: str, topic: str) -> None:
    """Remove a topic and make it again."""
    with administered(bootstrap) as admin:
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics())
    make_topic(bootstrap, topic)


@pytest.mark.parametrize("records", [2, 5, 9])
def test_a_topic_made_again_is_refused_and_said(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, records: int
):
    """However many records it has by then: offsets that fit are no proof that it is the same log."""
    produce(bootstrap, topic, *map(accepted, numbered(range(5))))
    consume(engine, bootstrap, topic)
    again_from_nothing(bootstrap, topic)
    produce(bootstrap, topic, *map(accepted, numbered(range(10, 10 + records))))
    with pytest.raises(DanbaoError, match="made again"):
        consume(engine, bootstrap, topic)
    assert_sound(ledger_url, numbered(range(5)))


@pytest.mark.parametrize("records", [2, 9])
def test_a_topic_made_again_beneath_a_running_consumer_is_refused_and_said(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, records: int
):
    """Also where it holds more than was booked by the time that the consumer comes by again."""
    produce(bootstrap, topic, *map(accepted, numbered(range(5))))
    with Running(consumer(engine, bootstrap, topic)) as ours:
        wait_until(lambda: charged(ledger_url) == 5)
        again_from_nothing(bootstrap, topic)
        produce(bootstrap, topic, *map(accepted, numbered(range(10, 10 + records))))
        wait_until(lambda: not ours.alive)
    with pytest.raises(DanbaoError, match="made again"):
        raise ours.failure or AssertionError("nothing was said")
    assert_sound(ledger_url, numbered(range(5)))


def test_aged_out_records_stop_their_partition_with_the_number_missing_and_others_go_on(
    engine: Engine, ledger_url: str, bootstrap: str
):
    name, (said, listen) = make_topic(bootstrap, new_name("faults"), 2), notices()
    for partition in (0, 1):
        produce(bootstrap, name, *(accepted(f"{partition}-{order}") for order in range(5)), partition=partition)
    consume(engine, bootstrap, name)
    for partition in (0, 1):
        produce(bootstrap, name, *(accepted(f"{partition}-{order}") for order in range(5, 10)), partition=partition)
    with administered(bootstrap) as admin:
        admin.delete_records({TopicPartition(name, 0): 8})
    consume(engine, bootstrap, name, hooks=Hooks(on_notice=listen))
    assert any(f"{name}[0] is stopped" in line and "3 records are missing" in line for line in said)
    assert heads(ledger_url) == {(name, 0): 5, (name, 1): 10}
    assert_sound(ledger_url, [*(f"0-{order}" for order in range(5)), *(f"1-{order}" for order in range(10))])


# ---- producers and what they send


def test_a_producer_that_dies_in_mid_transaction_holds_nobody_up_for_ever_and_sends_again(
    engine: Engine, ledger_url: str, mortal: Cluster
):
    name = make_topic(mortal.bootstrap, new_name("faults"))
    options = producer_options(Access(mortal.bootstrap), "dies") | {"transaction_timeout_ms": 2_000}
    dying = KafkaProducer(**options | {"transactional_id": new_name("transaction")})
    dying.init_transactions()
    dying.begin_transaction()
    for order in numbered(range(5)):
        dying.send(name, value=encode(accepted(order)), partition=0)
    dying.flush()
    produce(mortal.bootstrap, name, accepted("behind"))
    with Running(consumer(engine, mortal.bootstrap, name)):
        wait_until(lambda: orders_of(ledger_url) == ["behind"])
        for _ in range(2):  # again, and once more since nobody told him that he was heard
            produce(mortal.bootstrap, name, *map(accepted, numbered(range(5))))
        wait_until(lambda: sum(heads(ledger_url).values()) >= 17)
    dying.close(timeout=0)
    assert value(ledger_url, "select sum(duplicate) from batch") == 5
    assert_sound(ledger_url, ["behind", *numbered(range(5))])


def test_a_record_of_fifty_megabytes_is_rejected_and_blocks_nothing(engine: Engine, ledger_url: str, bootstrap: str):
    large = 50 * MIB
    name = make_topic(bootstrap, new_name("faults"), max_message_bytes=str(large + MIB))
    produce(bootstrap, name, accepted("before"))
    options = {"compression_type": None, "max_request_size": large + MIB}
    produce(bootstrap, name, b"[" + b" " * large + b"]", **options)
    produce(bootstrap, name, accepted("after"))
    consume(engine, bootstrap, name)
    assert rows(ledger_url, "select record_offset, reason from rejected_record") == [(1, "too_large")]
    assert_sound(ledger_url, ["after", "before"])


def test_garbage_of_any_sort_is_rejected_record_by_record(engine: Engine, ledger_url: str, bootstrap: str, topic: str):
    dice = random.Random(11)
    whole = encode([accepted("in a list"), completed("in a list")])
    garbage = [dice.randbytes(dice.randrange(200)) for _ in range(50)]
    garbage += [whole[: dice.randrange(len(whole))] for _ in range(50)]
    garbage += [encode(accepted(f"\u0000{number}")) for number in range(3)]
    produce(bootstrap, topic, accepted("before"), *garbage, accepted("after"))
    consume(engine, bootstrap, topic)
    assert value(ledger_url, "select count(distinct record_offset) from rejected_record") == len(garbage)
    assert_sound(ledger_url, ["after", "before"])


def test_a_compressed_bomb_of_several_records_is_rejected_and_blocks_nothing(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    produce(bootstrap, topic, accepted("before"))
    bomb = [b"[" + b" " * (15 * MIB) + b"]"] * 3
    options = {"compression_type": "zstd", "linger_ms": 2_000, "batch_size": 64 * MIB, "max_request_size": 64 * MIB}
    produce(bootstrap, topic, *bomb, **options)
    produce(bootstrap, topic, accepted("after"))
    with Running(consumer(engine, bootstrap, topic)) as ours:
        wait_until(lambda: not ours.alive or charged(ledger_url) == 2, seconds=30)
    assert ours.failure is None
    assert value(ledger_url, "select count(*) from rejected_record") >= 1
    assert_sound(ledger_url, ["after", "before"])


def test_a_clock_of_ours_that_jumps_changes_nothing_where_the_broker_stamps(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
):
    jumps = iter([10**9, 4 * 10**18, 10**15, *[2 * 10**18] * 1_000])
    monkeypatch.setattr(fetch, "time_ns", lambda: next(jumps))
    with Running(consumer(engine, bootstrap, topic)):
        for order in range(4):
            produce(bootstrap, topic, accepted(f"O{order}"))
            wait_until(lambda booked=order + 1: charged(ledger_url) == booked)  # type: ignore[misc]
    assert_sound(ledger_url, [f"O{order}" for order in range(4)])


def test_where_a_platform_stamps_its_records_our_clock_counts_and_one_set_back_loses_nothing(
    engine: Engine, ledger_url: str, bootstrap: str, monkeypatch: pytest.MonkeyPatch
):
    name = make_topic(bootstrap, new_name("faults"), message_timestamp_type="CreateTime")
    just_now = accepted("A", datetime.now(UTC).isoformat(timespec="seconds"))
    with monkeypatch.context() as clock:
        clock.setattr(fetch, "time_ns", lambda: time.time_ns() - 3600 * 10**9)
        produce(bootstrap, name, just_now)
        consume(engine, bootstrap, name)
    assert charged(ledger_url) == 0
    [(reason, raw)] = rows(ledger_url, "select reason, raw from rejected_record")
    assert (reason, bytes(raw)) == (Reason.IN_FUTURE, encode(just_now))
    produce(bootstrap, name, just_now)
    consume(engine, bootstrap, name)
    assert_sound(ledger_url, ["A"])


# ---- what went wrong for others


def test_openmeter_5118_and_4902_a_key_claimed_by_a_batch_that_died_is_free_again(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    produce(bootstrap, topic, *map(accepted, numbered(range(10))))
    for step in ("claimed", "posted", "advanced"):
        with pytest.raises(Crash):
            consume(engine, bootstrap, topic, switch=crash_at(step))
        assert value(ledger_url, "select (select count(*) from charge) + (select count(*) from batch)") == 0
    assert consume(engine, bootstrap, topic).totals.answers == {Answer.NEW: 10}
    assert_sound(ledger_url, numbered(range(10)))


def test_lago_api_3049_a_batch_sent_again_with_something_new_is_answered_item_by_item(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    produce(bootstrap, topic, [accepted("A"), accepted("B")])
    produce(bootstrap, topic, [accepted("A"), accepted("C"), accepted("B", worker="W2"), accepted("D", city="999999")])
    answers: list[str] = []
    hooks = Hooks(on_outcome=lambda outcome, _: answers.extend(map(str, outcome.answers)))
    consume(engine, bootstrap, topic, hooks=hooks)
    assert answers == ["new", "new", "duplicate", "new", "conflict", "rejected"]
    assert_sound(ledger_url, ["A", "B", "C"])


def test_blnk_336_a_key_that_ended_stays_ended_for_a_process_that_is_started_again(
    engine: Engine, ledger_url: str, bootstrap: str, monkeypatch: pytest.MonkeyPatch
):
    name = make_topic(bootstrap, new_name("faults"), message_timestamp_type="CreateTime")
    key, now = Ed25519PrivateKey.from_private_bytes(bytes(range(32))), datetime.now(UTC)
    public = key.public_key().public_bytes_raw()
    with connect.ledger(ledger_url, connect.REGISTRAR) as registrar, registrar.begin() as tx:
        number = registry.find(tx, "eleme").platform_no
        registry.add_key(tx, number, public, now + timedelta(hours=1), now)
        registry.end_key(tx, number, public, now + timedelta(hours=3), now)
    for hours, order in ((2, "in force"), (4, "ended"), (5, "ended, again")):
        then = now + timedelta(hours=hours)
        monkeypatch.setattr(fetch, "time_ns", lambda then=then: int(then.timestamp() * 10**9))
        raw = encode(accepted(order))
        producer = KafkaProducer(**producer_options(Access(bootstrap), "signs"))
        producer.send(name, value=raw, headers=[(SIGNATURE_HEADER, key.sign(raw))]).get(timeout=60)
        producer.close(timeout=5)
        consume(engine, bootstrap, name)
    assert rows(ledger_url, "select distinct reason from rejected_record") == [(Reason.BAD_SIGNATURE,)]
    assert_sound(ledger_url, ["in force"])
