"""A Kafka of our own on this machine: one broker or three, started, adopted, ended.

In: the directory that it lives in, how many brokers, settings, where to say that something takes long.
Out: a `Cluster` that answers, whose brokers can be killed, stopped and started one by one. It outlives
the command that started it, until `down`. What lies in the directory: `layout.py`.

Each broker's process inherits a lock that nobody else has, and the kernel drops it with the process: while
it is held the broker lives, and only then does the number in its pid file mean anything. Everything that
starts, ends or looks at a broker does so behind the gate, one command at a time.
"""

import errno
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from consumers.kafka import layout, programs
from consumers.kafka.layout import Layout, Seat
from consumers.kafka.programs import Programs
from ledger.errors import DanbaoError
from ledger.store.locks import one_at_a_time, open_lock, patiently, try_lock
from ledger.store.server_home import Notice
from schemas.both import Both

HEAP_MIB = 512
START_S_MAX = 180
STOP_S_MAX = 20  # then it is killed: what it acknowledged is in its log, as after any crash
LOG_LINES_SHOWN = 15
CLASSES = "classes-*.jsa"
NOTHING: Mapping[str, str] = MappingProxyType({})
# Compile quickly rather than well, and collect in one thread: half the work of a start, and slower after some minutes.
SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

# The shell notes its number and becomes Java, so that no killed launcher leaves a broker without one.
AS_ITSELF = 'echo $$ >pid && exec "$@"'

# What a command may have to wait for
ANOTHER_COMMAND = Both("Waiting for another command that starts or ends Kafka", "正在等待另一条命令启动或停止 Kafka")
ANSWERS = Both("Waiting for Kafka to answer", "正在等待 Kafka 就绪")
END = Both("Waiting for Kafka to stop", "正在等待 Kafka 停止")


