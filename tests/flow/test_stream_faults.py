"""The stream consumer under faults of its own and of PostgreSQL: whatever dies or waits, orders are booked once.

In: a real broker and a real PostgreSQL, and one fault for each test, that its name says. Out: the orders that were
produced, each charged once, evidence whole, a replay without findings. Failures of other systems that we must not
have are named by their number. The broker's faults, and what producers send: test_broker_faults.py.
"""

import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest
from command import kill
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.abstract import ConsumerProtocolAssignment
from kafka.coordinator.assignors.range import RangePartitionAssignor
from sqlalchemy import Engine
from streams import (
    Running,
    assert_sound,
    charged,
    command,
    consume,
    consumer,
    heads,
    make_topic,
    new_name,
    notices,
    numbered,
    produce,
    wait_until,
)
from support import accepted, chain_faults, completed, encode, libpq, owner, standing, value

from consumers.kafka import fetch, settings
from consumers.kafka.fetch import Facts, Fetcher
from consumers.kafka.settings import Access, consumer_options
from consumers.loop import STEPS
from consumers.orders import Hooks
from ledger.store import connect, server
from schemas.codes import Answer

STANDBYS = {"wal_level": "replica", "max_wal_senders": "2"}
RSS_KIB_MAX = 300 * 1024
MIB = 1024 * 1024
WAITING = """select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"""


class Held:
    """A switch that holds the consumer at one step, once, until it is let go."""

    def __init__(self, step: str) -> None:
        self.step, self.reached, self._go = step, Event(), Event()

    def __call__(self, step: str) -> None:
        if step == self.step and not self.reached.is_set():
            self.reached.set()
            assert self._go.wait(60)

    def let_go(self) -> None:
        self._go.set()


# ---- processes of ours that die


def test_a_consumer_killed_at_any_step_is_completed_by_the_next(engine: Engine, ledger_url: str, bootstrap: str):
    topics = {step: make_topic(bootstrap, new_name(step)) for step in STEPS}
    doomed = []
    for step, name in topics.items():
        produce(bootstrap, name, [accepted(f"{step}1"), completed(f"{step}1")], accepted(f"{step}2"), b"rubbish")
        arguments = ("--topic", name, "--to-end", "--group", name)
        doomed.append(command(ledger_url, bootstrap, *arguments, DANBAO_CRASH_AT=step))
    for process in doomed:
        out, err = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, (out, err)
    assert heads(ledger_url) == {(topics["committed"], 0): 3}
    rest = consume(engine, bootstrap, dict.fromkeys(topics.values()))
    assert rest.totals.answers == {Answer.NEW: 3 * (len(STEPS) - 1), Answer.REJECTED: len(STEPS) - 1}
    assert_sound(ledger_url, [f"{step}{number}" for step in STEPS for number in (1, 2)])


def test_a_rebalance_while_a_batch_is_open_waits_for_it(
    engine: Engine, ledger_url: str, bootstrap: str, monkeypatch: pytest.MonkeyPatch
):
    name, group, held = make_topic(bootstrap, new_name("faults"), 2), new_name("group"), Held("kept")
    revoking, owners = Event(), dict[TopicPartition, Fetcher]()
    revoked, assigned = Fetcher._on_revoked, Fetcher._on_assigned

    def seen(self: Fetcher, partitions: list[TopicPartition]) -> None:
        if partitions:
            revoking.set()
        revoked(self, partitions)

    def given(self: Fetcher, partitions: list[TopicPartition]) -> None:
        assigned(self, partitions)
        owners.update(dict.fromkeys(partitions, self))

    monkeypatch.setattr(Fetcher, "_on_revoked", seen)
    monkeypatch.setattr(Fetcher, "_on_assigned", given)
    for partition in (0, 1):
        produce(bootstrap, name, *(accepted(f"{partition}-{order}") for order in range(20)), partition=partition)
    with Running(consumer(engine, bootstrap, name, group, held)) as first:
        assert held.reached.wait(60)
        with Running(consumer(engine, bootstrap, name, group)) as second:
            assert revoking.wait(60)
            assert charged(ledger_url) == 0
            held.let_go()
            wait_until(lambda: charged(ledger_url) == 40 and len(set(owners.values())) == 2)
            for partition in (0, 1):
                produce(bootstrap, name, accepted(f"{partition}-more"), partition=partition)
            wait_until(lambda: charged(ledger_url) == 42)
            assert first.alive
            assert second.alive
    assert first.consumer.totals.records + second.consumer.totals.records == 42
    assert second.consumer.totals.records >= 1
    assert_sound(ledger_url, [f"{part}-{order}" for part in (0, 1) for order in (*range(20), "more")])


