"""The stream consumer under faults: whatever dies, comes twice, comes broken or goes away, orders are booked once.

In: a real broker and a real PostgreSQL, and one fault for each test, that its name says. Out: the orders that were
produced, each charged once, evidence whole, a replay without findings. Failures of other systems that we must not
have are named by their number. What cannot go on says so, and nothing behind a gap is booked.
"""

import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from command import kill
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.abstract import ConsumerProtocolAssignment
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata
from sqlalchemy import Engine
from streams import (
    Running,
    charged,
    command,
    consume,
    consumer,
    heads,
    make_topic,
    new_name,
    notices,
    numbered,
    orders_of,
    produce,
    wait_until,
)
from support import accepted, chain_faults, completed, encode, libpq, owner, replayed, rows, standing, value

from consumers.kafka import fetch, settings
from consumers.kafka.broker import Broker, Cluster, running
from consumers.kafka.fetch import Fetcher
from consumers.kafka.settings import Access, consumer_options, producer_options
from consumers.loop import STEPS
from consumers.orders import Hooks
from ledger.errors import DanbaoError
from ledger.store import connect, registry, server
from schemas.codes import Answer, Reason
from schemas.orders import SIGNATURE_HEADER

STANDBYS = {"wal_level": "replica", "max_wal_senders": "2"}
RSS_KIB_MAX = 300 * 1024
MIB = 1024 * 1024
WAITING = """select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"""


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A topic of one partition that all platforms share."""
    return make_topic(bootstrap, new_name("faults"))


@pytest.fixture(scope="module")
def mortal(broker: Cluster, kafka_ground: Path) -> Iterator[Cluster]:
    """A broker that tests may kill, which soon gives up transactions that nobody ends."""
    patience = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"}
    with running(kafka_ground / "mortal" / "kafka", brokers=1, settings=patience) as cluster:
        yield cluster


def assert_sound(url: str, orders: list[str]) -> None:
    """These orders are charged, each once, and everything in the ledger holds together."""
    assert orders_of(url) == sorted(orders)
    assert chain_faults(url) == []
    assert replayed(url).findings.kept == []


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


class Crash(Exception):
    """The process ends here."""


def crash_at(step: str) -> Callable[[str], None]:
    def pull(reached: str) -> None:
        if reached == step:
            raise Crash(step)

    return pull


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


# ---- the broker


def test_a_broker_killed_and_started_again_is_waited_for(engine: Engine, ledger_url: str, mortal: Cluster):
    name = make_topic(mortal.bootstrap, new_name("faults"))
    produce(mortal.bootstrap, name, *map(accepted, numbered(range(10))))
    with Running(consumer(engine, mortal.bootstrap, name)) as ours:
        wait_until(lambda: charged(ledger_url) == 10)
        [only] = mortal.brokers
        only.kill()
        only.start()
        produce(mortal.bootstrap, name, *map(accepted, numbered(range(10, 20))))
        wait_until(lambda: charged(ledger_url) == 20)
        assert ours.alive
    assert_sound(ledger_url, numbered(range(20)))


def test_a_broker_that_dies_while_a_consumer_begins_is_waited_for(
    engine: Engine, ledger_url: str, mortal: Cluster, monkeypatch: pytest.MonkeyPatch
):
    """Between the client's welcome and its first question (chaos seed 2071)."""
    name, enter = make_topic(mortal.bootstrap, new_name("faults")), fetch.enter
    produce(mortal.bootstrap, name, *map(accepted, numbered(range(10))))
    [only] = mortal.brokers
    coming_back = Thread(target=only.start)

    def entered(*terms: Any) -> Any:
        client = enter(*terms)
        only.kill()
        coming_back.start()
        return client

    monkeypatch.setattr(fetch, "enter", entered)
    with Running(consumer(engine, mortal.bootstrap, name)) as ours:
        wait_until(lambda: charged(ledger_url) == 10 or not ours.alive)
        assert ours.failure is None
    coming_back.join()
    assert_sound(ledger_url, numbered(range(10)))


def leader(cluster: Cluster, topic: str) -> Broker | None:
    """The broker that leads the topic's one partition; None while one is asked that is dead, or there is no leader."""
    try:
        with administered(cluster.bootstrap) as admin:
            [described] = admin.describe_topics([topic])
    except KafkaError:
        return None
    number = described["partitions"][0]["leader_id"]
    return next((one for one in cluster.brokers if one.node_id == number), None)