@dataclass(eq=False)
class Broker:
    """One broker: where it listens and lives."""

    cluster: "Cluster" = field(repr=False)
    seat: Seat
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _log_from: int = field(default=0, repr=False)

    @property
    def node_id(self) -> int:
        return self.seat.node_id

    @property
    def address(self) -> str:
        return self.seat.address

    @property
    def place(self) -> Path:
        return self.cluster.directory / f"broker-{self.node_id}"

    @property
    def log(self) -> Path:
        return self.place / "server.log"

    @property
    def pid(self) -> int | None:
        """Its process, None when it does not live."""
        with self.cluster._gate():
            return _pid(self)

    def start(self) -> None:
        """Start it on its data and port, and wait until it answers."""
        with self.cluster._gate():
            _bring_up(self.cluster, [self])

    def stop(self) -> None:
        """Let it hand over and end."""
        with self.cluster._gate():
            _end(self.cluster, [self], signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does (kill −9)."""
        with self.cluster._gate():
            _end(self.cluster, [self], signal.SIGKILL)


@dataclass(eq=False)
class Cluster:
    """The brokers of one directory."""

    directory: Path
    layout: Layout
    settings: Mapping[str, str]
    notice: Notice = field(repr=False)
    java_options: Sequence[str] = ()
    first_users: Sequence[str] = field(default=(), repr=False)
    brokers: tuple[Broker, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.brokers = tuple(Broker(self, seat) for seat in self.layout.seats)

    @property
    def bootstrap(self) -> str:
        """The addresses that a client is given."""
        return ",".join(broker.address for broker in self.brokers)

    def start(self) -> None:
        """Start every broker that does not live, and wait until all answer."""
        with self._gate():
            _bring_up(self, self.brokers)

    def stop(self) -> list[int]:
        """Let every broker that lives end; returns the processes that were ended."""
        with self._gate():
            living = [pid for broker in self.brokers if (pid := _pid(broker))]
            _end(self, self.brokers, signal.SIGTERM)
        return living

    def _gate(self) -> AbstractContextManager[None]:
        return _gate(self.directory, self.notice)


@dataclass(frozen=True)
class State:
    """What can be seen of a broker: its process, and whether it answers and is in the cluster."""

    broker: Broker
    pid: int | None
    answers: bool


@contextmanager
def running(
    directory: Path,
    brokers: int = 1,
    settings: Mapping[str, str] = NOTHING,
    notice: Notice = lambda _: None,
    first_users: Sequence[str] = (),
) -> Iterator[Cluster]:
    """A cluster for a short time, such as a test's; on leaving it is ended, its data stays."""
    cluster = short_lived(directory, brokers, settings, notice, first_users)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def short_lived(
    directory: Path,
    brokers: int = 1,
    settings: Mapping[str, str] = NOTHING,
    notice: Notice = lambda _: None,
    first_users: Sequence[str] = (),
) -> Cluster:
    """The cluster of a directory, made when there is none, whose brokers are started for a short time.

    `first_users`: SCRAM credentials that its data is made with, as Kafka's storage tool takes them.
    """
    return _open(directory, brokers, settings, notice, SHORT_LIVED, first_users)


def up(directory: Path, brokers: int | None, settings: Mapping[str, str], notice: Notice) -> Cluster:
    """Bring the cluster of a directory up, made when there is none; brokers that live are left as they are.

    `settings` reach the brokers that this call starts.
    """
    cluster = _open(directory, brokers, settings, notice)
    cluster.start()
    return cluster


def _open(
    directory: Path,
    brokers: int | None,
    settings: Mapping[str, str],
    notice: Notice,
    java_options: Sequence[str] = (),
    first_users: Sequence[str] = (),
) -> Cluster:
    with _explained(directory):
        _make(directory)
    with _gate(directory, notice):
        found = layout.load_or_make(directory, brokers)
        return Cluster(directory, found, settings, notice, java_options, first_users)


def find(directory: Path, notice: Notice) -> Cluster | None:
    """The cluster that lies in a directory, living or not."""
    with _explained(directory):
        found = layout.load(directory)
    return None if found is None else Cluster(directory, found, NOTHING, notice)


def states(cluster: Cluster) -> list[State]:
    """How each broker is now."""
    with cluster._gate():
        pids = [_pid(broker) for broker in cluster.brokers]
    return [
        State(broker, pid, pid is not None and broker.node_id in _live(broker.seat))
        for broker, pid in zip(cluster.brokers, pids, strict=True)
    ]


def address(directory: Path, notice: Notice) -> str | None:
    """What to connect to, when a broker of this directory lives."""
    cluster = find(directory, notice)
    if cluster is None:
        return None
    with cluster._gate():
        return cluster.bootstrap if any(map(_lives, cluster.brokers)) else None


# ---- is it alive, does it answer


@contextmanager
def _gate(directory: Path, notice: Notice) -> Iterator[None]:
    """One command at a time starts, ends or looks."""
    with _explained(directory), one_at_a_time(directory / "gate.lock", notice, ANOTHER_COMMAND):
        yield


@contextmanager
def _nothing_alive(broker: Broker) -> Iterator[int | None]:
    """The broker's lock when no process of it lives, else None; a process started within inherits it."""
    broker.place.mkdir(mode=0o700, exist_ok=True)
    lock = open_lock(broker.place / "alive.lock")
    try:
        yield lock if try_lock(lock) else None
    finally:
        os.close(lock)


def _lives(broker: Broker) -> bool:
    with _nothing_alive(broker) as lock:
        return lock is None


def _pid(broker: Broker) -> int | None:
    """The number in the pid file, where the lock says that it is still the broker's."""
    try:
        pid = int((broker.place / "pid").read_text())
    except (FileNotFoundError, ValueError):  # none yet, or half written
        return None
    return pid if _lives(broker) else None


def _live(seat: Seat) -> set[int]:
    """The brokers that this one knows to be live; none when it does not answer."""
    with suppress(OSError):  # a refused knock is quicker than the client's patience
        socket.create_connection((layout.HOST, seat.port), timeout=1).close()
        with suppress(KafkaError), _admin(seat) as admin:
            return {one["broker_id"] for one in admin.describe_cluster()["brokers"] if not one["is_fenced"]}
    return set()


def _admin(seat: Seat) -> KafkaAdminClient:
    return KafkaAdminClient(
        bootstrap_servers=seat.address,
        client_id="danbao-up",
        bootstrap_timeout_ms=2_000,
        request_timeout_ms=3_000,
        reconnect_backoff_ms=50,
        reconnect_backoff_max_ms=500,
        security_protocol="PLAINTEXT",
    )


def _answer(brokers: Sequence[Broker]) -> bool:
    """Whether each of them answers, and counts all of them among the living."""
    expected = {broker.node_id for broker in brokers}
    return all(expected <= _live(broker.seat) for broker in brokers)


# ---- start and end, behind the gate


def _bring_up(cluster: Cluster, brokers: Sequence[Broker]) -> None:
    """Start those that do not live, and wait until all of these answer."""
    began = time.monotonic()
    started: set[int] = set()
    for _ in patiently(cluster.notice, ANSWERS):
        with ExitStack() as locks:
            held = {broker: locks.enter_context(_nothing_alive(broker)) for broker in brokers}
            dead = {broker: lock for broker, lock in held.items() if lock is not None}
            for broker in dead:
                if broker.node_id in started:
                    raise _failure(broker, Both("ended while it started", "在启动过程中退出"))
            if dead:
                _start(cluster, dead)
                started |= {broker.node_id for broker in dead}
        if _answer(brokers):
            return
        if time.monotonic() - began > START_S_MAX:
            late = Both(f"did not answer within {START_S_MAX} s", f"在 {START_S_MAX} 秒内没有响应")
            raise _failure(brokers[0], late)


def _start(cluster: Cluster, brokers: Mapping[Broker, int]) -> None:
    """Start these brokers, each with its lock; their data is made when it is missing."""
    found = programs.find(cluster.notice)
    for broker in brokers:
        _furnish(broker, found)
    _make_data(cluster, found, {one: lock for one, lock in brokers.items() if not (one.place / "data").exists()})
    classes = _ready_classes(found) or [f"-XX:ArchiveClassesAtExit={found.classes.name}"]
    options = [*_options(found, HEAP_MIB), *classes, *cluster.java_options]
    for broker, lock in brokers.items():
        _require_port(broker)
        broker._log_from = broker.log.stat().st_size if broker.log.exists() else 0
        broker._process = _java(broker, lock, [*options, "kafka.Kafka", "server.properties"])


def _make(directory: Path) -> None:
    """Make the directory, ours alone, and the parents it lacks.

    What root makes above it others may pass whatever the umask: PostgreSQL runs beside it as another user.
    """
    missing = [path for path in directory.parents if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            path.chmod(0o755)
    directory.mkdir(mode=0o700, exist_ok=True)


def _furnish(broker: Broker, found: Programs) -> None:
    """Write all that a broker needs to start, and clear what an earlier life left."""
    cluster, place = broker.cluster, broker.place
    for leftover in ("tmp", layout.UNFINISHED):
        shutil.rmtree(place / leftover, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.replace(place / "out.log", place / "out.log.1")  # it may say why the last life ended
    for file in (place / "pid", place / "jars", *place.glob(CLASSES)):
        file.unlink(missing_ok=True)
    (place / "tmp").mkdir()
    (place / "jars").symlink_to(found.jars)
    (place / "log4j2.properties").write_text(layout.LOG4J)
    text = layout.properties(cluster.layout, broker.seat, cluster.settings)
    (place / "server.properties").write_text(text)


def _make_data(cluster: Cluster, found: Programs, brokers: Mapping[Broker, int]) -> None:
    """Format the data directories beside their places, all at once, and rename them when complete."""
    if brokers:
        count, place = len(cluster.brokers), cluster.directory
        cluster.notice(
            Both(
                f"Making a Kafka of {count} broker(s) in {place} (once) …",
                f"正在 {place} 创建有 {count} 个 broker 的 Kafka（仅此一次）……",
            )
        )
    format_ = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster.layout.cluster_id]
    format_ += ["--initial-controllers", cluster.layout.voters, "--config", "../server.properties"]
    format_ += [part for user in cluster.first_users for part in ("--add-scram", user)]
    options = [*_options(found, 64, up="../"), *_ready_classes(found), *SHORT_LIVED]
    tools = []
    for broker, lock in brokers.items():
        (broker.place / layout.UNFINISHED).mkdir()
        (broker.place / layout.UNFINISHED / "jars").symlink_to(found.jars)
        tools.append(_java(broker, lock, [*options, *format_], layout.UNFINISHED))
    for broker, tool in zip(brokers, tools, strict=True):
        if tool.wait() != 0:
            raise _failure(broker, Both("could not make its data directory", "未能创建数据目录"))
        (broker.place / layout.UNFINISHED / "data").rename(broker.place / "data")
        shutil.rmtree(broker.place / layout.UNFINISHED)


def _ready_classes(found: Programs) -> list[str]:
    """Java's options to take Kafka's classes as an earlier broker left them, which spares a start almost half its work.

    Nothing where none did. Those that do not suit it, were changed or come from jars of another path it does without.
    """
    kept = found.classes
    return [f"-XX:SharedArchiveFile={kept}", "-XX:+VerifySharedSpaces"] if kept.exists() else []


def _keep_classes(broker: Broker) -> None:
    """Put the classes that a broker left beside the jars, in place of those for another Java."""
    jars = broker.place / "jars"
    for left in broker.place.glob(CLASSES):
        with suppress(OSError):  # the jars are not ours to write beside, or are gone
            unfinished = jars / f"{left.name}.{os.getpid()}"
            shutil.move(left, unfinished)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())  # of a file that was cut short Java would die
            for other in jars.glob(CLASSES):
                other.unlink(missing_ok=True)
            unfinished.rename(jars / left.name)


def _options(found: Programs, heap_mib: int, up: str = "") -> list[str]:
    """Java and its options; paths are relative to where it runs."""
    return [
        str(found.java),
        f"-Xmx{heap_mib}m",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",  # no file in /tmp
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={up}tmp",
        f"-Dlog4j2.configurationFile={up}log4j2.properties",
        *("-cp", "jars/*"),
    ]


def _java(broker: Broker, lock: int, command: Sequence[str], inside: str = ".") -> subprocess.Popen[bytes]:
    """Run Java in the broker's place, apart from our environment and terminal, with the broker's lock."""
    log = os.open(broker.place / "out.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", AS_ITSELF, "sh", *command],
            cwd=broker.place / inside,
            env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,
        )
    finally:
        os.close(log)


