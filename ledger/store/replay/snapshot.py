"""One look at the books, the same for every connection, while ingest goes on. In: an engine in the role of audit.

Out: a SQLAlchemy connection for what is small, and streams of Arrow batches for what is large: the driver of ADBC
decodes PostgreSQL's binary COPY in C, at a third of the cost of rows that become Python objects.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, cast

import psycopg
import pyarrow as pa
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, Engine, func, select, text

from ledger.store import connect
from ledger.store.queries import sql

# In which role, and how, the streams' own connections read.
OPTIONS = (
    f"-c role={connect.AUDIT} -c default_transaction_isolation=repeatable\\ read -c default_transaction_read_only=on"
)

_READING: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database held at one moment."""

    connection: Connection
    name: str
    engine: Engine
    streams: dbapi.Connection
    coming_and_going: Lock = field(default_factory=Lock)

    @contextmanager
    def another(self) -> Iterator[Connection]:
        """One more connection on which to ask while `connection` is busy."""
        with self.engine.connect() as connection:
            reading = connection.execution_options(**_READING)
            reading.execute(text(f"set transaction snapshot '{self.name}'"))  # the name is the server's own
            yield reading

    @contextmanager
    def stream(self, query: str) -> Iterator[pa.RecordBatchReader]:
        """The rows of a named query as Arrow batches, on a connection of their own."""
        with self._clone() as connection, connection.cursor() as cursor:
            cursor.execute(f"set transaction snapshot '{self.name}'")  # the name is the server's own
            cursor.execute(sql(query).text)
            yield cursor.fetch_record_batch()

    @contextmanager
    def _clone(self) -> Iterator[dbapi.Connection]:
        """One more connection for a stream, which may be asked for from any thread.

        A clone knows the types of the database already, which takes ten times as long to ask as to connect. The driver
        counts the clones without a lock of its own (apache/arrow-adbc issue 4753) and fails when the count is wrong.
        """
        with self.coming_and_going:
            connection = self.streams.adbc_clone()
        try:
            yield connection
        finally:
            with self.coming_and_going:
                connection.close()


@contextmanager
def taken(engine: Engine) -> Iterator[Snapshot]:
    """A snapshot that lasts until the block ends."""
    with engine.connect() as connection:
        reading = connection.execution_options(**_READING)
        name = reading.scalar(select(func.pg_export_snapshot()))
        driver = cast("psycopg.Connection[Any]", reading.connection.driver_connection)
        address = driver.info.get_parameters() | {"password": driver.info.password, "options": OPTIONS}
        with dbapi.connect(make_conninfo(**address), autocommit=True) as streams:
            yield Snapshot(reading, str(name), engine, streams)