def test_a_leader_that_moves_takes_the_stream_along(
    engine: Engine, ledger_url: str, broker: Cluster, kafka_ground: Path
):
    with running(kafka_ground / "moves" / "kafka", brokers=3) as cluster:
        name = make_topic(cluster.bootstrap, new_name("faults"), copies=3, min_insync_replicas="2")
        produce(cluster.bootstrap, name, *map(accepted, numbered(range(10))))
        with Running(consumer(engine, cluster.bootstrap, name)) as ours:
            wait_until(lambda: charged(ledger_url) == 10)
            lost = leader(cluster, name)
            assert lost is not None
            lost.kill()
            wait_until(lambda: leader(cluster, name) not in (lost, None))
            left = ",".join(one.address for one in cluster.brokers if one is not lost)
            produce(left, name, *map(accepted, numbered(range(10, 20))))
            wait_until(lambda: charged(ledger_url) == 20)
            assert ours.alive
        assert_sound(ledger_url, numbered(range(20)))
        for one in cluster.brokers:
            one.kill()


@contextmanager
def administered(bootstrap: str) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    try:
        yield admin
    finally:
        admin.close()


def test_a_group_set_back_to_an_older_offset_changes_nothing(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    group = new_name("group")
    produce(bootstrap, topic, *map(accepted, numbered(range(20))))
    consume(engine, bootstrap, topic, group=group)
    place = TopicPartition(topic, 0)
    setting = KafkaConsumer(bootstrap_servers=bootstrap.split(","), group_id=group, enable_auto_commit=False)
    setting.assign([place])
    setting.commit({place: OffsetAndMetadata(3, "", -1)})
    setting.close(autocommit=False)
    produce(bootstrap, topic, *map(accepted, numbered(range(18, 22))))
    again = consume(engine, bootstrap, topic, group=group)
    assert again.totals.answers == {Answer.DUPLICATE: 2, Answer.NEW: 2}
    assert_sound(ledger_url, numbered(range(22)))


def again_from_nothing(bootstrap: str, topic: str) -> None:
    """Remove a topic and make it again."""
    with administered(bootstrap) as admin:
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics())
    make_topic(bootstrap, topic)


@pytest.mark.parametrize("records", [2, 5, 9])
def test_a_topic_made_again_is_refused_and_said(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, records: int
):
    """However many records it has by then: offsets that fit are no proof that it is the same log."""
    produce(bootstrap, topic, *map(accepted, numbered(range(5))))
    consume(engine, bootstrap, topic)
    again_from_nothing(bootstrap, topic)
    produce(bootstrap, topic, *map(accepted, numbered(range(10, 10 + records))))
    with pytest.raises(DanbaoError, match="made again"):
        consume(engine, bootstrap, topic)
    assert_sound(ledger_url, numbered(range(5)))


@pytest.mark.parametrize("records", [2, 9])
def test_a_topic_made_again_beneath_a_running_consumer_is_refused_and_said(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, records: int
):
    """Also where it holds more than was booked by the time that the consumer comes by again."""
    produce(bootstrap, topic, *map(accepted, numbered(range(5))))
    with Running(consumer(engine, bootstrap, topic)) as ours:
        wait_until(lambda: charged(ledger_url) == 5)
        again_from_nothing(bootstrap, topic)
        produce(bootstrap, topic, *map(accepted, numbered(range(10, 10 + records))))
        wait_until(lambda: not ours.alive)
    with pytest.raises(DanbaoError, match="made again"):
        raise ours.failure or AssertionError("nothing was said")
    assert_sound(ledger_url, numbered(range(5)))


