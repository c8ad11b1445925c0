"""The database is the last word: what the code asserts first, it refuses by itself.

In: rows written by hand, past all code of ours, into a ledger in which two orders are booked. Out: refusals.
"""

import threading
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import Engine
from support import Desk, accepted, completed, owner, rows, value

from ledger.calendar import SHANGHAI

ENTRY = """insert into entry (batch_id, kind, platform_no, province, line, month, origin_month, premium_base,
        float_factor, order_count, rulebook_hash)
    select batch_id, kind, platform_no, province, line, '{month}', '{origin}', premium_base, float_factor,
        order_count, rulebook_hash
    from entry order by entry_id limit 1 returning entry_id"""
POSTING = """insert into posting (entry_id, posting_no, account_id, occurred_on, order_count, amount)
    values (%s, %s, (select min(account_id) from account), '2026-10-03', 1, %s)"""
SETTLEMENT = """insert into settlement
    (province, month, order_count, amount, declared_fen, due_on, rulebook_hash)
    select '31', '2026-10-01', 0, 0, 0, '2026-11-15', rulebook_hash from rulebook limit 1"""
EVENT = """insert into order_event (occurred_at, batch_id, platform_no, ordinal, kind, order_id)
    select %s, batch_id, 1, 0, 'C', 'B' from batch limit 1"""


@pytest.fixture
def books(engine: Engine, ledger_url: str) -> str:
    """A ledger with two orders in it."""
    Desk(engine).hand_in(accepted("A"), accepted("B"), completed("A"))
    return ledger_url


def write_entry(
    connection: psycopg.Connection[Any], *amounts: int, month: str = "2026-10-01", origin: str = "2026-10-01"
) -> int:
    """An entry and its postings, as they might come from a program that is not ours."""
    found = connection.execute(ENTRY.format(month=month, origin=origin)).fetchone()
    assert found
    for number, amount in enumerate(amounts, 1):
        connection.execute(POSTING, (found[0], number, amount))
    return int(found[0])


# ---- entries


def test_a_balanced_entry_is_taken(books: str) -> None:
    with owner(books, autocommit=False) as connection:
        write_entry(connection, 700, 700, -1400)
    assert value(books, "select count(*) from entry") == 2


@pytest.mark.parametrize("amounts", [(700, -699), (700,), (0,), ()])
def test_an_entry_that_does_not_balance_is_refused_at_commit(books: str, amounts: tuple[int, ...]) -> None:
    with owner(books, autocommit=False) as connection:
        write_entry(connection, *amounts)
        with pytest.raises(psycopg.Error) as caught:
            connection.commit()
    assert caught.value.sqlstate == "DB004"
    assert "does not balance" in str(caught.value)
    assert value(books, "select count(*) from entry") == 1


def test_postings_added_to_an_older_entry_are_refused_though_they_balance(books: str) -> None:
    with owner(books, autocommit=False) as connection:
        entry_id = connection.execute("select entry_id from entry").fetchone()
        assert entry_id
        with pytest.raises(psycopg.Error, match="with their entry or never") as caught:
            connection.execute(POSTING, (entry_id[0], 3, 0))
    assert caught.value.sqlstate == "DB001"


def test_an_entry_does_not_happen_after_it_is_booked(books: str) -> None:
    with owner(books) as connection, pytest.raises(errors.CheckViolation):
        write_entry(connection, 1, -1, month="2026-10-01", origin="2026-11-01")


@pytest.mark.parametrize("month", ["2026-10-02", "2026-10-31"])
def test_months_are_kept_as_their_first_day(books: str, month: str) -> None:
    with owner(books) as connection, pytest.raises(errors.CheckViolation):
        write_entry(connection, 1, -1, month=month)


def test_a_sealed_month_takes_no_entry(books: str) -> None:
    with owner(books, autocommit=False) as connection:
        connection.execute(SETTLEMENT)
        connection.commit()
        with pytest.raises(psycopg.Error, match="month 2026-10 of province 31 is sealed") as caught:
            write_entry(connection, 1, -1)
        connection.rollback()
        write_entry(connection, 1, -1, month="2026-11-01")
    assert caught.value.sqlstate == "DB003"


