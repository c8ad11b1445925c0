"""The first step of `danbao run --kafka`: orders pushed through Kafka as platforms would, booked by two processes.

In: files of order events; `DANBAO_KAFKA_BOOTSTRAP`, else a Kafka of this home, which is started where none runs and
ended again. Out: what was pushed, and what was booked, counted as for a file.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson

from ledger.cli import common, records, supervise, topics
from schemas.both import Both
from schemas.orders import ORDERS_TOPIC, SOURCE_BEGINS

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from consumers import push
    from consumers.kafka.settings import Access

PROCESSES = 2

Result = dict[str, Any]


def book(engine: "Engine", wanted: records.Wanted) -> tuple[Result, Result]:
    """Push all events, let the consumers book what the topic then holds; returns both counts."""
    from consumers import orders

    with _kafka() as access:
        topics.make_missing(access)
        doors = orders.doors_for(engine, {ORDERS_TOPIC: None})
        pushed = _push(access, wanted)
        common.notice(Both(f"Booking with {PROCESSES} processes …", f"正在由 {PROCESSES} 个进程入账……"))
        command = supervise.worker("consume", "orders", "--to-end")
        booked = supervise.run(engine, access, list(doors), command, PROCESSES, True, Event(), supervise.Watching())
    return pushed, booked


@contextmanager
def _kafka() -> "Iterator[Access]":
    """The Kafka that is named or runs in this home; else one that is started, and ended on leaving."""
    from consumers.kafka import broker

    if common.known_kafka():
        yield common.kafka_access()
        return
    common.notice(Both("Starting a Kafka of this home …", "正在启动本机 Kafka……"))
    cluster = broker.up(common.kafka_home(), None, broker.NOTHING, common.notice)
    try:
        yield common.kafka_access()
    finally:
        cluster.stop()


def _push(access: "Access", wanted: records.Wanted) -> Result:
    """Push every event as the platform that its source names."""
    from consumers import pushfile
    from consumers.push import Pusher

    started = perf_counter()
    pushers: dict[str, Pusher] = {}
    with common.progress(wanted.size) as advance, ExitStack() as closing:
        common.notice(Both(f"Pushing to {access.bootstrap} …", f"正在报送到 {access.bootstrap}……"))
        for source in records.opened(wanted, advance):
            for _, event in pushfile.events(source):
                platform = _platform_of(event)
                if platform not in pushers:
                    pushers[platform] = closing.enter_context(Pusher(access, platform))
                pushers[platform].push(event)
    counts = [pusher.counts for pusher in pushers.values()]
    return {
        "bootstrap": access.bootstrap,
        "topic": ORDERS_TOPIC,
        "platforms": len(pushers),
        "records": sum(one.records for one in counts),
        "events": sum(one.events for one in counts),
        "seconds": round(perf_counter() - started, 3),
    }


def _platform_of(event: "push.Event | bytes") -> str:
    source: str = (orjson.loads(event) if isinstance(event, bytes) else event)["source"]
    return source.removeprefix(SOURCE_BEGINS)
