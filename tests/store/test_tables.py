"""The schema: Core tables and migrated database are one, migrating is safe, and what is no ledger is refused.

In: the migrated database, empty ones, and addresses where no PostgreSQL 18 answers.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy
from alembic import command
from sqlalchemy.dialects import postgresql
from support import owner, rows, value

from ledger import examples
from ledger.errors import DanbaoError
from ledger.store import connect
from ledger.store.tables import metadata

# Never read from Python: Alembic's own, and the counter that only inbox_put touches.
NOT_IN_PYTHON = {"alembic_version", "inbox_counter"}
# How SQLAlchemy writes a type where PostgreSQL writes it otherwise.
SPELLING = {"char": '"char"', "numeric(6, 4)": "numeric(6,4)"}

COLUMNS = """
select relname, attname, format_type(atttypid, atttypmod), not attnotnull
from pg_class join pg_attribute on attrelid = pg_class.oid
where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
    and attnum > 0 and not attisdropped
"""
KEYS = """
select relname, attname
from pg_class join pg_index on indrelid = pg_class.oid and indisprimary
join pg_attribute on attrelid = pg_class.oid and attnum = any (indkey)
where relnamespace = 'public'::regnamespace and not relispartition
"""

BOOKS_OF_THE_FIRST_VERSION = """
select make_order_event_day('2026-10-03');
insert into charge (accepted_at, city, amount, platform_no, ordinal, line, order_id, worker_id) values
    ('2026-10-03T04:00Z', 310100, 0, 1, 0, 'D', 'A', 'W1'), ('2026-10-03T04:00Z', 310100, 0, 1, 1, 'G', 'B', 'W1');
insert into order_event (occurred_at, batch_id, platform_no, ordinal, kind, order_id, worker_id) values
    ('2026-10-03T04:00Z', 1, 1, 0, 'A', 'A', 'W1'), ('2026-10-03T04:00Z', 1, 1, 1, 'A', 'B', 'W1'),
    ('2026-10-03T04:20Z', 1, 1, 2, 'C', 'A', null), ('2026-10-03T04:10Z', 1, 1, 3, 'R', 'A', 'W2')