def test_a_partition_that_waits_for_its_head_while_the_group_gathers_is_not_taken_back(
    engine: Engine, ledger_url: str, bootstrap: str
):
    """The database was away when the partition was revoked (chaos seed 1349): the client still lists it by then."""
    name, group = make_topic(bootstrap, new_name("faults"), 2), new_name("group")
    told: list[str] = []
    ours = consumer(engine, bootstrap, name, group, hooks=Hooks(on_event=lambda event, facts: told.append(event)))
    for partition in (0, 1):
        produce(bootstrap, name, accepted(f"{partition}-first"), partition=partition)
    with Running(ours) as running_:
        wait_until(lambda: charged(ledger_url) == 2)
        # By their names they come before ours, and so get all partitions.
        slow, other = (KafkaConsumer(**consumer_options(Access(bootstrap), group, one)) for one in ("a", "b"))
        slow.subscribe([name])
        fetcher = ours.fetcher
        assert fetcher is not None
        # Asked until both have one: the first time that the group gathers ours may come too late for it.
        wait_until(lambda: slow.poll(50) == {} and len(slow.assignment()) == len(fetcher._ours) == 1)
        [kept] = fetcher._ours.values()
        del told[:]
        other.subscribe([name])
        wait_until(lambda: other.poll(200) == {} and "revoked" in told)
        fetcher.rewind(kept)  # as who books does when the database is away
        time.sleep(1)
        assert "assigned" not in told, "the group waits for the slow member"
        wait_until(lambda: slow.poll(50) == other.poll(50) == {} and "assigned" in told)
        time.sleep(1.5)  # it looks at its lag each second
        assert running_.failure is None
        for one in (slow, other):
            one.close(autocommit=False)
        for partition in (0, 1):
            produce(bootstrap, name, accepted(f"{partition}-last"), partition=partition)
        wait_until(lambda: charged(ledger_url) == 4 or not running_.alive)
        assert running_.failure is None
    assert_sound(ledger_url, [f"{part}-{which}" for part in (0, 1) for which in ("first", "last")])


def test_a_leader_whose_topics_change_gets_its_share_however_short_its_polls(bootstrap: str):
    """kafka-python 3.0.12 forgot that it was joining again, and polled for ever without partitions."""
    for _ in range(5):  # each was left with nothing four times of five
        name, group = make_topic(bootstrap, new_name("faults")), new_name("group")
        options = consumer_options(Access(bootstrap), group, "a") | {"auto_offset_reset": "earliest"}
        with closing(KafkaConsumer(**options)) as leader:
            leader.subscribe([name])  # it joins before it knows the topic, and again when it does
            wait_until(lambda leader=leader: leader.poll(50) == {} and bool(leader.assignment()), seconds=20)  # type: ignore[misc]


