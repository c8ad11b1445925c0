"""`danbao ingest` as a newcomer meets it: tried before it is booked, refused before it harms, rejected with a line.

In: files of every sort, handed to the installed command. Out: what is booked, what is said, the exit code.
"""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from command import Command
from support import accepted, completed, encode, facts, ndjson, rows, value

ROOT = Path(__file__).parents[2]
README = ROOT / "ledger" / "mappings" / "README.md"
IDENTITY_NUMBER = "11010519491231002X"


@pytest.fixture
def example(tmp_path: Path) -> dict[str, str]:
    """The worked example of the mapping's README, written down; the events that it says come out."""
    blocks = dict(re.findall(r"^```(csv|yaml|json)\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE))
    (tmp_path / "orders.csv").write_text(blocks["csv"], "utf-8")
    (tmp_path / "mymap.yaml").write_text(blocks["yaml"], "utf-8")
    return blocks


def register(danbao: Command) -> None:
    names = "--name", "Mine", "--name-zh", "我的平台", "--uscc", "91310000MA1FL4Q87R"
    danbao("platforms", "add", "my-platform", *names, "--line", "instant_delivery", "--province", "31=2026-07-01")


def line_of(text: str) -> str:
    return " ".join(text.split())


# ---- tried before it is booked


def test_a_dry_run_shows_the_events_and_the_rejected_row_of_the_readme_and_writes_nothing(
    danbao: Command, ledger_url: str, example: dict[str, str]
) -> None:
    before = facts(ledger_url)
    shown = danbao("ingest", "orders.csv", "--map", "mymap.yaml", "--dry-run").stdout
    assert [line for line in shown.splitlines() if line.startswith("{")] == example["json"].splitlines()
    assert "orders.csv line 5 · unmapped · column 骑手: empty" in shown
    assert "danbao platforms add my-platform" in line_of(shown)
    tried = danbao.plain("ingest", "orders.csv", "--map", "mymap.yaml", "--dry-run")
    assert tried["first_events"] == [json.loads(line) for line in example["json"].splitlines()]
    assert (tried["records"], tried["events"], tried["orders"], tried["rejected"]) == (4, 6, 3, 1)
    assert (tried["premium"], tried["not_registered"]) == ("0.21", ["my-platform"])
    [rejected] = tried["first_rejected"]
    assert (rejected["file"], rejected["line"], rejected["place"]) == ("orders.csv", 5, "column 骑手")
    assert facts(ledger_url) == before


def test_what_a_dry_run_says_is_what_the_ingest_answers(danbao: Command, example: dict[str, str]) -> None:
    register(danbao)
    tried = danbao.plain("ingest", "orders.csv", "--map", "mymap.yaml", "--dry-run")
    booked = danbao.plain("ingest", "orders.csv", "--map", "mymap.yaml")
    assert tried["not_registered"] == []
    for name in ("records", "events", "orders", "rejected", "premium", "reasons", "first_rejected"):
        assert tried[name] == booked[name], name


def test_records_and_what_waits_in_the_inbox_can_be_tried_too(danbao: Command, ledger_url: str) -> None:
    ndjson(danbao.here / "o.ndjson", [accepted("A"), accepted("B", city="310115")], completed("A"))
    tried = danbao.plain("ingest", "o.ndjson", "--dry-run")
    assert (tried["orders"], tried["events"], tried["reasons"]) == (1, 3, {"unknown_city": 1})
    assert [event["subject"] for event in tried["first_events"]] == ["A", "A"]
    danbao("inbox", "put", "o.ndjson")
    assert danbao.plain("ingest", "--inbox", "--dry-run")["orders"] == 1
    assert value(ledger_url, "select count(*) from batch") == 0
    ndjson(danbao.here / "bad.ndjson", accepted("A", platform="nobody"))
    assert danbao.plain("ingest", "bad.ndjson", "--dry-run", exit_code=1)["rejected"] == 1


# ---- refused before anything is booked


PRETTY = json.dumps([accepted("A"), accepted("B")], indent=2).encode()
ITEM_A_LINE = b"[" + b",\n".join(map(encode, (accepted("A"), accepted("B")))) + b"]\n"
ANSWERS = orjson.dumps({"topic": "file:1", "offset": 0, "item": 0, "answer": "new", "reason": None})
WIDE = ("\ufeff" + encode(accepted("A")).decode()).encode("utf-16-le")
NO_RECORDS = {
    "table.csv": (b"PK\x03\x04" + bytes(100), "is a spreadsheet or archive"),
    "table.ndjson": (b"PK\x03\x04 without a zero", "CSV UTF-8"),
    "wide.ndjson": (WIDE, "is UTF-16 text"),
    "bytes.ndjson": (bytes(range(256)) * 9, "holds bytes that are no text"),
    "noise.ndjson": (bytes(range(1, 256)), "holds no JSON records"),
    "rows.json": (b"a,b\n1,2\n", "holds no JSON records"),
    "pretty.json": (PRETTY, "jq -c"),
    "items.json": (ITEM_A_LINE, "jq -c"),
    "one.json": (json.dumps(accepted("A"), indent=1).encode(), "spread over several lines"),
    "answers.ndjson": (ANSWERS, "answers of an earlier ingest"),
    "named.ndjson.gz": (encode(accepted("A")), "does not unpack"),
}


@pytest.mark.parametrize("name", NO_RECORDS)
@pytest.mark.parametrize("command", [("ingest",), ("inbox", "put")], ids=["ingest", "inbox"])
def test_what_is_no_file_of_records_is_refused_whole(
    danbao: Command, ledger_url: str, name: str, command: tuple[str, ...]
) -> None:
    content, said = NO_RECORDS[name]
    (danbao.here / name).write_bytes(content)
    mapped = ("--map", "eleme") if name.endswith(".csv") and command == ("ingest",) else ()
    said = "is a CSV file" if name.endswith(".csv") and not mapped else said
    assert said in danbao.refuses(*command, name, *mapped, exit_code=1 if name.endswith(".gz") else 2)
    assert value(ledger_url, "select count(*) from inbox") == 0
    assert value(ledger_url, "select count(*) from source") == 0


def test_one_damaged_line_of_a_good_file_is_a_rejected_record(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", b"\xff{", accepted("A"), encode(accepted("B"))[:-9])
    assert danbao.plain("ingest", "o.ndjson")["reasons"] == {"malformed": 2}


def test_the_whole_directory_is_looked_at_before_its_first_file_is_booked(danbao: Command, ledger_url: str) -> None:
    (danbao.here / "day").mkdir()
    ndjson(danbao.here / "day" / "a.ndjson", accepted("A"))
    (danbao.here / "day" / "b.csv").write_text("a,b\n1,2\n")
    assert "b.csv is a CSV file" in danbao.refuses("ingest", "day")
    assert value(ledger_url, "select count(*) from charge") == 0
    (danbao.here / "day" / "b.csv").unlink()
    ndjson(danbao.here / "day" / "c.ndjson", accepted("A"), accepted("B"))
    ndjson(danbao.here / "day" / "empty.ndjson")
    done = danbao("ingest", "day", "--json")
    assert "empty.ndjson is empty" in done.stderr
    files = json.loads(done.stdout)["files"]
    assert [(one["file"], one["new"], one["duplicate"]) for one in files] == [("a.ndjson", 1, 0), ("c.ndjson", 1, 1)]
    assert re.search(r"c\.ndjson +2 +0 +2 +0", danbao("ingest", "day").stdout)


def test_a_file_all_of_whose_orders_are_older_than_the_scheme_is_refused_with_its_first_day(
    danbao: Command, ledger_url: str, example: dict[str, str]
) -> None:
    path = danbao.here / "orders.csv"
    path.write_text(
        example["csv"].replace("2026/10/3", "2020/2/9").replace("2020/2/9 12:05", "2020/2/8 12:05"), "utf-8"
    )
    for more in ((), ("--first-day", "2019-01-01"), ("--dry-run",)):
        said = danbao.refuses("ingest", "orders.csv", "--map", "mymap.yaml", *more)
        assert "before the scheme began on 2022-07-01" in said
        assert ("the first on 2020-02-08" in said) == (more != ("--first-day", "2019-01-01"))
        assert "--first-day 2026-02-01" in said
    assert value(ledger_url, "select count(*) from batch") == 0


STRANGE_OPTIONS = {
    ("ingest", "o.ndjson", "--first-day", "2026-10-01"): "its days cannot be moved",
    ("ingest", "--inbox", "--map", "eleme"): "--map is for files",
    ("ingest", "--inbox", "--again"): "--again is for files",
    ("ingest", "o.ndjson", "--dry-run", "--answers", "a.ndjson"): "--answers has no meaning with --dry-run",
    ("ingest", "o.ndjson", "--answers", "o.ndjson"): "o.ndjson is what is to be booked",
    ("ingest", "o.ndjson", "--answers", "nowhere/a.ndjson"): "nowhere/a.ndjson: No such file or directory",
    ("ingest", "o.ndjson", "--answers", "."): ".: Is a directory",
    ("ingest", "-"): "can be read only once",
    ("ingest", "/dev/stdin"): "can be read only once",
    ("ingest", "o.ndjson", "--inbox"): "two things at once",
    ("run", "--first-day", "2026-10-01"): "--first-day needs --orders",
    ("run", "--map", "eleme"): "--map needs --orders",
}


@pytest.mark.parametrize("arguments", STRANGE_OPTIONS, ids=" ".join)
def test_an_option_that_would_be_passed_over_is_a_bad_question(
    danbao: Command, ledger_url: str, arguments: tuple[str, ...]
) -> None:
    ndjson(danbao.here / "o.ndjson", accepted("A"))
    assert STRANGE_OPTIONS[arguments] in danbao.refuses(*arguments)
    assert value(ledger_url, "select count(*) from batch") == 0
    assert (danbao.here / "o.ndjson").stat().st_size > 0


def test_an_empty_file_and_one_without_rows_are_named_as_such(danbao: Command, example: dict[str, str]) -> None:
    (danbao.here / "nothing.csv").write_bytes(b"")
    (danbao.here / "header.csv").write_text(example["csv"].splitlines()[0] + "\n", "utf-8")
    for name, said in (("nothing.csv", "nothing.csv is empty"), ("header.csv", "no rows under its header")):
        done = danbao("ingest", name, "--map", "mymap.yaml", "--json")
        assert said in done.stderr
        assert json.loads(done.stdout)["records"] == 0


# ---- stopped on the way


def test_a_compressed_file_that_was_cut_off_says_how_much_of_it_is_booked(danbao: Command, ledger_url: str) -> None:
    lines = b"".join(encode(accepted(f"{number:06}")) + b"\n" for number in range(45_000))
    (danbao.here / "cut.ndjson.gz").write_bytes(gzip.compress(lines)[:-9])
    said = danbao.refuses("ingest", "cut.ndjson.gz", exit_code=1)
    booked = value(ledger_url, "select count(*) from charge")
    assert 20_000 <= booked < 45_000
    assert f"Booked before that, and there to stay: {booked:,} records, {booked:,} new orders." in said
    (danbao.here / "small.ndjson.gz").write_bytes(gzip.compress(lines[:9000])[:-9])
    assert "Nothing was booked." in danbao.refuses("ingest", "small.ndjson.gz", exit_code=1)


# ---- rejected, with file and line


def test_a_rejected_row_is_shown_with_its_file_and_line(
    danbao: Command, ledger_url: str, example: dict[str, str]
) -> None:
    register(danbao)
    shown = danbao("ingest", "orders.csv", "--map", "mymap.yaml").stdout
    assert "orders.csv line 5 · unmapped · column 骑手: empty" in shown
    shown = danbao("rejects", "list").stdout
    assert "orders.csv line 5" in shown
    assert "8804,,上海,2026/10/3 12:15" in shown
    [row] = danbao.plain("rejects", "list")["rejected"]
    assert (row["file"], row["line"], row["record_offset"], row["item"]) == ("orders.csv", 5, 3, None)
    assert row["recorded_at"].endswith("+08:00")
    left_out = danbao.plain("rejects", "retry", row["id"], "--yes")
    assert (left_out["put"], left_out["left_out"]) == (0, {"csv": 1})
    assert "danbao ingest FILE --map MAPPING --again" in danbao("rejects", "retry", row["id"], "--yes").stdout
    assert rows(ledger_url, "select record_offset from rejected_record") == [(3,)]


def test_rejected_records_are_counted_by_reason_with_what_to_do_and_listed_by_place_and_day(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", b"{}", [accepted("A"), accepted("B", city="310115")])
    danbao("ingest", "o.ndjson")
    told = danbao.plain("rejects", "list", "--limit", "1")
    assert [(one["reason"], one["count"]) for one in told["reasons"]] == [("invalid", 1), ("unknown_city", 1)]
    assert all("corrects what the place names" in one["to_do"] for one in told["reasons"])
    [row] = told["rejected"]
    assert row["id"].split("/")[1:] == ["1", "1"]
    assert row["id"] in danbao("rejects", "list").stdout
    here = ("--topic", row["topic"], "--partition", "0")
    assert len(danbao.plain("rejects", "list", *here)["rejected"]) == 2
    nothing = {"rejected": [], "reasons": []}
    assert danbao.plain("rejects", "list", "--topic", "inbox") == nothing
    assert danbao.plain("rejects", "list", "--partition", "1") == nothing
    assert danbao.plain("rejects", "list", "--until", "2022-07-01") == nothing
    assert len(danbao.plain("rejects", "list", "--until", "2199-01-01")["rejected"]) == 2


def test_rejected_records_are_listed_by_platform_and_since_a_day(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", b"{}", [accepted("A"), accepted("B", city="310115")])
    danbao("ingest", "o.ndjson")
    assert len(danbao.plain("rejects", "list")["rejected"]) == 2
    [row] = danbao.plain("rejects", "list", "--platform", "饿了么（竞赛数据，示例）")["rejected"]
    assert (row["line"], row["item"], row["platform_id"]) == (2, 1, "eleme")
    assert danbao.plain("rejects", "list", "--since", "2199-01-01")["rejected"] == []
    assert len(danbao.plain("rejects", "list", "--since", "2022-07-01")["rejected"]) == 2
    assert "'elme' is not a registered platform" in danbao.refuses("rejects", "list", "--platform", "elme")


def test_a_row_in_gb18030_is_shown_as_it_was_written_and_a_long_one_as_cut_off(
    danbao: Command, example: dict[str, str]
) -> None:
    register(danbao)
    mapping = example["yaml"].replace("encoding: utf-8", "encoding: gb18030")
    (danbao.here / "mymap.yaml").write_text(mapping, "utf-8")
    long = f"8805,,上海,2026/10/3 12:15,2026/10/3 12:40,已完成,{'9' * 150}\n"
    (danbao.here / "orders.csv").write_bytes((example["csv"] + long).encode("gb18030"))
    danbao("ingest", "orders.csv", "--map", "mymap.yaml")
    shown = danbao("rejects", "list").stdout
    assert "8804,,上海,2026/10/3 12:15,2026/10/3 12:40,已完成,6.00\n" in shown
    assert "9999…" in shown


def test_an_identity_number_is_refused_and_shown_to_nobody(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", accepted("A", worker=IDENTITY_NUMBER), accepted("B"))
    shown = danbao("ingest", "o.ndjson").stdout + danbao("rejects", "list").stdout
    shown += json.dumps(danbao.plain("rejects", "list")) + json.dumps(danbao.plain("ingest", "o.ndjson", "--dry-run"))
    assert "is an identity number; send the platform's own number" in shown
    assert IDENTITY_NUMBER not in shown
    assert "*" * 18 in shown


def test_a_file_of_nothing_but_rejections_ends_with_exit_code_1(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", accepted("A", platform="kuaisong"), completed("A", platform="kuaisong"))
    assert danbao.plain("ingest", "o.ndjson", exit_code=1)["rejected"] == 2
    ndjson(danbao.here / "more.ndjson", accepted("A", platform="kuaisong"), accepted("B"))
    assert danbao.plain("ingest", "more.ndjson")["rejected"] == 1


def test_a_file_answered_before_says_so_and_does_not_ask_for_a_registration_again(
    danbao: Command, example: dict[str, str]
) -> None:
    mapped = ("orders.csv", "--map", "mymap.yaml")
    assert "Once a platform is registered" in line_of(danbao("ingest", *mapped, exit_code=1).stdout)
    register(danbao)
    again = line_of(danbao("ingest", *mapped, exit_code=1).stdout)
    assert "This file was booked before" in again
    assert "Once a platform is registered" not in again
    assert danbao.plain("ingest", *mapped, exit_code=1)["files"][0]["booked_before"] is True
    assert danbao.plain("ingest", *mapped, "--again")["orders"] == 3


def test_what_is_booked_late_into_a_sealed_month_is_told(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", accepted("A"))
    danbao("ingest", "o.ndjson")
    danbao("settle", "2026-10")
    ndjson(danbao.here / "late.ndjson", accepted("B"), accepted("C", "2026-11-03T12:00:00+08:00"))
    told: Any = danbao("ingest", "late.ndjson", "--json")
    assert json.loads(told.stdout)["late"] == [{"origin_month": "2026-10", "month": "2026-11", "order_count": 1}]
    ndjson(danbao.here / "later.ndjson", accepted("D"), accepted("E"))
    shown = danbao("ingest", "later.ndjson").stdout
    assert "Booked in 2026-11 as adjustments: 2 orders of 2026-10, which is sealed." in shown


def test_the_inbox_says_how_many_records_were_put_and_how_many_wait(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", accepted("A"), accepted("B"))
    danbao("inbox", "put", "o.ndjson")
    assert "2 records put; 4 wait" in danbao("inbox", "put", "o.ndjson").stdout
    danbao("ingest", "--inbox")
    assert danbao.plain("inbox", "put", "o.ndjson") == {"records": 2, "waiting": 2}
