"""One process that books a topic as `danbao consume orders` does.

In: database, broker, topic, group; with --stay it consumes until its standard input ends. Out: a line of JSON.
"""

import json
import sys
from threading import Thread, local
from time import monotonic, thread_time
from typing import Any

from consumers import loop
from consumers.kafka.settings import Access
from consumers.orders import Consumer, Hooks, doors_for
from ledger import rulebook
from ledger.store import connect
from tests.bench import support


def main(url: str, bootstrap: str, topic: str, group: str, stay: bool = False) -> None:
    """Consume; time each step by thread, and note memory on the way."""
    steps: dict[str, float] = {}
    clocks = local()
    first: list[float] = []
    memory: list[float] = []
    last = [0.0]
    with connect.ledger(url, connect.INGEST) as engine:

        def switch(step: str) -> None:
            cpu, wall = thread_time(), monotonic()
            if step not in ("read", "prepared"):
                waited = wall - clocks.wall - (cpu - clocks.cpu)
                steps["database"] = steps.get("database", 0) + waited
            name = "poll and read" if step == "read" else step
            steps[name] = steps.get(name, 0) + cpu - getattr(clocks, "cpu", cpu)
            clocks.cpu, clocks.wall = cpu, wall

        def listen(outcome: loop.Outcome, batch: Any) -> None:
            first.append(batch.polled_at)
            last[0] = monotonic()
            memory.append(support.peak_mib())

        booker = loop.Booker(engine, rulebook.load(), switch)
        consumer = Consumer(engine, booker, Access(bootstrap), doors_for(engine, {topic: None}), group)
        consumer.hooks = Hooks(on_outcome=listen)
        if stay:
            Thread(target=lambda: (sys.stdin.read(), consumer.stop.set()), daemon=True).start()
        consumer.run(to_end=not stay)
    totals = consumer.totals
    assert not totals.reasons
    told = {"started": first[0] if first else 0, "ended": last[0], "events": totals.events, "steps": steps}
    quarters = [memory[len(memory) * part // 4] for part in (1, 2, 3)] if memory else []
    print(json.dumps(told | {"rss_mib": support.peak_mib(), "rss_on_the_way": quarters}))


if __name__ == "__main__":
    main(*sys.argv[1:5], stay="--stay" in sys.argv)
