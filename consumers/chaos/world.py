"""Runs of a campaign, lived through. In: histories, a broker, a server for databases. Out: what differed in the books.

Each run has a ledger, a topic and groups of its own. Processes are real and die by kill -9; producing is done here.
At the end one more process books what is left, and the ledger is compared with the model.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from threading import Lock
from time import monotonic, sleep

from kafka import KafkaProducer, TopicPartition
from kafka.errors import RetriableError
from kafka.structs import OffsetAndMetadata

from consumers.chaos.books import read
from consumers.chaos.life import REJECTED, Life, live
from consumers.chaos.model import Model, differences
from consumers.chaos.plan import PARTITIONS, Consume, History, Produce
from consumers.kafka import topics
from consumers.kafka.broker import Cluster
from consumers.kafka.settings import Access, producer_options
from ledger.store.scratch import Scratch

# A start looks after all processes: it would take the exit code from under the thread that waits for it.
ONE_AT_A_TIME = Lock()
LIFE_S_MAX = 90
SEND_S_MAX = 60
RETRY_S = 0.2
UNDER_WAY_S = 0.4  # by then a consumer has begun


@dataclass(slots=True)
class World:
    """Where runs take place. `cluster`: whose broker may be killed; None where it is not ours."""

    scratch: Scratch
    access: Access
    cluster: Cluster | None
    word: str
    _numbers: Iterator[int]

    @classmethod
    def of(cls, scratch: Scratch, access: Access, cluster: Cluster | None, word: str) -> "World":
        """A world; `word` begins the names of all that it makes."""
        context = get_context("forkserver")
        context.set_forkserver_preload(["consumers.chaos.life"])
        return cls(scratch, access, cluster, word, count(1))

    def run(self, history: History) -> list[str]:
        """Live through a history; what differs from the model then, in one line each."""
        name = f"{self.word}-{next(self._numbers)}"
        with self.scratch.ledger() as url, self._topic(name):
            model, run = Model(), Run(self, url, name)
            for number, step in enumerate(history):
                if isinstance(step, Produce):
                    run.produce(step)
                    model.hear(step)
                elif faults := run.consume(step, f"{name}-{number}"):
                    return faults
            return run.consume(FINALLY, f"{name}-finally") or differences(model, read(url))

    @contextmanager
    def _topic(self, name: str) -> Iterator[None]:
        """A topic for one run, and one for what it rejects."""
        with topics.connect(self.access) as admin:
            one = {"replication_factor": 1}
            both = {name: one | {"num_partitions": PARTITIONS}, f"{name}{REJECTED}": one | {"num_partitions": 1}}
            admin.create_topics(both, wait_for_metadata=True)
        yield
        with topics.connect(self.access) as admin:
            admin.delete_topics(list(both))


FINALLY = Consume((None,), together=False, set_back=False, bounce=False)


@dataclass(slots=True)
class Run:
    """One run under way: its ledger and its topic."""

    world: World
    url: str
    name: str

    def produce(self, step: Produce) -> None:
        """Send records, each acknowledged."""
        options = producer_options(self.world.access, self.name) | {"compression_type": step.codec}
        producer = KafkaProducer(**options)
        try:
            sent = [producer.send(self.name, value=record, partition=step.partition) for record in step.records]
            for future in sent:
                future.get(timeout=SEND_S_MAX)
        finally:
            producer.close(timeout=5)

    def consume(self, step: Consume, group: str) -> list[str]:
        """Let processes live, and what went wrong other than as planned."""
        groups = [group if step.together else f"{group}-{seat}" for seat in range(len(step.lives))]
        if step.set_back:
            self._set_back({*groups})
        lives = [
            Life(f"{group}-{seat}", self.url, self.world.access, self.name, groups[seat], fault)
            for seat, fault in enumerate(step.lives)
        ]
        begun = [_begin(life) for life in lives]
        if step.bounce and self.world.cluster:
            sleep(UNDER_WAY_S)
            for broker in self.world.cluster.brokers:
                broker.kill()
            self.world.cluster.start()
        return [
            fault for life, (process, pipe) in zip(lives, begun, strict=True) for fault in _end(life, process, pipe)
        ]

    def _set_back(self, groups: set[str]) -> None:
        offsets = {TopicPartition(self.name, place): OffsetAndMetadata(0, "", -1) for place in range(PARTITIONS)}
        with topics.connect(self.world.access) as admin:
            for group in groups:
                _patiently(lambda group=group: admin.alter_group_offsets(group, offsets))  # type: ignore[misc]


def _patiently(act: Callable[[], object]) -> None:
    """A broker that has just begun knows no coordinator yet."""
    deadline = monotonic() + SEND_S_MAX
    while True:
        try:
            act()
        except RetriableError:
            if monotonic() > deadline:
                raise
            sleep(RETRY_S)
        else:
            return


def _begin(life: Life) -> tuple[ForkServerProcess, Connection]:
    ours, theirs = get_context("forkserver").Pipe(duplex=False)
    process = get_context("forkserver").Process(target=live, args=(life, theirs), daemon=True)
    with ONE_AT_A_TIME:
        process.start()
    theirs.close()
    return process, ours


def _end(life: Life, process: ForkServerProcess, pipe: Connection) -> list[str]:
    """Wait for a process; what is wrong with how it ended."""
    ended = wait([process.sentinel], LIFE_S_MAX)
    if not ended:
        process.kill()
    with ONE_AT_A_TIME:
        process.join()
    if not ended:
        return [f"{life.name} did not end within {LIFE_S_MAX} s"]
    allowed = (0, -signal.SIGKILL) if life.fault and life.fault.what == "kill" else (0,)
    if process.exitcode in allowed:
        return []
    try:
        why = pipe.recv() if pipe.poll() else ""
    except EOFError:
        why = ""
    return [f"{life.name} ended with {process.exitcode}: {why}"]
