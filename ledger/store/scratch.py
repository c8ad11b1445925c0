"""Ledgers for a short time, each a database of its own. In: the URL of a server. Out: URLs of empty ledgers.

For campaigns of faults: what is booked there is compared and thrown away.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

from psycopg import Error as DriverError
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from ledger.store import connect

_CUT = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = :name"


class Scratch:
    """Makes ledgers on a server, as copies of one that is migrated."""

    def __init__(self, url: str, word: str) -> None:
        self._url, self._template = make_url(url), f"{word}_template"
        self._word, self._numbers = word, count(1)
        self._server = create_engine(self._url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")

    def __enter__(self) -> "Scratch":
        self._run(f"create database {self._template}")
        with connect.ledger(self._text(self._template), connect.AUDIT):
            return self

    def __exit__(self, *_: object) -> None:
        self._run(f"drop database {self._template} with (force)")
        self._server.dispose()

    @contextmanager
    def ledger(self) -> Iterator[str]:
        """An empty ledger, dropped afterwards."""
        name = f"{self._word}_{next(self._numbers)}"
        self._run(f"create database {name} template {self._template} strategy file_copy")
        try:
            yield self._text(name)
        finally:
            self._run(f"drop database {name} with (force)")

    def _text(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _run(self, statement: str) -> None:
        with self._server.connect() as connection:
            connection.execute(text(statement))


def named(url: str, name: str) -> str:
    """The same address for connections that can be cut by this name."""
    return make_url(url).update_query_dict({"application_name": name}).render_as_string(hide_password=False)


def cut(url: str, name: str) -> None:
    """End the connections of this name, as an administrator or a failing network does."""
    engine: Engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with suppress(DBAPIError, DriverError), engine.connect() as connection:
        connection.execute(text(_CUT), {"name": name})
    engine.dispose()
