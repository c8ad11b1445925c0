"""What tests of the ledger share: a migrated database, a desk to hand events in at, questions to the books.

In: the `server_url` of tests/conftest.py. Out: the fixture `ledger_url`, helpers in the ledger's words.
One migrated database serves the session; it is emptied after each test, which takes a few milliseconds
where a database of its own would take a few hundred.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg import sql
from sqlalchemy import Engine

from consumers.loop import Booker, Outcome
from ledger import evidence, rulebook
from ledger.calendar import to_us
from ledger.evidence import Record
from ledger.rulebook import Rulebook
from ledger.store import connect
from ledger.store.heads import Head
from ledger.store.replay import Report, replay

ROOT = Path(__file__).parents[1]
DATA = ROOT / ".." / "shared" / "data"
NOON = "2026-10-03T12:00:00+08:00"
ARRIVED = datetime.fromisoformat("2026-11-20T12:00:00+08:00")
NUMBERS = count(1)
_STANDING: dict[str, psycopg.Connection[Any]] = {}

EMPTY = """
do $$ declare name text; begin
    set local session_replication_role = replica;  -- the superuser's way round append_only
    for name in select relname from pg_class where relkind = 'r' and relispartition loop
        execute 'drop table ' || name;
    end loop;
    for name in select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace
        and relname not in ('alembic_version', 'inbox_counter') and relname not like 'platform%' loop
        execute 'delete from ' || name;
    end loop;
    delete from platform_key_end;
    delete from platform_key;
    delete from platform_line where platform_no in (select platform_no from platform where not example);
    delete from platform_province where platform_no in (select platform_no from platform where not example);
    delete from platform where not example;
    update inbox_counter set next_offset = 0;
end $$
"""


# ---- databases


def libpq(url: str) -> str:
    """The same address as psycopg wants it."""
    return url.replace("postgresql+psycopg:", "postgresql:", 1)


@contextmanager
def owner(url: str, autocommit: bool = True) -> Iterator[psycopg.Connection[Any]]:
    """A connection as the owner of the database, who may do everything that the database itself allows."""
    with psycopg.connect(libpq(url), autocommit=autocommit) as connection:
        yield connection


@contextmanager
def new_ledger(server_url: str) -> Iterator[str]:
    """A migrated database, dropped afterwards."""
    url = sqlalchemy.make_url(server_url).set(database=f"ledger_{os.getpid()}_{next(NUMBERS)}")
    name = sql.Identifier(str(url.database))
    text = url.render_as_string(hide_password=False)
    with owner(server_url) as connection:
        connection.execute(sql.SQL("create database {} strategy file_copy").format(name))
        with connect.ledger(text, connect.AUDIT):
            yield text
        if text in _STANDING:
            _STANDING.pop(text).close()
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


def standing(url: str) -> psycopg.Connection[Any]:
    """A connection as the owner that stays open from question to question."""
    connection = _STANDING.get(url)
    if connection is None or connection.closed:
        connection = _STANDING[url] = psycopg.connect(libpq(url), autocommit=True)
    return connection


def empty(url: str) -> None:
    """Take a test's facts out again."""
    connection = standing(url)
    others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
    connection.execute(f"{others} and pid <> pg_backend_pid() and backend_type = 'client backend'")
    connection.execute(EMPTY)


@pytest.fixture(scope="session")
def session_ledger(server_url: str) -> Iterator[str]:
    """The one migrated database of the session."""
    with new_ledger(server_url) as url:
        yield url


@pytest.fixture
def ledger_url(session_ledger: str) -> Iterator[str]:
    """A ledger as it is in a fresh home: migrated, the example platforms registered, no facts."""
    yield session_ledger
    empty(session_ledger)


@pytest.fixture
def engine(ledger_url: str) -> Iterator[Engine]:
    """The ledger in the role of ingest."""
    with connect.ledger(ledger_url, connect.INGEST) as acting:
        yield acting


