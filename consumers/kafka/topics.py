"""The topics of a cluster: look, create, alter.

In: where a cluster is and who we are there, and what `plan.py` found to be different. Out: what the cluster says of its
topics; its topics as wanted. An answer of Kafka's that is an error ends the command with what it said.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from consumers.kafka import plan
from consumers.kafka.knock import enter
from consumers.kafka.plan import Difference, Found, Kind
from consumers.kafka.settings import Access, admin_options
from ledger.errors import DanbaoError
from schemas.both import Both
from schemas.topics import Topic, TopicSettings

REQUEST_MS_MAX = 30_000
SETTLE_S_MAX = 15  # until every broker has heard of a change
SETTINGS = tuple(str(field.alias) for field in TopicSettings.model_fields.values())
MEND = Both(
    "Mend what Kafka names (its log may say more), then run the command again.",
    "请按 Kafka 的说明处理（更多信息可能在其日志中），再重新执行该命令。",
)


@contextmanager
def connect(access: Access) -> Iterator[KafkaAdminClient]:
    """A connection for administration."""
    admin = enter(KafkaAdminClient, access, admin_options(access, "danbao-topics"))
    try:
        yield admin
    except KafkaError as error:
        where = access.bootstrap
        what = Both(f"Kafka at {where} refused: {error}", f"{where} 处的 Kafka 拒绝执行：{error}")
        raise DanbaoError(what, MEND) from error
    finally:
        admin.close()


def brokers(admin: KafkaAdminClient) -> int:
    """How many brokers belong to the cluster, also those that are down at the moment."""
    return len(admin.describe_cluster()["brokers"])


def every_name(admin: KafkaAdminClient) -> list[str]:
    """The names of all topics but Kafka's own."""
    return sorted(topic["name"] for topic in admin.describe_topics() if not topic["is_internal"])


def look(admin: KafkaAdminClient, names: Collection[str]) -> dict[str, Found]:
    """What the cluster has of these topics."""
    if not names:
        return {}
    there = {}
    for topic in admin.describe_topics(list(names)):
        error = for_code(topic["error_code"])
        if error is not UnknownTopicOrPartitionError:
            if topic["error_code"]:
                raise error(topic["name"])
            there[topic["name"]] = topic["partitions"]
    settings = _settings(admin, list(there))
    return {
        name: Found(len(partitions), min(len(one["replica_nodes"]) for one in partitions), settings.get(name, {}))
        for name, partitions in there.items()
    }


def _settings(admin: KafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings in force that a topics file speaks of."""
    if not names:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, list(SETTINGS)) for name in names]
    answer = admin.describe_configs(asked, include_synonyms=False, config_filter="all")
    return {
        name: {setting: configs[setting]["value"] for setting in SETTINGS if setting in configs}
        for name, configs in answer.get("topic", {}).items()
    }


def apply(admin: KafkaAdminClient, topics: Sequence[Topic], found: Sequence[Difference]) -> list[Difference]:
    """Do what can be done about the differences; returns those that are left."""
    by_name = {topic.name: topic for topic in topics}
    _create(admin, [by_name[name] for name in _names(found, Kind.NEW)])
    more = {name: by_name[name].partitions for name in _names(found, Kind.MORE_PARTITIONS)}
    if more:
        admin.create_partitions(more, timeout_ms=REQUEST_MS_MAX, validate_only=False, raise_errors=True)
    _alter(admin, {name: _wanted(found, name) for name in _names(found, Kind.CHANGE)})
    settled(lambda: not any(one.kind.can_be_mended for one in plan.differences(topics, look(admin, list(by_name)))))
    return plan.differences(topics, look(admin, list(by_name)))


def settled(done: Callable[[], bool]) -> bool:
    """Wait until every broker has heard of a change; False when they did not in time."""
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > SETTLE_S_MAX:
            return False
        time.sleep(0.1)
    return True


def _names(found: Sequence[Difference], kind: Kind) -> list[str]:
    """The topics that differ in this way, each once."""
    return list(dict.fromkeys(one.topic for one in found if one.kind is kind))


def _wanted(found: Sequence[Difference], name: str) -> dict[str, str]:
    return {one.setting: one.wanted for one in found if one.topic == name and one.kind is Kind.CHANGE}


def _create(admin: KafkaAdminClient, topics: Sequence[Topic]) -> None:
    if topics:
        new = {
            topic.name: {
                "num_partitions": topic.partitions,
                "replication_factor": topic.replication,
                "configs": topic.settings.by_name,
            }
            for topic in topics
        }
        admin.create_topics(
            new, timeout_ms=REQUEST_MS_MAX, validate_only=False, raise_errors=True, wait_for_metadata=True
        )


def _alter(admin: KafkaAdminClient, wanted: Mapping[str, Mapping[str, str]]) -> None:
    if not wanted:
        return
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict(values)) for name, values in wanted.items()]
    # One by one and not as a whole, so that what others set is left; the names are Kafka's, or it says so.
    answers = admin.alter_configs(resources, validate_only=False, raise_on_unknown=False, incremental=True)
    for name, answer in answers["topic"].items():
        if answer != "OK":
            raise DanbaoError(
                Both(f"Kafka refused to change {name}: {answer}", f"Kafka 拒绝更改 {name}：{answer}"), MEND
            )
