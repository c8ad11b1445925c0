"""Streams in the books: what came through a topic, signed or not, with offsets missing, is kept and replays alike.

In: a ledger with a platform that signs, topics of its own and of all. Out: rows, and no findings but where somebody
changed something.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg.errors import CheckViolation
from sqlalchemy import Engine
from support import ARRIVED, accepted, completed, encode, owner, replayed, rows, rules, value

from consumers.loop import Booker, Door
from ledger.calendar import to_us
from ledger.errors import BadQuestion
from ledger.evidence import Record
from ledger.identity import Stream
from ledger.store import connect, reference, registry
from schemas.platforms import PlatformRegistration

KUAISONG = PlatformRegistration.model_validate(
    {
        "platform_id": "kuaisong",
        "name": "Kuaisong",
        "name_zh": "快送",
        "uscc": "91310000MA1FL4Q87R",
        "lines": ["instant_delivery"],
        "provinces": {"31": "2026-07-01"},
    }
)
KEY, STRANGE = Ed25519PrivateKey.from_private_bytes(b"k" * 32), Ed25519PrivateKey.from_private_bytes(b"s" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
REGISTERED = ARRIVED - timedelta(days=30)


@pytest.fixture
def signing(ledger_url: str) -> int:
    """The number of a platform that has signed for a month."""
    with connect.ledger(ledger_url, connect.REGISTRAR) as engine, engine.begin() as tx:
        registry.register(tx, KUAISONG)
        number = registry.find(tx, "kuaisong").platform_no
    with owner(ledger_url) as connection:
        connection.execute(
            "insert into platform_key (platform_no, public_key, registered_at, in_force_from) values (%s, %s, %s, %s)",
            (number, PUBLIC, REGISTERED, REGISTERED + timedelta(hours=1)),
        )
    return number


def stream(engine: Engine, topic: str, owner_no: int | None = None) -> Door:
    reference.keep_source(engine, {"topic": topic, "description": "stream", "stream": True, "platform_no": owner_no})
    return Door(None, Stream(topic, owner_no))


def sent(offset: int, *events: dict[str, Any], key: Ed25519PrivateKey | None = KEY) -> Record:
    raw = encode(list(events))
    return Record(offset, to_us(ARRIVED), raw, key.sign(raw) if key else None)


def book_streams(engine: Engine, number: int) -> None:
    booker = Booker(engine, rules())
    door = stream(engine, "orders.v1")
    first = [sent(3, accepted("A", platform="kuaisong")), sent(4, completed("A", platform="kuaisong"), key=None)]
    second = [
        sent(9, accepted("B", platform="kuaisong"), key=STRANGE),
        sent(10, accepted("C", platform="kuaisong"), accepted("D", platform="example-delivery")),
        sent(20, accepted("E", platform="example-delivery"), key=None),
    ]
    for records in (first, second):
        booker.book(booker.read(records, door), booker.head("orders.v1", 0))
    own = stream(engine, "orders.v1.kuaisong", number)
    records = [sent(0, accepted("F", platform="kuaisong")), sent(1, accepted("G", platform="example-delivery"))]
    booker.book(booker.read(records, own), booker.head("orders.v1.kuaisong", 0))


def test_what_came_through_streams_is_booked_or_rejected_and_replays_alike(
    engine: Engine, ledger_url: str, signing: int
):
    book_streams(engine, signing)
    assert [order for (order,) in rows(ledger_url, "select order_id from charge order by order_id")] == [*"ACDEF"]
    reasons = rows(ledger_url, "select topic, record_offset, reason from rejected_record join batch using (batch_id)")
    assert sorted(reasons) == [
        ("orders.v1", 4, "unsigned"),
        ("orders.v1", 9, "bad_signature"),
        ("orders.v1.kuaisong", 1, "wrong_source"),
    ]
    assert value(ledger_url, "select max(next_offset) from partition_head") == 21
    assert replayed(ledger_url).findings.kept == []


@contextmanager
def tampered(url: str, statement: str) -> Iterator[None]:
    with owner(url) as connection:
        connection.execute("set session_replication_role = replica")
        assert connection.execute(statement).rowcount > 0
    yield


@pytest.mark.parametrize(
    "statement",
    [
        "update source set stream = false, platform_no = null where topic = 'orders.v1'",
        "update source set platform_no = null where platform_no is not null",
        "delete from platform_key",
        "update platform_key set public_key = sha256('x')",
        "update platform_key set in_force_from = in_force_from + interval '60 days'",
    ],
)
def test_who_may_send_what_cannot_be_changed_unseen(engine: Engine, ledger_url: str, signing: int, statement: str):
    book_streams(engine, signing)
    with tampered(ledger_url, statement):
        tables = {one.table for one in replayed(ledger_url).findings.kept}
    assert tables & {"rejected_record", "charge", "batch"}


# ---- keys


@pytest.fixture
def registrar(ledger_url: str) -> Iterator[Engine]:
    with connect.ledger(ledger_url, connect.REGISTRAR) as engine:
        yield engine


def soon(ledger_url: str) -> datetime:
    now: datetime = value(ledger_url, "select now()")
    return now


def test_a_key_is_registered_once_and_ends_once(registrar: Engine, ledger_url: str, signing: int):
    now = soon(ledger_url)
    since, until = now + timedelta(hours=1), now + timedelta(days=1)
    other = STRANGE.public_key().public_bytes_raw()
    with registrar.begin() as tx:
        assert registry.add_key(tx, signing, other, since, now) is True
        assert registry.add_key(tx, signing, other, since, now) is False
        with pytest.raises(BadQuestion, match="in force from"):
            registry.add_key(tx, signing, other, since + timedelta(hours=1), now)
        assert registry.end_key(tx, signing, PUBLIC, until, now) is True
        assert registry.end_key(tx, signing, PUBLIC, until, now) is False
        with pytest.raises(BadQuestion, match="ends on"):
            registry.end_key(tx, signing, PUBLIC, until + timedelta(hours=1), now)
        with pytest.raises(BadQuestion, match="no such key"):
            registry.end_key(tx, signing, bytes(32), until, now)
        assert [(row.public_key, row.in_force_until) for row in registry.all_keys(tx)] == [
            (PUBLIC, until),
            (other, None),
        ]


ADD: Callable[..., bool] = registry.add_key
END: Callable[..., bool] = registry.end_key


@pytest.mark.parametrize(("change", "key"), [(ADD, bytes(32)), (END, PUBLIC)])
def test_what_is_said_of_a_key_gives_every_consumer_time_to_hear_of_it(
    registrar: Engine, ledger_url: str, signing: int, change: Callable[..., bool], key: bytes
):
    now = soon(ledger_url)
    with registrar.begin() as tx, pytest.raises(BadQuestion, match="too soon"):
        change(tx, signing, key, now + timedelta(minutes=14), now)
    with pytest.raises(Exception, match="check constraint"), registrar.begin() as tx:
        change(tx, signing, key, now + timedelta(minutes=14), now - timedelta(minutes=2))


def test_the_database_itself_refuses_a_key_of_another_length(ledger_url: str, signing: int):
    with owner(ledger_url) as connection, pytest.raises(CheckViolation):
        connection.execute(
            "insert into platform_key values (%s, %s, now() + interval '1 hour')", (signing, PUBLIC + b"!")
        )
