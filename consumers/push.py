"""The platform's side: push order events to Kafka. In: events in order. Out: records acknowledged, or NotAcknowledged.

    access = settings.access("kafka.example:9093")  # user, password file and CA from the environment
    with Pusher(access, "kuaisong", key=read_key(Path("kuaisong.pem"))) as pusher:
        for event in events:  # dictionaries as in schemas/published/order-record.schema.json, or their JSON as bytes
            pusher.push(event)
        pusher.flush()  # returns when the brokers have kept all of it

What holds:

    acknowledged is kept   idempotent producer, acks=all: after flush() as many brokers have it as the topic asks
    order                  events of one order go to one partition, in the order in which they were pushed: to that of
                           the key `platform/order`, as Kafka's default partitioner computes it
    packed                 up to `per_record` events of one partition in a record, at most 5,000 and 8 MiB
    bounded                at most `buffer_bytes_max` wait here; push() blocks while the brokers are slower than you
    an end to waiting      what is not acknowledged after `patience_s` raises NotAcknowledged

After NotAcknowledged push again all since the last flush() that returned: what did arrive is a duplicate, and a
duplicate changes nothing. The pusher can be used for it; it takes a new producer, for one that failed fails for ever.

Events wait until a record is full or flush() is called: call it as often as your cover may be late, such as every
second. One pusher belongs to one thread; threads and processes may have one each, if each order stays with one.
"""

import stat
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.partitioner import murmur2

from consumers.kafka.settings import REQUEST_MS_MAX, Access, producer_options
from ledger import signing
from ledger.errors import BadQuestion, DanbaoError
from schemas.both import Both
from schemas.orders import EVENTS_PER_RECORD_MAX, ORDERS_TOPIC, RECORD_BYTES_MAX, SIGNATURE_HEADER, TEXT_CHARS_MAX

PER_RECORD = 500
BUFFER_BYTES_MAX = 32 * 1024 * 1024
BUFFER_BYTES_MIN = 4 * RECORD_BYTES_MAX
PATIENCE_S = 60
LOOK_MS = 10_000  # for a topic that may not be there
CLOSE_S = 1
ACCEPTED = "order.accepted"
SHOWN_CHARS_MAX = 100

Event = Mapping[str, Any]


class NotAcknowledged(DanbaoError):
    """Records that the brokers did not acknowledge. Push again what came since the last flush that returned."""


@dataclass(slots=True)
class Counts:
    """What was acknowledged. `orders`: acceptances among the events."""

    records: int = 0
    events: int = 0
    orders: int = 0


class Placed(NamedTuple):
    """Where an acknowledged record lies; offset -1: the broker could not say it again."""

    partition: int
    offset: int


@dataclass(slots=True)
class _Open:
    """A record that is being filled: the events of one partition."""

    key: bytes = b""
    events: list[bytes] = field(default_factory=list)
    size: int = 0
    orders: int = 0


class _Sent(NamedTuple):
    """A record that waits for its acknowledgement."""

    future: Any
    size: int
    events: int
    orders: int