def test_a_month_is_settled_once(books: str) -> None:
    with owner(books) as connection:
        connection.execute(SETTLEMENT)
        with pytest.raises(errors.UniqueViolation):
            connection.execute(SETTLEMENT)


def test_a_declaration_without_its_settlement_is_refused_at_commit(books: str) -> None:
    with owner(books, autocommit=False) as connection:
        connection.execute(
            "insert into declaration select '31', '2026-10-01', 1, 1, 'x', '2026-10-01', 1, 1, 1, 1, 1, null"
        )
        with pytest.raises(errors.ForeignKeyViolation):
            connection.commit()


# ---- rules


RATE = """insert into rate select rulebook_hash, 'instant_delivery', '31', 'any', %s, 700, 'V', 'tests'
    from rulebook limit 1"""


def test_rates_that_overlap_are_refused_by_the_temporal_key(books: str) -> None:
    with owner(books) as connection:
        with pytest.raises(errors.ExclusionViolation):
            connection.execute(RATE, ["[2026-06-01,2026-07-01)"])  # the packaged rules have one since 2025-07
        connection.execute(RATE, ["[2024-06-01,2025-07-01)"])
        with pytest.raises(errors.ExclusionViolation):
            connection.execute(RATE, ["[2025-06-30,2025-07-01)"])


def test_a_rulebook_that_is_not_what_its_hash_says_is_refused(books: str) -> None:
    with owner(books) as connection, pytest.raises(errors.CheckViolation):
        connection.execute("insert into rulebook values (sha256('one'), 'another')")


# ---- orders


@pytest.mark.parametrize("day", ["2026-10-03", "2026-10-04", "2025-01-01"])
def test_an_order_is_charged_once_whatever_day_it_claims(books: str, day: str) -> None:
    again = f"""insert into charge select entry_id, '{day}T12:00+08', city, amount, platform_no, ordinal,
        line, order_id, worker_id from charge where order_id = 'A'"""
    with owner(books) as connection, pytest.raises(errors.UniqueViolation):
        connection.execute(again)


def test_an_order_ends_once_whatever_day_it_claims(books: str) -> None:
    again = """insert into event_key select '2026-12-24T00:00Z', batch_id, platform_no, 9, 'X', order_id, ''
        from event_key"""
    with owner(books) as connection, pytest.raises(errors.UniqueViolation):
        connection.execute(again)


def test_a_batch_does_not_begin_twice_at_one_offset(books: str) -> None:
    again = """insert into batch (topic, partition, first_offset, next_offset, rulebook_hash, events, new,
        duplicate, conflict, rejected, raw_bytes, raw_sha256, chain_before, chain_after)
        select topic, partition, first_offset, next_offset, rulebook_hash, 1, 1, 0, 0, 0, 1, raw_sha256,
        chain_before, chain_after from batch"""
    with owner(books) as connection, pytest.raises(errors.UniqueViolation):
        connection.execute(again)


# ---- days of order events


def test_an_event_without_a_day_is_refused(books: str) -> None:
    with owner(books) as connection, pytest.raises(errors.CheckViolation, match="no partition"):
        connection.execute(EVENT, [datetime(2026, 9, 1, 12, tzinfo=SHANGHAI)])


def test_a_day_begins_and_ends_at_midnight_in_shanghai_in_any_session(books: str) -> None:
    def place(*when: int) -> str:
        connection.execute(EVENT, [datetime(*when, tzinfo=SHANGHAI)])
        query = "select tableoid::regclass::text from order_event where occurred_at = %s"
        [(name,)] = connection.execute(query, [datetime(*when, tzinfo=SHANGHAI)]).fetchall()
        return str(name)

    with owner(books) as connection:
        connection.execute("set timezone = 'America/New_York'")
        connection.execute("select make_order_event_day('2026-09-09'), make_order_event_day('2026-09-10')")
        assert place(2026, 9, 9, 0, 0, 0) == "order_event_20260909"
        assert place(2026, 9, 9, 23, 59, 59, 999_999) == "order_event_20260909"
        assert place(2026, 9, 10, 0, 0, 0) == "order_event_20260910"
        with pytest.raises(errors.CheckViolation):
            place(2026, 9, 8, 23, 59, 59, 999_999)


