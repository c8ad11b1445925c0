"""danbao consume: book what platforms push through Kafka.

In: `DANBAO_KAFKA_BOOTSTRAP` and the credentials of consumers/kafka/settings.py. Out: exit code 0 stopped as asked, or
all booked with --to-end; 1 something had to stop.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli import common, ingest, supervise, usage
from ledger.cli.common import say
from ledger.cli.supervise import Watching
from ledger.errors import BadQuestion, DanbaoError
from schemas.both import Both

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from consumers.kafka.settings import Access
    from consumers.log import Log
    from consumers.loop import Door
    from consumers.watch import Watch

WORKERS_MAX = 64
PORT_MAX = 65_535
WHY_CHARS_MAX = 500
OF_THE_WHOLE = ("--workers", "--metrics-port")  # options that a worker does not take over

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
_MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=PORT_MAX,
        help=say(
            "Serve /metrics, /healthz and /readyz here; more processes take the ports after it. Default: off.",
            "在此端口提供 /metrics、/healthz 与 /readyz；多个进程依次使用其后的端口。默认关闭。",
        ),
    ),
]
_MetricsHost = Annotated[
    str, typer.Option(help=say("On which address; others than loopback see it too.", "监听地址；默认仅本机可访问。"))
]


class LogFormat(StrEnum):
    """How a consumer says what happens."""

    TEXT = "text"
    JSON = "json"


_Log = Annotated[
    LogFormat,
    typer.Option(
        help=say(
            "json: one JSON object a line on stderr, without anything that a platform sent.",
            "json：标准错误每行一个 JSON 对象，不含平台报送的任何内容。",
        )
    ),
]
_Restarts = Annotated[
    int | None, typer.Option("--restarts", hidden=True, min=0, help=say("For workers.", "供工作进程用。"))
]


@app.command(cls=usage.Command)
@common.command("从账簿记录的位移起消费订单主题并入账，每批一个事务，不重不漏；收到 SIGTERM 后在一个批次内停止。")
def orders(
    topic: _Topic = None,
    platform: _Platform = None,
    workers: _Workers = 1,
    to_end: _ToEnd = False,
    group: _Group = "danbao-orders",
    quiet: _Quiet = False,
    metrics_port: _MetricsPort = None,
    metrics_host: _MetricsHost = "127.0.0.1",
    log: _Log = LogFormat.TEXT,
    restarts: _Restarts = None,
    as_json: common.AsJson = False,
) -> None:
    """Book order topics from where the ledger stands, each batch one transaction; SIGTERM stops it within one batch.

    Example: danbao consume orders --workers 2
    """
    from consumers import orders as streams
    from ledger.store.connect import INGEST

    if metrics_port and metrics_port + workers - 1 > PORT_MAX:
        raise BadQuestion(
            Both(
                f"{workers} processes have no {workers} ports from {metrics_port} on.",
                f"自 {metrics_port} 起不足 {workers} 个端口，不够 {workers} 个进程使用。",
            ),
            Both("Give a smaller --metrics-port.", "请改用较小的 --metrics-port。"),
        )
    topics = streams.own_topics(iter(topic or [streams.ORDERS]))
    if platform:
        topics = dict.fromkeys(topics, platform)
    watching = Watching(metrics_port, metrics_host, _log(log), restarts)
    with _told_to(watching.log, as_json):
        access = common.kafka_access(watching.notice)
        with common.database(INGEST, watching.notice) as engine, _stopped_by_signals() as stop:
            started = perf_counter()
            if restarts is not None:
                supervise.end_with_supervisor(stop)
            doors = streams.doors_for(engine, topics)
            if workers == 1:
                result = _consume(engine, access, doors, group, to_end, stop, watching)
            else:
                result = supervise.run(engine, access, list(doors), _one_worker(), workers, to_end, stop, watching)
    result["seconds"] = round(perf_counter() - started, 3)
    if as_json:
        common.print_json(result)
    elif not quiet:
        ingest.show(result)


def _log(wanted: LogFormat) -> "Log | None":
    """The log for machines, which from now on has stderr to itself."""
    from consumers.log import Log

    if wanted is LogFormat.TEXT:
        return None
    log = Log(sys.stderr.buffer)
    log.take_over()
    return log


@contextmanager
def _told_to(log: "Log | None", as_json: bool) -> Iterator[None]:
    """What ends the command is said to the log, where there is one, and not beside it."""
    try:
        yield
    except DanbaoError as error:
        if log is None:
            raise
        log.told("ended", {"why": error.what.en, "fix": error.fix.en})
        if as_json:
            common.print_json({"error": say(*error.what), "fix": say(*error.fix)})
        raise typer.Exit(error.exit_code) from None


def _consume(
    engine: "Engine",
    access: "Access",
    doors: "dict[str, Door]",
    group: str,
    to_end: bool,
    stop: Event,
    watching: Watching,
) -> dict[str, Any]:
    """Consume in this process."""
    from consumers import health, loop
    from consumers.orders import Consumer
    from ledger import rulebook
    from ledger.store import progress

    started = perf_counter()
    with _watch(watching) as watch, ExitStack() as served:
        booker = loop.Booker(engine, rulebook.load(), watch.switch(loop.switch_from_environment()))
        hooks = watch.hooks(booker, watching.notice)
        consumer = Consumer(engine, booker, access, doors, group, hooks, stop=stop)
        if watch.metrics and watching.port:
            watch.metrics.watch(lambda: consumer.fetcher.lags if consumer.fetcher else [])
            there, registry = (watching.host, watching.port), watch.metrics.registry
            served.enter_context(health.serving(*there, registry, consumer, lambda: progress.answers(engine)))
        consumer.run(to_end)
    return ingest.summary(ingest.Booked(consumer.totals), perf_counter() - started)


@contextmanager
def _watch(watching: Watching) -> "Iterator[Watch]":
    """Those who watch a consumer, as the command and OpenTelemetry's variables ask for them."""
    from consumers import trace
    from consumers.metrics import Metrics
    from consumers.watch import Watch

    with trace.tracer(os.environ) as tracer:
        metrics = Metrics(watching.restarts or 0) if watching.port else None
        yield Watch(metrics, trace.Traces(tracer) if tracer else None, watching.log)


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


