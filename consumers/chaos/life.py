"""One consumer process of a campaign, which dies or loses its database where it is told to.

In: a Life. Out: exit code 0 when all is booked, else a traceback on the pipe. It is forked from a server that has
imported this module already: a life then costs milliseconds and not seconds.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

from consumers.chaos.plan import Fault
from consumers.kafka import rejected
from consumers.kafka.settings import Access
from consumers.loop import Booker
from consumers.orders import Consumer, doors_for
from ledger import rulebook
from ledger.store import connect, scratch

RULES = rulebook.load()  # once for all lives, see above
REJECTED = ".rejected"  # what a run rejects is told to a topic of its own


class Life(NamedTuple):
    """Who it is, what it reads and books, and what happens to it."""

    name: str
    database: str
    access: Access
    topic: str
    group: str
    fault: Fault | None


def live(life: Life, pipe: Connection) -> None:
    """Book all that the topic holds."""
    rejected.TOPIC = f"{life.topic}{REJECTED}"
    try:
        with connect.ledger(scratch.named(life.database, life.name), connect.INGEST) as engine:
            booker = Booker(engine, RULES, _switch(life))
            doors = doors_for(engine, {life.topic: None})
            Consumer(engine, booker, life.access, doors, life.group).run(to_end=True)
    except BaseException:
        pipe.send(traceback.format_exc())
        sys.exit(1)


def _switch(life: Life) -> Callable[[str], None]:
    passed = 0

    def pull(step: str) -> None:
        nonlocal passed
        if life.fault is None or step != life.fault.step:
            return
        passed += 1
        if passed != life.fault.time:
            return
        if life.fault.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        scratch.cut(life.database, life.name)

    return pull
