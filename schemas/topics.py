"""The shape of a topics file: which topics there are in Kafka, and how they are set.

In: plain values, from `deploy/topics.yaml` or a file of the user's. Out: frozen topics, whose settings have
the names that Kafka gives them. What a ledger cannot do without is no choice here: nothing is compacted away
or cut by size, the time of a record is the broker's and not the sender's, and no broker that missed records
may lead.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.both import ShapeError

TOPICS_MAX = 64
PARTITIONS_MAX = 256
REPLICAS_MAX = 9
DAY_MS = 24 * 60 * 60 * 1000
RETENTION_MS_MAX = 3660 * DAY_MS
MESSAGE_BYTES_MAX = 16 * 1024 * 1024


class TopicSettings(BaseModel):
    """Settings under Kafka's own names."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)

    cleanup_policy: Literal["delete"] = Field(alias="cleanup.policy")
    retention_ms: int = Field(alias="retention.ms", ge=DAY_MS, le=RETENTION_MS_MAX)
    retention_bytes: Literal["-1"] = Field(alias="retention.bytes")
    max_message_bytes: int = Field(alias="max.message.bytes", ge=1024, le=MESSAGE_BYTES_MAX)
    min_insync_replicas: int = Field(alias="min.insync.replicas", ge=1, le=REPLICAS_MAX)
    message_timestamp_type: Literal["LogAppendTime"] = Field(alias="message.timestamp.type")
    unclean_leader_election_enable: Literal["false"] = Field(alias="unclean.leader.election.enable")

    @property
    def by_name(self) -> dict[str, str]:
        """As Kafka takes them."""
        return {name: str(value) for name, value in self.model_dump(by_alias=True).items()}


class Topic(BaseModel):
    """One topic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,99}$")]
    partitions: int = Field(ge=1, le=PARTITIONS_MAX)
    replication: int = Field(ge=1, le=REPLICAS_MAX)
    settings: TopicSettings

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        needed = self.settings.min_insync_replicas
        if needed > self.replication:
            raise ShapeError(
                f"min.insync.replicas is {needed}, but there are only {self.replication} replicas",
                f"min.insync.replicas 为 {needed}，而副本只有 {self.replication} 个",
            )
        return self


class TopicsFile(BaseModel):
    """A file of topics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topics: Annotated[tuple[Topic, ...], Field(min_length=1, max_length=TOPICS_MAX)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [topic.name for topic in self.topics]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ShapeError(f"{', '.join(twice)}: stands twice", f"{'、'.join(twice)}：重复出现")
        return self
