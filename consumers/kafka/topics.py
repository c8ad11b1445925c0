"""The topics of a cluster: look, create, alter.

In: the address of a cluster, and what `plan.py` found to be different. Out: what the cluster says of its
topics; its topics as wanted. An answer of Kafka's that is an error ends the command with what it said.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from consumers.kafka import plan
from consumers.kafka.plan import Difference, Found, Kind
from ledger.errors import DanbaoError
from schemas.both import Both
from schemas.topics import Topic, TopicSettings

BOOTSTRAP_MS_MAX = 10_000
REQUEST_MS_MAX = 30_000
SETTLE_S_MAX = 15  # until every broker has heard of a change
SETTINGS = tuple(str(field.alias) for field in TopicSettings.model_fields.values())
MEND = Both(
    "Mend what Kafka names (its log may say more), then run the command again.",
    "请按 Kafka 的说明处理（更多信息可能在其日志中），再重新执行该命令。",
)


@contextmanager
def connect(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """A connection for administration."""
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","),
            client_id="danbao-topics",
            bootstrap_timeout_ms=BOOTSTRAP_MS_MAX,
            request_timeout_ms=REQUEST_MS_MAX,
            reconnect_backoff_ms=50,
            reconnect_backoff_max_ms=1_000,
            retry_backoff_ms=100,
            connections_max_idle_ms=540_000,
            metadata_max_age_ms=300_000,
            receive_message_max_bytes=16 * 1024 * 1024,
            security_protocol="PLAINTEXT",
        )
    except (KafkaError, ValueError, OSError) as error:
        raise DanbaoError(
            Both(f"No Kafka answers at {bootstrap} ({error}).", f"{bootstrap} 处没有 Kafka 响应（{error}）。"),
            Both(
                "See whether it runs (danbao kafka status), and whether DANBAO_KAFKA_BOOTSTRAP names it rightly.",
                "请查看它是否在运行（danbao kafka status），以及 DANBAO_KAFKA_BOOTSTRAP 是否正确。",
            ),
        ) from None
    try:
        yield admin
    except KafkaError as error:
        what = Both(f"Kafka at {bootstrap} refused: {error}", f"{bootstrap} 处的 Kafka 拒绝执行：{error}")
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
    began = time.monotonic()
    while True:
        left = plan.differences(topics, look(admin, list(by_name)))
        if not any(one.kind.can_be_mended for one in left) or time.monotonic() - began > SETTLE_S_MAX:
            return left
        time.sleep(0.1)


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