def test_aged_out_records_stop_their_partition_with_the_number_missing_and_others_go_on(
    engine: Engine, ledger_url: str, bootstrap: str
):
    name, (said, listen) = make_topic(bootstrap, new_name("faults"), 2), notices()
    for partition in (0, 1):
        produce(bootstrap, name, *(accepted(f"{partition}-{order}") for order in range(5)), partition=partition)
    consume(engine, bootstrap, name)
    for partition in (0, 1):
        produce(bootstrap, name, *(accepted(f"{partition}-{order}") for order in range(5, 10)), partition=partition)
    with administered(bootstrap) as admin:
        admin.delete_records({TopicPartition(name, 0): 8})
    consume(engine, bootstrap, name, hooks=Hooks(on_notice=listen))
    assert any(f"{name}[0] is stopped" in line and "3 records are missing" in line for line in said)
    assert heads(ledger_url) == {(name, 0): 5, (name, 1): 10}
    assert_sound(ledger_url, [*(f"0-{order}" for order in range(5)), *(f"1-{order}" for order in range(10))])


# ---- producers and what they send


def test_a_producer_that_dies_in_mid_transaction_holds_nobody_up_for_ever_and_sends_again(
    engine: Engine, ledger_url: str, mortal: Cluster
):
    name = make_topic(mortal.bootstrap, new_name("faults"))
    options = producer_options(Access(mortal.bootstrap), "dies") | {"transaction_timeout_ms": 2_000}
    dying = KafkaProducer(**options | {"transactional_id": new_name("transaction")})
    dying.init_transactions()
    dying.begin_transaction()
    for order in numbered(range(5)):
        dying.send(name, value=encode(accepted(order)), partition=0)
    dying.flush()
    produce(mortal.bootstrap, name, accepted("behind"))
    with Running(consumer(engine, mortal.bootstrap, name)):
        wait_until(lambda: orders_of(ledger_url) == ["behind"])
        for _ in range(2):  # again, and once more since nobody told him that he was heard
            produce(mortal.bootstrap, name, *map(accepted, numbered(range(5))))
        wait_until(lambda: sum(heads(ledger_url).values()) >= 17)
    dying.close(timeout=0)
    assert value(ledger_url, "select sum(duplicate) from batch") == 5
    assert_sound(ledger_url, ["behind", *numbered(range(5))])


def test_a_record_of_fifty_megabytes_is_rejected_and_blocks_nothing(engine: Engine, ledger_url: str, bootstrap: str):
    large = 50 * MIB
    name = make_topic(bootstrap, new_name("faults"), max_message_bytes=str(large + MIB))
    produce(bootstrap, name, accepted("before"))
    options = {"compression_type": None, "max_request_size": large + MIB}
    produce(bootstrap, name, b"[" + b" " * large + b"]", **options)
    produce(bootstrap, name, accepted("after"))
    consume(engine, bootstrap, name)
    assert rows(ledger_url, "select record_offset, reason from rejected_record") == [(1, "too_large")]
    assert_sound(ledger_url, ["after", "before"])


def test_garbage_of_any_sort_is_rejected_record_by_record(engine: Engine, ledger_url: str, bootstrap: str, topic: str):
    dice = random.Random(11)
    whole = encode([accepted("in a list"), completed("in a list")])
    garbage = [dice.randbytes(dice.randrange(200)) for _ in range(50)]
    garbage += [whole[: dice.randrange(len(whole))] for _ in range(50)]
    garbage += [encode(accepted(f"\u0000{number}")) for number in range(3)]
    produce(bootstrap, topic, accepted("before"), *garbage, accepted("after"))
    consume(engine, bootstrap, topic)
    assert value(ledger_url, "select count(distinct record_offset) from rejected_record") == len(garbage)
    assert_sound(ledger_url, ["after", "before"])


