"""The topic of rejected records: what was rejected, as it was sent, and why. In: a ledger. Out: records for platforms.

Told from the books, never from memory: `rejections_told` is a bookmark like the partition head, moved when Kafka has
acknowledged, so that a crash tells some of them twice and none of them never. `danbao-topic`, `danbao-offset` and
`danbao-item` say which record, and let a reader pass over what he has seen.

A platform that has a topic of rejected records of its own, orders.rejected.v1.PLATFORM, is told there, for another's
records are not his to read: what came by a platform's own topic is told to its owner, who alone can have sent it,
whatever it says; what came by a shared one to the platform that it says it is of. All else goes to orders.rejected.v1.

    value     the record or the event of its list, byte for byte (cut at VALUE_BYTES_MAX, then `danbao-cut` is set)
    key       the platform, where it is known
    headers   danbao-reason, danbao-place, danbao-detail (what to do), danbao-topic, danbao-partition, danbao-offset,
              danbao-item (place in the record's list; -1: the record as a whole)
"""

from collections.abc import Callable, Container
from threading import Condition, Thread
from time import monotonic
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError
from psycopg import Error as DriverError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from consumers.kafka import topics
from consumers.kafka.knock import enter
from consumers.kafka.settings import Access, producer_options
from ledger.errors import DanbaoError
from ledger.store import rejections
from ledger.store.heads import Head
from schemas.both import Both
from schemas.orders import REJECTED_TOPIC

TOPIC = REJECTED_TOPIC
VALUE_BYTES_MAX = 9 * 1024 * 1024
PATIENCE_MS = 10_000
RETRY_S = 5.0
LOOK_AGAIN_S = 60.0  # for topics that were made meanwhile


class Teller:
    """Tells platforms what was rejected, in a thread of its own: a Kafka that does not take it holds up no booking."""

    def __init__(self, engine: Engine, access: Access, client_id: str, on_notice: Callable[[Both], None]) -> None:
        self._engine, self._on_notice = engine, on_notice
        self._access = access
        self._options = producer_options(access, f"{client_id}-rejected") | {
            "max_block_ms": PATIENCE_MS,
            "delivery_timeout_ms": 3 * PATIENCE_MS,
            "request_timeout_ms": PATIENCE_MS,
        }
        self._producer: KafkaProducer | None = None
        self._own_topics: set[str] = set()
        self._looked_at = -LOOK_AGAIN_S
        self._heads: dict[tuple[str, int], Head] = {}
        self._changed = Condition()
        self._ending = False
        self._thread = Thread(target=self._run, name="tell", daemon=True)

    def __enter__(self) -> "Teller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def tell(self, head: Head) -> None:
        """Let what was rejected of a partition up to this head be told."""
        with self._changed:
            self._heads[head.topic, head.partition] = head
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._heads or self._ending):
                    self._changed.wait()
                heads, self._heads = self._heads, {}
            failed = [head for head in heads.values() if not self._tell(head)]
            with self._changed:
                self._heads = {(head.topic, head.partition): head for head in failed} | self._heads
                if self._ending and (failed or not self._heads):
                    break
                if failed:
                    self._changed.wait(RETRY_S)
        self._close()

    def _tell(self, head: Head) -> bool:
        """Tell what is untold up to the head; False where Kafka or the database does not take it now."""
        try:
            while told := rejections.untold(self._engine, head):
                self._send(told)
                rejections.keep_told(self._engine, head, told[-1].record_offset + 1)
        except (KafkaError, OSError) as error:
            self._close()
            self._on_notice(
                Both(
                    f"{TOPIC} does not take what was rejected ({error}); it is told later.",
                    f"{TOPIC} 暂不能接收拒收记录（{error}），稍后补报。",
                )
            )
            return False
        except DanbaoError as error:
            self._on_notice(
                Both(
                    f"What was rejected is told later. {error.what.en}",
                    f"拒收记录稍后补报。{error.what.zh}",
                )
            )
            return False
        except (DBAPIError, DriverError):  # the bookmark did not move
            return False
        return True

    def _send(self, told: list[rejections.Rejected]) -> None:
        self._look_for_topics()
        self._producer = self._producer or enter(KafkaProducer, self._access, self._options)
        sent = [self._producer.send(place(one, self._own_topics), **message(one)) for one in told]
        for future in sent:
            future.get(timeout=PATIENCE_MS / 1000)

    def _look_for_topics(self) -> None:
        """Learn which platforms have a topic of their own; a producer asked for one that is not there would wait."""
        if monotonic() - self._looked_at > LOOK_AGAIN_S:
            with topics.connect(self._access) as admin:
                self._own_topics = {name for name in topics.every_name(admin) if name.startswith(own_topic(""))}
            self._looked_at = monotonic()

    def _close(self) -> None:
        """A producer that failed once fails for ever: the next one is new."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=PATIENCE_MS / 1000)


def own_topic(platform_id: str) -> str:
    """Where what is rejected of a platform is told, if that topic is there."""
    return f"{TOPIC}.{platform_id}"


def place(one: rejections.Rejected, own_topics: Container[str]) -> str:
    """The topic that a rejected record is told on."""
    own = own_topic(str(one.owner_id or one.platform_id))
    return own if own in own_topics else TOPIC


def message(one: rejections.Rejected) -> dict[str, Any]:
    """A rejected record as it is sent."""
    facts = {
        "reason": one.reason,
        "place": one.place,
        "detail": one.detail,
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.record_offset,
        "item": one.item,
    }
    headers = [(f"danbao-{name}", str(value).encode()) for name, value in facts.items()]
    if len(one.raw) > VALUE_BYTES_MAX:
        headers.append(("danbao-cut", str(len(one.raw)).encode()))
    key = one.platform_id.encode() if one.platform_id else None
    return {"key": key, "value": one.raw[:VALUE_BYTES_MAX], "headers": headers}
