"""What became of pushed records, read back. In: where they were placed. Out: those of them that were rejected.

Only rejections are told, on the platform's own topic of rejected records where there is one, else on the one that all
platforms share; so silence means booked, once the ledger has passed a record. How far it is, its consumer group says,
for those who may look; where we may not, nobody knows and `passed` is None. A rejection is told a moment after the
group has passed: GRACE_S is left for it.
"""

from bisect import bisect_right
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from time import monotonic_ns
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from consumers.kafka import rejected
from consumers.kafka.settings import Access, consumer_options
from ledger.errors import DanbaoError
from schemas.both import Both

CLIENT = "danbao-push-answers"
GRACE_S = 3
LOOK_MS = 500
CALL_MS = 10_000
NS = 1_000_000_000
HEADER = "danbao-"


@dataclass(slots=True)
class Places:
    """Where records lie: partition → ranges of offsets, each from first until before the second."""

    topic: str
    ranges: dict[int, list[list[int]]] = field(default_factory=dict)

    def add(self, partition: int, offset: int) -> None:
        """One more record; those of a partition come in order. Below 0: the broker could not say where."""
        if offset < 0:
            return
        ranges = self.ranges.setdefault(partition, [])
        if ranges and ranges[-1][1] == offset:
            ranges[-1][1] += 1
        else:
            ranges.append([offset, offset + 1])

    def holds(self, topic: str, partition: int, offset: int) -> bool:
        """Whether a record is one of them."""
        ranges = self.ranges.get(partition, [])
        at = bisect_right(ranges, offset, key=itemgetter(0)) - 1
        return topic == self.topic and at >= 0 and offset < ranges[at][1]

    def ends(self) -> dict[int, int]:
        """Partition → the offset after the last of them."""
        return {partition: ranges[-1][1] for partition, ranges in self.ranges.items()}


@dataclass(frozen=True, slots=True)
class Told:
    """A rejection, as the ledger told it."""

    partition: int
    offset: int
    item: int
    reason: str
    place: str
    detail: str
    raw: bytes


@dataclass(slots=True)
class Answers:
    """`passed`: whether the ledger has passed all of the records; None: it cannot be seen."""

    rejected: list[Told] = field(default_factory=list)
    passed: bool | None = None


class AnswerReader:
    """Reads the topics of rejected records from their present end on: made before anything is pushed."""

    def __init__(self, access: Access, group: str, platform_id: str) -> None:
        self._group = group
        self._topics = rejected.TOPIC, rejected.own_topic(platform_id)
        self._admin_options = {key: value for key, value in access.options().items() if key != "metrics_enabled"}
        self._admin: Any = None
        self._consumer: Any = None
        options = consumer_options(access, group, CLIENT) | {"group_id": None, "fetch_min_bytes": 1}
        try:
            self._consumer = KafkaConsumer(**options)
            self._seek_to_end()
        except (KafkaError, OSError) as error:
            self._close()
            raise self._unreadable(Both(str(error), str(error))) from error
        except DanbaoError:
            self._close()
            raise

    def __enter__(self) -> "AnswerReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, places: Places, seconds: int) -> Answers:
        """What was rejected of these records, until the ledger has passed them or for so many seconds."""
        answers = Answers(passed=None if places.ranges else True)
        seen: set[tuple[int, int, int]] = set()
        end_ns = monotonic_ns() + seconds * NS
        while places.ranges and monotonic_ns() < end_ns:
            if not answers.passed:
                answers.passed = self._passed(places)
                if answers.passed:
                    end_ns = min(end_ns, monotonic_ns() + GRACE_S * NS)
            for told in self._poll(places):
                if (place := (told.partition, told.offset, told.item)) not in seen:  # told again after a crash
                    seen.add(place)
                    answers.rejected.append(told)
        return answers

    def _seek_to_end(self) -> None:
        partitions = [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in self._consumer.partitions_for_topic(topic) or ()
        ]
        if not partitions:
            raise self._unreadable(Both("there is no such topic", "主题不存在"))
        self._consumer.assign(partitions)
        for partition, end in self._consumer.end_offsets(partitions, timeout_ms=CALL_MS).items():
            self._consumer.seek(partition, end)

    def _poll(self, places: Places) -> list[Told]:
        with suppress(KafkaError):  # a broker that is away is asked again
            polled = self._consumer.poll(LOOK_MS)
            found = (read_told(record.headers, record.value) for records in polled.values() for record in records)
            return [told for topic, told in found if places.holds(topic, told.partition, told.offset)]
        return []

    def _passed(self, places: Places) -> bool | None:
        """Whether the ledger's group is past all of the records; None where it is hidden, or has said nothing yet."""
        try:
            self._admin = self._admin or KafkaAdminClient(**self._admin_options | {"client_id": CLIENT})
            found = self._admin.list_group_offsets({self._group: None})[self._group]
        except (KafkaError, OSError, KeyError):
            return None
        at = {part.partition: one.offset for part, one in found.items() if part.topic == places.topic}
        if not at:
            return None
        return all(at.get(partition, 0) >= end for partition, end in places.ends().items())

    def _unreadable(self, why: Both) -> DanbaoError:
        shared, own = self._topics
        return DanbaoError(
            Both(
                f"What was rejected cannot be read from {shared} or {own}: {why.en}.",
                f"无法从 {shared} 或 {own} 读取拒收记录：{why.zh}。",
            ),
            Both(
                "Ask the operator for the right to read one, or push without --answers.",
                "请向运营方申请其中之一的读取权限，或不加 --answers 报送。",
            ),
        )

    def _close(self) -> None:
        if self._admin is not None:
            self._admin.close()
        if self._consumer is not None:
            self._consumer.close(autocommit=False, timeout_ms=LOOK_MS)


def read_told(headers: list[tuple[str, bytes]], value: bytes | None) -> tuple[str, Told]:
    """A record of the topic of rejected records → the topic that it came from, and what is told."""
    said: Mapping[str, str] = {name.removeprefix(HEADER): text.decode(errors="replace") for name, text in headers}
    told = Told(
        int(said["partition"]),
        int(said["offset"]),
        int(said["item"]),
        said["reason"],
        said["place"],
        said["detail"],
        value or b"",
    )
    return said["topic"], told
