"""The platform's side without a broker: partitions, what is not sent, files, keys, and what comes back.

In: events, files, headers. Out: the partition that any Kafka client would take; BadQuestion with the line.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from support import ARRIVED, accepted, completed, encode, ndjson

from consumers import pushfile
from consumers.kafka.answers import Places, Told, read_told
from consumers.kafka.rejected import message
from consumers.push import partition_of, read_event, read_key
from consumers.sources import open_file
from ledger import mapping as mappings
from ledger import signing
from ledger.errors import BadQuestion
from ledger.identity import verifies
from ledger.store.rejections import Rejected
from schemas.orders import RECORD_BYTES_MAX

# Apache Kafka, UtilsTest.testMurmur2: what Java's producer computes.
MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@pytest.mark.parametrize(("key", "hashed"), MURMUR2.items())
def test_an_order_goes_where_javas_default_partitioner_sends_it(key: bytes, hashed: int):
    for partitions in (1, 2, 12, 256):
        assert partition_of(key, partitions) == (hashed & 0x7FFFFFFF) % partitions


# ---- what is not sent


@pytest.mark.parametrize("handed", [accepted("A"), encode(accepted("A"))], ids=["mapping", "bytes"])
def test_an_event_and_its_bytes_are_read_alike(handed: Any):
    raw, order, orders = read_event(handed, "eleme")
    assert (json.loads(raw), order, orders) == (accepted("A"), "A", 1)
    assert read_event(completed("A"), "eleme")[1:] == ("A", 0)


def test_bytes_are_sent_as_they_are():
    raw = b' { "subject" :"A", "source":"/platforms/eleme", "pay": 1.50 }'
    assert read_event(raw, "eleme") == (raw, "A", 0)


@pytest.mark.parametrize(
    ("handed", "said"),
    [
        (accepted("A", platform="example-delivery"), "its source is '/platforms/example-delivery', not /platforms/el"),
        ({}, "its source is None"),
        (accepted(""), "no order id"),
        (accepted("A" * 65), "no order id"),
        (accepted("A") | {"subject": 7}, "no order id"),
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no JSON object"),
        (b'{"source": NaN}', "no JSON"),
        (accepted("A") | {"data": object()}, "no JSON"),
        (accepted("A", worker="W" * RECORD_BYTES_MAX), "bytes, and a record holds"),
    ],
    ids=range(11),
)
def test_what_cannot_be_an_event_of_the_platform_is_not_sent(handed: Any, said: str):
    with pytest.raises(BadQuestion) as raised:
        read_event(handed, "eleme")
    assert said in raised.value.what.en


# ---- files


def pushed(path: Path, mapping: str | None = None) -> list[tuple[int, Any]]:
    source = open_file(path, mappings.load(mapping) if mapping else None, None, ARRIVED)
    return list(pushfile.events(source))


def test_a_files_events_come_in_order_with_their_lines_and_lists_unpacked(tmp_path: Path):
    file = tmp_path / "orders.ndjson"
    lines = [encode(accepted("A")), b"", encode([accepted("B"), completed("B")]), b"\r", b" " + encode(completed("A"))]
    file.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    assert pushed(file) == [(1, lines[0]), (3, accepted("B")), (3, completed("B")), (5, lines[4])]


def csv_file(path: Path, *rows: str) -> Path:
    """An export as the bundled mapping `eleme` reads it."""
    file = path / "orders.csv"
    header = "order_id,worker_id,accepted_at,completed_at,cancelled,pick_lat,pick_lng"
    file.write_text("\n".join((header, *rows)))
    return file


def test_a_csv_goes_through_its_mapping(tmp_path: Path):
    row = "A,W1,2026-10-03 12:00:00,2026-10-03 12:30:00,False,,"
    found = pushed(csv_file(tmp_path, row, "", row.replace("A,", "B,")), "eleme")
    assert [(number, event["subject"], event["source"], event["type"]) for number, event in found] == [
        (2, "A", "/platforms/eleme", "order.accepted"),
        (2, "A", "/platforms/eleme", "order.completed"),
        (4, "B", "/platforms/eleme", "order.accepted"),
        (4, "B", "/platforms/eleme", "order.completed"),
    ]


@pytest.mark.parametrize(
    ("third", "said"),
    [
        (encode(accepted("C", platform="example-delivery")), "line 3: This event cannot be sent: its source is"),
        (encode([accepted("C"), accepted("D", platform="x")]), "line 3: This event cannot be sent: its source is 'x"),
        (b"[1", "line 3: it is no JSON"),
        (b"rubbish", "line 3: This event cannot be sent: it is no JSON"),
        (b"[[]]", "line 3: This event cannot be sent: it is no JSON object"),
    ],
    ids=range(5),
)
def test_a_line_that_cannot_be_sent_is_named(tmp_path: Path, third: bytes, said: str):
    file = ndjson(tmp_path / "orders.ndjson", accepted("A"), b"", third)
    with pytest.raises(BadQuestion) as raised:
        pushfile.check(open_file(file, None, None, ARRIVED), "eleme")
    assert said.replace("'x", "'/platforms/x") in raised.value.what.en
    assert raised.value.what.en.endswith("Nothing was sent.")


def test_a_row_that_the_mapping_cannot_read_is_named(tmp_path: Path):
    file = csv_file(tmp_path, "A,W1,2026-10-03 12:00:00,,False,,", "B,W2,noon,,False,,")
    with pytest.raises(BadQuestion, match="line 3: the mapping cannot read it: column accepted_at: 'noon'"):
        pushfile.check(open_file(file, mappings.load("eleme"), None, ARRIVED), "eleme")


# ---- keys


def test_a_key_file_is_read_back_and_signs_for_its_public_half(tmp_path: Path):
    file = tmp_path / "key.pem"
    file.write_bytes(signing.private_pem(KEY))
    file.chmod(0o600)
    public = signing.read_public(signing.public_text(KEY))
    assert verifies(public, read_key(file).sign(b"record"), b"record")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path):
    file = tmp_path / "key.pem"
    file.write_bytes(signing.private_pem(KEY))
    file.chmod(0o640)
    with pytest.raises(BadQuestion, match="others may read it"):
        read_key(file)
    with pytest.raises(BadQuestion, match="cannot be read: No such file"):
        read_key(tmp_path / "none.pem")


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"rubbish",
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
        X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())[:60],
    ],
    ids=["empty", "rubbish", "encrypted", "other", "cut"],
)
def test_what_is_no_private_key_of_ed25519_is_refused(pem: bytes):
    with pytest.raises(BadQuestion, match=r"key.pem holds no Ed25519 private key"):
        signing.read_private(pem, "key.pem")


@pytest.mark.parametrize("text", ["", "ab", "0x" + "a" * 62, "g" * 64, " " + "a" * 63, "a" * 65, "１" * 64])
def test_what_is_no_public_key_is_refused(text: str):
    with pytest.raises(BadQuestion, match="64 hexadecimal digits"):
        signing.read_public(text)


# ---- what comes back


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 40))))
def test_places_hold_what_was_placed_and_nothing_else(placed: set[tuple[int, int]]):
    places = Places("mine")
    for partition, offset in sorted(placed):
        places.add(partition, offset)
    for partition in range(4):
        for offset in range(42):
            assert places.holds("mine", partition, offset) == ((partition, offset) in placed)
            assert not places.holds("other", partition, offset)
    ends = {one: max(offset for partition, offset in placed if partition == one) + 1 for one, _ in placed}
    assert places.ends() == ends


def test_a_place_that_the_broker_could_not_name_is_no_place():
    places = Places("mine")
    places.add(0, -1)
    assert places.ranges == {}


def test_what_the_ledger_tells_is_read_back_as_it_was_told():
    one = Rejected("mine", 3, 81, 7, "eleme", None, "invalid", "time", "“12:00” is no instant: 时刻", b"{}")
    told = message(one)
    assert read_told(told["headers"], told["value"]) == (
        "mine",
        Told(3, 81, 7, "invalid", "time", "“12:00” is no instant: 时刻", b"{}"),
    )
