"""Who sent a record 报送主体. Pure.

In: a record, the platform that an event of it names, and the stream that it came through. Out: nothing, or why it
cannot be taken for that platform's. How a sender is known:

    file, inbox            the operator who hands the records in vouches for them; nothing is asked here
    a platform's own topic the broker lets only that platform write there (deploy/README.md), so its events are its own
    a topic that all share a detached Ed25519 signature (RFC 8032) of the record's bytes, by a key of the platform.
                           Example platforms need none: nobody is insured by their orders

A platform that has registered a key signs wherever it sends, from the moment its first key is in force. A key is in
force no sooner than KEY_NOTICE after its registration, so that every consumer knows it by then: what a record needs
depends on when it arrived, never on when it was read.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.evidence import Record
from schemas.codes import Reason

KEY_BYTES = 32
SIGNATURE_BYTES = 64
KEY_NOTICE = timedelta(minutes=15)


class SigningKey(NamedTuple):
    """A platform's public key, and from when until before when its signatures count (µs since 1970 UTC)."""

    public_key: bytes
    in_force_from_us: int
    in_force_until_us: int | None


class Registered(NamedTuple):
    """What intake needs to know of a platform."""

    platform_no: int
    platform_id: str
    example: bool = False
    keys: tuple[SigningKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """A topic that platforms write to themselves. `owner`: whose own topic it is; None: all share it."""

    topic: str
    owner: int | None = None


def is_vouched(platform: Registered, stream: Stream) -> bool:
    """Whether the platform's events may come through the stream without a look at each record."""
    at_home = stream.owner == platform.platform_no or (stream.owner is None and platform.example)
    return at_home and not platform.keys


def refusal(record: Record, platform: Registered, stream: Stream) -> tuple[Reason, str, str] | None:
    """Why a record cannot be taken for the platform's: reason, place, and what to do."""
    if stream.owner not in (None, platform.platform_no):
        return (
            Reason.WRONG_SOURCE,
            "source",
            f"{stream.topic} is another platform's own topic; send events of {platform.platform_id} to its own",
        )
    if not any(key.in_force_from_us <= record.arrived_us for key in platform.keys):
        if is_vouched(platform._replace(keys=()), stream):
            return None
        return (
            Reason.UNSIGNED,
            "record",
            f"on {stream.topic}, which all platforms share, records are signed; register a key"
            f" (danbao platforms key add {platform.platform_id} …) and sign, or send to a topic of your own",
        )
    if record.signature is None:
        return (
            Reason.UNSIGNED,
            "record",
            f"{platform.platform_id} has registered a key, so each record comes with its signature in a header",
        )
    if not any(_signed(record, key) for key in platform.keys):
        return (
            Reason.BAD_SIGNATURE,
            "record",
            f"the signature is by no key of {platform.platform_id} in force then; sign the bytes as they are sent",
        )
    return None


def _signed(record: Record, key: SigningKey) -> bool:
    in_force = key.in_force_from_us <= record.arrived_us and (
        key.in_force_until_us is None or record.arrived_us < key.in_force_until_us
    )
    return in_force and verifies(key.public_key, record.signature or b"", record.raw)


def verifies(public_key: bytes, signature: bytes, raw: bytes) -> bool:
    """Whether the signature of these bytes is by the holder of the key."""
    try:
        _loaded(public_key).verify(signature, raw)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=4096)
def _loaded(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)