def _require_port(broker: Broker) -> None:
    for port in (broker.seat.port, broker.seat.controller_port):
        if not layout.is_free(port):
            raise DanbaoError(
                Both(
                    f"Broker {broker.node_id} listens on port {port}, and another program of this machine has it now.",
                    f"broker {broker.node_id} 使用端口 {port}，而该端口现被本机的其他程序占用。",
                ),
                Both(
                    f"End that program. If this Kafka's records may go, remove {broker.cluster.directory} instead:"
                    " the next start makes a new one on other ports.",
                    f"请结束该程序。若此 Kafka 中的记录可以丢弃，也可删除 {broker.cluster.directory}，"
                    "下次启动会用其他端口新建一个。",
                ),
            )


def _end(cluster: Cluster, brokers: Iterable[Broker], number: signal.Signals) -> None:
    """Signal the brokers that live until none does; who has not ended in time is killed."""
    began = time.monotonic()
    signalled: set[tuple[int, signal.Signals]] = set()
    for _ in patiently(cluster.notice, END):
        living = [broker for broker in brokers if _lives(broker)]
        if not living:
            break
        if number != signal.SIGKILL and time.monotonic() - began > STOP_S_MAX:
            number = signal.SIGKILL
            cluster.notice(
                Both(
                    f"Kafka did not stop within {STOP_S_MAX} s, so it is killed.",
                    f"Kafka 在 {STOP_S_MAX} 秒内没有停止，现强制结束。",
                )
            )
        for broker in living:
            if (broker.node_id, number) not in signalled and _signal(broker, number):
                signalled.add((broker.node_id, number))
    for broker in brokers:
        if broker._process is not None:
            broker._process.wait()  # it has ended already; this leaves no zombie
            broker._process = None
        if number == signal.SIGTERM and (broker.node_id, number) in signalled:
            _keep_classes(broker)


