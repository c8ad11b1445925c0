"""How the topics of a cluster differ from those that a file wants, and what can be done about it. Pure.

In: the topics wanted, what was found of them, how many copies the cluster can hold. Out: differences, one
for each setting, those that no command can mend marked so. Topics that the file does not name are nobody's
business here.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from schemas.topics import Topic

PARTITIONS = "partitions"
REPLICATION = "replication"


class Kind(StrEnum):
    """What a difference is, and so what becomes of it."""

    NEW = "new"
    CHANGE = "change"
    MORE_PARTITIONS = "more_partitions"
    FEWER_PARTITIONS = "fewer_partitions"
    OTHER_REPLICATION = "other_replication"

    @property
    def can_be_mended(self) -> bool:
        return self not in (Kind.FEWER_PARTITIONS, Kind.OTHER_REPLICATION)


@dataclass(frozen=True)
class Found:
    """A topic as it is in the cluster; the settings in force, wherever they come from."""

    partitions: int
    replication: int
    settings: Mapping[str, str]

    @property
    def by_name(self) -> dict[str, str]:
        return {PARTITIONS: str(self.partitions), REPLICATION: str(self.replication), **self.settings}


@dataclass(frozen=True)
class Difference:
    """One setting of one topic: what it is (None where there is no such topic yet), and what it should be."""

    topic: str
    setting: str
    found: str | None
    wanted: str
    kind: Kind


def fitting(topics: Iterable[Topic], replicas_max: int) -> tuple[Topic, ...]:
    """The topics with no more copies than the cluster can hold; as many may still fail, where one may at all."""
    return tuple(_fitting(topic, replicas_max) for topic in topics)


def _fitting(topic: Topic, replicas_max: int) -> Topic:
    missing = topic.replication - replicas_max
    if missing <= 0:
        return topic
    in_sync = max(1, topic.settings.min_insync_replicas - missing)
    settings = topic.settings.model_copy(update={"min_insync_replicas": in_sync})
    return topic.model_copy(update={"replication": replicas_max, "settings": settings})


def differences(topics: Iterable[Topic], found: Mapping[str, Found]) -> list[Difference]:
    """Every setting that is not as wanted, in the order of the file."""
    return [one for topic in topics for one in _of_topic(topic, found.get(topic.name))]


def _of_topic(topic: Topic, found: Found | None) -> Iterator[Difference]:
    wanted = {PARTITIONS: str(topic.partitions), REPLICATION: str(topic.replication), **topic.settings.by_name}
    there = found.by_name if found else {}
    for name, value in wanted.items():
        if there.get(name) != value:
            yield Difference(topic.name, name, there.get(name), value, _kind(topic, found, name))


def _kind(topic: Topic, found: Found | None, setting: str) -> Kind:
    if found is None:
        return Kind.NEW
    if setting == REPLICATION:
        return Kind.OTHER_REPLICATION
    if setting == PARTITIONS:
        return Kind.MORE_PARTITIONS if topic.partitions > found.partitions else Kind.FEWER_PARTITIONS
    return Kind.CHANGE
