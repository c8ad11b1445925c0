"""A limit on what a record batch may unpack to, and an answer to one that cannot be read.

In: record batches as a broker keeps them, which looks at their frames but not into them. Out: their records; or, where
a batch unpacks to more than BATCH_BYTES_MAX or cannot be taken apart, one record in place of all, whose value is the
batch itself after a line that says why. Intake rejects that record like any other that is not JSON, and keeps it
whole: a poison batch never blocks a partition.

kafka-python unpacks without any limit, and ends a poll for good at the first byte that it cannot read. It offers no
place to say otherwise, so its class of batches is replaced by ours when this module is imported.
"""

import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from struct import error as StructError
from typing import Any

import snappy
import zstandard
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from lz4.frame import LZ4FrameDecompressor

BATCH_BYTES_MAX = 32 * 1024 * 1024
XERIAL = b"\x82SNAPPY\x00"  # the framing of Java's snappy: 16 bytes, then blocks with their length before them
XERIAL_BYTES = 16
GZIP_WINDOW = 31

FAULTS = (
    *(CorruptRecordError, UnsupportedCodecError, StructError, ValueError, IndexError, EOFError),
    *(zlib.error, zstandard.ZstdError, snappy.UncompressError),
)


class TooLarge(ValueError):
    """A batch that unpacks to more than BATCH_BYTES_MAX."""

    def __init__(self) -> None:
        super().__init__(f"it unpacks to more than {BATCH_BYTES_MAX} bytes; send smaller batches")


def gunzip(packed: bytes) -> bytes:
    """gzip, of one or more members."""
    parts: list[bytes] = []
    room = BATCH_BYTES_MAX + 1
    while packed and room > 0:
        member = zlib.decompressobj(GZIP_WINDOW)
        part = member.decompress(packed, room)
        parts.append(part)
        room -= len(part)
        if not member.eof and room > 0:
            raise EOFError("the compressed data was cut off")
        packed = member.unused_data
    return b"".join(parts)


def unsnappy(packed: bytes) -> bytes:
    """snappy, plain or in the framing that Java uses; each block says how much it holds."""
    if packed[: len(XERIAL)] != XERIAL:
        return _block(packed, BATCH_BYTES_MAX + 1)
    parts: list[bytes] = []
    at, room = XERIAL_BYTES, BATCH_BYTES_MAX + 1
    while at < len(packed) and room > 0:
        length = int.from_bytes(packed[at : at + 4], "big")
        part = _block(packed[at + 4 : at + 4 + length], room)
        parts.append(part)
        room -= len(part)
        at += 4 + length
    return b"".join(parts)


def _block(packed: bytes, room: int) -> bytes:
    claimed = shift = 0
    for byte in packed[:5]:
        claimed |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if claimed >= room:
        raise TooLarge
    return bytes(snappy.uncompress(packed))


def unlz4(packed: bytes) -> bytes:
    """An LZ4 frame."""
    frame = LZ4FrameDecompressor()
    try:
        unpacked = bytes(frame.decompress(packed, BATCH_BYTES_MAX + 1))
    except RuntimeError as error:
        raise ValueError(f"no LZ4 frame: {error}") from None
    if not frame.eof and len(unpacked) <= BATCH_BYTES_MAX:
        raise EOFError("the compressed data was cut off")
    return unpacked


def unzstd(packed: bytes) -> bytes:
    """zstd, of one or more frames."""
    with zstandard.ZstdDecompressor().stream_reader(BytesIO(packed), read_across_frames=True) as reader:
        return reader.read(BATCH_BYTES_MAX + 1)


UNPACK: dict[int, Callable[[bytes], bytes]] = {
    DefaultRecordBatch.CODEC_GZIP: gunzip,
    DefaultRecordBatch.CODEC_SNAPPY: unsnappy,
    DefaultRecordBatch.CODEC_LZ4: unlz4,
    DefaultRecordBatch.CODEC_ZSTD: unzstd,
}


class GuardedBatch(DefaultRecordBatch):  # type: ignore[misc]
    """A record batch of kafka-python, within limits."""

    _buffer: Any
    _pos: int
    _decompressed: bool

    def __iter__(self) -> Iterator[DefaultRecord]:
        packed = self._buffer
        try:
            self._maybe_uncompress()
            return iter(list(self._every_record()))
        except FAULTS as fault:
            value = f"A record batch that cannot be read: {fault}\n".encode() + bytes(packed)
            return iter(
                [DefaultRecord(len(value), self.base_offset, self.max_timestamp, self.timestamp_type, None, value, [])]
            )

    def _every_record(self) -> Iterator[DefaultRecord]:
        while True:
            try:
                yield self.__next__()
            except StopIteration:  # said when no byte is left over
                return

    def _maybe_uncompress(self) -> None:
        """Replaces the library's: the same, with a limit."""
        if not self._decompressed and self.compression_type in UNPACK:
            unpacked = UNPACK[self.compression_type](bytes(memoryview(self._buffer)[self._pos :]))
            if len(unpacked) > BATCH_BYTES_MAX:
                raise TooLarge
            self._buffer, self._pos = bytearray(unpacked), 0
            self._decompressed = True
        else:
            super()._maybe_uncompress()


memory_records.DefaultRecordBatch = GuardedBatch
