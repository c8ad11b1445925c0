"""Least privilege: what each role may do, and what the database refuses it.

In: connections that act in one role, as `connect.ledger` gives them. Out: permission denied where the
duty is another's.
"""

from datetime import date

import pytest
from psycopg import errors
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError
from support import Desk, accepted, owner, rows, rules, value

from ledger.examples import simulated
from ledger.store import connect, reference, registry, settle

INSERTS = {
    connect.REGISTRAR: {"platform", "platform_line", "platform_province", "platform_key", "platform_key_end"},
    connect.INGEST: {
        *("rulebook", "rate", "source", "partition_head", "batch", "segment", "order_event", "account"),
        *("entry", "posting", "charge", "charge_change", "event_key", "conflict", "rejected_record"),
        "rejections_told",
    },
    connect.SETTLE: {"rulebook", "rate", "account", "entry", "posting", "settlement", "declaration"},
    connect.AUDIT: set[str](),
}
FUNCTIONS = ("make_order_event_day('2026-09-09')", "inbox_put('record')")

MAY = """select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
    and has_table_privilege(%s, oid, %s)"""


@pytest.fixture
def books(engine: Engine, ledger_url: str) -> str:
    """A ledger with an order in it."""
    Desk(engine).hand_in(accepted("A"))
    return ledger_url


def test_each_statement_sees_what_others_committed_before_it_whatever_the_server_is_set_to(ledger_url: str) -> None:
    """What is looked at under a lock must be as new as the lock."""
    name = value(ledger_url, "select quote_ident(current_database())")
    with owner(ledger_url) as connection:
        connection.execute(f"alter database {name} set default_transaction_isolation = 'repeatable read'")
        try:
            with owner(ledger_url) as another:
                assert another.execute("show transaction_isolation").fetchone() == ("repeatable read",)
            with connect.ledger(ledger_url, connect.INGEST) as engine, engine.begin() as tx:
                assert tx.scalar(text("show transaction_isolation")) == "read committed"
        finally:
            connection.execute(f"alter database {name} reset default_transaction_isolation")


@pytest.mark.parametrize("role", INSERTS)
def test_a_role_adds_to_the_tables_of_its_duty_and_no_others(ledger_url: str, role: str) -> None:
    assert {name for (name,) in rows(ledger_url, MAY, role, "insert")} == INSERTS[role]


@pytest.mark.parametrize("role", INSERTS)
def test_no_role_may_change_or_remove_anything(ledger_url: str, role: str) -> None:
    assert rows(ledger_url, MAY, role, "update, delete, truncate") == []
    columns = "select distinct table_name, column_name from information_schema.column_privileges"
    changeable = rows(ledger_url, f"{columns} where grantee = %s and privilege_type = 'UPDATE'", role)
    bookmarks = [
        ("partition_head", "chain_hash"),
        ("partition_head", "next_offset"),
        ("rejections_told", "next_offset"),
    ]
    assert sorted(changeable) == (bookmarks if role == connect.INGEST else [])


@pytest.mark.parametrize("role", INSERTS)
def test_every_role_may_read_everything_and_make_no_tables(books: str, role: str) -> None:
    with connect.ledger(books, role) as engine, engine.connect() as connection:
        tables = "select tablename from pg_tables where schemaname = 'public'"
        for (name,) in connection.execute(text(tables)).all():
            connection.execute(text(f"select count(*) from {name}"))
        with pytest.raises(ProgrammingError, match="permission denied for schema public"):
            connection.execute(text("create table mine ()"))


@pytest.mark.parametrize("role", INSERTS)
def test_days_and_inbox_are_the_business_of_ingest(ledger_url: str, role: str) -> None:
    with connect.ledger(ledger_url, role) as engine:
        for call in FUNCTIONS:
            with engine.connect() as connection:
                if role == connect.INGEST:
                    connection.execute(text(f"select {call}"))
                else:
                    with pytest.raises(ProgrammingError, match="permission denied for function"):
                        connection.execute(text(f"select {call}"))


def test_an_auditor_writes_nothing(books: str) -> None:
    with connect.ledger(books, connect.AUDIT) as engine, engine.connect() as connection:
        tables = "select tablename from pg_tables where schemaname = 'public'"
        for (name,) in connection.execute(text(tables)).all():
            with pytest.raises(ProgrammingError, match="permission denied"), connection.begin_nested():
                connection.execute(text(f"insert into {name} default values"))


def test_ingest_cannot_settle(books: str) -> None:
    with connect.ledger(books, connect.INGEST) as engine, pytest.raises(ProgrammingError) as caught:
        settle.seal(engine, "31", date(2026, 10, 1), rules())
    assert isinstance(caught.value.orig, errors.InsufficientPrivilege)


def test_settlement_cannot_charge(books: str) -> None:
    with connect.ledger(books, connect.SETTLE) as engine, pytest.raises(ProgrammingError) as caught:
        Desk(engine).hand_in(accepted("B"))
    assert isinstance(caught.value.orig, errors.InsufficientPrivilege)
    assert rows(books, "select order_id from charge") == [("A",)]


@pytest.mark.parametrize("role", [connect.INGEST, connect.SETTLE, connect.AUDIT])
def test_only_the_registrar_registers_platforms(ledger_url: str, role: str) -> None:
    stranger = simulated()[0].model_copy(update={"platform_id": "stranger", "uscc": "91310000MA1FL4Q87R"})
    denied = pytest.raises(ProgrammingError, match="permission denied for table platform")
    with connect.ledger(ledger_url, role) as engine, engine.connect() as tx, denied:
        registry.register(tx, stranger)


def test_the_registrar_registers_platforms_and_nothing_else(ledger_url: str) -> None:
    stranger = simulated()[0].model_copy(update={"platform_id": "stranger", "uscc": "91310000MA1FL4Q87R"})
    with connect.ledger(ledger_url, connect.REGISTRAR) as engine, engine.begin() as tx:
        assert registry.register(tx, stranger)
        with pytest.raises(ProgrammingError, match="permission denied for table rulebook"):
            reference.keep_rulebook(tx, rules())
