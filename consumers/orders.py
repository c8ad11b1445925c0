"""The consumer of order streams: one process of a group. In: topics. Out: order events in the books.

The loop is `consumers.loop`'s: each batch of a partition is one transaction that moves its head. Around it: what to do
when the database is away (wait, then ask it how far we are: the answer to a commit may have been lost), when another
process was quicker (begin again at the head), and when we are told to stop (within one batch).
"""

import gc
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Event
from time import monotonic

from kafka import TopicPartition
from psycopg import Error as DriverError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from consumers.kafka.fetch import Batch, Facts, Fetcher, sqlstate
from consumers.kafka.rejected import Teller
from consumers.kafka.settings import Access
from consumers.loop import Booker, Door, Outcome, Totals
from ledger.errors import DanbaoError, Fenced
from ledger.identity import Stream
from ledger.store import reference, registry
from schemas.both import Both
from schemas.orders import ORDERS_TOPIC

ORDERS = ORDERS_TOPIC
GROUP = "danbao-orders"
TAKE_S = 0.1
WAIT_S = (0.2, 10.0)  # for the database: at first, and at most
NOTICE_S = 5.0
# What passes by itself or by an operator's hand, and harms nothing while it lasts: a connection that breaks, a server
# that stops, starts or recovers, a disk that is full, a database that takes no writes, too many connections.
PASSING_CLASSES = ("08", "53", "57P")
PASSING_STATES = {"25006"}


@dataclass(slots=True)
class Hooks:
    """Who listens: to each batch as its booking begins, to each outcome with its batch, to lines for a person, and to
    the same for a machine: a name and facts, in which nothing stands that a platform sent."""

    on_booking: Callable[[Batch], None] = lambda batch: None
    on_outcome: Callable[[Outcome, Batch], None] = lambda outcome, batch: None
    on_notice: Callable[[Both], None] = lambda text: None
    on_event: Callable[[str, Facts], None] = lambda name, facts: None
    traces_max: int = 0  # of how many records of a batch the trace is kept


@dataclass(slots=True)
class Consumer:
    """Books streams until told to stop, or until their present end."""

    engine: Engine
    booker: Booker
    access: Access
    doors: dict[str, Door]
    group: str = GROUP
    hooks: Hooks = field(default_factory=Hooks)
    totals: Totals = field(default_factory=Totals)
    stop: Event = field(default_factory=Event)
    fetcher: Fetcher | None = None  # while it runs; for those who watch
    _wait_s: float = WAIT_S[0]
    _said_at: float = 0.0
    _told: set[TopicPartition] = field(default_factory=set)

    def run(self, to_end: bool = False) -> None:
        """Consume. `to_end`: return when all is booked that the partitions held when they became ours."""
        client_id = f"danbao-{socket.gethostname()}-{os.getpid()}"
        gc.disable()  # see consumers.loop.run
        try:
            with (
                Teller(self.engine, self.access, client_id, self._untold) as teller,
                self._fetcher(client_id, to_end) as fetcher,
            ):
                self.fetcher = fetcher
                while not self.stop.is_set():
                    if batch := fetcher.next(TAKE_S):
                        self._book(fetcher, batch, teller)
                        gc.collect(1)
                    elif to_end and fetcher.at_end:
                        return
        finally:
            gc.enable()

    def _fetcher(self, client_id: str, to_end: bool) -> Fetcher:
        terms = self._trouble, self.hooks.on_event, self.hooks.traces_max, to_end
        return Fetcher(self.access, self.group, client_id, self.booker, self.doors, *terms)

    def _book(self, fetcher: Fetcher, batch: Batch, teller: Teller) -> None:
        """Book one batch, unless its partition was given away meanwhile."""
        partition = batch.partition
        with fetcher.booking(batch) as ours:
            if not ours:
                return
            self.hooks.on_booking(batch)
            try:
                for intake in batch.intakes:
                    outcome = self.booker.book(intake, partition.head)
                    partition.head = outcome.head
                    self.totals.add(outcome)
                    self.hooks.on_outcome(outcome, batch)
                    if intake.rejections or partition.tp not in self._told:
                        self._told.add(partition.tp)  # at first also what a crash left untold
                        teller.tell(outcome.head)
            except Fenced as fenced:
                fetcher.rewind(partition)
                self.hooks.on_notice(fenced.what)
                head = partition.head
                facts: Facts = {"topic": head.topic, "partition": head.partition, "offset": head.next_offset}
                self.hooks.on_event("fenced", facts)
                return
            except (DBAPIError, DriverError) as error:
                if not is_passing(error):
                    raise
                fetcher.rewind(partition)
                self._say_waiting(error)
            else:
                if self._wait_s > WAIT_S[0]:
                    self.hooks.on_event("database_answers", {})
                self._wait_s = WAIT_S[0]
                return
        self.stop.wait(self._wait_s)
        self._wait_s = min(self._wait_s * 2, WAIT_S[1])

    def _say_waiting(self, error: DBAPIError | DriverError) -> None:
        facts: Facts = {"sqlstate": sqlstate(error) or "", "wait_ms": round(self._wait_s * 1000)}
        self.hooks.on_event("waiting_for_database", facts)
        if monotonic() - self._said_at < NOTICE_S:
            return
        self._said_at = monotonic()
        why = str(getattr(error, "orig", error)).strip().splitlines()[0]
        self.hooks.on_notice(
            Both(
                f"The database does not take the batch ({why}). Waiting for it; nothing is lost …",
                f"数据库暂不能入账（{why}）。正在等待，数据不会丢失……",
            )
        )

    def _trouble(self, error: DanbaoError, facts: Facts) -> None:
        self.hooks.on_event("partition_stopped", facts)
        self.hooks.on_notice(Both(f"{error.what.en} {error.fix.en}", f"{error.what.zh}{error.fix.zh}"))

    def _untold(self, text: Both) -> None:
        self.hooks.on_event("rejections_untold", {})
        self.hooks.on_notice(text)


def is_passing(error: DBAPIError | DriverError) -> bool:
    """Whether to wait for the database rather than to give up: see PASSING_CLASSES."""
    state = sqlstate(error)
    if state is None:  # no server said it: the connection broke
        return isinstance(error.orig if isinstance(error, DBAPIError) else error, DriverError)
    return state in PASSING_STATES or state.startswith(PASSING_CLASSES)


def doors_for(engine: Engine, topics: Mapping[str, str | None]) -> dict[str, Door]:
    """Topic → whose own it is (None: all share it), recorded as what it is from the first time on."""
    doors = {}
    for topic, owner in topics.items():
        with engine.connect() as connection:
            number = registry.find(connection, owner).platform_no if owner else None
        reference.keep_stream(engine, topic, number)
        doors[topic] = Door(None, Stream(topic, number))
    return doors


def own_topics(names: Iterator[str]) -> dict[str, str | None]:
    """orders.v1.NAME is the own topic of the platform NAME; any other is shared by all."""
    prefix = f"{ORDERS}."
    return {name: name.removeprefix(prefix) if name.startswith(prefix) else None for name in names}
