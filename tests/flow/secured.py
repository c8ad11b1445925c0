"""A Kafka that lets nobody in unasked: TLS, SCRAM users, and rights that the broker itself holds everyone to.

In: a directory. Out: a cluster whose clients come by `SECURE`, its certificate authority, and its first user `admin`.
BROKER, by which one sees whether it answers, is open and may do nothing: who comes there is nobody. Brokers speak to
each other by SECURE and to the controller by certificates.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from consumers.kafka import broker, grants, layout, rights, topics
from consumers.kafka.settings import SCRAM, Access, producer_options
from ledger import yamlfile
from ledger.cli.acls import HOW_TO, RIGHTS_FILE
from schemas.orders import SIGNATURE_HEADER
from schemas.rights import RightsFile, User

ADMIN, ADMIN_PASSWORD = "admin", "the first password"
AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"


WAIT_S = 60


@dataclass(frozen=True)
class Secured:
    """A cluster and how to come in; also by its open port, where one is nobody."""

    bootstrap: str
    open_port: str
    ca: str

    def access(self, user: str = ADMIN, password: str = ADMIN_PASSWORD) -> Access:
        return Access(self.bootstrap, self.ca, user, password)


@contextmanager
def running(directory: Path) -> Iterator[Secured]:
    """The cluster, ended when the block ends."""
    (directory / "kafka").mkdir(parents=True)
    made = layout.load_or_make(directory / "kafka", 1)
    [seat] = made.seats
    port = next(port for port in range(seat.port + 1, layout.PORTS.stop) if layout.is_free(port))
    secure = f"{layout.HOST}:{port}"
    authority, server = certificates(directory)
    settings = _settings(seat, secure, authority, server)
    first = f"{SCRAM}=[name={ADMIN},password={ADMIN_PASSWORD}]"
    with broker.running(directory / "kafka", 1, settings, first_users=[first]) as cluster:
        yield Secured(secure, cluster.bootstrap, str(authority))


def _settings(seat: layout.Seat, secure: str, authority: Path, server: Path) -> dict[str, str]:
    listeners = f"BROKER://{seat.address},CONTROLLER://{seat.controller},SECURE://{secure}"
    login = f'{LOGIN} required username="{ADMIN}" password="{ADMIN_PASSWORD}";'
    return {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:SSL,SECURE:SASL_SSL",
        "inter.broker.listener.name": "SECURE",
        "sasl.enabled.mechanisms": SCRAM,
        "sasl.mechanism.inter.broker.protocol": SCRAM,
        f"listener.name.secure.{SCRAM.lower()}.sasl.jaas.config": login,
        "listener.name.controller.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority),
        "authorizer.class.name": AUTHORIZER,
        "super.users": f"User:{ADMIN};User:CN=broker",
    }


def certificates(directory: Path) -> tuple[Path, Path]:
    """A certificate authority, and a server's key with its certificate for 127.0.0.1; the paths of both."""
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("authority", authority_key.public_key(), "authority", authority_key, is_authority=True)
    leaf = _certificate("broker", server_key.public_key(), "authority", authority_key, is_authority=False)
    authority, server = directory / "authority.pem", directory / "server.pem"
    authority.write_bytes(root.public_bytes(Encoding.PEM))
    server.touch(mode=0o600)
    secret = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server.write_bytes(secret + leaf.public_bytes(Encoding.PEM))
    return authority, server


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: str, signer: ec.EllipticCurvePrivateKey, is_authority: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    subject, issued_by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer))
    building = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issued_by)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if is_authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        building = building.add_extension(usage, critical=True)
    else:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(layout.HOST))])
        building = building.add_extension(names, critical=False)
    return building.sign(signer, hashes.SHA256())


# ---- users, rights, records


def let_in(cluster: Secured, *users: str) -> None:
    """Let users in, each by a password that is its name and some more."""
    with topics.connect(cluster.access()) as admin:
        for user in users:
            grants.set_password(admin, user, password_of(user))


def password_of(user: str) -> str:
    return f"{user}, hush"


def as_user(cluster: Secured, user: str) -> Access:
    return cluster.access(user, password_of(user))


def rights_file(platforms: list[str], *more: dict[str, Any]) -> RightsFile:
    """The rights file that comes with the product, for these platforms, and more users."""
    file = yamlfile.parse(RIGHTS_FILE.read_bytes(), RIGHTS_FILE.name, RightsFile, HOW_TO)
    users = (*file.users, *(User.model_validate(one) for one in more))
    return RightsFile(users=users, each_platform=file.each_platform, platforms=tuple(platforms))


def give(cluster: Secured, file: RightsFile) -> None:
    """Make the rights what the file says."""
    wanted = rights.granted(file)
    with topics.connect(cluster.access()) as admin:
        found = grants.look(admin)
        left = grants.apply(admin, wanted, rights.missing(wanted, found), rights.too_many(wanted, found))
    assert left == ([], [])


def make_topics(cluster: Secured, *names: str) -> None:
    """Topics of one partition with the broker's time."""
    one = {"num_partitions": 1, "replication_factor": 1, "configs": {"message.timestamp.type": "LogAppendTime"}}
    with topics.connect(cluster.access()) as admin:
        admin.create_topics(dict.fromkeys(names, one), wait_for_metadata=True)


def send(access: Access, topic: str, value: bytes, signature: bytes | None = None) -> None:
    """One record, acknowledged; raises what Kafka refuses it with."""
    producer = KafkaProducer(**producer_options(access, "tests") | {"max_block_ms": 10_000})
    try:
        headers = [(SIGNATURE_HEADER, signature)] if signature else []
        producer.send(topic, value=value, headers=headers).get(timeout=WAIT_S)
    finally:
        producer.close(timeout=2)


def read(access: Access, topic: str, group: str, records: int) -> list[Any]:
    """The first records of a topic, as a member of a group; raises what Kafka refuses them with."""
    options = access.options() | {"group_id": group, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    reading = KafkaConsumer(**options, consumer_timeout_ms=WAIT_S * 1000)
    try:
        reading.subscribe([topic])
        return [next(reading) for _ in range(records)]
    finally:
        reading.close(autocommit=False, timeout_ms=2_000)


def read_without_group(access: Access, topic: str) -> list[Any]:
    """The first records of a topic that one may at least see; raises what Kafka refuses them with."""
    place = TopicPartition(topic, 0)
    reading = KafkaConsumer(**access.options(), group_id=None, auto_offset_reset="none")
    try:
        reading.assign([place])
        reading.seek(place, 0)
        return list(reading.poll(WAIT_S * 1000).values())
    finally:
        reading.close(autocommit=False)


def end_of(cluster: Secured, topic: str) -> int:
    """How many records a topic holds."""
    reading = KafkaConsumer(**cluster.access().options(), group_id=None)
    try:
        places = [TopicPartition(topic, number) for number in reading.partitions_for_topic(topic)]
        return sum(reading.end_offsets(places).values())
    finally:
        reading.close(autocommit=False)


def right(principal: str, name: str, match: str, may: str) -> rights.Right:
    """A right on topics."""
    return rights.Right(principal, "topic", name, match, may)
