"""Evidence: the format byte by byte, and that no byte of it can change unseen."""

from hashlib import sha256

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.evidence import (
    GENESIS,
    SEGMENT_BYTES_MAX,
    Damage,
    Record,
    Segment,
    decompress,
    link,
    pack,
    seal,
    unpack,
)

# Golden vectors, worked out outside Python, in a shell. Changing one of them breaks every chain ever written.
# Two records, "a" and "", arrived at 1 and 2, at the offsets 5 and 6 of partition 3 of the topic "orders":
#
#   frames:  printf '\0\0\0\0\0\0\0\1' '\0\0\0\1' 'a'  '\0\0\0\0\0\0\0\2' '\0\0\0\0'
#   digest:  the above | sha256sum
#   link:    ( printf 'danbao.chain.1\n'; head -c 32 /dev/zero; echo $digest | xxd -r -p;
#              printf '\0\0\0\0\0\0\0\5' '\0\0\0\0\0\0\0\7' '\0\0\0\3' 'orders' ) | sha256sum
#
# One more segment, of the record "{}" that arrived at 3, at offset 7:
#
#   digest:  printf '\0\0\0\0\0\0\0\3' '\0\0\0\2' '{}' | sha256sum
#   link:    ( printf 'danbao.chain.1\n'; echo $link | xxd -r -p; echo $digest | xxd -r -p;
#              printf '\0\0\0\0\0\0\0\7' '\0\0\0\0\0\0\0\10' '\0\0\0\3' 'orders' ) | sha256sum
FRAMES = "00000000000000010000000161" + "000000000000000200000000"
DIGEST = "038c3bb065822e6aa6ca952f68c89a6489b8ebe97b472a2484959bb5cec8fb6a"
LINK = "d51acebad1225590986f733a1510430c1d59532e073b2cba24807dc681c4ab01"
DIGEST_2 = "d40ee8489bf911c291f383e89804fffbe49151b1fc42e1d340acdc58d9becc71"
LINK_2 = "6280f4d552475550833d0f143a23714d8d55c888090a9ae12c047031e13e7e70"

TWO = [Record(5, 1, b"a"), Record(6, 2, b"")]
NEXT = [Record(7, 3, b"{}")]
SAMPLE = [Record(number, 10**15 + number, b'{"id":"e-%d","subject":"o-%d"}' % (number, number)) for number in range(40)]

# The same record "a" at offset 5, signed "xy", and one at offset 8, since 6 and 7 hold none:
#
#   notes:   printf '\377\377\377\377\377\377\377\372' '\0\0\0\3' 'Sxy'
#            printf '\377\377\377\377\377\377\377\371' '\0\0\0\11' 'G\0\0\0\0\0\0\0\2'
NOTED = [Record(5, 1, b"a", b"xy"), Record(8, 2, b"")]
NOTED_FRAMES = (
    FRAMES + "fffffffffffffffa00000003" + b"Sxy".hex() + "fffffffffffffff900000009" + b"G".hex() + "00" * 7 + "02"
)

RECORDS = st.lists(st.tuples(st.integers(0, 2**63 - 1), st.binary(max_size=80)), min_size=1, max_size=12)


def numbered(rows: list[tuple[int, bytes]], first: int = 0) -> list[Record]:
    return [Record(first + place, arrived_us, raw) for place, (arrived_us, raw) in enumerate(rows)]


def note(offset: int, content: bytes) -> bytes:
    return (-1 - offset).to_bytes(8, "big", signed=True) + len(content).to_bytes(4, "big") + content


def opened(segment: Segment, first: int) -> list[Record]:
    """What an auditor does with a segment: unpack it and hold it against its hash."""
    framed = decompress(segment.payload)
    if sha256(framed).digest() != segment.raw_sha256 or len(framed) != segment.raw_bytes:
        raise Damage("not the bytes that the chain names")
    return list(unpack(framed, first))


