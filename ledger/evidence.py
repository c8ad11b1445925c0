"""Evidence: raw records as compressed segments, each chained to the one before. Pure.

In: the records of one batch, byte for byte as received. Out: one segment and its place in the chain.

Segment, before compression, for each record in order of offset:

    arrived at   8 bytes, big-endian, microseconds since 1970 UTC
    length       4 bytes, big-endian
    record       that many bytes

then, only where there is something to note, for each note in order of offset:

    -1 - offset  8 bytes, big-endian: negative, so that a note cannot be taken for a record
    length       4 bytes, big-endian
    note         one letter and its bytes:
                 S  the detached signature that came with the record of this offset
                 G  8 bytes, big-endian: so many offsets from this one on hold no record for us, because they
                    never held one (a stream's transaction markers) or what they held was rolled back

Payload, as it is stored: the SHA-256 of the compressed segment (32 bytes), then the compressed segment, one
zstd frame. zstd passes over some changed bits, and over bytes after its frame; the hash before it does not.

Chain, one per topic and partition, beginning with 32 zero bytes:

    SHA-256( "danbao.chain.1\\n"
             | chain before (32 bytes) | SHA-256 of the segment before compression (32 bytes)
             | first offset (8) | next offset (8) | partition (4) | topic (UTF-8) )        all big-endian

One hash, one function, one language; golden vectors in tests/core/test_evidence.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
_SIGNATURE, _GAP = b"S", b"G"


class Record(NamedTuple):
    """One record as it came: its offset, when it arrived (µs since 1970 UTC), its bytes, its detached signature."""

    offset: int
    arrived_us: int
    raw: bytes
    signature: bytes | None = None


class Segment(NamedTuple):
    """The records of one batch as they are stored, and their link in the chain."""

    payload: bytes
    raw_bytes: int
    raw_sha256: bytes
    chain_before: bytes
    chain_after: bytes


class Damage(ValueError):
    """A segment that does not unpack to what was packed; the message says how."""


class Frame(NamedTuple):
    """One frame of a segment: its first number (see the module's docstring) and its bytes."""

    number: int
    content: bytes


def pack(records: Iterable[Record], first_offset: int) -> bytes:
    """Records → segment bytes before compression. Offsets from `first_offset` on that hold no record are noted."""
    parts: list[bytes] = []
    notes: list[bytes] = []
    frame = _FRAME.pack
    expected = first_offset
    for offset, arrived_us, raw, signature in records:
        assert arrived_us >= 0, "a negative number begins a note"
        parts.append(frame(arrived_us, len(raw)))
        parts.append(raw)
        if offset != expected:
            notes.append(_note(expected, _GAP + (offset - expected).to_bytes(8, "big")))
        if signature is not None:
            notes.append(_note(offset, _SIGNATURE + signature))
        expected = offset + 1
    return b"".join(parts + notes)


def _note(offset: int, note: bytes) -> bytes:
    return _FRAME.pack(-1 - offset, len(note)) + note


def unpack(framed: bytes, first_offset: int) -> Iterator[Record]:
    """Segment bytes before compression → its records. Damage when the frames do not add up."""
    frames = list(_frames(framed))
    count = next((place for place, frame in enumerate(frames) if frame.number < 0), len(frames))
    notes = _read_notes(frames[count:], first_offset, count)
    for (arrived_us, raw), offset in zip(frames, notes.offsets, strict=False):
        yield Record(offset, arrived_us, raw, notes.signatures.get(offset))


def _frames(framed: bytes) -> Iterator[Frame]:
    at, end = 0, len(framed)
    while at < end:
        if at + _FRAME.size > end:
            raise Damage(f"a frame header is cut off at byte {at}")
        number, length = _FRAME.unpack_from(framed, at)
        at += _FRAME.size
        if at + length > end:
            raise Damage(f"a frame is cut off at byte {at}")
        yield Frame(number, framed[at : at + length])
        at += length


@dataclass(frozen=True, slots=True)
class Notes:
    """What a segment notes of its records: the offset of each, and the signatures by offset."""

    offsets: Sequence[int]
    signatures: dict[int, bytes]


def notes_of(framed: bytes, begin: int, first_offset: int, records: int) -> Notes:
    """The notes that begin at a byte of the segment, after its records. Damage when they do not add up."""
    return _read_notes(list(_frames(framed[begin:])), first_offset, records)


def _read_notes(notes: list[Frame], first_offset: int, records: int) -> Notes:
    """What the frames after those of the records say. Damage when that cannot be."""
    signatures: dict[int, bytes] = {}
    gaps: list[tuple[int, int]] = []
    for number, note in notes:
        offset = -1 - number
        if note[:1] == _SIGNATURE and offset not in signatures:
            signatures[offset] = note[1:]
        elif note[:1] == _GAP and len(note) == 9 and number < 0:
            gaps.append((offset, int.from_bytes(note[1:], "big")))
        else:
            raise Damage(f"a note of offset {offset} cannot be read")
    offsets = _offsets(first_offset, records, gaps)
    if strange := signatures.keys() - offsets:
        raise Damage(f"offset {min(strange)} is signed and holds no record")
    return Notes(offsets, signatures)


def _offsets(first_offset: int, records: int, gaps: list[tuple[int, int]]) -> Sequence[int]:
    """The offset of each record, those left out that hold none."""
    if not gaps:
        return range(first_offset, first_offset + records)
    offsets: list[int] = []
    at = first_offset
    for offset, count in gaps:
        if not (at <= offset and count > 0 and len(offsets) + offset - at < records):
            raise Damage(f"offsets {offset} to {offset + count} are noted as empty and cannot be")
        offsets += range(at, offset)
        at = offset + count
    return [*offsets, *range(at, at + records - len(offsets))]


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


def seal(records: list[Record], chain_before: bytes, topic: str, partition: int, first: int) -> Segment:
    """The segment of one batch that begins at offset `first`: what is stored, and the chain's next value."""
    assert first <= records[0].offset, "nothing is booked twice"
    framed = pack(records, first)
    digest = sha256(framed).digest()
    after = records[-1].offset + 1
    chain_after = link(chain_before, digest, topic, partition, first, after)
    # A compressor of its own: one that threads share writes frames that do not unpack.
    frame = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(framed)
    return Segment(sha256(frame).digest() + frame, len(framed), digest, chain_before, chain_after)