class Pusher:
    """Pushes one platform's events to one topic; see the module's docstring. NotAcknowledged where it cannot begin."""

    def __init__(
        self,
        access: Access,
        platform: str,
        topic: str = ORDERS_TOPIC,
        *,
        key: Ed25519PrivateKey | None = None,
        per_record: int = PER_RECORD,
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
        patience_s: int = PATIENCE_S,
        on_placed: Callable[[Placed], None] = lambda placed: None,
    ) -> None:
        if not 1 <= per_record <= EVENTS_PER_RECORD_MAX or buffer_bytes_max < BUFFER_BYTES_MIN or patience_s < 1:
            raise ValueError(f"1 … {EVENTS_PER_RECORD_MAX} events a record, {BUFFER_BYTES_MIN} bytes, 1 s at least")
        patience_ms = patience_s * 1000
        self._options = producer_options(access, f"danbao-push-{platform}") | {
            "max_block_ms": min(LOOK_MS, patience_ms),
            "delivery_timeout_ms": patience_ms,
            "request_timeout_ms": min(REQUEST_MS_MAX, patience_ms // 2),
        }
        self._platform, self._topic = platform, topic
        self._key, self._per_record, self._on_placed = key, per_record, on_placed
        self._buffer_bytes_max, self._patience_s = buffer_bytes_max, patience_s
        self._open: dict[int, _Open] = {}
        self._open_bytes = self._sent_bytes = 0
        self._sent: deque[_Sent] = deque()
        self._producer: Any = None
        self._partitions = 0
        self.counts = Counts()
        self._begin()

    def __enter__(self) -> "Pusher":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._drop()

    def push(self, event: Event | bytes) -> None:
        """Hand in one event; it is sent when its record is full, or by flush(). Bytes are sent as they are.

        BadQuestion where it is not an event of this platform, NotAcknowledged where the brokers take no more.
        """
        raw, order, orders = read_event(event, self._platform)
        if self._producer is None:
            self._begin()
        key = f"{self._platform}/{order}".encode()
        partition = partition_of(key, self._partitions)
        if self._open_bytes + len(raw) + 1 > self._buffer_bytes_max // 2:
            self._send_all()
        filling = self._open.setdefault(partition, _Open())
        if filling.events and filling.size + len(raw) + 1 > RECORD_BYTES_MAX:
            self._send(partition)
            filling = self._open.setdefault(partition, _Open())
        if not filling.events:
            filling.key, filling.size = key, 2  # the brackets
        filling.events.append(raw)
        filling.size += len(raw) + 1
        filling.orders += orders
        self._open_bytes += len(raw) + 1
        if len(filling.events) >= self._per_record:
            self._send(partition)

    def flush(self) -> None:
        """Return when all that was pushed is acknowledged; NotAcknowledged when one record waits for `patience_s`."""
        self._send_all()
        while self._sent:
            self._settle()

    def close(self) -> None:
        """The same, and let the producer go."""
        try:
            self.flush()
        finally:
            self._drop()

    # ---- sending

    def _send_all(self) -> None:
        for partition in sorted(self._open):
            self._send(partition)

    def _send(self, partition: int) -> None:
        """Send the record that is being filled for a partition, when there is room for it."""
        filled = self._open[partition]
        value = filled.events[0] if self._per_record == 1 else b"[" + b",".join(filled.events) + b"]"
        assert len(value) <= RECORD_BYTES_MAX
        while self._sent and (self._sent[0].future.is_done or self._is_full(len(value))):
            self._settle()
        headers = [(SIGNATURE_HEADER, self._key.sign(value))] if self._key else []
        try:
            future = self._producer.send(self._topic, value, filled.key, headers, partition)
        except (KafkaError, OSError) as error:
            raise self._failed(error) from error
        del self._open[partition]
        self._open_bytes -= filled.size - 2
        self._sent.append(_Sent(future, len(value), len(filled.events), filled.orders))
        self._sent_bytes += len(value)

    def _is_full(self, more: int) -> bool:
        """Whether so many bytes more are too many to wait for: half of the buffer is for records being filled."""
        return self._sent_bytes + more > self._buffer_bytes_max // 2

    def _settle(self) -> None:
        """Wait for the acknowledgement of the oldest record."""
        oldest = self._sent[0]
        try:
            placed = oldest.future.get(timeout=self._patience_s)
        except (KafkaError, OSError) as error:
            raise self._failed(error) from error
        self._sent.popleft()
        self._sent_bytes -= oldest.size
        self.counts.records += 1
        self.counts.events += oldest.events
        self.counts.orders += oldest.orders
        self._on_placed(Placed(placed.partition, placed.offset))

    # ---- the producer

    def _begin(self) -> None:
        """Take a new producer."""
        try:
            self._producer = KafkaProducer(**self._options)
            found = self._producer.partitions_for(self._topic)
        except (KafkaError, OSError, ValueError) as error:
            self._drop()
            raise NotAcknowledged(
                Both(
                    f"Kafka takes nothing for {self._topic}: {_named(error)}.",
                    f"无法向 Kafka 的主题 {self._topic} 报送：{_named(error)}。",
                ),
                Both(
                    "Check the address, the name of the topic, and what you may write to.",
                    "请检查地址、主题名称以及写入权限。",
                ),
            ) from error
        self._partitions = len(found)

    def _failed(self, error: Exception) -> NotAcknowledged:
        """Give up what was not acknowledged, and the producer with it."""
        events = sum(sent.events for sent in self._sent) + sum(len(one.events) for one in self._open.values())
        self._drop()
        return NotAcknowledged(
            Both(
                f"{events} events were not acknowledged by {self._topic}: {_named(error)}.",
                f"主题 {self._topic} 未确认 {events} 个事件：{_named(error)}。",
            ),
            Both(
                "Push again what came since the last flush that returned; what arrived already counts once.",
                "请重新报送自上次成功确认以来的全部事件；已到达的不会重复计费。",
            ),
        )

    def _drop(self) -> None:
        """Let the producer go, with what was not acknowledged."""
        producer, self._producer = self._producer, None
        self._open.clear()
        self._sent.clear()
        self._open_bytes = self._sent_bytes = 0
        if producer is None:
            return
        try:
            producer.close(timeout=CLOSE_S)
        except KafkaError:
            with suppress(AttributeError):  # it gave up before it ended its thread, which would go on sending
                producer._sender.force_close()


def _named(error: Exception) -> str:
    """An error of Kafka's by its name, and what it says."""
    return f"{type(error).__name__} {error}".replace(f"{type(error).__name__}: ", "").strip(" .")


def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key, in Java and in all clients that follow it."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def read_event(event: Any, platform: str) -> tuple[bytes, str, int]:
    """An event, or the bytes of one → its bytes, its order, and 1 where it accepts the order, else 0.

    BadQuestion where it cannot be sent. What else may be wrong with it is for the ledger to say.
    """
    try:
        raw = event if isinstance(event, bytes) else orjson.dumps(event)
        read = orjson.loads(raw) if isinstance(event, bytes) else event
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise _not_to_be_sent(Both(f"it is no JSON ({error})", f"不是 JSON（{error}）")) from None
    if not isinstance(read, Mapping):
        raise _not_to_be_sent(Both("it is no JSON object", "不是 JSON 对象"))
    source, order = read.get("source"), read.get("subject")
    if source != f"/platforms/{platform}":
        shown = repr(source)[:SHOWN_CHARS_MAX]
        raise _not_to_be_sent(
            Both(
                f"its source is {shown}, not /platforms/{platform}", f"其 source 为 {shown}，不是 /platforms/{platform}"
            )
        )
    if not isinstance(order, str) or not 0 < len(order) <= TEXT_CHARS_MAX:
        raise _not_to_be_sent(
            Both(
                f"its subject is no order id of 1 to {TEXT_CHARS_MAX} characters",
                f"其 subject 不是 1 至 {TEXT_CHARS_MAX} 个字符的订单号",
            )
        )
    if len(raw) + 2 > RECORD_BYTES_MAX:
        raise _not_to_be_sent(
            Both(
                f"it has {len(raw)} bytes, and a record holds {RECORD_BYTES_MAX}",
                f"长度为 {len(raw)} 字节，而记录上限为 {RECORD_BYTES_MAX}",
            )
        )
    return raw, order, int(read.get("type") == ACCEPTED)


def _not_to_be_sent(why: Both) -> BadQuestion:
    return BadQuestion(
        Both(f"This event cannot be sent: {why.en}.", f"该事件无法报送：{why.zh}。"),
        Both(
            "Events have the shape of schemas/published/order-record.schema.json, and the source of their platform.",
            "事件须符合 schemas/published/order-record.schema.json，且 source 为本平台。",
        ),
    )


def read_key(file: Path) -> Ed25519PrivateKey:
    """The private key of a PEM file, which must be its owner's alone."""
    try:
        mode = file.stat().st_mode
        pem = file.read_bytes()
    except OSError as error:
        raise BadQuestion(
            Both(f"The key {file} cannot be read: {error.strerror}.", f"无法读取密钥 {file}：{error.strerror}。"),
            signing.HOW_TO,
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadQuestion(
            Both(f"{file} holds a private key and others may read it.", f"{file} 存有私钥，而他人可以读取。"),
            Both(f"Keep it to yourself: chmod 600 {file}", f"请收回他人权限：chmod 600 {file}"),
        )
    return signing.read_private(pem, str(file))
