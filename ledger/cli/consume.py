"""danbao consume: book what platforms push through Kafka.

In: `DANBAO_KAFKA_BOOTSTRAP` and the credentials of consumers/kafka/settings.py. Out: exit code 0 stopped as asked, or
all booked with --to-end; 1 something had to stop.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli import common, ingest, usage
from ledger.cli.common import say
from ledger.money import yuan

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from consumers.kafka.settings import Access
    from consumers.loop import Door

WORKERS_MAX = 64
LOOKS_A_LINE = 10  # of the ten a second that the supervisor makes

app = typer.Typer(
    cls=usage.Group, no_args_is_help=True, help=say("Book what comes through Kafka.", "消费 Kafka 数据流并入账。")
)

_Topic = Annotated[
    list[str] | None,
    typer.Option(
        help=say(
            "Topic; repeat for several. orders.v1.NAME is the own topic of platform NAME. Default: orders.v1.",
            "主题，可重复。orders.v1.名称 为该平台的专用主题。默认 orders.v1。",
        )
    ),
]
_Platform = Annotated[
    str | None,
    typer.Option(
        help=say(
            "Whose own topics these are, where their names do not say it: only he can write there.",
            "主题名称未注明时，指定其所属平台（仅该平台可写入）。",
        )
    ),
]
_Workers = Annotated[int, typer.Option(help=say("Processes.", "进程数。"), min=1, max=WORKERS_MAX)]
_ToEnd = Annotated[
    bool,
    typer.Option("--to-end", help=say("Stop when all that is there now is booked.", "入账完现有数据后停止。")),
]
_Group = Annotated[str, typer.Option(help=say("Consumer group.", "消费组。"))]

_Quiet = Annotated[bool, typer.Option("--quiet", help=say("No totals at the end.", "结束时不显示合计。"))]


@app.command(cls=usage.Command)
@common.command("从账簿记录的位移起消费订单主题并入账，每批一个事务，不重不漏；收到 SIGTERM 后在一个批次内停止。")
def orders(
    topic: _Topic = None,
    platform: _Platform = None,
    workers: _Workers = 1,
    to_end: _ToEnd = False,
    group: _Group = "danbao-orders",
    quiet: _Quiet = False,
    as_json: common.AsJson = False,
) -> None:
    """Book order topics from where the ledger stands, each batch one transaction; SIGTERM stops it within one batch.

    Example: danbao consume orders --workers 2
    """
    from consumers import orders as streams
    from ledger.store.connect import INGEST

    topics = streams.own_topics(iter(topic or [streams.ORDERS]))
    if platform:
        topics = dict.fromkeys(topics, platform)
    access = common.kafka_access()
    with common.database(INGEST) as engine, _stopped_by_signals() as stop:
        started = perf_counter()
        doors = streams.doors_for(engine, topics)
        if workers == 1:
            result = _consume(engine, access, doors, group, to_end, stop)
        else:
            result = _watch(engine, doors, workers, to_end, stop)
    result["seconds"] = round(perf_counter() - started, 3)
    if as_json:
        common.print_json(result)
    elif not quiet:
        ingest.show(result)


def _consume(
    engine: "Engine", access: "Access", doors: "dict[str, Door]", group: str, to_end: bool, stop: Event
) -> dict[str, Any]:
    """Consume in this process."""
    from consumers import loop
    from consumers.orders import Consumer, Hooks
    from ledger import rulebook

    booker = loop.Booker(engine, rulebook.load(), loop.switch_from_environment())
    hooks = Hooks(on_notice=common.notice)
    started = perf_counter()
    consumer = Consumer(engine, booker, access, doors, group, hooks, stop=stop)
    consumer.run(to_end)
    return ingest.summary(ingest.Booked(consumer.totals), perf_counter() - started)


def _watch(engine: "Engine", doors: "dict[str, Door]", workers: int, to_end: bool, stop: Event) -> dict[str, Any]:
    """Let worker processes consume, and say how far they are."""
    from consumers.workers import Workers
    from ledger.store import progress

    topics, started = list(doors), perf_counter()
    with engine.connect() as connection:
        before = progress.last_batch(connection)
    watched = Workers(_one_worker(), workers, to_end, common.notice, stop)
    with _progress(engine, before, topics) as look:
        watched.run(look)
    with engine.connect() as connection:
        booked = progress.booked_since(connection, before, topics)
        reasons = progress.rejected_since(connection, before, topics)
    seconds = perf_counter() - started
    premium = yuan(booked.pop("premium"))
    rate = round(booked["events"] / seconds) if seconds else 0
    told = {"premium": premium, "reasons": reasons, "first_rejected": [], "files": [], "late": []}
    return booked | told | {"seconds": seconds, "events_per_second": rate}


def _one_worker() -> list[str]:
    """This very command, for one process."""
    arguments = iter(sys.argv[1:])
    kept = []
    for argument in arguments:
        if argument == "--workers":
            next(arguments, None)
        elif not argument.startswith("--workers=") and argument != "--json":
            kept.append(argument)
    return [sys.executable, "-m", "ledger.cli.app", *kept, "--quiet"]


@contextmanager
def _progress(engine: "Engine", before: int, topics: list[str]) -> Iterator[Callable[[], None]]:
    """A line on stderr, where that is a terminal, that says how much is booked and how fast."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ledger.store import progress

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=common.err, transient=True, disable=not common.err.is_terminal) as bar:
        task = bar.add_task("", total=None)
        state = {"looks": 0, "events": 0, "at": perf_counter()}

        def look() -> None:
            state["looks"] += 1
            if not common.err.is_terminal or state["looks"] % LOOKS_A_LINE:
                return
            with engine.connect() as connection:
                events = progress.booked_since(connection, before, topics)["events"]
            now = perf_counter()
            rate = (events - state["events"]) / (now - state["at"])
            state.update(events=events, at=now)
            text = say(f"{events:,} events booked · {rate:,.0f}/s", f"已入账事件 {events:,} · 每秒 {rate:,.0f}")
            bar.update(task, description=text)

        yield look


@contextmanager
def _stopped_by_signals() -> Iterator[Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
