"""Record batches that unpack without end or cannot be read: one record that says so, and never an exception.

In: batches as producers make them, compressed by every codec, whole, bombs, cut off, garbage. Out: their records.
"""

import gzip
import struct

import lz4.frame
import pytest
import snappy
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from consumers.kafka import guard
from consumers.kafka.guard import BATCH_BYTES_MAX, GuardedBatch

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PACK = {
    1: gzip.compress,
    2: snappy.compress,
    3: lz4.frame.compress,
    4: zstandard.ZstdCompressor().compress,
}
ATTRIBUTES_AT, HEADER_BYTES = struct.calcsize(">qiibI"), DefaultRecordBatchBuilder.HEADER_STRUCT.size


def batch(*values: bytes, codec: int = 0, base: int = 7) -> bytes:
    """A batch as a broker keeps it."""
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 10**9)
    for offset, value in enumerate(values):
        builder.append(offset, 1_000 + offset, b"key", value, [("header", b"h")])
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, base)
    return bytes(built)


def packed_by_hand(content: bytes, codec: int) -> bytes:
    """A batch that claims to hold one record, with this content after its header."""
    head = bytearray(batch(b"x")[:HEADER_BYTES])
    struct.pack_into(">h", head, ATTRIBUTES_AT, codec)
    return bytes(head) + content


def values(raw: bytes) -> list[bytes]:
    return [record.value for record in GuardedBatch(raw)]


def test_the_library_takes_our_batches():
    """It offers no place to give it a limit, so this is how we know that ours is in force."""
    assert type(MemoryRecords(batch(b"a")).next_batch()) is GuardedBatch


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_batch_of_any_codec_is_read_as_it_was_written(codec: int):
    written = [b"a" * 1_000, b"", b"{}" * 7]
    found = list(GuardedBatch(batch(*written, codec=codec)))
    assert [(record.offset, record.value, record.headers) for record in found] == [
        (7 + place, value, [("header", b"h")]) for place, value in enumerate(written)
    ]


@pytest.mark.parametrize("codec", PACK)
def test_a_batch_that_unpacks_without_end_is_one_record_that_says_so(codec: int):
    bomb = packed_by_hand(PACK[codec](bytes(BATCH_BYTES_MAX + 1)), codec)
    [record] = GuardedBatch(bomb)
    assert record.offset == 7
    assert record.value.startswith(b"A record batch that cannot be read: it unpacks to more than")
    assert record.value.endswith(bomb)


def test_members_and_frames_one_after_the_other_are_one_content_and_share_one_limit():
    assert guard.gunzip(gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"
    assert guard.unzstd(PACK[4](b"a") + PACK[4](b"b")) == b"ab"
    half = bytes(BATCH_BYTES_MAX // 2 + 1)
    for codec in (1, 4):
        assert b"unpacks to more than" in values(packed_by_hand(PACK[codec](half) * 2, codec))[0]


def test_snappy_in_javas_framing_is_read_and_its_claims_are_not_believed():
    blocks = [snappy.compress(part) for part in (b"one", b"two")]
    java = guard.XERIAL + bytes(8) + b"".join(len(block).to_bytes(4, "big") + block for block in blocks)
    assert guard.unsnappy(java) == b"onetwo"
    with pytest.raises(guard.TooLarge):
        guard.unsnappy(b"\xff\xff\xff\xff\x0f" + b"x")


@pytest.mark.parametrize("codec", PACK)
def test_a_batch_that_was_cut_off_is_one_record(codec: int):
    whole = PACK[codec](bytes(range(256)) * 40)
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        [value] = values(packed_by_hand(whole[:length], codec))
        assert value.startswith(b"A record batch that cannot be read")


def test_headers_that_are_no_utf8_do_not_stop_a_partition():
    broken = batch(b"a").replace(b"header", b"\xff\xfe\xfd\xfc\xfb\xfa")
    assert values(broken)[0].startswith(b"A record batch that cannot be read")


def test_a_codec_that_nobody_knows_is_one_record():
    assert values(packed_by_hand(b"?", 7))[0].startswith(b"A record batch that cannot be read")


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(sorted(CODECS.values())))
def test_whatever_bytes_are_changed_after_the_header_a_batch_yields_records_and_no_exception(
    data: st.DataObject, codec: int
):
    raw = bytearray(batch(b"a" * 300, b"b" * 300, codec=codec))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(HEADER_BYTES, len(raw) - 1))] = data.draw(st.integers(0, 255))
    found = values(bytes(raw))
    assert len(found) == 2 or found[0].endswith(bytes(raw))
