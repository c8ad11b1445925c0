"""Who sent a record: by its own topic or by signature, and what those who are not who they say are told.

In: records signed by real Ed25519 keys. Out: nothing, or the reason for which they are refused.
"""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support import accepted, encode, rules

from ledger.calendar import US_PER_SECOND
from ledger.evidence import Record
from ledger.identity import Registered, SigningKey, Stream, is_vouched, refusal, verifies
from ledger.intake import Intake, Reader, sources
from ledger.rating import Rating
from schemas.codes import Reason

# RFC 8032, section 7.1, tests 1 and 2: public key, message, signature.
GOLDEN = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
        "b00d291612bb0c00",
    ),
]
OLD, NEW, STRANGE = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
SINCE, TURN, END = (US_PER_SECOND * second for second in (1_790_000_000, 1_791_000_000, 1_792_000_000))


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


KUAISONG = Registered(7, "kuaisong")
SIGNING = KUAISONG._replace(keys=(SigningKey(public(OLD), SINCE, TURN + 5), SigningKey(public(NEW), TURN, END)))
EXAMPLE = Registered(8, "example", example=True)
SHARED, OWN, OTHERS = Stream("orders.v1"), Stream("orders.v1.kuaisong", 7), Stream("orders.v1.example", 8)


def record(arrived_us: int, key: Ed25519PrivateKey | None = None, raw: bytes = b"{}", signed: bytes = b"") -> Record:
    return Record(0, arrived_us, raw, key.sign(signed or raw) if key else None)


@pytest.mark.parametrize(("key", "message", "signature"), GOLDEN)
def test_signatures_are_those_of_the_standard(key: str, message: str, signature: str):
    there, said, made = (bytes.fromhex(text) for text in (key, message, signature))
    assert verifies(there, made, said)
    assert not verifies(there, made, said + b"!")
    assert not verifies(there, bytes([made[0] ^ 1]) + made[1:], said)


@pytest.mark.parametrize(
    ("platform", "stream", "sent", "reason"),
    [
        (KUAISONG, OWN, record(TURN), None),
        (KUAISONG, SHARED, record(TURN), Reason.UNSIGNED),
        (KUAISONG, SHARED, record(TURN, STRANGE), Reason.UNSIGNED),
        (KUAISONG, OTHERS, record(TURN), Reason.WRONG_SOURCE),
        (EXAMPLE, SHARED, record(TURN), None),
        (EXAMPLE, OWN, record(TURN), Reason.WRONG_SOURCE),
        (SIGNING, OWN, record(SINCE - 1), None),
        (SIGNING, SHARED, record(SINCE - 1), Reason.UNSIGNED),
        (SIGNING, OWN, record(SINCE), Reason.UNSIGNED),
        (SIGNING, OWN, record(SINCE, OLD), None),
        (SIGNING, SHARED, record(SINCE, OLD), None),
        (SIGNING, OTHERS, record(SINCE, OLD), Reason.WRONG_SOURCE),
        (SIGNING, SHARED, record(SINCE, NEW), Reason.BAD_SIGNATURE),
        (SIGNING, SHARED, record(TURN, OLD), None),
        (SIGNING, SHARED, record(TURN, NEW), None),
        (SIGNING, SHARED, record(TURN + 5, OLD), Reason.BAD_SIGNATURE),
        (SIGNING, SHARED, record(TURN + 5, NEW), None),
        (SIGNING, SHARED, record(TURN, STRANGE), Reason.BAD_SIGNATURE),
        (SIGNING, SHARED, record(TURN, NEW, signed=b"{ }"), Reason.BAD_SIGNATURE),
        (SIGNING, SHARED, Record(0, TURN, b"{}", b""), Reason.BAD_SIGNATURE),
        (SIGNING, SHARED, Record(0, TURN, b"{}", bytes(65)), Reason.BAD_SIGNATURE),
        (SIGNING, OWN, record(END, NEW), Reason.BAD_SIGNATURE),
        (SIGNING, OWN, record(END), Reason.UNSIGNED),
    ],
)
def test_a_record_is_its_platforms_by_its_topic_or_its_signature(
    platform: Registered, stream: Stream, sent: Record, reason: Reason | None
):
    found = refusal(sent, platform, stream)
    assert (found and found[0]) == reason
    if is_vouched(platform, stream):
        assert found is None, "what is vouched for is never refused"


# ---- where batches are read


def read(stream: Stream | None, *sent: Record) -> Intake:
    registry = sources([(SIGNING, ["ks"]), (EXAMPLE, []), (Registered(9, "other"), [])])
    return Reader(registry, Rating(rules()), None, stream).read(list(sent))


def signed(*events: dict[str, Any], key: Ed25519PrivateKey = NEW) -> Record:
    raw = encode(list(events))
    return Record(0, TURN, raw, key.sign(raw))


def test_what_is_handed_in_is_not_asked_who_sent_it():
    assert not read(None, Record(0, TURN, encode(accepted("A", platform="kuaisong")))).rejections


def test_one_signature_is_good_for_all_events_of_the_platform_and_for_no_other_platform():
    mine = accepted("A", platform="kuaisong"), accepted("B", platform="ks")
    intake = read(SHARED, signed(*mine, accepted("C", platform="other"), accepted("D", platform="example")))
    assert [event.order_id for event in intake.acceptances] == ["A", "B", "D"]
    assert [(one.item, one.reason) for one in intake.rejections] == [(2, Reason.UNSIGNED)]


def test_each_record_is_judged_by_its_own_signature():
    event = accepted("A", platform="kuaisong")
    intake = read(SHARED, signed(event), signed(event, key=STRANGE), signed(event)._replace(signature=None))
    assert [one.reason for one in intake.rejections] == [Reason.BAD_SIGNATURE, Reason.UNSIGNED]
    assert len(intake.acceptances) == 1


def test_whose_records_need_no_look_is_said_for_the_queries_of_a_replay():
    registry = sources([(SIGNING, ["ks"]), (EXAMPLE, ["ex"]), (KUAISONG._replace(platform_no=9, platform_id="o"), [])])
    vouched = [set(Reader(registry, Rating(rules()), None, stream).vouched()) for stream in (None, SHARED, OTHERS)]
    everyone = {"/platforms/kuaisong", "/platforms/ks", "/platforms/example", "/platforms/ex", "/platforms/o"}
    assert vouched == [everyone, {"/platforms/example", "/platforms/ex"}, {"/platforms/example", "/platforms/ex"}]