def test_a_compressed_bomb_of_several_records_is_rejected_and_blocks_nothing(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    produce(bootstrap, topic, accepted("before"))
    bomb = [b"[" + b" " * (15 * MIB) + b"]"] * 3
    options = {"compression_type": "zstd", "linger_ms": 2_000, "batch_size": 64 * MIB, "max_request_size": 64 * MIB}
    produce(bootstrap, topic, *bomb, **options)
    produce(bootstrap, topic, accepted("after"))
    with Running(consumer(engine, bootstrap, topic)) as ours:
        wait_until(lambda: not ours.alive or charged(ledger_url) == 2, seconds=30)
    assert ours.failure is None
    assert value(ledger_url, "select count(*) from rejected_record") >= 1
    assert_sound(ledger_url, ["after", "before"])


def test_a_clock_of_ours_that_jumps_changes_nothing_where_the_broker_stamps(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
):
    jumps = iter([10**9, 4 * 10**18, 10**15, *[2 * 10**18] * 1_000])
    monkeypatch.setattr(fetch, "time_ns", lambda: next(jumps))
    with Running(consumer(engine, bootstrap, topic)):
        for order in range(4):
            produce(bootstrap, topic, accepted(f"O{order}"))
            wait_until(lambda booked=order + 1: charged(ledger_url) == booked)  # type: ignore[misc]
    assert_sound(ledger_url, [f"O{order}" for order in range(4)])


def test_where_a_platform_stamps_its_records_our_clock_counts_and_one_set_back_loses_nothing(
    engine: Engine, ledger_url: str, bootstrap: str, monkeypatch: pytest.MonkeyPatch
):
    name = make_topic(bootstrap, new_name("faults"), message_timestamp_type="CreateTime")
    just_now = accepted("A", datetime.now(UTC).isoformat(timespec="seconds"))
    with monkeypatch.context() as clock:
        clock.setattr(fetch, "time_ns", lambda: time.time_ns() - 3600 * 10**9)
        produce(bootstrap, name, just_now)
        consume(engine, bootstrap, name)
    assert charged(ledger_url) == 0
    [(reason, raw)] = rows(ledger_url, "select reason, raw from rejected_record")
    assert (reason, bytes(raw)) == (Reason.IN_FUTURE, encode(just_now))
    produce(bootstrap, name, just_now)
    consume(engine, bootstrap, name)
    assert_sound(ledger_url, ["A"])


# ---- what went wrong for others


def test_openmeter_5118_and_4902_a_key_claimed_by_a_batch_that_died_is_free_again(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    produce(bootstrap, topic, *map(accepted, numbered(range(10))))
    for step in ("claimed", "posted", "advanced"):
        with pytest.raises(Crash):
            consume(engine, bootstrap, topic, switch=crash_at(step))
        assert value(ledger_url, "select (select count(*) from charge) + (select count(*) from batch)") == 0
    assert consume(engine, bootstrap, topic).totals.answers == {Answer.NEW: 10}
    assert_sound(ledger_url, numbered(range(10)))


def test_lago_api_3049_a_batch_sent_again_with_something_new_is_answered_item_by_item(
    engine: Engine, ledger_url: str, bootstrap: str, topic: str
):
    produce(bootstrap, topic, [accepted("A"), accepted("B")])
    produce(bootstrap, topic, [accepted("A"), accepted("C"), accepted("B", worker="W2"), accepted("D", city="999999")])
    answers: list[str] = []
    hooks = Hooks(on_outcome=lambda outcome, _: answers.extend(map(str, outcome.answers)))
    consume(engine, bootstrap, topic, hooks=hooks)
    assert answers == ["new", "new", "duplicate", "new", "conflict", "rejected"]
    assert_sound(ledger_url, ["A", "B", "C"])


def test_blnk_336_a_key_that_ended_stays_ended_for_a_process_that_is_started_again(
    engine: Engine, ledger_url: str, bootstrap: str, monkeypatch: pytest.MonkeyPatch
):
    name = make_topic(bootstrap, new_name("faults"), message_timestamp_type="CreateTime")
    key, now = Ed25519PrivateKey.from_private_bytes(bytes(range(32))), datetime.now(UTC)
    public = key.public_key().public_bytes_raw()
    with connect.ledger(ledger_url, connect.REGISTRAR) as registrar, registrar.begin() as tx:
        number = registry.find(tx, "eleme").platform_no
        registry.add_key(tx, number, public, now + timedelta(hours=1), now)
        registry.end_key(tx, number, public, now + timedelta(hours=3), now)
    for hours, order in ((2, "in force"), (4, "ended"), (5, "ended, again")):
        then = now + timedelta(hours=hours)
        monkeypatch.setattr(fetch, "time_ns", lambda then=then: int(then.timestamp() * 10**9))
        raw = encode(accepted(order))
        producer = KafkaProducer(**producer_options(Access(bootstrap), "signs"))
        producer.send(name, value=raw, headers=[(SIGNATURE_HEADER, key.sign(raw))]).get(timeout=60)
        producer.close(timeout=5)
        consume(engine, bootstrap, name)
    assert rows(ledger_url, "select distinct reason from rejected_record") == [(Reason.BAD_SIGNATURE,)]
    assert_sound(ledger_url, ["in force"])
