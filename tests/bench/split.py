"""Where the processor time of an event goes on its way through Kafka: broker, client, checks, packing, COPY, indexes.

In: a durable server and a directory. Out: a row for one event a record and one for 500, the split in its note.

Each topic is booked twice in each run, once into a ledger without the indexes of what COPY fills: the difference is
theirs. The processes' times are the kernel's; within the consumer each thread's own clock splits them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg
from psycopg import sql

from consumers.kafka import broker
from tests.bench import streams, support
from tests.bench.support import Report

RUNS = 3
TICKS = os.sysconf("SC_CLK_TCK")
FILLED = ("charge", "event_key", "order_event")
KEYS = f"""
    select format('alter table %s drop constraint %I', conrelid::regclass, conname) from pg_constraint
    where contype = 'p' and conrelid = any('{{{",".join(FILLED)}}}'::regclass[])"""
INDEXES = f"""
    select format('drop index %s', indexrelid::regclass) from pg_index
    where not indisprimary and indrelid = any('{{{",".join(FILLED)}}}'::regclass[])"""
WAITED_MS = "select sum(fsync_time) from pg_stat_io where object = 'wal'"


@dataclass
class Costs:
    """What one run cost, in µs an event. `beside`: by its name, each part that is not the database's."""

    beside: dict[str, float]
    database: float
    disk: float  # waited for, not worked

    def note(self, copying: float) -> str:
        """The split, where COPY without indexes took the database so long."""
        parts = self.beside | {"COPY and the rest of the database": copying, "indexes": self.database - copying}
        shown = ", ".join(f"{name} {cost:.1f}" for name, cost in parts.items())
        return f"{shown}; beside that commits waited {self.disk:.2f} for the disk"

    @property
    def total(self) -> float:
        """All of it that was worked."""
        return sum(self.beside.values()) + self.database


def costs(report: Report, url: str, directory: Path) -> None:
    """One event a record, and five hundred."""
    with streams.cluster(directory) as bootstrap:
        for name, per_record, seed, platforms in (streams.TOPICS[0], streams.TOPICS[2]):
            options = {"seed": seed, "per_record": per_record, "platforms": platforms}
            file = support.simulate(directory / f"{name}.ndjson", streams.ORDERS, **options)
            streams.produce(bootstrap, name, file)
            file.unlink()
            whole, bare = [], []
            for _ in range(RUNS):
                whole.append(_cost(url, directory, bootstrap, name))
                bare.append(_cost(url, directory, bootstrap, name, indexes=False))
            middle = sorted(whole, key=lambda one: one.total)[RUNS // 2]
            note = middle.note(median(one.database for one in bare))
            report.add(f"cost_{per_record}", [one.total for one in whole], "µs/event", note)


def _cost(url: str, directory: Path, bootstrap: str, topic: str, indexes: bool = True) -> Costs:
    """Book the topic into a new ledger."""
    with support.fresh_database(url) as ledger, _watched(ledger, indexes) as connection:
        kafka = broker.find(directory / "kafka", print)
        assert kafka
        [java] = [one.pid for one in kafka.brokers if one.pid]
        server = int((directory / "home" / "pg" / "data" / "postmaster.pid").read_text().split()[0])
        before = _cpu(java), _family_cpu(server), _waited_ms(connection)
        result = streams.consume(ledger, bootstrap, topic)
        after = _cpu(java), _family_cpu(server), _waited_ms(connection)
    events, steps = result["events"], result["steps"]
    java_s, server_s, disk_ms = (now - then for now, then in zip(after, before, strict=True))
    booking = {name: cost for name, cost in steps.items() if name not in ("polled", "validated", "waiting")}
    booked = sum(booking.values())
    beside = {
        "broker": java_s / events * 1e6,
        "client": result["cpu"] / events * 1e6 - steps["validated"] - booked,
        "validation": steps["validated"],
        "packing rows": booking["claimed"],
        "segment, entries and the rest of Python": booked - booking["claimed"],
    }
    return Costs(beside, server_s / events * 1e6, disk_ms * 1000 / events)


@contextmanager
def _watched(ledger: str, indexes: bool) -> Iterator[psycopg.Connection]:
    """The ledger, its waits for the disk counted; without the indexes of what COPY fills where that is asked."""
    with psycopg.connect(support.libpq(ledger), autocommit=True) as connection:
        timed = sql.SQL("alter database {} set track_wal_io_timing = on")
        connection.execute(timed.format(sql.Identifier(connection.info.dbname)))
        if not indexes:
            for asked in (KEYS, INDEXES):
                for (statement,) in connection.execute(asked).fetchall():
                    connection.execute(statement)
        yield connection


def _waited_ms(connection: psycopg.Connection) -> float:
    """How long the server waited until its log was on the disk."""
    found = connection.execute(WAITED_MS).fetchone()
    assert found
    return float(found[0])


def _cpu(pid: int, ended: bool = False) -> float:
    """Processor seconds of a process, and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended else 13])) / TICKS


def _family_cpu(postmaster: int) -> float:
    """Processor seconds of a server: those of its processes, and of those that ended."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return _cpu(postmaster, ended=True) + sum(_cpu(int(child)) for child in children)
