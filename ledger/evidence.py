"""Evidence: raw records as compressed segments, each chained to the one before. Pure.

In: the records of one batch, byte for byte as received. Out: one segment and its place in the chain.

Segment, before compression, for each record in order of offset:

    arrived at   8 bytes, big-endian, microseconds since 1970 UTC
    length       4 bytes, big-endian
    record       that many bytes

Payload, as it is stored: the SHA-256 of the compressed segment (32 bytes), then the compressed segment, one
zstd frame. zstd passes over some changed bits, and over bytes after its frame; the hash before it does not.

Chain, one per topic and partition, beginning with 32 zero bytes:

    SHA-256( "danbao.chain.1\\n"
             | chain before (32 bytes) | SHA-256 of the segment before compression (32 bytes)
             | first offset (8) | next offset (8) | partition (4) | topic (UTF-8) )        all big-endian

One hash, one function, one language; golden vectors in tests/core/test_evidence.py.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

import zstandard

HASH_BYTES = 32
GENESIS = bytes(HASH_BYTES)
SEGMENT_BYTES_MAX = 512 * 1024 * 1024  # what a stored segment may claim to unpack to
_PREFIX = b"danbao.chain.1\n"
_FRAME = Struct(">qI")
_PLACE = Struct(">qqi")
_ZSTD_LEVEL = 3


class Record(NamedTuple):
    """One record as it came: its offset, when it arrived (µs since 1970 UTC), and its bytes."""

    offset: int
    arrived_us: int
    raw: bytes


class Segment(NamedTuple):
    """The records of one batch as they are stored, and their link in the chain."""

    payload: bytes
    raw_bytes: int
    raw_sha256: bytes
    chain_before: bytes
    chain_after: bytes


class Damage(ValueError):
    """A segment that does not unpack to what was packed; the message says how."""


def pack(records: Iterable[Record]) -> bytes:
    """Records → segment bytes before compression."""
    parts: list[bytes] = []
    frame = _FRAME.pack
    for _, arrived_us, raw in records:
        parts.append(frame(arrived_us, len(raw)))
        parts.append(raw)
    return b"".join(parts)


def unpack(framed: bytes, first_offset: int) -> Iterator[Record]:
    """Segment bytes before compression → its records. Damage when the frames do not add up."""
    at, end, offset = 0, len(framed), first_offset
    while at < end:
        if at + _FRAME.size > end:
            raise Damage(f"a frame header is cut off at byte {at}")
        arrived_us, length = _FRAME.unpack_from(framed, at)
        at += _FRAME.size
        if at + length > end:
            raise Damage(f"record {offset} is cut off at byte {at}")
        yield Record(offset, arrived_us, framed[at : at + length])
        at += length
        offset += 1


def decompress(payload: bytes) -> bytes:
    """A stored payload → segment bytes before compression. Damage when it is not as it was stored."""
    stored_sha256, frame = payload[:HASH_BYTES], payload[HASH_BYTES:]
    if sha256(frame).digest() != stored_sha256:
        raise Damage("its bytes were changed since they were stored")
    try:
        parameters = zstandard.get_frame_parameters(frame)
        if parameters.content_size > SEGMENT_BYTES_MAX:
            raise Damage(f"it claims to unpack to {parameters.content_size} bytes")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=SEGMENT_BYTES_MAX)
    except zstandard.ZstdError as error:
        raise Damage(f"it does not unpack: {error}") from None


def link(chain_before: bytes, raw_sha256: bytes, topic: str, partition: int, first: int, after: int) -> bytes:
    """The chain hash after a segment; the formula is in the module's docstring."""
    assert len(chain_before) == len(raw_sha256) == HASH_BYTES
    place = _PLACE.pack(first, after, partition)
    return sha256(b"".join((_PREFIX, chain_before, raw_sha256, place, topic.encode()))).digest()


def seal(records: list[Record], chain_before: bytes, topic: str, partition: int) -> Segment:
    """The segment of one batch: what is stored, and the chain's next value."""
    framed = pack(records)
    digest = sha256(framed).digest()
    first, after = records[0].offset, records[-1].offset + 1
    assert after - first == len(records), "offsets are contiguous"
    chain_after = link(chain_before, digest, topic, partition, first, after)
    # A compressor of its own: one that threads share writes frames that do not unpack.
    frame = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(framed)
    return Segment(sha256(frame).digest() + frame, len(framed), digest, chain_before, chain_after)
