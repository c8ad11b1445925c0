"""Where partitions begin and end. In: topics. Out: what the broker holds of each partition, or that it does not answer.

A consumer without a group, so that looking changes nothing; every wait is bounded.
"""

from collections.abc import Collection
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from consumers.kafka.settings import Access, consumer_options

ANSWER_MS = 3_000
CLOSE_MS = 1_000


class Held(NamedTuple):
    """The offsets that the broker holds of a partition: from, and before."""

    begin: int
    end: int


def look(access: Access, topics: Collection[str]) -> dict[tuple[str, int], Held] | None:
    """Topic and partition → what is held; topics that the broker has not are left out. None: it does not answer."""
    options = consumer_options(access, "", "danbao-status") | {
        "group_id": None,
        "bootstrap_timeout_ms": ANSWER_MS,
        "request_timeout_ms": ANSWER_MS,
    }
    try:
        consumer = KafkaConsumer(**options)
    except (KafkaError, ValueError, OSError):
        return None
    try:
        there = [TopicPartition(name, number) for name in topics for number in _partitions(consumer, name)]
        if not there:
            return {}
        begins = consumer.beginning_offsets(there, timeout_ms=ANSWER_MS)
        ends = consumer.end_offsets(there, timeout_ms=ANSWER_MS)
    except KafkaError:
        return None
    finally:
        consumer.close(autocommit=False, timeout_ms=CLOSE_MS)
    return {(tp.topic, tp.partition): Held(begins[tp], ends[tp]) for tp in there}


def _partitions(consumer: KafkaConsumer, topic: str) -> list[int]:
    return sorted(consumer.partitions_for_topic(topic) or ())