def test_a_day_is_made_once(ledger_url: str) -> None:
    make = "select make_order_event_day('2026-09-09')"
    assert [value(ledger_url, make) for _ in range(3)] == [True, False, False]


def test_a_day_has_the_index_by_worker(ledger_url: str) -> None:
    value(ledger_url, "select make_order_event_day('2026-09-09')")
    query = "select indexdef from pg_indexes where tablename = 'order_event_20260909'"
    [(definition,)] = rows(ledger_url, query)
    assert "(worker_id, line) WHERE (worker_id IS NOT NULL)" in definition


def test_of_two_at_once_one_makes_the_day(ledger_url: str) -> None:
    made: list[bool] = []

    def make() -> None:
        made.append(value(ledger_url, "select make_order_event_day('2026-09-09')"))

    with owner(ledger_url, autocommit=False) as connection:
        connection.execute("select make_order_event_day('2026-09-08')")
        threads = [threading.Thread(target=make) for _ in range(3)]
        for thread in threads:
            thread.start()
        threads[0].join(0.1)
        assert made == []  # they wait for the day that is being made
        connection.commit()
        for thread in threads:
            thread.join()
    assert sorted(made) == [False, False, True]


@pytest.mark.parametrize("day", ["2022-06-30", "1999-01-01", "9999-12-31"])
def test_a_day_outside_of_all_reason_is_refused(ledger_url: str, day: str) -> None:
    with pytest.raises(psycopg.Error, match=f"no day for order events: {day}") as caught:
        value(ledger_url, "select make_order_event_day(%s)", date.fromisoformat(day))
    assert caught.value.sqlstate == "DB002"


def test_the_first_day_of_the_scheme_can_be_made_and_one_in_a_year(ledger_url: str) -> None:
    for day in (date(2022, 7, 1), value(ledger_url, "select current_date") + timedelta(days=365)):
        assert value(ledger_url, "select make_order_event_day(%s)", day) is True


@pytest.mark.parametrize(
    "busy",
    ["select count(*) from order_event", EVENT.replace("%s", "'2026-10-03T05:00Z'")],
    ids=["read", "write"],
)
def test_making_a_day_does_not_wait_for_who_reads_or_writes_events(books: str, busy: str) -> None:
    with owner(books, autocommit=False) as other, owner(books) as connection:
        other.execute(busy)  # and its transaction stays open
        connection.execute("set lock_timeout = '1s'")
        connection.execute("select make_order_event_day('2026-09-09')")
        connection.execute(EVENT, [datetime(2026, 9, 9, 12, tzinfo=SHANGHAI)])
        found = other.execute("select count(*) from order_event where order_id = 'B' and kind = 'C'").fetchone()
        assert found
        assert found[0] >= 1


# ---- accounts


def test_an_account_stands_once_in_the_chart(books: str) -> None:
    with owner(books) as connection:
        for kind in ("premium_income", "premium_receivable"):
            with pytest.raises(errors.UniqueViolation):
                connection.execute(
                    "insert into account (kind, province, platform_no) select kind, province, platform_no"
                    " from account where kind = %s",
                    [kind],
                )


def test_only_receivables_are_kept_by_platform(books: str) -> None:
    insert = "insert into account (kind, province, platform_no) values (%s, '31', %s)"
    with owner(books) as connection:
        for wrong in (("premium_income", 1), ("premium_receivable", None), ("bribe", 1)):
            with pytest.raises(errors.CheckViolation):
                connection.execute(insert, wrong)