@app.command("accept-gap", cls=usage.Command)
@common.command(
    "让因缺口而停止的分区继续：服务器已不再保留的记录视为丢失，决定连同理由永久记录。\n\n"
    "先请平台企业重新报送这些订单；随后重启消费进程。"
)
def accept_gap(
    topic: Annotated[str, typer.Argument(help=say("Topic.", "主题。"), metavar="TOPIC")],
    partition: Annotated[int, typer.Argument(help=say("Partition.", "分区。"), metavar="PARTITION", min=0)],
    why: Annotated[
        str, typer.Option(help=say("What happened and what was done about it.", "事由与处理情况。"), metavar="TEXT")
    ],
    yes: Annotated[bool, typer.Option("--yes", help=say("Do not ask.", "不再询问。"))] = False,
    as_json: common.AsJson = False,
) -> None:
    """Let a partition go on that stands at a gap: what the broker no longer holds is lost, and the decision is kept.

    First have the platform send those orders again; afterwards start the consumers again.

    Example: danbao consume accept-gap orders.v1 3 --why "disk of broker 2 lost; kuaisong sent 1 October again by file"
    """
    from ledger.store import gaps, heads
    from ledger.store.connect import REGISTRAR

    if not 0 < len(why.strip()) <= WHY_CHARS_MAX:
        raise BadQuestion(
            Both("--why says nothing, or too much.", "--why 为空或过长。"),
            Both(f"Say it in 1 to {WHY_CHARS_MAX} characters.", f"请用 1 至 {WHY_CHARS_MAX} 个字符说明。"),
        )
    begin, end = _held(topic, partition)
    with common.database(REGISTRAR) as engine:
        with engine.connect() as connection:
            head = heads.read(connection, topic, partition)
            stands = gaps.goes_on_at(connection, head)
        if not stands < begin or head.next_offset > end:
            raise _no_gap(f"{topic}[{partition}]", head.next_offset, begin, end)
        missing = begin - head.next_offset
        common.notice(
            Both(
                f"{topic}[{partition}]: {missing:,} records from offset {head.next_offset} on are lost;"
                f" the ledger would go on at {begin}.",
                f"{topic}[{partition}]：自位移 {head.next_offset} 起 {missing:,} 条记录已丢失，账簿将从 {begin} 继续。",
            )
        )
        accepted = yes or common.confirmed()
        if accepted:
            gaps.accept(engine, head, begin, why.strip())
    if as_json:
        place = {"topic": topic, "partition": partition, "first_offset": head.next_offset, "next_offset": begin}
        common.print_json(place | {"missing": missing, "accepted": accepted})
    elif accepted:
        common.out.print(say("Accepted. Start the consumers again.", "已接受。请重启消费进程。"))
    if not accepted:
        raise typer.Exit(1)


def _held(topic: str, partition: int) -> tuple[int, int]:
    """What the broker holds of a partition."""
    from consumers.kafka import ends

    access = common.kafka_access()
    held = ends.look(access, [topic])
    if held is None:
        raise DanbaoError(
            Both(f"Kafka at {access.bootstrap} does not answer.", f"{access.bootstrap} 处的 Kafka 没有应答。"),
            Both("See: danbao status", "参见：danbao status"),
        )
    if (topic, partition) not in held:
        raise BadQuestion(
            Both(f"Kafka has no partition {topic}[{partition}].", f"Kafka 中没有分区 {topic}[{partition}]。"),
            Both("See: danbao status", "参见：danbao status"),
        )
    there = held[topic, partition]
    return there.begin, there.end


def _no_gap(place: str, head: int, begin: int, end: int) -> BadQuestion:
    if head > end:
        return BadQuestion(
            Both(
                f"{place}: the ledger is at offset {head}, and the broker's records end at {end}: another log.",
                f"{place}：账簿记到位移 {head}，而服务器的记录止于 {end}：这是另一份日志。",
            ),
            Both(
                "Give the new topic another name and consume that; see deploy/README.md, 'A gap in a stream'.",
                "请为新主题另起名称后再消费；参见 deploy/README.md。",
            ),
        )
    return BadQuestion(
        Both(
            f"{place} stands at no gap: the ledger is at offset {head}, and the broker holds {begin} to {end}"
            " (or the gap is accepted already).",
            f"{place} 没有缺口：账簿记到位移 {head}，服务器保留 {begin} 至 {end}（或该缺口已被接受）。",
        ),
        Both("See: danbao status", "参见：danbao status"),
    )


def _one_worker() -> list[str]:
    """This very command, for one process."""
    arguments = iter(sys.argv[1:])
    kept = []
    for argument in arguments:
        if argument in OF_THE_WHOLE:
            next(arguments, None)
        elif not argument.startswith(tuple(f"{option}=" for option in OF_THE_WHOLE)) and argument != "--json":
            kept.append(argument)
    return supervise.worker(*kept)