def test_partitions_added_beneath_a_running_consumer_are_booked_too(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    ours = consumer(engine, bootstrap, topic)
    produce(bootstrap, topic, accepted("A"))
    with Running(ours):
        wait_until(lambda: charged(ledger_url) == 1)
        with closing(KafkaAdminClient(bootstrap_servers=bootstrap.split(","))) as admin:
            admin.create_partitions({topic: 3})
        assert ours.fetcher is not None
        ours.fetcher._consumer._client.cluster.request_update()  # it would look by itself within a minute
        produce(bootstrap, topic, accepted("B"), partition=2)
        wait_until(lambda: charged(ledger_url) == 2)
    assert_sound(ledger_url, ["A", "B"])


class Miser(RangePartitionAssignor):  # type: ignore[misc]
    """Gives nobody anything, as a leader does that does not know the topic yet."""

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> dict[str, Any]:
        return {member.member_id: ConsumerProtocolAssignment(cls.version, [], b"") for member in members}


def leading(bootstrap: str, topic: str, group: str, assignor: type) -> KafkaConsumer:
    """The first member of a group; by its name it comes before others."""
    others = {"partition_assignment_strategy": [assignor], "auto_offset_reset": "earliest"}
    joined = Event()

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_assigned(self, assigned: Any) -> None:
            joined.set()

        def on_partitions_revoked(self, revoked: Any) -> None:
            pass

    leader = KafkaConsumer(**consumer_options(Access(bootstrap), group, "a") | others)
    leader.subscribe([topic], listener=Listener())
    wait_until(lambda: leader.poll(100) == {} and joined.is_set())
    return leader


def test_a_member_whose_group_gives_nothing_yet_is_not_at_the_end(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
):
    """Chaos seed 15, once in many runs: a group that gave nothing for ten seconds was taken for the end."""
    monkeypatch.setattr(fetch, "NOTHING_S", 0.5)
    produce(bootstrap, topic, accepted("A"))
    group = new_name("group")
    ours = consumer(engine, bootstrap, topic, group)
    with closing(leading(bootstrap, topic, group, Miser)) as leader, Running(ours, to_end=True) as running_:
        wait_until(lambda: leader.poll(50) == {} and ours.fetcher is not None and ours.fetcher.is_member)
        until = time.monotonic() + 3
        wait_until(lambda: leader.poll(50) == {} and (time.monotonic() > until or not running_.alive))
        assert running_.alive
        leader.close(autocommit=False)
        wait_until(lambda: not running_.alive)
    assert running_.failure is None
    assert_sound(ledger_url, ["A"])


def test_a_member_is_at_the_end_where_others_have_all_partitions(
    engine: Engine, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetch, "NOTHING_S", 0.5)
    group, got = new_name("group"), list[Any]()
    hooks = Hooks(on_event=lambda event, facts: got.append(facts["partitions"]) if event == "assigned" else None)
    ours = consumer(engine, bootstrap, topic, group, hooks=hooks)
    with closing(leading(bootstrap, topic, group, RangePartitionAssignor)) as leader:
        wait_until(lambda: leader.poll(50) == {} and len(leader.assignment()) == 1)
        with Running(ours, to_end=True) as running_:
            wait_until(lambda: leader.poll(50) == {} and not running_.alive)
    assert running_.failure is None
    assert got == [[]]


def test_partitions_that_the_group_has_given_us_are_not_others(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
):
    """Seen once in many runs: who asked before hearing of its own share took it for another's, and was at the end."""
    monkeypatch.setattr(fetch, "NOTHING_S", 0)
    produce(bootstrap, topic, accepted("A"))
    answers = []

    def given(event: str, facts: Facts) -> None:
        if event == "assigned" and facts["partitions"]:
            assert ours.fetcher
            answers.append(ours.fetcher._is_for_others())

    ours = consumer(engine, bootstrap, topic, hooks=Hooks(on_event=given))
    with Running(ours, to_end=True) as running_:
        wait_until(lambda: not running_.alive)
    assert set(answers) == {False}
    assert_sound(ledger_url, ["A"])


def test_two_consumers_racing_on_one_partition_book_it_once_and_one_is_fenced(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    said, listen = notices()
    slow = Held("kept")
    produce(bootstrap, topic, *map(accepted, numbered(range(30))))
    with connect.ledger(ledger_url, connect.INGEST) as other, Running(consumer(engine, bootstrap, topic, switch=slow)):
        assert slow.reached.wait(60)
        racing = consumer(other, bootstrap, topic, hooks=Hooks(on_notice=listen))
        with Running(racing):
            wait_until(lambda: value(ledger_url, WAITING) == 1)
            slow.let_go()
            wait_until(lambda: any("Another process booked" in line for line in said))
            produce(bootstrap, topic, accepted("last"))
            wait_until(lambda: charged(ledger_url) == 31)
    assert_sound(ledger_url, [*numbered(range(30)), "last"])
    assert value(ledger_url, "select sum(events) from batch") == 31


# ---- PostgreSQL


@contextmanager
def own_database() -> Iterator[tuple[str, Path]]:
    """A server of the test's own with durable commits, which may wait for a standby, and its home."""
    directory = Path(tempfile.mkdtemp(prefix="danbao-faults-"))
    directory.chmod(0o755)
    try:
        with server.running(directory / "home", print, STANDBYS) as url:
            yield url, directory / "home"
    finally:
        shutil.rmtree(directory)


def kill_server(home: Path) -> None:
    """kill −9 of PostgreSQL with all its children."""
    postmaster = int((home / "pg" / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    kill((postmaster, *map(int, children)))
    ended = Path(f"/proc/{postmaster}/stat")  # ours, so it stays as a zombie until we look after it
    wait_until(lambda: not ended.exists() or ended.read_text().rpartition(")")[2].split()[0] in "ZX")


def asked(url: str, query: str) -> Any:
    """An answer on a connection of its own, since servers die here; autocommit."""
    with owner(url) as connection:
        cursor = connection.execute(query)
        found = cursor.fetchone() if cursor.description else None
        return found[0] if found else None


def test_a_postgres_killed_inside_a_commit_has_booked_it_once_whether_it_answered_or_not(bootstrap: str, topic: str):
    """Once before the commit is sent: rolled back. Once after it is written and before it is answered: it stands."""
    produce(bootstrap, topic, *map(accepted, numbered(range(10))))
    early = Held("advanced")
    with own_database() as (url, home), connect.ledger(url, connect.INGEST) as engine:
        said, listen = notices()
        with Running(consumer(engine, bootstrap, topic, switch=early, hooks=Hooks(on_notice=listen))) as ours:
            assert early.reached.wait(60)
            kill_server(home)
            early.let_go()
            with server.running(home, print, STANDBYS):
                wait_until(lambda: asked(url, "select count(*) from charge") == 10)
                asked(url, "alter system set synchronous_standby_names = 'nobody'")  # whose answer a commit awaits
                asked(url, "select pg_reload_conf()")
                produce(bootstrap, topic, *map(accepted, numbered(range(10, 20))))
                unanswered = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
                wait_until(lambda: asked(url, unanswered) == 1)
                kill_server(home)
                (home / "pg" / "data" / "postgresql.auto.conf").write_text("")
                with server.running(home, print, STANDBYS):
                    produce(bootstrap, topic, *map(accepted, numbered(range(20, 30))))
                    wait_until(lambda: asked(url, "select count(*) from charge") == 30)
                    assert ours.alive
                    assert any("Waiting for it; nothing is lost" in line for line in said)
                    assert_sound(url, numbered(range(30)))
                    assert value(url, "select sum(events) from batch") == 30


@contextmanager
def refusing(url: str, sort: str) -> Iterator[None]:
    """A database that takes no writes: read-only, or with the answer of one whose disk is full."""
    name = value(url, "select current_database()")
    before = {
        "read-only": f"alter database {name} set default_transaction_read_only = on",
        "full": """create function full_disk() returns trigger language plpgsql as $$ begin
            raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$;
            create trigger full_disk before insert on batch for each statement execute function full_disk()""",
    }
    after = {
        "read-only": f"alter database {name} reset default_transaction_read_only",
        "full": "drop trigger full_disk on batch; drop function full_disk",
    }
    others = """select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and usename is not null"""
    connection = standing(url)
    connection.execute(before[sort])
    connection.execute(others)
    try:
        yield
    finally:
        connection.execute(after[sort])
        connection.execute(others)


@pytest.mark.parametrize("sort", ["read-only", "full"])
def test_a_database_that_takes_no_writes_is_waited_for_and_nothing_is_lost(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, sort: str
):
    said, listen = notices()
    with Running(consumer(engine, bootstrap, topic, hooks=Hooks(on_notice=listen))) as ours:
        produce(bootstrap, topic, accepted("before"))
        wait_until(lambda: heads(ledger_url) == {(topic, 0): 1})
        with refusing(ledger_url, sort):
            produce(bootstrap, topic, *map(accepted, numbered(range(10))))
            why = "read-only transaction" if sort == "read-only" else "No space left"
            wait_until(lambda: any(why in line for line in said), str(said))
            assert ours.alive
        wait_until(lambda: charged(ledger_url) == 11)
    assert_sound(ledger_url, ["before", *numbered(range(10))])


def resident_kib(pid: int) -> int:
    """What a process holds in memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def test_a_backlog_before_a_slow_database_stays_with_the_broker_and_memory_is_bounded(
    ledger_url: str, bootstrap: str, topic: str
):
    """Half of the events are good; the others, whose order ids are too long, cost more: each is kept with a reason."""
    good, long = ([accepted(f"{number:0{width}}") for number in range(1_000)] for width in (6, 200))
    record = encode([event for pair in zip(good, long, strict=True) for event in pair])
    produce(bootstrap, topic, *[record] * (160 * MIB // len(record)))
    with psycopg.connect(libpq(ledger_url)) as slow:
        slow.execute("lock table batch in access exclusive mode")
        process = command(ledger_url, bootstrap, "--topic", topic, "--group", topic, "--json")
        try:
            seen: list[int] = []
            while len(seen) < 10 or seen[-1] > 1.02 * seen[-6]:
                assert process.poll() is None, process.communicate()
                time.sleep(0.5)
                seen.append(resident_kib(process.pid))
                assert seen[-1] < RSS_KIB_MAX, seen
            assert charged(ledger_url) == 0
            slow.rollback()
            wait_until(lambda: charged(ledger_url) == 1_000)
            assert resident_kib(process.pid) < RSS_KIB_MAX
        finally:
            slow.rollback()
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0
    assert chain_faults(ledger_url) == []


def test_kafka_python_1418_and_2179_a_database_slower_than_the_poll_interval_costs_no_membership(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(settings, "POLL_INTERVAL_MS_MAX", 2_500)
    monkeypatch.setattr(settings, "SESSION_MS", 6_000)
    given: list[Any] = []
    assigned = Fetcher._on_assigned
    monkeypatch.setattr(Fetcher, "_on_assigned", lambda self, new: (given.append(new), assigned(self, new))[1])
    said, listen = notices()
    produce(bootstrap, topic, *map(accepted, numbered(range(20))))
    with Running(consumer(engine, bootstrap, topic, hooks=Hooks(on_notice=listen))) as ours:
        with psycopg.connect(libpq(ledger_url)) as slow:
            slow.execute("lock table charge in access exclusive mode")
            wait_until(lambda: value(ledger_url, WAITING) == 1)
            before = len(given)  # kafka-python may join twice when it begins
            time.sleep(5)
        wait_until(lambda: charged(ledger_url) == 20)
        produce(bootstrap, topic, accepted("last"))
        wait_until(lambda: charged(ledger_url) == 21)
        assert ours.alive
    assert len(given) == before, "no rebalance"
    assert said == []
    assert_sound(ledger_url, [*numbered(range(20)), "last"])
