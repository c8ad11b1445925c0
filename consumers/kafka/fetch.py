"""The fetching side of a stream: polls Kafka, gathers a batch for each partition, reads it ahead of the database.

In: a consumer group's share of the partitions. Out: batches, read but not booked, of partitions that are still ours.
It runs in a thread of its own, the only one that touches the client: while the database books one batch the next is
polled and read, and while the database stands still it goes on polling, so that the group keeps us (kafka-python
#1418, #2179), with its partitions paused at BUFFER_BYTES_MAX.

Where a partition begins is always its head in the ledger, never Kafka's committed offset, which is told only for
those who look at lag. A head that the broker does not hold stops the partition, see `_lost`, unless somebody decided to
go on without what is missing (ledger/store/gaps.py). Offsets that fit are no proof that it is the same log, since a
topic may have been made again: the last booked record is fetched once more and must be the one that is booked.

Who watches reads `lags`, `is_member` and `turned_at` from other threads; each is replaced whole, never changed.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from threading import Event, RLock, Thread
from time import monotonic, sleep, time_ns
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError, OffsetOutOfRangeError, RetriableError
from kafka.structs import OffsetAndMetadata
from psycopg import Error as DriverError
from sqlalchemy.exc import DBAPIError

import consumers.kafka.guard  # limits what a batch may unpack to
import consumers.kafka.rejoin  # noqa: F401  no member is left without its share
from consumers.kafka.knock import enter
from consumers.kafka.settings import Access, admin_options, consumer_options
from consumers.loop import BATCH_BYTES_MAX, EVENTS_PER_BATCH, Booker, Door
from consumers.sources import about
from ledger.errors import DanbaoError
from ledger.evidence import Record
from ledger.identity import SIGNATURE_BYTES
from ledger.intake import Intake
from ledger.store.heads import Head
from schemas.both import Both
from schemas.orders import SIGNATURE_HEADER

TRACE_HEADER = "traceparent"  # W3C Trace Context
TRACE_BYTES_MAX = 256

BUFFER_BYTES_MAX = 16 * 1024 * 1024  # gathered for all partitions, before reading
POLL_BYTES = 4 * 1024 * 1024  # about so many at a time
POLL_RECORDS_MAX = 2_000
RECORD_BYTES_GUESS = POLL_BYTES // 8  # before one is seen: what packs well may be large, and come by the thousand
# A poll ends as soon as there is something. Within a short one the client would not get so far as to find its
# coordinator on a busy machine, so it is short only while gathered records wait for the database.
POLL_MS, POLL_WAITING_MS = 500, 20
COURTESY_S = 1.0
RETRY_S = 1.0
NOTHING_S = 10.0  # a member that gets no partition for so long asks whether others have them all
NO_SHARE = {"assigned_partitions": ()}  # of a member while its group gathers, for which kafka-python has ''
CLOSE_MS = 5_000
LOG_APPEND_TIME = 1
MADE_AGAIN = Both(
    "What is booked stays booked. Give the new topic another name and consume that;"
    " see deploy/README.md, 'A gap in a stream'.",
    "已入账的不受影响。请为新主题另起名称后再消费；参见 deploy/README.md。",
)

Facts = dict[str, str | int | list[str]]
Trouble = Callable[[DanbaoError, Facts], None]


@dataclass(eq=False, slots=True)
class Partition:
    """One partition while it is ours, from one seek to the next. `under_way`: when the first record arrived (µs since
    1970) of each batch that is handed over and not booked yet; `lost`: what was fetched of it is void; `witness`: the
    last booked record, until the broker has shown the same."""

    tp: TopicPartition
    door: Door
    head: Head
    records: list[Record] = field(default_factory=list)
    size: int = 0
    events: int = 0
    since: float = 0.0
    under_way: deque[int] = field(default_factory=deque)
    lost: bool = False
    traces: list[bytes] = field(default_factory=list)
    witness: bytes | None = None

    @property
    def is_full(self) -> bool:
        return self.events >= EVENTS_PER_BATCH or self.size >= BATCH_BYTES_MAX

    @property
    def oldest_us(self) -> int | None:
        """When the oldest record arrived that is fetched and not booked."""
        with suppress(IndexError):  # the other thread may take the last one meanwhile
            return self.under_way[0]
        return self.records[0].arrived_us if self.records else None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition, read. More than one intake where they hold more events than a batch can number.

    `read`: when reading began and ended, by the monotonic clock; `traces`: traceparents of some of the records.
    """

    partition: Partition
    intakes: list[Intake]
    polled_at: float
    read: tuple[float, float]
    traces: list[bytes]


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a partition is behind, in records (None: not known yet), and when the oldest of them arrived that was
    fetched (µs since 1970; None: there is none)."""

    topic: str
    partition: int
    records: int | None
    stopped: bool
    oldest_us: int | None


class Fetcher:
    """Fetches the topics of `doors` as a member of a group; see the module's docstring."""

    def __init__(
        self,
        access: Access,
        group: str,
        client_id: str,
        booker: Booker,
        doors: dict[str, Door],
        on_trouble: Trouble,
        on_event: Callable[[str, Facts], None],
        traces_max: int,
        to_end: bool,
    ) -> None:
        self._access, self._options = access, consumer_options(access, group, client_id)
        self._booker, self._doors, self._on_trouble = booker, doors, on_trouble
        self._group, self._on_event, self._traces_max = group, on_event, traces_max
        self._to_end = to_end
        self._ready: Queue[Batch] = Queue(maxsize=1)
        self._booking = RLock()  # held while a batch is booked; a partition is given away only between batches
        self._idle = True
        self._stop, self.stopped = Event(), Event()
        self._failure: BaseException | None = None
        # The client's own assignment holds what was revoked, too, until the group has gathered again.
        self._assigned: set[TopicPartition] = set()
        self._ours: dict[TopicPartition, Partition] = {}
        self._to_seek: deque[TopicPartition] = deque()
        self._stopped: dict[TopicPartition, DanbaoError] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._told: dict[TopicPartition, int] = {}
        self._told_at = self._retry_at = 0.0
        self._record_bytes = float(RECORD_BYTES_GUESS)
        self._paused = False
        self._joined = False
        self._ask_at = 0.0  # whether others have all partitions
        self.at_end = False  # whether all is booked that the partitions held when they became ours; looked at `to_end`
        self.lags: list[Lag] = []
        self.turned_at = monotonic()
        self._thread = Thread(target=self._run, name="fetch", daemon=True)

    def __enter__(self) -> "Fetcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    # ---- for the booking side

    def next(self, timeout_s: float) -> Batch | None:
        """The next batch, or None when there is none for so long. Raises what ended the fetching."""
        if self._failure is not None:
            raise self._failure
        self._idle = True
        try:
            batch = self._ready.get(timeout=timeout_s)
        except Empty:
            return None
        self._idle = False
        return batch

    @contextmanager
    def booking(self, batch: Batch) -> Iterator[bool]:
        """While a batch is booked; False when its partition is no longer ours."""
        with self._booking:
            yield not batch.partition.lost
            if not batch.partition.lost:
                batch.partition.under_way.popleft()

    def rewind(self, partition: Partition) -> None:
        """Forget what was fetched of a partition and begin again at its head in the ledger."""
        partition.lost = True
        self._to_seek.append(partition.tp)

    # ---- for those who watch

    @property
    def is_member(self) -> bool:
        """Whether the group has taken us in, with partitions or without."""
        return self._joined and not self.stopped.is_set()

    # ---- the thread

    def _run(self) -> None:
        try:
            consumer = enter(KafkaConsumer, self._access, self._options)
            try:
                self._consumer = consumer
                for topic in self._doors:
                    if not self._has(topic):
                        raise _no_topic(topic)
                consumer.subscribe(topics=list(self._doors), listener=_Listener(self))
                while not self._stop.is_set():
                    self._turn()
            finally:
                consumer.close(autocommit=False, timeout_ms=CLOSE_MS)
        except BaseException as failure:
            self._failure = failure
        finally:
            self.stopped.set()

    def _has(self, topic: str) -> bool:
        """Whether the broker has a topic; one that goes away just then is waited for."""
        while not self._stop.is_set():
            try:
                return bool(self._consumer.partitions_for_topic(topic))
            except RetriableError:
                self._stop.wait(RETRY_S)
            except KafkaError as error:
                raise _refused(error) from error
        return True  # nobody waits for the answer any more

    def _turn(self) -> None:
        """Once round: seek what waits for its head, poll, gather, hand over, tell."""
        self.turned_at = monotonic()
        if self._to_seek and monotonic() >= self._retry_at:
            self._seek()
        for tp, records in self._poll().items():
            self._gather(tp, records)
        self._hand_over()
        self._pause()
        self.at_end = self._to_end and self._is_at_end()
        if monotonic() - self._told_at > COURTESY_S:
            self._told_at = monotonic()
            self._tell()

    def _poll(self) -> dict[TopicPartition, list[Any]]:
        records_max = max(1, min(POLL_RECORDS_MAX, int(POLL_BYTES / self._record_bytes)))
        try:
            timeout_ms = POLL_WAITING_MS if any(one.records for one in self._ours.values()) else POLL_MS
            polled: dict[TopicPartition, list[Any]] = self._consumer.poll(timeout_ms, records_max)
        except OffsetOutOfRangeError as error:
            for tp in error.args[0]:
                self._void(tp)
        except RetriableError:
            sleep(POLL_WAITING_MS / 1000)
        except KafkaError as error:
            raise _refused(error) from error
        else:
            return polled
        return {}

    def _is_at_end(self) -> bool:
        if not self._joined or self._to_seek:
            return False
        if not self._assigned:
            return self._is_for_others()
        return all(self._is_done(tp) for tp in self._assigned)

    def _is_for_others(self) -> bool:
        """Whether all partitions are other members'. A group may also give none at first, and all of them later; then
        the broker calls them ours before we hear of it."""
        if monotonic() < self._ask_at:
            return False
        self._ask_at = monotonic() + NOTHING_S
        try:
            wanted = {topic: self._consumer.partitions_for_topic(topic) for topic in self._doors}
            with closing(KafkaAdminClient(**admin_options(self._access, "danbao-end"))) as admin:
                members = admin.describe_groups([self._group])[self._group]["members"]
        except AuthorizationError as error:
            raise _refused(error) from error
        except KafkaError:
            return False
        ours = self._consumer.group_metadata().member_id
        shares = [one["member_assignment"] or NO_SHARE for one in members if one["member_id"] != ours]
        parts = [part for share in shares for part in share["assigned_partitions"]]
        held = {(part["topic"], number) for part in parts for number in part["partitions"]}
        return all(numbers and all((topic, number) in held for number in numbers) for topic, numbers in wanted.items())

    def _is_done(self, tp: TopicPartition) -> bool:
        if tp in self._stopped:
            return True
        one = self._ours.get(tp)
        if one is None or one.lost or one.records or one.under_way:
            return False
        return (self._consumer.position(tp) or 0) >= self._ends[tp]

    def _gather(self, tp: TopicPartition, polled: list[Any]) -> None:
        """Records of one partition, added to its batch."""
        one = self._ours.get(tp)
        if one is None or one.lost:
            return
        if one.witness is not None:
            polled = self._from_head(one, polled)
        if not polled:
            return
        if not one.records:
            one.since = monotonic()
        now_us = time_ns() // 1_000
        for record in polled:
            raw = record.value or b""
            arrived_us = record.timestamp * 1_000 if record.timestamp_type == LOG_APPEND_TIME else now_us
            signature = None
            if record.headers:
                signature = _signature(record.headers)
                if len(one.traces) < self._traces_max:
                    one.traces += _traces(record.headers)
            one.records.append(Record(record.offset, arrived_us, raw, signature))
            one.size += len(raw)
            one.events += about(raw)
        self._record_bytes = max(one.size / len(one.records), 1.0)

    def _from_head(self, one: Partition, polled: list[Any]) -> list[Any]:
        """What comes after the witness; nothing where the broker holds another record in its place."""
        witness, one.witness = one.witness, None
        first = polled[0]
        if first.offset >= one.head.next_offset:
            return polled  # a topic that is compacted may have dropped it
        if (first.value or b"") == witness:
            return polled[1:]
        one.lost = True
        self._consumer.pause(one.tp)
        self._stop_at(one.tp, _another_log(one.head), _place(one.head))
        return []

    def _stop_at(self, tp: TopicPartition, why: DanbaoError, facts: Facts) -> None:
        """A partition that cannot go on; where none can, that ends us."""
        self._stopped[tp] = why
        self._on_trouble(why, facts)
        if len(self._stopped) == len(self._ours):
            raise why

    def _hand_over(self) -> None:
        """Read the batch that should go next and put it where the booking side takes it."""
        if self._ready.full():
            return
        filled = [one for one in self._ours.values() if one.records and not one.lost]
        at_once = self._idle or self._is_buffer_full()
        ready = filled if at_once else [one for one in filled if one.is_full]
        if not ready:
            return
        one = max(ready, key=lambda each: each.events)
        records, one.records, one.size, one.events = one.records, [], 0, 0
        traces, one.traces = one.traces, []
        polled_at, began = one.since, monotonic()
        one.under_way.append(records[0].arrived_us)
        try:
            intakes = list(self._booker.intakes(records, one.door))
        except (DBAPIError, DriverError) as error:  # the registry could not be looked up
            self._say_waiting(error)
            self.rewind(one)
            return
        try:
            self._ready.put_nowait(Batch(one, intakes, polled_at, (began, monotonic()), traces))
        except Full:
            raise AssertionError("only this thread hands over") from None

    def _is_buffer_full(self) -> bool:
        return sum(one.size for one in self._ours.values()) >= BUFFER_BYTES_MAX

    def _pause(self) -> None:
        """Fetch no more while as much is gathered as may be; go on when the database has taken its share."""
        full = self._is_buffer_full()
        if full and not self._paused:
            self._consumer.pause(*self._ours)
        elif self._paused and not full:
            self._consumer.resume(*(tp for tp in self._ours if tp not in self._waiting()))
        self._paused = full

    def _waiting(self) -> set[TopicPartition]:
        return {*self._to_seek, *self._stopped}

    def _tell(self) -> None:
        """Commit offsets for those who look at lag, and note how far behind we are."""
        ours = self._ours
        heads = {tp: one.head.next_offset for tp, one in ours.items() if not one.lost}
        news = {tp: OffsetAndMetadata(at, "", -1) for tp, at in heads.items() if at and self._told.get(tp) != at}
        if news:
            with suppress(KafkaError):  # it is a courtesy: who cannot be told now is told with the next batch
                self._consumer.commit_async(offsets=news, callback=lambda offsets, answer: None)
            self._told |= {tp: heads[tp] for tp in news}
        self.lags = [self._lag(tp, one) for tp, one in ours.items()]

    def _lag(self, tp: TopicPartition, one: Partition) -> Lag:
        if tp in self._stopped:  # nothing is fetched of it, so nobody says where it ends now
            return Lag(tp.topic, tp.partition, max(0, self._ends[tp] - one.head.next_offset), True, None)
        behind = _behind(self._consumer.highwater(tp), one.head)
        return Lag(tp.topic, tp.partition, behind, False, one.oldest_us)

    # ---- partitions come and go

    def _on_assigned(self, assigned: list[TopicPartition]) -> None:
        """Paused until their heads are read: the position must be ours before anything is fetched."""
        if not self._joined:
            self._on_event("joined", {"group": self._group, "topics": sorted(self._doors)})
        self._on_event("assigned", {"partitions": _names(assigned)})
        self._assigned.update(assigned)
        for tp in assigned:
            if tp not in self._ours:
                self._consumer.seek(tp, 0)
                self._consumer.pause(tp)
                self._to_seek.append(tp)
        self._joined = True
        self._ask_at = monotonic() + NOTHING_S

    def _on_revoked(self, revoked: list[TopicPartition]) -> None:
        """Void what was fetched of them; a batch of theirs that is being booked is waited for."""
        self._on_event("revoked", {"partitions": _names(revoked)})
        self._assigned.difference_update(revoked)
        for tp in revoked:
            if one := self._ours.get(tp):
                one.lost = True
        with self._booking:
            for tp in revoked:
                self._ours.pop(tp, None)
                self._stopped.pop(tp, None)
                self._told.pop(tp, None)

    def _void(self, tp: TopicPartition) -> None:
        if one := self._ours.get(tp):
            one.lost = True
        self._consumer.pause(tp)
        self._to_seek.append(tp)

    def _seek(self) -> None:
        """Put each partition that waits for it to its head in the ledger."""
        wanted = sorted({self._to_seek.popleft() for _ in range(len(self._to_seek))} & self._assigned)
        if not wanted:
            return
        self._consumer.pause(*wanted)
        try:
            begins = self._consumer.beginning_offsets(wanted, timeout_ms=CLOSE_MS)
            ends = self._consumer.end_offsets(wanted, timeout_ms=CLOSE_MS)
            heads = {tp: self._booker.head_and_last(tp.topic, tp.partition) for tp in wanted}
            onward = {
                tp: self._booker.goes_on_at(head) for tp, (head, _) in heads.items() if head.next_offset < begins[tp]
            }
        except AuthorizationError as error:  # no waiting helps
            raise _refused(error) from error
        except (DBAPIError, DriverError, KafkaError) as error:
            if not isinstance(error, KafkaError):
                self._say_waiting(error)
            self._to_seek.extend(wanted)
            self._retry_at = monotonic() + RETRY_S
            return
        heads = {tp: found for tp, found in heads.items() if tp in self._assigned}  # others went while we asked
        for tp, (head, _) in heads.items():
            self._ends[tp] = ends[tp]
            self._ours[tp] = Partition(tp, self._doors[tp.topic], head)
        for tp, (head, last) in heads.items():
            if tp in onward and onward[tp] >= begins[tp]:
                self._begin(tp, begins[tp], None)
                self._on_event("gap_passed", _place(head) | {"goes_on_at": begins[tp]})
                continue
            if lost := _lost(head, begins[tp], ends[tp]):
                facts: Facts = {"broker_from": begins[tp], "broker_until": ends[tp]}
                self._stop_at(tp, lost, _place(head) | facts)
                continue
            is_held = last is not None and begins[tp] < head.next_offset
            self._begin(tp, head.next_offset - is_held, last if is_held else None)

    def _begin(self, tp: TopicPartition, offset: int, witness: bytes | None) -> None:
        self._ours[tp].witness = witness
        self._consumer.seek(tp, offset)
        if not self._paused:
            self._consumer.resume(tp)

    def _say_waiting(self, error: DBAPIError | DriverError) -> None:
        self._on_event("waiting_for_database", {"sqlstate": sqlstate(error) or "", "wait_ms": round(RETRY_S * 1000)})


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """What Kafka tells of partitions, passed on."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._fetcher._on_assigned(list(assigned))

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._fetcher._on_revoked(list(revoked))


def sqlstate(error: DBAPIError | DriverError) -> str | None:
    """What the server says it was; None where no server said it."""
    return getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None)


def _signature(headers: list[tuple[str, bytes | None]]) -> bytes | None:
    """The signature that came with a record; one that is too long stays so, and is bad."""
    found = next((value for key, value in headers if key == SIGNATURE_HEADER), None)
    return None if found is None else found[: SIGNATURE_BYTES + 1]


def _traces(headers: list[tuple[str, bytes | None]]) -> list[bytes]:
    return [value for key, value in headers if key == TRACE_HEADER and value and len(value) <= TRACE_BYTES_MAX][:1]


def _names(partitions: list[TopicPartition]) -> list[str]:
    return [f"{tp.topic}[{tp.partition}]" for tp in sorted(partitions)]


def _place(head: Head) -> Facts:
    return {"topic": head.topic, "partition": head.partition, "offset": head.next_offset}


def _behind(high_water: int | None, head: Head) -> int | None:
    return None if high_water is None else max(0, high_water - head.next_offset)


def _lost(head: Head, begin: int, end: int) -> DanbaoError | None:
    """Why a partition cannot go on from its head; None where it can."""
    name, at = f"{head.topic}[{head.partition}]", head.next_offset
    if at < begin:
        return DanbaoError(
            Both(
                f"{name} is stopped: the ledger is at offset {at}, and the broker holds nothing before {begin}."
                f" {begin - at} records are missing.",
                f"{name} 已停止：账簿记到位移 {at}，而服务器只保留 {begin} 起的记录，缺少 {begin - at} 条。",
            ),
            Both(
                "Nothing after them is booked, so that the gap stays in sight. Have the platform send them again to"
                " another topic, or restore them; then danbao consume accept-gap lets the partition go on. See"
                " deploy/README.md, 'A gap in a stream'.",
                "其后的记录一律不入账，以免缺口被掩盖。请平台企业经其他主题重新报送，或恢复数据；"
                "之后可用 danbao consume accept-gap 让该分区继续。参见 deploy/README.md。",
            ),
        )
    if at > end:
        return DanbaoError(
            Both(
                f"{name} is stopped: the ledger is at offset {at}, and the broker's records end at {end}."
                " The topic was made again or its end was lost.",
                f"{name} 已停止：账簿记到位移 {at}，而服务器的记录止于 {end}。该主题被重建，或末尾记录丢失。",
            ),
            MADE_AGAIN,
        )
    return None


def _another_log(head: Head) -> DanbaoError:
    name, at = f"{head.topic}[{head.partition}]", head.next_offset
    return DanbaoError(
        Both(
            f"{name} is stopped: the ledger is at offset {at}, and the record before it is not the one that is booked."
            " The topic was made again.",
            f"{name} 已停止：账簿记到位移 {at}，而其前一条记录并非已入账的那一条。该主题被重建。",
        ),
        MADE_AGAIN,
    )


def _no_topic(topic: str) -> DanbaoError:
    return DanbaoError(
        Both(f"Kafka has no topic {topic}, or none that we may read.", f"Kafka 中没有主题 {topic}，或无权读取。"),
        Both(
            "Make it: danbao kafka topics apply. See: danbao kafka topics show",
            "创建主题：danbao kafka topics apply；查看：danbao kafka topics show",
        ),
    )


def _refused(error: KafkaError) -> DanbaoError:
    return DanbaoError(
        Both(f"Kafka refused: {type(error).__name__}: {error}", f"Kafka 拒绝：{type(error).__name__}：{error}"),
        Both("Look at the topic, the rights on it, and the broker's log.", "请检查主题、权限以及服务器日志。"),
    )
