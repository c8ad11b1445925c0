"""How we speak to Kafka: every option of kafka-python spelled out, and why where it matters.

In: addresses and credentials from the environment. Out: the keyword arguments of its clients.

    DANBAO_KAFKA_BOOTSTRAP       host:port of one or more brokers, with commas between
    DANBAO_KAFKA_CA              a PEM file of the authority that signed the brokers' certificates; switches TLS on
    DANBAO_KAFKA_USER            a SCRAM user; its password comes from a file, never from a variable or an argument
    DANBAO_KAFKA_PASSWORD_FILE   that file, readable by its owner alone
"""

import os
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger.errors import DanbaoError
from schemas.both import Both

PARTITION_FETCH_BYTES = 1024 * 1024  # a larger record comes all the same, alone (KIP-74)
FETCH_BYTES_MAX = 16 * 1024 * 1024
FRAME_BYTES_MAX = 128 * 1024 * 1024  # a record of 50 MB on somebody's own topic is read, and rejected
SESSION_MS = 30_000
POLL_INTERVAL_MS_MAX = 300_000
BOOTSTRAP_MS_MAX = 10_000
REQUEST_MS_MAX = 30_000
SCRAM = "SCRAM-SHA-512"
PEM = Both(
    "Give DANBAO_KAFKA_CA the PEM file of the brokers' authority.",
    "请用 DANBAO_KAFKA_CA 指明签发服务器证书的机构的 PEM 文件。",
)


class Secret(str):
    """A text that does not show where others are shown: kafka-python logs all that its admin client is told."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


@dataclass(frozen=True)
class Access:
    """Where the brokers are and who we are there. The password is kept out of sight."""

    bootstrap: str
    ca: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def options(self) -> dict[str, Any]:
        """What every client is told."""
        protocol = f"{'SASL_' if self.user else ''}{'SSL' if self.ca else 'PLAINTEXT'}"
        return {
            "bootstrap_servers": self.bootstrap.split(","),
            "security_protocol": protocol,
            "ssl_cafile": self.ca,
            "ssl_check_hostname": True,
            "sasl_mechanism": SCRAM if self.user else None,
            "sasl_plain_username": self.user,
            "sasl_plain_password": None if self.password is None else Secret(self.password),
            "bootstrap_timeout_ms": BOOTSTRAP_MS_MAX,
            "request_timeout_ms": REQUEST_MS_MAX,
            "reconnect_backoff_ms": 50,
            "reconnect_backoff_max_ms": 2_000,
            "retry_backoff_ms": 100,
            "connections_max_idle_ms": 540_000,
            "metadata_max_age_ms": 60_000,
        }


def access(bootstrap: str, environment: Mapping[str, str] = os.environ) -> Access:
    """Who we are, from the environment. DanbaoError where half of it is missing."""
    user = environment.get("DANBAO_KAFKA_USER")
    secret = environment.get("DANBAO_KAFKA_PASSWORD_FILE")
    if bool(user) != bool(secret):
        raise DanbaoError(
            Both(
                "DANBAO_KAFKA_USER and DANBAO_KAFKA_PASSWORD_FILE go together, and one is missing.",
                "DANBAO_KAFKA_USER 与 DANBAO_KAFKA_PASSWORD_FILE 须同时给出。",
            ),
            Both("Set both, or neither.", "请同时设置，或都不设置。"),
        )
    ca = environment.get("DANBAO_KAFKA_CA")
    if user and not ca:
        raise DanbaoError(
            Both(
                "DANBAO_KAFKA_USER is set and DANBAO_KAFKA_CA is not: without TLS anybody on the way could change"
                " what is sent, and guess at the password.",
                "已设置 DANBAO_KAFKA_USER 而未设置 DANBAO_KAFKA_CA：没有 TLS，途中任何人都可篡改数据并猜测密码。",
            ),
            PEM,
        )
    if ca:
        _require_authority(ca)
    return Access(bootstrap, ca or None, user or None, _password(Path(secret)) if secret else None)


def _require_authority(ca: str) -> None:
    """A file that holds a certificate."""
    try:
        ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        raise DanbaoError(
            Both(
                f"DANBAO_KAFKA_CA names {ca}, where no certificate can be read.",
                f"DANBAO_KAFKA_CA 所指 {ca} 中读不到证书。",
            ),
            PEM,
        ) from None


def _password(file: Path) -> str:
    """The first line of the file, which must be its owner's alone."""
    try:
        mode = file.stat().st_mode
        text = file.read_text("utf-8").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DanbaoError(
            Both(f"The password in {file} cannot be read: {error}", f"无法读取 {file} 中的密码：{error}"),
            Both("See DANBAO_KAFKA_PASSWORD_FILE.", "请检查 DANBAO_KAFKA_PASSWORD_FILE。"),
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise DanbaoError(
            Both(f"{file} holds a password and others may read it.", f"{file} 存有密码，而他人可以读取。"),
            Both(f"Make it yours alone: chmod 600 {file}", f"请改为仅本人可读：chmod 600 {file}"),
        )
    if not text:
        raise DanbaoError(
            Both(f"The first line of {file} holds no password.", f"{file} 的首行没有密码。"),
            Both("See DANBAO_KAFKA_PASSWORD_FILE.", "请检查 DANBAO_KAFKA_PASSWORD_FILE。"),
        )
    return text


def consumer_options(access: Access, group: str, client_id: str) -> dict[str, Any]:
    """A consumer that keeps its own bookmark. The library's defaults would lose orders."""
    return access.options() | {
        "client_id": client_id,
        "metrics_enabled": False,
        "group_id": group,
        "group_instance_id": None,
        "enable_auto_commit": False,  # our bookmark is partition_head, in the transaction that books
        "auto_offset_reset": "none",  # a bookmark that the broker does not hold is a loss: stop, never jump
        "isolation_level": "read_committed",  # what a platform rolled back never happened
        "allow_auto_create_topics": False,
        "check_crcs": True,
        "max_poll_records": 500,
        "max_poll_interval_ms": POLL_INTERVAL_MS_MAX,
        "session_timeout_ms": SESSION_MS,
        "heartbeat_interval_ms": SESSION_MS // 10,
        "fetch_min_bytes": 64 * 1024,  # or what came in the time below: batches, not single records
        "fetch_max_wait_ms": 50,
        "fetch_max_bytes": FETCH_BYTES_MAX,
        "max_partition_fetch_bytes": PARTITION_FETCH_BYTES,
        "receive_message_max_bytes": FRAME_BYTES_MAX,
        "max_in_flight_requests_per_connection": 5,
        "exclude_internal_topics": True,
    }


def producer_options(access: Access, client_id: str) -> dict[str, Any]:
    """A producer whose every acknowledged record is kept, once, in order."""
    return access.options() | {
        "client_id": client_id,
        "metrics_enabled": False,
        "acks": "all",
        "enable_idempotence": True,
        "retries": 2**31 - 1,
        "delivery_timeout_ms": 120_000,
        "max_in_flight_requests_per_connection": 5,
        "compression_type": "zstd",
        "linger_ms": 20,
        "batch_size": 512 * 1024,
        "max_block_ms": 60_000,
        "max_request_size": 10 * 1024 * 1024,
        "allow_auto_create_topics": False,
    }


def admin_options(access: Access, client_id: str) -> dict[str, Any]:
    """A client for administration: a person waits for it."""
    return access.options() | {
        "client_id": client_id,
        "reconnect_backoff_max_ms": 1_000,
        "receive_message_max_bytes": 16 * 1024 * 1024,
    }
