"""What differs between the topics that a file wants and those that there are: pure."""

from pathlib import Path
from typing import Any

import pytest
from languages import speaks_both

from consumers.kafka.layout import MESSAGE_BYTES_MAX
from consumers.kafka.plan import Difference, Found, Kind, differences, fitting
from ledger import yamlfile
from ledger.errors import BadQuestion
from schemas.orders import RECORD_BYTES_MAX
from schemas.publish import CHANNEL
from schemas.topics import Topic, TopicsFile

FILE = Path(__file__).parents[2] / "deploy" / "topics.yaml"
SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": "86400000",
    "retention.bytes": "-1",
    "max.message.bytes": "1048576",
    "min.insync.replicas": "2",
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",
}


def topic(name: str = "orders.v1", partitions: int = 12, replication: int = 3, **settings: str) -> Topic:
    """A topic as a file wants it."""
    named = {key.replace("_", "."): value for key, value in settings.items()}
    values: dict[str, Any] = {"name": name, "partitions": partitions, "replication": replication}
    return Topic.model_validate(values | {"settings": SETTINGS | named})


def found(partitions: int = 12, replication: int = 3, **settings: str) -> Found:
    """A topic as it is."""
    named = {key.replace("_", "."): value for key, value in settings.items()}
    return Found(partitions, replication, SETTINGS | named)


def packaged() -> tuple[Topic, ...]:
    return yamlfile.parse(FILE.read_bytes(), FILE.name, TopicsFile, yamlfile.OURS).topics


def test_a_topic_that_is_as_the_file_says_differs_in_nothing() -> None:
    assert differences([topic()], {"orders.v1": found()}) == []


def test_a_topic_that_is_missing_differs_in_everything() -> None:
    missing = differences([topic()], {"another": found()})
    assert {one.setting: one.wanted for one in missing} == {"partitions": "12", "replication": "3", **SETTINGS}
    assert {(one.found, one.kind) for one in missing} == {(None, Kind.NEW)}


def test_each_setting_is_compared_and_nothing_else() -> None:
    there = found(retention_ms="1", max_message_bytes="7", segment_bytes="9")
    assert differences([topic()], {"orders.v1": there}) == [
        Difference("orders.v1", "retention.ms", "1", "86400000", Kind.CHANGE),
        Difference("orders.v1", "max.message.bytes", "7", "1048576", Kind.CHANGE),
    ]


def test_a_setting_that_the_cluster_does_not_tell_is_a_difference() -> None:
    there = Found(12, 3, {name: value for name, value in SETTINGS.items() if name != "retention.ms"})
    assert differences([topic()], {"orders.v1": there}) == [
        Difference("orders.v1", "retention.ms", None, "86400000", Kind.CHANGE)
    ]


@pytest.mark.parametrize(
    ("there", "setting", "kind", "mended"),
    [
        (found(partitions=11), "partitions", Kind.MORE_PARTITIONS, True),
        (found(partitions=13), "partitions", Kind.FEWER_PARTITIONS, False),
        (found(replication=2), "replication", Kind.OTHER_REPLICATION, False),
        (found(replication=4), "replication", Kind.OTHER_REPLICATION, False),
    ],
)
def test_partitions_are_only_added_and_copies_left_alone(there: Found, setting: str, kind: Kind, mended: bool) -> None:
    [one] = differences([topic()], {"orders.v1": there})
    assert (one.setting, one.kind, one.kind.can_be_mended) == (setting, kind, mended)


@pytest.mark.parametrize(
    ("replicas_max", "replication", "in_sync"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (5, 3, "2")]
)
def test_fewer_brokers_hold_fewer_copies_and_as_many_may_fail(
    replicas_max: int, replication: int, in_sync: str
) -> None:
    [fitted] = fitting([topic()], replicas_max)
    assert fitted.replication == replication
    assert fitted.settings.by_name == SETTINGS | {"min.insync.replicas": in_sync}


def test_the_topics_that_come_with_danbao_can_hold_the_largest_record() -> None:
    topics = {one.name: one for one in packaged()}
    assert set(topics) == {CHANNEL, "orders.rejected.v1", "claims.v1", "receipts.v1"}
    assert topics[CHANNEL].settings.max_message_bytes == MESSAGE_BYTES_MAX > RECORD_BYTES_MAX
    assert topics["orders.rejected.v1"].settings.max_message_bytes > MESSAGE_BYTES_MAX
    assert {(one.replication, one.settings.min_insync_replicas) for one in topics.values()} == {(3, 2)}


@pytest.mark.parametrize(
    ("line", "mistake", "reason"),
    [
        ("    partitions: 12", "    partitions: 0", "topics.0.partitions: Input should be greater than or equal to 1"),
        ("    partitions: 12", "    partitions: 1000", "less than or equal to 256"),
        ("      cleanup.policy: delete", "      cleanup.policy: compact", "must be 'delete'"),
        ("      retention.bytes: -1", "      retention.bytes: 1000", "must be '-1'"),
        ("      retention.ms: 2592000000", "      retention.ms: 1000", "greater than or equal to 86400000"),
        ("type: LogAppendTime", "type: CreateTime", "must be 'LogAppendTime'"),
        ("election.enable: false", "election.enable: true", "must be 'false'"),
        ("    replication: 3", "    replication: 1", "min.insync.replicas is 2, but there are only 1 replicas"),
        ("    partitions: 12", "    partitions: 12\n    color: red", "topics.0.color: there is no such field"),
        ("orders.v1", "orders v1", "topics.0.name"),
        ("name: orders.rejected.v1", "name: orders.v1", "orders.v1: stands twice"),
    ],
)
def test_a_file_that_would_harm_the_ledger_is_refused_with_its_line(line: str, mistake: str, reason: str) -> None:
    text = FILE.read_text("utf-8")
    at = text.index("topics:")
    wrong = text[:at] + text[at:].replace(line, mistake, 1)
    assert wrong != text
    with pytest.raises(BadQuestion) as caught:
        yamlfile.parse(wrong.encode(), "topics.yaml", TopicsFile, yamlfile.OURS)
    assert reason in caught.value.what.en
    assert caught.value.what.en.startswith("topics.yaml:")
    assert speaks_both(caught.value.what)
