"""partition_head: it moves by compare-and-set, and whoever holds an older one is fenced.

In: heads as processes believe them to be. Out: the next head, or Fenced and nothing changed.
"""

import pytest
from sqlalchemy import Engine
from support import Desk, accepted, facts, rows

from ledger.errors import Fenced
from ledger.evidence import GENESIS
from ledger.store import heads
from ledger.store.heads import Head

START = Head("t", 0, 0, GENESIS)
FIRST, SECOND = Head("t", 0, 3, b"1" * 32), Head("t", 0, 7, b"2" * 32)


def advance(engine: Engine, before: Head, after: Head) -> Head:
    with engine.begin() as tx:
        heads.advance(tx, before, after)
        return heads.read(tx, "t", 0)


def test_a_partition_never_seen_begins_at_nothing(engine: Engine) -> None:
    with engine.connect() as tx:
        assert heads.read(tx, "t", 0) == START


def test_a_head_moves_from_where_it_stands(engine: Engine, ledger_url: str) -> None:
    assert advance(engine, START, FIRST) == FIRST
    assert advance(engine, FIRST, SECOND) == SECOND
    assert rows(ledger_url, "select * from partition_head") == [tuple(SECOND)]


@pytest.mark.parametrize(
    "believed",
    [START, FIRST, SECOND._replace(chain_hash=b"x" * 32), SECOND._replace(next_offset=6), SECOND._replace(partition=1)],
    ids=["the start", "an older one", "another chain", "another offset", "another partition"],
)
def test_who_believes_in_another_head_is_fenced(engine: Engine, ledger_url: str, believed: Head) -> None:
    advance(engine, START, FIRST)
    advance(engine, FIRST, SECOND)
    with pytest.raises(Fenced) as fenced:
        advance(engine, believed, believed._replace(next_offset=9, chain_hash=b"3" * 32))
    assert f"Another process booked t[{believed.partition}]" in fenced.value.what.en
    assert rows(ledger_url, "select * from partition_head") == [tuple(SECOND)]


def test_of_two_that_begin_a_partition_one_is_fenced(engine: Engine) -> None:
    advance(engine, START, FIRST)
    with pytest.raises(Fenced):
        advance(engine, START, SECOND)


def test_a_batch_on_another_chain_is_rolled_back_whole(engine: Engine, ledger_url: str) -> None:
    """The offset is right, so nothing but the head can tell that this is not the chain we know."""
    desk = Desk(engine)
    desk.hand_in(accepted("A"))
    before = facts(ledger_url)
    with pytest.raises(Fenced):
        desk.hand_in(accepted("B"), head=desk.head._replace(chain_hash=b"x" * 32))
    assert facts(ledger_url) == before
