"""What a Kafka of our own is made of: its brokers' seats, kept from start to start, and their configuration.

In: a directory, how many brokers, settings. Out: a `Layout`, and texts. What lies in the directory:

    cluster.json     the layout; written once
    gate.lock        held by the command that starts or stops something
    broker-N/        all of one broker, which runs in it and knows only relative paths, so that any path will do
        alive.lock   inherited by the broker's process and by nobody else: while it is held, the broker lives
        pid          its process, written by itself before it becomes Java
        data/        its records
        server.log   what it says; out.log what Java says, out.log.1 what it said in its last life
        jars         a link to Kafka's jars, beside which their classes lie ready for Java

Ports are kept for ever, since the addresses stand in the data and in people's shells, and lie below those that
systems lend to outgoing connections: a client that knocks at a dead broker's port can never come to own it.
"""

import base64
import json
import os
import secrets
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ledger.errors import BadQuestion, DanbaoError
from schemas.both import Both
from schemas.orders import RECORD_BYTES_MAX

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
PORT_TRIES_MAX = 100
BROKERS = (1, 3)  # two would stand still as soon as one of them does
UNFINISHED = "new"

# A record of the largest size that intake reads, its key, headers and framing. Larger ones are refused with an
# answer as long as the socket reads them, and not read at all above that.
MESSAGE_BYTES_MAX = RECORD_BYTES_MAX + 1024 * 1024
REQUEST_BYTES_MAX = 64 * 1024 * 1024

LOG4J = """\
# Written by danbao at each start.
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = server.log
appender.file.filePattern = server.log.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = [%d] %p %m (%c)%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 8MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 1
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""


@dataclass(frozen=True)
class Seat:
    """One broker's place in the cluster; it is broker and controller in one process."""

    node_id: int
    port: int
    controller_port: int
    directory_id: str

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def controller(self) -> str:
        return f"{HOST}:{self.controller_port}"


@dataclass(frozen=True)
class Layout:
    """One cluster."""

    cluster_id: str
    seats: tuple[Seat, ...]

    @property
    def voters(self) -> str:
        """The first controllers, as the storage tool wants them."""
        return ",".join(f"{seat.node_id}@{seat.controller}:{seat.directory_id}" for seat in self.seats)


def load(directory: Path) -> Layout | None:
    """The layout of the cluster that lies in the directory, if one does."""
    try:
        found = json.loads((directory / "cluster.json").read_bytes())
        return Layout(found["cluster_id"], tuple(Seat(**seat) for seat in found["seats"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        file = directory / "cluster.json"
        raise DanbaoError(
            Both(f"{file} cannot be read: {error}", f"无法读取 {file}：{error}"),
            Both(
                f"If this Kafka's records may go, remove {directory}; the next start makes a new one.",
                f"若此 Kafka 中的记录可以丢弃，请删除 {directory}，下次启动会新建一个。",
            ),
        ) from None


def load_or_make(directory: Path, brokers: int | None) -> Layout:
    """The layout that lies there, else a new one of so many brokers (one, when nobody says)."""
    found = load(directory)
    if found is None:
        found = _new(brokers or 1)
        _keep(directory, found)
    elif brokers is not None and brokers != len(found.seats):
        raise BadQuestion(
            Both(
                f"The Kafka in {directory} was made with {len(found.seats)} broker(s), not {brokers}.",
                f"{directory} 中的 Kafka 创建时有 {len(found.seats)} 个 broker，而非 {brokers} 个。",
            ),
            Both(
                f"Use it as it is, or end it (danbao kafka down), remove {directory} with all its records,"
                " and start anew; or set DANBAO_HOME to another directory.",
                f"请照现状使用；或停止它（danbao kafka down），连同其中的记录删除 {directory} 后重新启动；"
                "也可将 DANBAO_HOME 设为其他目录。",
            ),
        )
    return found


def _new(brokers: int) -> Layout:
    if brokers not in BROKERS:
        raise BadQuestion(
            Both(f"{brokers} brokers make no sound cluster.", f"{brokers} 个 broker 不能组成可靠的集群。"),
            Both("Take 1, or 3 to see one of them fail.", "请取 1；或取 3，可演练其中一个故障。"),
        )
    ports = _free_ports(2 * brokers)
    seats = (Seat(number + 1, ports[2 * number], ports[2 * number + 1], _kafka_uuid()) for number in range(brokers))
    return Layout(_kafka_uuid(), tuple(seats))


def _free_ports(wanted: int) -> list[int]:
    """Ports that nobody listens on now, chosen at random so that two who choose at once hardly meet."""
    found: set[int] = set()
    for _ in range(PORT_TRIES_MAX):
        if len(found) == wanted:
            return sorted(found)
        port = secrets.choice(PORTS)
        if is_free(port):
            found.add(port)
    raise DanbaoError(
        Both(
            f"No free ports between {PORTS.start} and {PORTS.stop}.",
            f"{PORTS.start} 至 {PORTS.stop} 之间没有空闲端口。",
        ),
        Both("End some programs that listen there.", "请结束一些占用这些端口的程序。"),
    )


def is_free(port: int) -> bool:
    """Whether a broker could listen there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as knock:
        knock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does
        try:
            knock.bind((HOST, port))
            knock.listen()
        except OSError:
            return False
    return True


def _kafka_uuid() -> str:
    """A UUID as Kafka writes them; a leading dash would be taken for an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _keep(directory: Path, layout: Layout) -> None:
    new = directory / "cluster.json.new"
    new.write_text(json.dumps(asdict(layout), indent=2) + "\n")
    os.replace(new, directory / "cluster.json")


def properties(layout: Layout, seat: Seat, settings: Mapping[str, str]) -> str:
    """The configuration of one broker; `settings` have the last word.

    Whatever they say of listeners, BROKER must stay one: the cluster speaks by it, and who starts or looks does.
    """
    replicas = len(layout.seats)
    in_sync = 2 if replicas > 1 else 1
    ours = {
        "process.roles": "broker,controller",
        "node.id": seat.node_id,
        "listeners": f"BROKER://{seat.address},CONTROLLER://{seat.controller}",
        "advertised.listeners": f"BROKER://{seat.address},CONTROLLER://{seat.controller}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": ",".join(each.controller for each in layout.seats),
        "log.dirs": "data",
        # Topics are made on purpose, and hold what was acknowledged when one of three brokers is lost.
        "auto.create.topics.enable": "false",
        "num.partitions": 1,
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "unclean.leader.election.enable": "false",
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "replica.fetch.max.bytes": MESSAGE_BYTES_MAX,
        "socket.request.max.bytes": REQUEST_BYTES_MAX,
        # Kafka's own topics: as many copies as there are brokers, few partitions, since each costs files.
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 4,
        # One machine, a small heap: a group starts at once; a broker that was killed is missed soon, for until
        # then it may not come back.
        "group.initial.rebalance.delay.ms": 0,
        "broker.session.timeout.ms": 3_000 if replicas > 1 else 2_000,
        "broker.heartbeat.interval.ms": 500,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }
    # JSON's escapes are those that Java reads, and Java takes anything but ASCII for Latin-1.
    lines = (f"{name}={json.dumps(str(value))[1:-1]}\n" for name, value in (ours | dict(settings)).items())
    return "# Written by danbao at each start.\n" + "".join(lines)