"""


def type_of(column: sqlalchemy.Column[object]) -> str:
    text = column.type.compile(dialect=postgresql.dialect()).lower()
    return SPELLING.get(text, text)


def test_the_tables_in_python_are_those_of_the_database(ledger_url: str) -> None:
    written = {
        (table.name, column.name, type_of(column), column.nullable)
        for table in metadata.tables.values()
        for column in table.columns
    }
    migrated = {row for row in rows(ledger_url, COLUMNS) if row[0] not in NOT_IN_PYTHON}
    assert written == migrated


def test_the_keys_in_python_are_those_of_the_database(ledger_url: str) -> None:
    written = {(table.name, column.name) for table in metadata.tables.values() for column in table.primary_key.columns}
    migrated = {row for row in rows(ledger_url, KEYS) if row[0] not in NOT_IN_PYTHON}
    assert written == migrated


def test_migrating_again_changes_nothing(ledger_url: str) -> None:
    before = rows(ledger_url, "select oid, xmin::text from pg_class order by oid")
    engine = sqlalchemy.create_engine(ledger_url)
    connect.migrate(engine)
    engine.dispose()
    with connect.ledger(ledger_url, connect.INGEST):
        pass
    assert rows(ledger_url, "select oid, xmin::text from pg_class order by oid") == before


def test_a_ledger_of_the_first_version_is_carried_over_with_the_line_of_every_order(database_url: str) -> None:
    engine = sqlalchemy.create_engine(database_url)
    with engine.begin() as connection:
        command.upgrade(connect.migrations(connection), "0001")
    engine.dispose()
    with owner(database_url) as connection:
        connection.execute(BOOKS_OF_THE_FIRST_VERSION)
    with connect.ledger(database_url, connect.AUDIT):
        pass
    expected = [("A", "A", "D"), ("B", "A", "G"), ("A", "C", None), ("A", "R", "*")]
    assert rows(database_url, "select order_id, kind::text, line::text from order_event order by ordinal") == expected
    assert value(database_url, "select count(*) from platform where example") == 0, "examples are for new ledgers"
    with owner(database_url) as connection, pytest.raises(psycopg.Error, match="facts are never changed"):
        connection.execute("update order_event set line = 'F' where line = 'D'")


def test_two_commands_that_migrate_at_once_take_turns(database_url: str) -> None:
    errors: list[BaseException] = []

    def open_ledger() -> None:
        try:
            with connect.ledger(database_url, connect.AUDIT) as engine, engine.connect() as connection:
                assert connection.scalar(sqlalchemy.text("select count(*) from batch")) == 0
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_ledger) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert rows(database_url, "select version_num from alembic_version") == [(connect.HEAD,)]
    assert value(database_url, "select count(*) from platform") == len(examples.registrations())


def test_a_migration_that_fails_leaves_nothing_behind(database_url: str) -> None:
    with owner(database_url) as connection:
        connection.execute("create table settlement (stranger int)")
    with pytest.raises(DanbaoError) as refused, connect.ledger(database_url, connect.AUDIT):
        pass
    assert 'relation "settlement" already exists' in refused.value.what.en
    assert rows(database_url, "select tablename from pg_tables where schemaname = 'public'") == [("settlement",)]


# ---- what is refused, and with which advice


def refusal(url: str) -> DanbaoError:
    with pytest.raises(DanbaoError) as refused, connect.ledger(url, connect.AUDIT):
        pass
    assert refused.value.fix.en
    return refused.value


@pytest.mark.parametrize("url", ["", "ledger", "/var/lib/pg", "postgresql://h:port/d"])
def test_what_is_no_database_url_is_refused_with_an_example(url: str) -> None:
    assert "DANBAO_DATABASE_URL" in refusal(url).fix.en


@pytest.mark.parametrize("url", ["mysql://h/danbao", "sqlite:///danbao.db"])
def test_another_kind_of_database_is_refused_by_name(url: str) -> None:
    error = refusal(url)
    assert url.split(":", maxsplit=1)[0] in error.what.en
    assert "PostgreSQL 18" in error.fix.en


def test_a_place_where_nothing_listens_is_refused(free_port: int) -> None:
    error = refusal(f"postgresql://danbao@127.0.0.1:{free_port}/danbao")
    assert "does not answer" in error.what.en
    assert "DANBAO_DATABASE_URL" in error.fix.en


def test_a_server_that_is_no_postgresql_is_refused(free_port: int) -> None:
    with another_server(free_port):
        error = refusal(f"postgresql://danbao@127.0.0.1:{free_port}/danbao?sslmode=disable")
    assert "does not answer" in error.what.en


def test_a_database_that_is_not_there_is_named(server_url: str) -> None:
    url = sqlalchemy.make_url(server_url).set(database="nowhere").render_as_string(hide_password=False)
    assert "nowhere" in refusal(url).what.en


def test_an_older_server_is_refused_before_anything_is_made(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "SERVER_VERSION_MIN", 99)
    error = refusal(database_url)
    assert "is PostgreSQL 18." in error.what.en
    assert "PostgreSQL 99" in error.fix.en
    assert value(database_url, "select count(*) from pg_tables where schemaname = 'public'") == 0


def test_a_user_who_may_not_make_roles_is_told_what_he_needs(database_url: str) -> None:
    with owner(database_url) as connection:
        connection.execute("create role weak nologin")
    try:
        error = refusal(f"{database_url}&options=-c%20role%3Dweak")
        assert "permission denied" in error.what.en
        assert "may create roles" in error.fix.en
    finally:
        with owner(database_url) as connection:
            connection.execute("drop role weak")


def test_a_user_who_owns_the_database_and_may_create_roles_can_migrate(database_url: str) -> None:
    with owner(database_url) as connection:
        connection.execute("create role proprietor nologin createrole")
        for name in (connect.REGISTRAR, connect.INGEST, connect.SETTLE, connect.AUDIT):
            connection.execute(f"grant {name} to proprietor with admin option")
        name = sqlalchemy.make_url(database_url).database
        connection.execute(f"alter database {name} owner to proprietor")
    engine = sqlalchemy.create_engine(f"{database_url}&options=-c%20role%3Dproprietor")
    try:
        connect.migrate(engine)
        owners = "select distinct tableowner from pg_tables where schemaname = 'public'"
        assert rows(database_url, owners) == [("proprietor",)]
    finally:
        engine.dispose()
        with owner(database_url) as connection:
            connection.execute(f"alter database {name} owner to danbao")
            connection.execute("reassign owned by proprietor to danbao")
            connection.execute("drop owned by proprietor")
            connection.execute("drop role proprietor")


@pytest.fixture
def free_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def another_server(port: int) -> Iterator[None]:
    """Something that listens and speaks another protocol."""

    def answer() -> None:
        for _ in range(4):
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", port)) as server:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield
