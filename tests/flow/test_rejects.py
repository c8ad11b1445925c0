"""`danbao rejects show|retry`: one record whole, and another try for those whose cause is gone.

In: records that were rejected. Out: what is shown of them, what a retry books, what it leaves out.
"""

import json
import shlex

from command import Command
from sqlalchemy import Engine
from support import ARRIVED, accepted, completed, encode, ndjson, replayed, rows, rules, value

from consumers.loop import Booker, Door
from ledger.calendar import to_us
from ledger.evidence import Record
from ledger.identity import Stream
from ledger.store import reference, registry

IDENTITY_NUMBER = "11010519491231002X"  # the example of GB 11643
REGISTER = (
    "platforms add kuaisong --name Kuaisong --name-zh 快送 --uscc 91310000MA1FL4Q87R --line instant_delivery"
    " --province 31=2026-07-01"
)
UNKNOWN = ("rejects", "retry", "--reason", "unknown_platform", "--yes")


def ids(danbao: Command, *filters: str) -> list[str]:
    return [row["id"] for row in danbao.plain("rejects", "list", *filters)["rejected"]]


def refused_for_the_platform(danbao: Command) -> None:
    """Three events of a platform that nobody knows, one of them in a list with an order of a known one."""
    ours = [accepted("A", platform="kuaisong"), completed("A", platform="kuaisong")]
    ndjson(danbao.here / "o.ndjson", *ours, [accepted("E"), accepted("B", platform="kuaisong")])
    danbao("ingest", "o.ndjson")


def test_what_was_rejected_for_its_platform_is_booked_once_that_is_registered(danbao: Command, ledger_url: str) -> None:
    refused_for_the_platform(danbao)
    danbao(*shlex.split(REGISTER))
    told = danbao.plain(*UNKNOWN)
    assert (told["put"], told["reasons"], told["left_out"]) == (3, {"unknown_platform": 3}, {})
    assert (told["ingest"]["new"], told["ingest"]["orders"], told["ingest"]["rejected"]) == (3, 2, 0)
    assert value(ledger_url, "select count(*) from charge") == 3
    assert {row["retried"] for row in danbao.plain("rejects", "list")["rejected"]} == {"passed"}
    assert "retried: passed" in danbao("rejects", "list").stdout
    assert danbao.plain("rejects", "list")["reasons"] == [], "nothing is left to do"
    assert replayed(ledger_url).findings.total == 0


def test_a_record_is_tried_again_once_and_what_is_rejected_again_has_an_id_of_its_own(
    danbao: Command, ledger_url: str
) -> None:
    refused_for_the_platform(danbao)
    first = ids(danbao)
    again = danbao.plain(*UNKNOWN, exit_code=1)
    assert (again["put"], again["ingest"]["rejected"]) == (3, 3)
    listed = {row["id"]: row["retried"] for row in danbao.plain("rejects", "list")["rejected"]}
    assert {name: listed[name] for name in first} == dict.fromkeys(first, "rejected")
    later = [name for name in listed if name not in first]
    assert [listed[name] for name in later] == [None] * 3
    danbao(*shlex.split(REGISTER))
    told = danbao.plain(*UNKNOWN)
    assert (told["put"], told["left_out"], told["ingest"]["new"]) == (3, {"retried": 3}, 3)
    nothing = danbao.plain(*UNKNOWN)
    assert (nothing["put"], nothing["left_out"]) == (0, {"retried": 6})
    assert "Nothing to try again" in danbao(*UNKNOWN).stdout
    assert value(ledger_url, "select count(*) from charge") == 3


def test_only_the_record_that_is_named_is_tried_again(danbao: Command) -> None:
    refused_for_the_platform(danbao)
    danbao(*shlex.split(REGISTER))
    [item] = [name for name in ids(danbao) if name.count("/") == 2]
    told = danbao.plain("rejects", "retry", item, item, "--yes")
    assert (told["put"], told["ingest"]["new"]) == (1, 1)


def test_records_at_fault_and_those_of_doubtful_senders_are_left_out_and_counted(
    danbao: Command, engine: Engine, ledger_url: str
) -> None:
    ndjson(danbao.here / "o.ndjson", b"rubbish", accepted("A"), b"{}")
    danbao("ingest", "o.ndjson")
    with engine.connect() as connection:
        number = registry.find(connection, "example-delivery").platform_no
    reference.keep_stream(engine, "orders.v1.example-delivery", number)
    booker, door = Booker(engine, rules()), Door(None, Stream("orders.v1.example-delivery", number))
    foreign = Record(0, to_us(ARRIVED), encode(accepted("B")))
    booker.book(booker.read([foreign], door), booker.head("orders.v1.example-delivery", 0))
    told = danbao.plain("rejects", "retry", "--since", "2022-07-01", "--yes")
    assert (told["put"], told["left_out"]) == (0, {"at_fault": 2, "sender_in_doubt": 1})
    said = danbao("rejects", "retry", "--since", "2022-07-01", "--yes").stdout
    assert "signed or by its own topic" in said
    assert value(ledger_url, "select count(*) from inbox") == 0


def test_what_anybody_may_have_pushed_for_an_unknown_platform_is_not_tried_again_by_us(
    danbao: Command, engine: Engine, ledger_url: str
) -> None:
    """Who sent it was never asked, and the inbox does not ask: a stranger's order would be booked once it registers."""
    reference.keep_stream(engine, "orders.v1", None)
    booker, door = Booker(engine, rules()), Door(None, Stream("orders.v1", None))
    forged = Record(0, to_us(ARRIVED), encode(accepted("A", platform="kuaisong")))
    booker.book(booker.read([forged], door), booker.head("orders.v1", 0))
    assert [row["reason"] for row in danbao.plain("rejects", "list")["rejected"]] == ["unknown_platform"]
    danbao(*shlex.split(REGISTER))
    told = danbao.plain(*UNKNOWN)
    assert (told["put"], told["left_out"]) == (0, {"sender_in_doubt": 1})
    assert value(ledger_url, "select count(*) from charge") == 0


def test_json_is_spread_out_only_where_that_changes_nothing(danbao: Command) -> None:
    twice = b'{"id": 1, "id": 2, "large": 123456789012345678901234567890}'
    ndjson(danbao.here / "o.ndjson", twice, b'{"large": 123456789012345678901234567890}', b'{"exact": 1.10}')
    danbao("ingest", "o.ndjson", exit_code=1)
    exact, large, repeated = ids(danbao)
    assert twice.decode() in danbao("rejects", "show", repeated).stdout
    assert '\n  "large": 123456789012345678901234567890\n' in danbao("rejects", "show", large).stdout
    assert '\n  "exact": 1.10\n' in danbao("rejects", "show", exact).stdout


def test_what_a_retry_says_is_in_the_readers_language(danbao: Command) -> None:
    refused_for_the_platform(danbao)
    said = danbao(*UNKNOWN, language="zh", exit_code=1).stdout
    said += danbao(*UNKNOWN, language="zh", exit_code=1).stdout + danbao("rejects", "list", language="zh").stdout
    assert "已重新受理：再次拒收" in said
    assert "不予受理：3 条，此前已重新受理" in said


def test_a_dry_run_and_a_missing_yes_put_nothing_in(danbao: Command, ledger_url: str) -> None:
    refused_for_the_platform(danbao)
    assert danbao.plain("rejects", "retry", *ids(danbao), "--dry-run")["reasons"] == {"unknown_platform": 3}
    assert danbao.plain("rejects", "retry", *ids(danbao), exit_code=1)["put"] == 0
    assert rows(ledger_url, "select count(*) from inbox") == [(0,)]


def test_a_retry_of_nothing_or_of_everything_is_a_bad_question(danbao: Command) -> None:
    refused_for_the_platform(danbao)
    assert "by their ids, or by what they are like" in danbao.refuses("rejects", "retry", "--yes")
    both = danbao.refuses("rejects", "retry", *ids(danbao), "--reason", "invalid", "--yes")
    assert "by their ids, or by what they are like" in both
    assert "There is no rejected record 9/9" in danbao.refuses("rejects", "retry", "9/9", "--yes")


def test_one_record_is_shown_whole_and_its_bytes_are_given_as_they_came(danbao: Command) -> None:
    garbage = b"\x1b[2J\xff not an event"
    ndjson(danbao.here / "o.ndjson", accepted("A", city="310115"), garbage)
    danbao("ingest", "o.ndjson", exit_code=1)
    rubbish, place = ids(danbao)
    shown = danbao("rejects", "show", place).stdout
    assert '"accepted_city": "310115"' in shown
    assert "corrects what the place names" in shown
    assert "o.ndjson line 1" in shown
    told = danbao.plain("rejects", "show", place)
    assert (told["reason"], told["platform_id"], told["retried"]) == ("unknown_city", "eleme", None)
    assert json.loads(told["raw"])["subject"] == "A"
    assert "\x1b" not in danbao("rejects", "show", rubbish).stdout
    assert danbao.raw("rejects", "show", rubbish, "--raw") == garbage


def test_a_persons_number_is_shown_masked_and_not_written_out(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", accepted("A", worker=IDENTITY_NUMBER))
    danbao("ingest", "o.ndjson", exit_code=1)
    [record] = ids(danbao)
    assert IDENTITY_NUMBER not in danbao("rejects", "show", record).stdout
    assert "identity number" in danbao("rejects", "show", record, "--raw", exit_code=2).stderr


def test_what_names_no_record_is_said(danbao: Command) -> None:
    for name in ("", "1", "1/2/3/4", "a/b", f"{2**63}/1", "1/1/-1"):
        assert "names no rejected record" in danbao.refuses("rejects", "show", name)
    assert "There is no rejected record 1/1" in danbao.refuses("rejects", "show", "1/1")
    assert "Give one of them" in danbao.refuses("rejects", "show", "1/1", "--raw")
