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

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from consumers.kafka import broker, layout
from consumers.kafka.settings import SCRAM, Access

ADMIN, ADMIN_PASSWORD = "admin", "the first password"
AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"


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
