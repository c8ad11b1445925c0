"""One process that books a file as `danbao ingest` does. In: a database URL and a file. Out: a line of JSON."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from consumers import loop, sources
from ledger import rulebook
from ledger.store import connect
from tests.bench import support


def main(url: str, file: str) -> None:
    """Book the file; time each step of the loop."""
    with connect.ledger(url, connect.INGEST) as engine:
        clock = support.Clock()
        booker = loop.Booker(engine, rulebook.load(), clock)
        source = sources.open_file(Path(file), None, None, datetime.now(UTC))
        sources.keep(engine, source, None)
        totals = loop.Totals()
        started = monotonic()
        loop.run(booker, source, totals)
        ended = monotonic()
    assert not totals.reasons
    told = {"started": started, "ended": ended, "events": totals.events, "steps": clock.steps}
    print(json.dumps(told | {"rss_mib": support.peak_mib()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
