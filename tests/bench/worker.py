"""One process that books a file as `danbao ingest` does. In: a database URL and a file. Out: a line of JSON."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from threading import local
from time import monotonic, thread_time

from consumers import loop, sources
from ledger import rulebook
from ledger.store import connect
from tests.bench import support


def main(url: str, file: str) -> None:
    """Book the file; time each step of the loop."""
    steps: dict[str, float] = {}
    clocks = local()
    with connect.ledger(url, connect.INGEST) as engine:

        def switch(step: str) -> None:
            """Processor time of this thread, and what it waited for the database, since the step before."""
            cpu, wall = thread_time(), monotonic()
            if step != "read":  # the thread that reads also waits for the one that books
                waited = wall - clocks.wall - (cpu - clocks.cpu) if step != "prepared" else 0
                steps["database"] = steps.get("database", 0) + waited
            steps[step] = steps.get(step, 0) + cpu - getattr(clocks, "cpu", 0)
            clocks.cpu, clocks.wall = cpu, wall

        booker = loop.Booker(engine, rulebook.load(), switch)
        source = sources.open_file(Path(file), None, None, datetime.now(UTC))
        sources.keep(engine, source, None)
        totals = loop.Totals()
        clocks.cpu, clocks.wall = thread_time(), monotonic()
        started = monotonic()
        loop.run(booker, source, totals)
        ended = monotonic()
    assert not totals.reasons
    told = {"started": started, "ended": ended, "events": totals.events, "steps": steps}
    print(json.dumps(told | {"rss_mib": support.peak_mib()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
