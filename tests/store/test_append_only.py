"""Facts are never changed: the database refuses update, delete and truncate, whoever asks.

In: a ledger that holds at least one row in every fact table. Out: refusals with the code DB001 for the
owner, and permission denied for every role.
"""

from collections.abc import Iterator
from datetime import date

import psycopg
import pytest
from psycopg import errors
from support import (
    Desk,
    accepted,
    cancelled,
    new_ledger,
    owner,
    reassigned,
    rows,
    rules,
    rules_where,
    value,
)

from ledger.evidence import GENESIS
from ledger.store import connect, gaps, reference, rejections, settle
from ledger.store.heads import Head

FACTS = [
    *(
        "platform",
        "platform_line",
        "platform_province",
        "platform_key",
        "platform_key_end",
        "gap",
        "rulebook",
        "rate",
        "source",
    ),
    *("batch", "segment", "order_event", "order_event_20261003", "event_key", "conflict", "rejected_record", "retry"),
    *("inbox", "account", "entry", "posting", "charge", "charge_change", "settlement", "declaration"),
]
# What may change by its nature: the bookmarks, the counter behind the inbox, the schema's version.
NO_FACTS = {"partition_head", "rejections_told", "inbox_counter", "alembic_version"}
ROLES = (connect.REGISTRAR, connect.INGEST, connect.SETTLE, connect.AUDIT)

A_COLUMN = """select attname from pg_attribute
    where attrelid = %s::regclass and attnum > 0 and attidentity = '' limit 1"""


@pytest.fixture(scope="module")
def full_ledger(server_url: str) -> Iterator[str]:
    """A ledger in which every fact table holds a row."""
    with new_ledger(server_url) as url:
        with connect.ledger(url, connect.INGEST) as engine:
            reversing = Desk(engine, book=rules_where("accepted", "reverse"))
            reversing.hand_in(accepted("A"), reassigned("A", "W2"), cancelled("A"), accepted("A", worker="W3"))
            Desk(engine, "other").hand_in(accepted("B", platform="example-delivery"), b"no event")
            with engine.connect() as connection:
                [refused] = rejections.keys(connection, rejections.Asked())
            rejections.put_again(engine, [rejections.Key.of(refused)])
            reference.keep_source(engine, {"topic": "desk", "description": "tests"})
            with engine.begin() as tx:
                tx.exec_driver_sql("select inbox_put('record')")
        with connect.ledger(url, connect.REGISTRAR) as engine, engine.begin() as tx:
            tx.exec_driver_sql("insert into platform_key values (1, sha256('key'), now() + interval '1 hour')")
            tx.exec_driver_sql("insert into platform_key_end values (1, sha256('key'), now() + interval '1 day')")
        with connect.ledger(url, connect.REGISTRAR) as engine:
            gaps.accept(engine, Head("orders.v1", 0, 5, GENESIS), 8, "a test")
        with connect.ledger(url, connect.SETTLE) as engine:
            settle.seal(engine, "31", date(2026, 10, 1), rules())
        yield url


def refused(url: str, statement: str, role: str | None = None) -> psycopg.Error:
    with owner(url) as connection:
        if role:
            connection.execute(f"set role {role}")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statement)
    return caught.value


def statements(url: str, table: str) -> list[str]:
    column = value(url, A_COLUMN, table)
    return [f"update {table} set {column} = {column}", f"delete from {table}", f"truncate {table} cascade"]


def test_every_table_is_a_fact_table_or_named_here(full_ledger: str) -> None:
    query = "select tablename from pg_tables where schemaname = 'public'"
    tables = {name for (name,) in rows(full_ledger, query)}
    days = {name for name in tables if name.startswith("order_event_")}
    assert tables - NO_FACTS - days == set(FACTS) - days


@pytest.mark.parametrize("table", FACTS)
def test_the_owner_too_is_refused_every_change(full_ledger: str, table: str) -> None:
    assert value(full_ledger, f"select count(*) from {table}") > 0
    for statement in statements(full_ledger, table):
        error = refused(full_ledger, statement)
        assert error.sqlstate == "DB001", statement
        assert "facts are never changed" in str(error)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_change_a_fact(full_ledger: str, role: str) -> None:
    for table in FACTS:
        for statement in statements(full_ledger, table):
            assert isinstance(refused(full_ledger, statement, role), errors.InsufficientPrivilege), statement


@pytest.mark.parametrize("table", ["charge", "order_event_20261003"])
def test_an_upsert_or_a_merge_is_a_change_as_well(full_ledger: str, table: str) -> None:
    with owner(full_ledger) as connection:
        connection.execute("create temp table news as select 'A' as order_id")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(
                f"merge into {table} t using news on news.order_id = t.order_id"
                " when matched then update set worker_id = 'W9'"
            )
    assert caught.value.sqlstate == "DB001"
    upsert = "insert into rulebook select * from rulebook on conflict (rulebook_hash) do update set content = ''"
    assert refused(full_ledger, upsert).sqlstate == "DB001"


def test_a_day_made_later_is_protected_like_the_others(full_ledger: str) -> None:
    with owner(full_ledger) as connection:
        connection.execute("select make_order_event_day('2026-09-09')")
        connection.execute(
            "insert into order_event select '2026-09-09T12:00Z', batch_id, platform_no, ordinal, kind,"
            " order_id, worker_id, line from order_event limit 1"
        )
    for statement in statements(full_ledger, "order_event_20260909"):
        assert refused(full_ledger, statement).sqlstate == "DB001"
