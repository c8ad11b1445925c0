"""Gaps in a stream: a partition that stands at one goes on when somebody decided so, and the decision is kept.

In: topics whose first records the broker no longer holds. Out: what is booked after them, and what is said of it.
"""

import psycopg
import pytest
from kafka import KafkaAdminClient, TopicPartition
from sqlalchemy import Engine
from streams import asked, charged, consume, heads, make_topic, new_name, numbered, produce
from support import accepted, owner, replayed, rows

from ledger.errors import DanbaoError
from ledger.store import connect

WHY = ("--why", "disk of broker 2 lost", "--yes")


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A topic of one partition, of which five records are booked and three that came after them are gone."""
    return make_topic(bootstrap, new_name("gaps"))


def lose(bootstrap: str, topic: str, before: int) -> None:
    """Let the broker forget what lies before an offset."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    admin.delete_records({TopicPartition(topic, 0): before})
    admin.close()


@pytest.fixture
def stands(engine: Engine, bootstrap: str, topic: str) -> str:
    """That topic, its partition standing at the gap."""
    produce(bootstrap, topic, *map(accepted, numbered(range(5))))
    consume(engine, bootstrap, topic)
    produce(bootstrap, topic, *map(accepted, numbered(range(5, 10))))
    lose(bootstrap, topic, 8)
    with pytest.raises(DanbaoError, match="3 records are missing"):
        consume(engine, bootstrap, topic)
    return topic


def test_a_partition_goes_on_after_a_gap_that_somebody_accepted(
    engine: Engine, ledger_url: str, bootstrap: str, stands: str
):
    assert [one["gap"] for one in asked(ledger_url, bootstrap, "status", code=1)["partitions"]] == [True]
    told = asked(ledger_url, bootstrap, "consume", "accept-gap", stands, "0", *WHY)
    assert (told["first_offset"], told["next_offset"], told["missing"], told["accepted"]) == (5, 8, 3, True)
    assert [one["gap"] for one in asked(ledger_url, bootstrap, "status")["partitions"]] == [False]
    consume(engine, bootstrap, stands)
    assert charged(ledger_url) == 7
    assert heads(ledger_url) == {(stands, 0): 10}
    assert replayed(ledger_url).findings.total == 0
    [finding] = [
        one
        for one in asked(ledger_url, bootstrap, "audit", "findings", code=1)["findings"]
        if one["code"] == "gap_accepted"
    ]
    assert finding["count"] == 3
    assert f"{stands}[0] 5 … 7" in finding["particulars"]
    assert "disk of broker 2 lost" in finding["particulars"]


def test_what_is_lost_after_the_decision_needs_another(engine: Engine, ledger_url: str, bootstrap: str, stands: str):
    asked(ledger_url, bootstrap, "consume", "accept-gap", stands, "0", *WHY)
    lose(bootstrap, stands, 9)
    with pytest.raises(DanbaoError, match="4 records are missing"):
        consume(engine, bootstrap, stands)
    asked(ledger_url, bootstrap, "consume", "accept-gap", stands, "0", *WHY)
    consume(engine, bootstrap, stands)
    assert charged(ledger_url) == 6


def test_without_a_yes_nothing_is_decided(engine: Engine, ledger_url: str, bootstrap: str, stands: str):
    told = asked(ledger_url, bootstrap, "consume", "accept-gap", stands, "0", *WHY[:-1], code=1)
    assert told["accepted"] is False
    assert rows(ledger_url, "select count(*) from gap") == [(0,)]


def test_where_there_is_no_gap_none_is_accepted(engine: Engine, ledger_url: str, bootstrap: str, topic: str):
    produce(bootstrap, topic, *map(accepted, numbered(range(5))))
    consume(engine, bootstrap, topic)
    for place, why in (
        ((topic, "0"), "stands at no gap"),
        ((topic, "1"), "no partition"),
        ((new_name("nowhere"), "0"), "no partition"),
    ):
        assert why in asked(ledger_url, bootstrap, "consume", "accept-gap", *place, *WHY, code=2)["error"]
    assert "--why" in asked(ledger_url, bootstrap, "consume", "accept-gap", topic, "0", "--why", " ", code=2)["error"]


def test_nobody_accepts_in_the_name_of_another_and_a_consumer_not_at_all(ledger_url: str):
    columns, facts = "topic, partition, first_offset, next_offset, why", "'t', 0, 5, 8, 'why'"
    named = f"insert into gap ({columns}, accepted_by) values ({facts}, 'li')"
    plain = f"insert into gap ({columns}) values ({facts})"
    with owner(ledger_url) as connection:
        for role, statement in ((connect.REGISTRAR, named), (connect.INGEST, plain)):
            connection.execute(f"set role {role}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
            connection.rollback()