def stored(frame: bytes) -> bytes:
    """A payload that is whole, whatever its frame says."""
    return sha256(frame).digest() + frame


# The format


def test_records_are_framed_as_the_golden_vector_says():
    assert pack(TWO, 5).hex() == FRAMES
    assert list(unpack(bytes.fromhex(FRAMES), 5)) == TWO


def test_the_chain_is_the_golden_one():
    first = seal(TWO, GENESIS, "orders", 3, 5)
    assert (first.raw_sha256.hex(), first.chain_after.hex()) == (DIGEST, LINK)
    assert first.chain_before == bytes(32)
    second = seal(NEXT, first.chain_after, "orders", 3, 7)
    assert (second.raw_sha256.hex(), second.chain_before.hex(), second.chain_after.hex()) == (
        DIGEST_2,
        LINK,
        LINK_2,
    )


def test_a_payload_is_its_hash_and_one_zstd_frame():
    payload = seal(TWO, GENESIS, "orders", 3, 5).payload
    assert payload[:32] == sha256(payload[32:]).digest()
    assert zstandard.ZstdDecompressor().decompress(payload[32:]).hex() == FRAMES


@settings(deadline=None)
@given(RECORDS, st.integers(0, 2**40))
def test_what_was_sealed_is_opened_byte_for_byte(rows: list[tuple[int, bytes]], first: int):
    records = numbered(rows, first)
    segment = seal(records, GENESIS, "orders", 0, first)
    assert opened(segment, first) == records
    assert segment.raw_bytes == len(pack(records, first))


def test_signatures_and_offsets_that_hold_no_record_are_noted_as_the_golden_vector_says():
    assert pack(NOTED, 5).hex() == NOTED_FRAMES
    assert list(unpack(bytes.fromhex(NOTED_FRAMES), 5)) == NOTED


@settings(deadline=None)
@given(st.data(), st.integers(0, 2**40))
def test_whatever_offsets_are_missing_and_whoever_signed_is_opened_as_it_was(data: st.DataObject, first: int):
    gaps = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=12))
    records, offset = [], first
    for gap in gaps:
        offset += gap
        signature = data.draw(st.none() | st.binary(max_size=64))
        records.append(
            Record(offset, data.draw(st.integers(0, 2**63 - 1)), data.draw(st.binary(max_size=9)), signature)
        )
        offset += 1
    segment = seal(records, GENESIS, "orders", 0, first)
    assert opened(segment, first) == records


def test_what_is_booked_already_is_not_sealed_again():
    with pytest.raises(AssertionError, match="booked twice"):
        seal(TWO, GENESIS, "orders", 3, 6)


@pytest.mark.parametrize(
    ("notes", "damage"),
    [
        (note(5, b"X"), "cannot be read"),
        (note(5, b"S1") + note(5, b"S2"), "cannot be read"),
        (note(7, b"S1"), "holds no record"),
        (note(5, b"G" + bytes(8)), "cannot be"),
        (note(4, b"G" + bytes(7) + b"\1"), "cannot be"),
        (note(6, b"G" + bytes(7) + b"\1") + note(6, b"G" + bytes(7) + b"\1"), "cannot be"),
        (note(7, b"G" + bytes(7) + b"\1"), "cannot be"),
        (note(6, b"G" + bytes(6)), "cannot be read"),
        (bytes.fromhex(FRAMES)[:13], "cannot be read"),
    ],
    ids=["letter", "signed twice", "no record", "no offsets", "before", "overlap", "after", "short", "record"],
)
def test_notes_that_do_not_fit_the_records_are_damage(notes: bytes, damage: str):
    whole = bytes.fromhex(FRAMES) + note(5, b"S") if notes[:1] == b"\0" else bytes.fromhex(FRAMES)
    with pytest.raises(Damage, match=damage):
        list(unpack(whole + notes, 5))


# Nothing changes unseen