def _signal(broker: Broker, number: signal.Signals) -> bool:
    """Signal the broker's process; False while one that starts has not noted its number."""
    pid = _pid(broker)
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return True


# ---- what to say when it does not work


def _failure(broker: Broker, what: Both) -> DanbaoError:
    """What the broker said last."""
    said = (broker.place / "out.log").read_text(errors="replace")
    if broker.log.exists():
        with broker.log.open("rb") as log:
            log.seek(broker._log_from if broker._log_from <= broker.log.stat().st_size else 0)
            said += log.read().decode(errors="replace")
    lines = said.strip().splitlines()
    telling = [line for line in lines if "ERROR" in line or "FATAL" in line or "Exception" in line or "Error:" in line]
    tail = "\n".join((telling or lines)[-LOG_LINES_SHOWN:])
    fix = Both(
        f"More may be in {broker.place} (server.log, out.log).",
        f"更多信息可能在 {broker.place} 的 server.log 和 out.log 中。",
    )
    if "No space left on device" in said:
        fix = Both(
            f"Free some space on the disk that holds {broker.place}, then run the command again.",
            f"请在 {broker.place} 所在磁盘上腾出空间，再重新执行该命令。",
        )
    number = broker.node_id
    return DanbaoError(
        Both(f"Kafka's broker {number} {what.en}.\n{tail}", f"Kafka 的 broker {number} {what.zh}。\n{tail}"), fix
    )


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Turn a refusal of the system (no space, no right, read-only) into what was wrong and what to do."""
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(directory)
        fix = Both("Set DANBAO_HOME to a directory where you may write.", "请将 DANBAO_HOME 设为您可以写入的目录。")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = Both(f"Free some space on the disk that holds {directory}.", f"请在 {directory} 所在磁盘上腾出空间。")
        what = Both(f"Kafka cannot use {where}: {error.strerror}.", f"Kafka 无法使用 {where}：{error.strerror}。")
        raise DanbaoError(what, fix) from error