def rows(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What a query finds, as the owner."""
    return standing(url).execute(query, values or None).fetchall()


def value(url: str, query: str, *values: Any) -> Any:
    """The one value that a query finds."""
    [(found,)] = rows(url, query, *values)
    return found


def facts(url: str) -> dict[str, list[str]]:
    """Every row of every fact table, as text."""
    names = """select relname from pg_class where relkind in ('r', 'p') and not relispartition
        and relnamespace = 'public'::regnamespace order by relname"""
    return {name: sorted(row for (row,) in rows(url, f"select t::text from {name} t")) for (name,) in rows(url, names)}


# ---- rules


@cache
def rules() -> Rulebook:
    """The rules that come with the product."""
    return rulebook.load()


@cache
def rules_where(charging_event: str, on_cancellation: str, base: str | None = "") -> Rulebook:
    """The same rules, but for what charges an order and what a cancellation does.

    `base`: what instant delivery costs in yuan, where that differs too; None: there is no rate for it.
    """
    content = json.loads(rules().content)
    for rule in content["order_rules"]:
        rule |= {"charging_event": charging_event, "on_cancellation": on_cancellation}
    priced = [rule for rule in content["premium_bases"] if rule["line"] == "instant_delivery"]
    for rule in priced:
        if base is None:
            content["premium_bases"].remove(rule)
        elif base:
            rule["premium_base"] = base
    return Rulebook.from_content(json.dumps(content, ensure_ascii=False))


# ---- events


Event = dict[str, Any]
Handed = Event | list[Event] | bytes


def event(kind: str, order: str, time: str, data: Event, platform: str = "eleme", number: str = "") -> Event:
    """An order event as a platform sends it."""
    return {
        "specversion": "1.0",
        "id": number or f"{order}/{kind}",
        "source": f"/platforms/{platform}",
        "type": f"order.{kind}",
        "subject": order,
        "time": time,
        "data": data,
    }


def accepted(
    order: str,
    time: str = NOON,
    worker: str = "W1",
    city: str = "310100",
    line: str = "instant_delivery",
    platform: str = "eleme",
) -> Event:
    """An acceptance."""
    data = {"worker_id": worker, "line": line, "accepted_city": city}
    return event("accepted", order, time, data, platform)


def reassigned(
    order: str,
    worker: str,
    time: str = "2026-10-03T12:10:00+08:00",
    number: str = "1",
    platform: str = "eleme",
) -> Event:
    """The order passes to another worker."""
    return event("reassigned", order, time, {"worker_id": worker}, platform, number)


def completed(order: str, time: str = "2026-10-03T12:30:00+08:00", platform: str = "eleme") -> Event:
    """A completion."""
    return event("completed", order, time, {}, platform)


def cancelled(order: str, time: str = "2026-10-03T12:20:00+08:00", platform: str = "eleme") -> Event:
    """A cancellation."""
    return event("cancelled", order, time, {"reason": "shop closed"}, platform)


def encode(handed: Handed) -> bytes:
    """The bytes of one record."""
    return handed if isinstance(handed, bytes) else json.dumps(handed, ensure_ascii=False).encode()


def ndjson(path: Path, *handed: Handed) -> Path:
    """A file of records."""
    path.write_bytes(b"".join(encode(one) + b"\n" for one in handed))
    return path


class Desk:
    """One partition, at which batches of records are handed in and answered."""

    def __init__(
        self,
        engine: Engine,
        topic: str = "desk",
        partition: int = 0,
        book: Rulebook | None = None,
        switch: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.booker = Booker(engine, book or rules(), switch)
        self.topic, self.partition = topic, partition

    @property
    def head(self) -> Head:
        """How far it is booked."""
        return self.booker.head(self.topic, self.partition)

    def hand_in(self, *handed: Handed, head: Head | None = None, arrived: datetime = ARRIVED) -> Outcome:
        """Book these records as one batch, from the head (or from what we believe to be the head)."""
        head = head or self.head
        records = [Record(head.next_offset + place, to_us(arrived), encode(one)) for place, one in enumerate(handed)]
        return self.booker.book(self.booker.read(records), head)

    def answers(self, *handed: Handed, **terms: Any) -> list[str]:
        """The answers, one per event."""
        return [str(answer) for answer in self.hand_in(*handed, **terms).answers]


# ---- questions to the books


def replayed(url: str) -> Report:
    """What `danbao audit replay` finds."""
    with tempfile.TemporaryDirectory() as spill, connect.ledger(url, connect.AUDIT) as engine:
        return replay(engine, Path(spill), 2, lambda _: nullcontext(lambda _: None))


def differences(url: str) -> list[list[str]]:
    """What each conflict differs in, in order."""
    return [row[0] for row in rows(url, "select differs from conflict order by batch_id, ordinal")]


def premiums(url: str) -> dict[tuple[str, str, str], int]:
    """What platforms owe by postings: (platform, province, month of origin) → 毫."""
    query = """select platform_id, e.province, to_char(origin_month, 'YYYY-MM'), sum(amount)::bigint
        from entry e join posting using (entry_id) join account a using (account_id)
        join platform p on p.platform_no = e.platform_no
        where a.kind = 'premium_receivable' and e.kind = 'premium' group by 1, 2, 3"""
    return {tuple(key): amount for *key, amount in rows(url, query)}


def chain_faults(url: str) -> list[str]:
    """Where segments, batches and heads do not fit together; empty when the evidence is whole."""
    faults = []
    heads: dict[tuple[str, int], tuple[int, bytes]] = {}
    query = """select topic, partition, first_offset, next_offset,
            raw_sha256, chain_before, chain_after, payload
        from batch join segment using (batch_id) order by topic, partition, first_offset"""
    for topic, partition, first, after, digest, before, chain_after, payload in rows(url, query):
        at, chain = heads.get((topic, partition), (0, evidence.GENESIS))
        framed = evidence.decompress(payload)
        records = list(evidence.unpack(framed, first))
        sealed = evidence.seal(records, chain, topic, partition, first)
        if (at, chain) != (first, before) or (digest, chain_after) != (sealed.raw_sha256, sealed.chain_after):
            faults.append(f"{topic}[{partition}] at {first}")
        heads[topic, partition] = (after, chain_after)
    kept = rows(url, "select topic, partition, next_offset, chain_hash from partition_head")
    if {(topic, partition): (after, chain) for topic, partition, after, chain in kept} != heads:
        faults.append("heads")
    return faults


def charges_without_books(url: str) -> int:
    """By how much the charge rows of each entry and its postings disagree, in 毫; 0 in a sound ledger."""
    query = """select coalesce(sum(abs(coalesce(charged, 0) - coalesce(posted, 0))), 0) from
        (select entry_id, sum(amount) charged from
            (select entry_id, amount from charge where entry_id is not null
             union all select entry_id, amount from charge_change) c group by 1) c
        full join
        (select entry_id, sum(amount) posted from posting join account using (account_id)
            join entry e using (entry_id)
            where e.kind = 'premium' and account.kind = 'premium_receivable' group by 1) p using (entry_id)"""
    return int(value(url, query))


def real_file(name: str) -> Path:
    """A file of real orders; the test is skipped where they are not at hand."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the real orders are not at hand: {name} is read from shared/data beside the project")
    return path