def test_every_changed_byte_of_a_stored_segment_is_found():
    payload = seal(SAMPLE, GENESIS, "orders", 0, 0).payload
    for place in range(len(payload)):
        for bit in range(8):
            changed = bytearray(payload)
            changed[place] ^= 1 << bit
            with pytest.raises(Damage):
                decompress(bytes(changed))


def test_every_cut_off_segment_is_found():
    payload = seal(SAMPLE, GENESIS, "orders", 0, 0).payload
    for length in range(len(payload)):
        with pytest.raises(Damage):
            decompress(payload[:length])


def test_bytes_after_a_segment_are_found():
    with pytest.raises(Damage):
        decompress(seal(SAMPLE, GENESIS, "orders", 0, 0).payload + b"\0")


def test_every_changed_byte_of_a_record_breaks_the_chain():
    segment = seal(TWO, GENESIS, "orders", 3, 5)
    framed = pack(TWO, 5)
    for place in range(len(framed)):
        changed = bytearray(framed)
        changed[place] ^= 0xFF
        digest = sha256(changed).digest()
        assert link(GENESIS, digest, "orders", 3, 5, 7) != segment.chain_after


def test_a_payload_made_anew_around_other_records_is_found():
    segment = seal(TWO, GENESIS, "orders", 3, 5)
    forged = segment._replace(payload=seal([Record(5, 1, b"b"), Record(6, 2, b"")], GENESIS, "orders", 3, 5).payload)
    with pytest.raises(Damage, match="not the bytes"):
        opened(forged, 5)


def test_every_frame_that_is_cut_off_is_found_or_leaves_a_record_missing():
    framed = pack(SAMPLE, 0)
    whole = [len(pack(SAMPLE[:count], 0)) for count in range(len(SAMPLE))]
    for length in range(len(framed)):
        if length in whole:
            assert len(list(unpack(framed[:length], 0))) == whole.index(length)
        else:
            with pytest.raises(Damage, match="cut off"):
                list(unpack(framed[:length], 0))


@pytest.mark.parametrize(
    ("topic", "partition", "first", "after"),
    [("order", 3, 5, 7), ("orders2", 3, 5, 7), ("orders", 2, 5, 7), ("orders", 3, 4, 7), ("orders", 3, 5, 8)],
)
def test_a_link_holds_the_place_of_its_segment(topic: str, partition: int, first: int, after: int):
    assert link(GENESIS, bytes.fromhex(DIGEST), topic, partition, first, after).hex() != LINK


def test_a_link_holds_all_links_before_it():
    other = seal(NEXT, bytes.fromhex(LINK[::-1]), "orders", 3, 7)
    assert other.chain_after.hex() != LINK_2


# What a hostile payload may claim


def test_a_claim_to_unpack_to_more_than_the_limit_is_refused_unread():
    claims = bytes.fromhex("28b52ffd" + "e0") + (SEGMENT_BYTES_MAX + 1).to_bytes(8, "little")
    with pytest.raises(Damage, match="claims to unpack to 536870913 bytes"):
        decompress(stored(claims + b"\x01\x00\x00"))


def test_a_frame_that_does_not_say_its_size_is_refused():
    packer = zstandard.ZstdCompressor(write_content_size=False)
    with pytest.raises(Damage, match="claims to unpack to"):
        decompress(stored(packer.compress(bytes(1_000))))


@pytest.mark.parametrize("claimed", [1, 99, 101])
def test_a_frame_that_lies_about_its_size_is_refused(claimed: int):
    frame = bytearray(zstandard.ZstdCompressor().compress(b"a" * 100))
    assert frame[5] == 100
    frame[5] = claimed
    with pytest.raises(Damage, match="does not unpack"):
        decompress(stored(bytes(frame)))


@given(st.binary(max_size=64))
def test_no_bytes_at_all_make_anything_but_damage(frame: bytes):
    with pytest.raises(Damage):
        decompress(frame)
    with pytest.raises(Damage):
        decompress(stored(b"\0" + frame))
