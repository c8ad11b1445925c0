"""What tests of streams share: topics on a real broker, producers, consumers in this process or as the command.

In: a cluster and a ledger. Out: records on topics, orders in the books. Each test takes topics and a group of its own.
"""

import os
import time
from collections.abc import Callable, Iterable
from itertools import count
from threading import Thread
from typing import Any

from command import Started, answer, clean
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from sqlalchemy import Engine
from support import chain_faults, encode, replayed, rows, rules, value

from consumers.kafka.settings import Access, producer_options
from consumers.loop import Booker, Switch
from consumers.orders import Consumer, Hooks, doors_for
from schemas.both import Both

WAIT_S = 120
_NUMBERS = count(1)


def new_name(word: str) -> str:
    """A topic or group that no other test has."""
    return f"{word}-{os.getpid()}-{next(_NUMBERS)}"


def make_topic(bootstrap: str, name: str, partitions: int = 1, copies: int = 1, **settings: str) -> str:
    """A topic as deploy/topics.yaml has them; on one broker unless `copies` says more."""
    wanted = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "9437184"} | {
        key.replace("_", "."): text for key, text in settings.items()
    }
    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    try:
        topic = {"num_partitions": partitions, "replication_factor": copies, "configs": wanted}
        admin.create_topics({name: topic}, wait_for_metadata=True)
    finally:
        admin.close()
    return name


def produce(bootstrap: str, topic: str, *handed: Any, partition: int | None = None, **options: Any) -> None:
    """Write records, each acknowledged; events, lists of events, or bytes."""
    producer = KafkaProducer(**producer_options(Access(bootstrap), "tests") | options)
    try:
        sent = [producer.send(topic, value=encode(one), partition=partition) for one in handed]
        producer.flush(timeout=WAIT_S)
        for future in sent:
            future.get(timeout=WAIT_S)
    finally:
        producer.close(timeout=5)


def consumer(
    engine: Engine,
    bootstrap: str,
    topics: dict[str, str | None] | str,
    group: str | None = None,
    switch: Switch = lambda _: None,
    hooks: Hooks | None = None,
) -> Consumer:
    """A consumer in this process, not running yet."""
    wanted = {topics: None} if isinstance(topics, str) else topics
    booker = Booker(engine, rules(), switch)
    doors = doors_for(engine, wanted)
    return Consumer(engine, booker, Access(bootstrap), doors, group or new_name("group"), hooks or Hooks())


def consume(engine: Engine, bootstrap: str, topics: dict[str, str | None] | str, **terms: Any) -> Consumer:
    """Book all that topics hold now."""
    made = consumer(engine, bootstrap, topics, **terms)
    made.run(to_end=True)
    return made


class Running:
    """A consumer in a thread, until the block ends or `to_end` until all is booked; `failure`: what else ended it."""

    def __init__(self, made: Consumer, to_end: bool = False) -> None:
        self.consumer = made
        self.failure: BaseException | None = None
        self._to_end = to_end
        self._thread = Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.consumer.run(self._to_end)
        except BaseException as failure:
            self.failure = failure

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.consumer.stop.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()


def command(url: str, bootstrap: str, *arguments: str, **environment: str) -> Started:
    """`danbao consume orders …` as a process of its own."""
    places = {"DANBAO_DATABASE_URL": url, "DANBAO_KAFKA_BOOTSTRAP": bootstrap}
    return Started(["consume", "orders", *arguments], clean(places | environment, "en"))


def asked(url: str, bootstrap: str | None, *arguments: str, code: int = 0) -> dict[str, Any]:
    """What any command says with --json, beside a Kafka or none."""
    environment = {"DANBAO_DATABASE_URL": url, "DANBAO_HOME": "/nowhere"}
    if bootstrap:
        environment["DANBAO_KAFKA_BOOTSTRAP"] = bootstrap
    return answer(Started([*arguments, "--json"], clean(environment, "en")), code)


def wait_until(true: Callable[[], bool], why: str = "", seconds: float = WAIT_S) -> None:
    """Look until it is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, why or "waited too long"
        time.sleep(0.02)


def read_all(bootstrap: str, topic: str, records: int) -> list[Any]:
    """The first records of a topic of one partition."""
    place = TopicPartition(topic, 0)
    reading = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        consumer_timeout_ms=WAIT_S * 1000,
    )
    try:
        reading.assign([place])
        reading.seek(place, 0)
        return [next(reading) for _ in range(records)]
    finally:
        reading.close(autocommit=False)


def charged(url: str) -> int:
    """How many orders are charged."""
    return int(value(url, "select count(*) from charge"))


def heads(url: str) -> dict[tuple[str, int], int]:
    """Topic and partition → next offset."""
    return {
        (topic, part): at for topic, part, at in rows(url, "select topic, partition, next_offset from partition_head")
    }


def orders_of(url: str) -> list[str]:
    """The ids of all orders charged."""
    return [order for (order,) in rows(url, "select order_id from charge order by order_id")]


def notices() -> tuple[list[str], Callable[[Both], None]]:
    """A list, and what adds the English of a notice to it."""
    said: list[str] = []
    return said, lambda text: said.append(text.en)


def numbered(many: Iterable[int]) -> list[str]:
    """Order ids."""
    return [f"O{number:05}" for number in many]


def assert_sound(url: str, orders: list[str]) -> None:
    """These orders are charged, each once, and everything in the ledger holds together."""
    assert orders_of(url) == sorted(orders)
    assert chain_faults(url) == []
    assert replayed(url).findings.kept == []
