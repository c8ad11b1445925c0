"""Worker processes of a consumer, watched. In: the command of one, how many. Out: how far they are, what they booked.

A worker's stdin is the supervisor's hand: however the supervisor ends, kill −9 too, the kernel lets go of it, and the
worker stops within one batch. So no worker of an older command books beside a newer one's.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ledger.cli import common
from ledger.cli.common import say
from ledger.money import yuan
from schemas.both import Both

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from consumers.kafka.settings import Access
    from consumers.log import Log
    from consumers.workers import Worker

LOOKS_A_LINE = 10  # of the ten a second that the supervisor makes


@dataclass(frozen=True)
class Watching:
    """How the consumers of a command are watched. `restarts`: of this worker's seat; None where it is no worker."""

    port: int | None = None
    host: str = ""
    log: "Log | None" = None
    restarts: int | None = None

    def notice(self, text: Both) -> None:
        """A line for a person, or for a machine."""
        if self.log:
            self.log.told("notice", {"text": text.en})
        else:
            common.notice(text)


def worker(*arguments: str) -> list[str]:
    """The command of one worker process."""
    return [sys.executable, "-m", "ledger.cli", *arguments, "--quiet"]


def end_with_supervisor(stop: Event) -> None:
    """In a worker: set `stop` when the supervisor is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        stop.set()

    Thread(target=watch, name="supervisor", daemon=True).start()


def run(
    engine: "Engine",
    access: "Access",
    topics: Sequence[str],
    command: Sequence[str],
    workers: int,
    to_end: bool,
    stop: Event,
    watching: Watching,
) -> dict[str, Any]:
    """Let so many processes of a command consume, say how far they are, and return what they booked as ingest does."""
    from consumers.workers import Workers
    from ledger.store import progress

    started = perf_counter()
    with engine.connect() as connection:
        before = progress.last_batch(connection)

    def of_its_own(seat: "Worker") -> list[str]:
        port = [f"--metrics-port={watching.port + seat.number - 1}"] if watching.port else []
        return [*port, f"--restarts={seat.restarts}"]

    on_notice = (lambda text: None) if watching.log else common.notice
    watched = Workers(command, workers, to_end, on_notice, stop, of_its_own)
    if watching.log:
        watched.on_event = watching.log.told
    with _progress(engine, access, before, topics, common.err.is_terminal and not watching.log) as look:
        watched.run(look)
    with engine.connect() as connection:
        booked = progress.booked_since(connection, before, topics)
        reasons = progress.rejected_since(connection, before, topics)
    seconds = perf_counter() - started
    premium = yuan(booked.pop("premium"))
    rate = round(booked["events"] / seconds) if seconds else 0
    told = {"premium": premium, "reasons": reasons, "first_rejected": [], "files": [], "late": []}
    return booked | told | {"seconds": round(seconds, 3), "events_per_second": rate}


@contextmanager
def _progress(
    engine: "Engine", access: "Access", before: int, topics: Sequence[str], shown: bool
) -> Iterator[Callable[[], None]]:
    """A line on stderr, where it is shown, that says how much is booked, how fast, and how much waits."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ledger.store import progress

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=common.err, transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=None)
        state = {"looks": 0, "events": 0, "at": perf_counter()}

        def look() -> None:
            state["looks"] += 1
            if not shown or state["looks"] % LOOKS_A_LINE:
                return
            with engine.connect() as connection:
                events = progress.booked_since(connection, before, topics)["events"]
                heads = progress.heads(connection, topics)
            now = perf_counter()
            rate = (events - state["events"]) / (now - state["at"])
            state.update(events=events, at=now)
            lag = _lag(access, heads, topics)
            text = say(
                f"{events:,} events booked · {rate:,.0f}/s · records to go: {lag}",
                f"已入账事件 {events:,} · 每秒 {rate:,.0f} · 待处理记录 {lag}",
            )
            bar.update(task, description=text)

        yield look


def _lag(access: "Access", heads: dict[tuple[str, int], int], topics: Sequence[str]) -> str:
    """How many records wait in all partitions; a dash while the broker does not answer."""
    from consumers.kafka import ends

    held = ends.look(access, topics)
    return "–" if held is None else f"{sum(max(0, there.end - heads.get(at, 0)) for at, there in held.items()):,}"
