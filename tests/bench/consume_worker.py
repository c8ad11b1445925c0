"""One process that books a topic as `danbao consume orders` does.

In: database, broker, topic, group; with --stay it consumes until its standard input ends. Out: a line of JSON.
"""

import json
import sys
from threading import Thread
from time import monotonic, process_time, thread_time
from typing import Any

from consumers import loop
from consumers.kafka.settings import Access
from consumers.loop import HANDED_IN, Door
from consumers.orders import Consumer, Hooks, doors_for
from ledger import rulebook
from ledger.evidence import Record
from ledger.intake import Intake
from ledger.store import connect
from tests.bench import support


class Booker(loop.Booker):
    """A booker that knows how long it validated, apart from the client that runs in the same thread."""

    validated = 0.0

    def read(self, records: list[Record], door: Door = HANDED_IN) -> Intake:
        """Decode, validate and rate."""
        started = thread_time()
        intake = super().read(records, door)
        self.validated += thread_time() - started
        return intake


def main(url: str, bootstrap: str, topic: str, group: str, stay: bool = False) -> None:
    """Consume; time each step by thread, and note memory on the way."""
    first: list[float] = []
    memory: list[float] = []
    last = [0.0]
    with connect.ledger(url, connect.INGEST) as engine:

        def listen(outcome: loop.Outcome, batch: Any) -> None:
            first.append(batch.polled_at)
            last[0] = monotonic()
            memory.append(support.peak_mib())

        clock = support.Clock()
        booker = Booker(engine, rulebook.load(), clock)
        consumer = Consumer(engine, booker, Access(bootstrap), doors_for(engine, {topic: None}), group)
        consumer.hooks = Hooks(on_outcome=listen)
        if stay:
            Thread(target=lambda: (sys.stdin.read(), consumer.stop.set()), daemon=True).start()
        began = process_time()
        consumer.run(to_end=not stay)
        whole = process_time() - began
    totals = consumer.totals
    assert not totals.reasons
    steps = {"polled": clock.steps.pop("read", 0) - booker.validated, "validated": booker.validated} | clock.steps
    told = {"started": first[0] if first else 0, "ended": last[0], "events": totals.events, "steps": steps}
    quarters = [memory[len(memory) * part // 4] for part in (1, 2, 3)] if memory else []
    print(json.dumps(told | {"cpu": whole, "rss_mib": support.peak_mib(), "rss_on_the_way": quarters}))


if __name__ == "__main__":
    main(*sys.argv[1:5], stay="--stay" in sys.argv)
