"""The peer: the same topic through Bytewax into one table by COPY, at least once, no books, no checks.

In: database, broker, topic. Out: a line of JSON. What it does not do: validate, find duplicates, charge, keep raw
bytes. What it does it does as the driver's documentation says: a row at a time into one COPY a batch, escaped.
"""

import json
import sys
from time import monotonic
from typing import Any

import bytewax.operators as op
import orjson
import psycopg
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

COLUMNS = "id, source, type, subject, time, data"
TABLE = "create table copied (id text, source text, type text, subject text, time timestamptz, data jsonb)"
BATCH = 5_000
clock = {"first": 0.0, "last": 0.0, "events": 0.0}


class CopyPartition(StatelessSinkPartition[Any]):
    """Writes what it is given in one COPY and commits."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url)

    def write_batch(self, items: list[Any]) -> None:
        """One COPY a batch."""
        clock["first"] = clock["first"] or monotonic()
        with self._connection.cursor() as cursor, cursor.copy(f"copy copied ({COLUMNS}) from stdin") as copy:
            for event in items:
                copy.write_row(row(event))
        self._connection.commit()
        clock["events"] += len(items)
        clock["last"] = monotonic()


def row(event: dict[str, Any]) -> tuple[str, ...]:
    """An event as the columns of the table."""
    data = orjson.dumps(event["data"]).decode()
    return event["id"], event["source"], event["type"], event["subject"], event["time"], data


class CopySink(DynamicSink[Any]):
    """A connection for each worker."""

    def __init__(self, url: str) -> None:
        self._url = url

    def build(self, step_id: str, worker_index: int, worker_count: int) -> CopyPartition:
        """The one worker's."""
        return CopyPartition(self._url)


def events(message: Any) -> list[Any]:
    """The events of a record."""
    value = orjson.loads(message.value)
    return value if isinstance(value, list) else [value]


def main(url: str, bootstrap: str, topic: str) -> None:
    """Copy the topic from its beginning to its end."""
    plain = url.replace("postgresql+psycopg:", "postgresql:", 1)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(TABLE)
    flow = Dataflow("copy")
    messages = op.input("in", flow, KafkaSource([bootstrap], [topic], tail=False, batch_size=BATCH))
    op.output("out", op.flat_map("events", messages, events), CopySink(plain))
    started = monotonic()
    run_main(flow)
    print(json.dumps({"events": clock["events"], "seconds": clock["last"] - started}))


if __name__ == "__main__":
    main(*sys.argv[1:])
