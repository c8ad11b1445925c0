"""Where records come from: files of every sort, again, cut off, side by side; and the inbox.

In: files in a temporary directory, the real orders when they are at hand, the inbox table. Out: every record
booked or rejected with a reason, each order charged once, and the same file again changes nothing.
"""

import csv
import gzip
import io
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import zstandard
from sqlalchemy import Engine
from support import (
    ARRIVED,
    Desk,
    accepted,
    cancelled,
    chain_faults,
    charges_without_books,
    completed,
    encode,
    facts,
    ndjson,
    owner,
    premiums,
    real_file,
    reassigned,
    rows,
    rules,
    value,
)

from consumers import loop, sources
from consumers.lines import Broken
from consumers.loop import EVENTS_PER_BATCH, Booker, Switch, Totals
from ledger import mapping as mappings
from ledger.errors import BadQuestion, Fenced
from ledger.mapping import Mapping
from ledger.store import connect, registry
from schemas.codes import Answer, Reason

WAIT_S = 20


class Crash(Exception):
    """The process ends here."""


def ingest(
    engine: Engine,
    *paths: Path,
    mapping: Mapping | None = None,
    first_day: date | None = None,
    switch: Switch = lambda _: None,
    on_outcome: Callable[[loop.Outcome], None] = lambda _: None,
) -> Totals:
    """What `danbao ingest` does, at an hour of our choosing."""
    totals, booker = Totals(), Booker(engine, rules(), switch)
    for path in paths:
        source = sources.open_file(path, mapping, first_day, ARRIVED)
        sources.keep(engine, source, mapping)
        loop.run(booker, source, totals, on_outcome)
    return totals


def answers(totals: Totals) -> dict[str, int]:
    return {str(answer): count for answer, count in totals.answers.items() if count}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten events a batch, so that a small file has many."""
    monkeypatch.setattr(sources, "EVENTS_PER_BATCH", 10)


def a_day(orders: int, mark: str = "O") -> list[Any]:
    """Orders with their endings, a reassignment, a conflict, a duplicate and two bad records among them."""
    events: list[Any] = []
    for number in range(orders):
        order = f"{mark}{number}"
        events += [accepted(order, worker=f"W{number % 7}"), completed(order)]
    return [*events, reassigned(f"{mark}1", "W9"), accepted(f"{mark}2", worker="W8"), events[0], b"bad", b"[]"]


# ---- the same file again


def test_the_same_file_again_is_all_duplicates_and_changes_nothing(
    engine: Engine, ledger_url: str, tmp_path: Path
) -> None:
    path = ndjson(tmp_path / "orders.ndjson", *a_day(20))
    first = ingest(engine, path)
    assert answers(first) == {"new": 41, "conflict": 1, "duplicate": 1, "rejected": 2}
    assert (first.orders, first.premium, first.records) == (20, 20 * 700, 45)
    before = facts(ledger_url)
    again = ingest(engine, path)
    assert answers(again) == {"duplicate": 43, "rejected": 2}
    assert (again.orders, again.premium, again.records, again.reasons) == (0, 0, 45, first.reasons)
    assert facts(ledger_url) == before


def test_the_same_file_under_another_name_is_the_same_file(engine: Engine, ledger_url: str, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "orders.ndjson", *a_day(5))
    ingest(engine, path)
    before = facts(ledger_url)
    ingest(engine, path.rename(tmp_path / "other.jsonl"))
    assert facts(ledger_url) == before


def test_the_same_orders_in_another_file_are_duplicates(engine: Engine, ledger_url: str, tmp_path: Path) -> None:
    ingest(engine, ndjson(tmp_path / "one.ndjson", *a_day(5)))
    packed = ndjson(tmp_path / "two.ndjson", [event for event in a_day(5) if not isinstance(event, bytes)])
    assert answers(ingest(engine, packed)) == {"duplicate": 12, "conflict": 1}
    assert premiums(ledger_url) == {("eleme", "31", "2026-10"): 5 * 700}


def test_what_was_rejected_is_never_called_a_duplicate(engine: Engine, ledger_url: str, tmp_path: Path) -> None:
    """An answer means committed: after its platform has registered, an event refused before is still not booked."""
    order = accepted("A", platform="kuaisong")
    path = ndjson(tmp_path / "orders.ndjson", accepted("B"), order, [order, accepted("C")])
    assert answers(ingest(engine, path)) == {"new": 2, "rejected": 2}
    with owner(ledger_url) as connection:
        connection.execute(
            "insert into platform (platform_id, name, name_zh, uscc)"
            " values ('kuaisong', 'K', '快', '91310000MA1FL4Q87R')"
        )
    seen: list[tuple[int, int, Answer, Reason | None]] = []
    totals = ingest(engine, path, on_outcome=lambda outcome: seen.extend(outcome.each()))
    assert answers(totals) == {"duplicate": 2, "rejected": 2}
    unknown = (Answer.REJECTED, Reason.UNKNOWN_PLATFORM)
    duplicate = (Answer.DUPLICATE, None)
    assert seen == [(0, 0, *duplicate), (1, 0, *unknown), (2, 0, *unknown), (2, 1, *duplicate)]
    assert value(ledger_url, "select count(*) from charge") == 2


# ---- cut off


@pytest.mark.parametrize("step", loop.STEPS)
@pytest.mark.usefixtures("small_batches")
def test_a_file_cut_off_in_the_middle_is_continued(engine: Engine, ledger_url: str, tmp_path: Path, step: str) -> None:
    path = ndjson(tmp_path / "orders.ndjson", *a_day(20))
    batches = 0

    def pull(reached: str) -> None:
        nonlocal batches
        batches += reached == step
        if batches == 3 and reached == step:
            raise Crash

    with pytest.raises(Crash):
        ingest(engine, path, switch=pull)
    booked = 3 if step == "committed" else 2
    assert rows(ledger_url, "select next_offset from partition_head") == [(booked * 10,)]
    totals = ingest(engine, path)
    assert totals.answers[Answer.DUPLICATE] == booked * 10 + 1
    assert totals.answers[Answer.NEW] == 41 - booked * 10
    assert premiums(ledger_url) == {("eleme", "31", "2026-10"): 20 * 700}
    assert rows(ledger_url, "select sum(events), sum(new) from batch") == [(45, 41)]
    assert chain_faults(ledger_url) == []
    assert charges_without_books(ledger_url) == 0


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_file_whose_end_is_missing_is_an_error_and_the_whole_one_is_booked_once(
    engine: Engine, ledger_url: str, tmp_path: Path, suffix: str
) -> None:
    whole = pack(ndjson(tmp_path / "whole.ndjson", *a_day(20)), suffix)
    half = tmp_path / f"half.ndjson{suffix}"
    half.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(Broken, match=r"half\.ndjson.* does not unpack") as broken:
        ingest(engine, half)
    assert broken.value.exit_code == 1
    assert answers(ingest(engine, whole))["rejected"] == 2
    assert premiums(ledger_url) == {("eleme", "31", "2026-10"): 20 * 700}


# ---- side by side


@pytest.mark.usefixtures("small_batches")
def test_of_two_processes_on_one_file_one_is_fenced_and_says_so(
    engine: Engine, ledger_url: str, tmp_path: Path
) -> None:
    path = ndjson(tmp_path / "orders.ndjson", *a_day(20))
    reached, opened = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def hold(step: str) -> None:
        if step == "claimed" and not reached.is_set():
            reached.set()
            assert opened.wait(WAIT_S)

    def overtaken() -> None:
        try:
            ingest(engine, path, switch=lambda step: opened.set() if step == "begun" else None)
        except BaseException as error:
            errors.append(error)

    def first() -> None:
        ingest(engine, path, switch=hold)

    threads = [threading.Thread(target=first), threading.Thread(target=overtaken)]
    threads[0].start()
    assert reached.wait(WAIT_S)
    threads[1].start()
    for thread in threads:
        thread.join(WAIT_S)
    [error] = errors
    assert isinstance(error, Fenced)
    assert "Another process booked file:" in error.what.en
    assert "rolled back" in error.fix.en
    assert rows(ledger_url, "select sum(events), sum(new) from batch") == [(45, 41)]
    assert premiums(ledger_url) == {("eleme", "31", "2026-10"): 20 * 700}
    assert chain_faults(ledger_url) == []


@pytest.mark.usefixtures("small_batches")
def test_two_processes_on_two_files_that_share_orders_charge_each_once(ledger_url: str, tmp_path: Path) -> None:
    orders = [accepted(f"O{number}") for number in range(150)]
    endings = [completed(f"O{number}") for number in range(150)]
    paths = [
        ndjson(tmp_path / "forth.ndjson", *orders, *endings),
        ndjson(tmp_path / "back.ndjson", *reversed(orders), *reversed(endings)),
        ndjson(tmp_path / "mixed.ndjson", *endings, *orders),
    ]
    totals: list[Totals] = []

    def book(path: Path) -> None:
        with connect.ledger(ledger_url, connect.INGEST) as engine:
            totals.append(ingest(engine, path))

    threads = [threading.Thread(target=book, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(totals) == 3
    assert sum(one.answers[Answer.NEW] for one in totals) == 300
    assert sum(one.answers[Answer.DUPLICATE] for one in totals) == 600
    assert sum(one.premium for one in totals) == 150 * 700
    assert premiums(ledger_url) == {("eleme", "31", "2026-10"): 150 * 700}
    assert value(ledger_url, "select count(*) from order_event") == 300
    assert chain_faults(ledger_url) == []
    assert charges_without_books(ledger_url) == 0


# ---- sorts of files


def pack(path: Path, suffix: str) -> Path:
    """The same file, compressed; .zst in two frames, as parallel compressors write it."""
    plain, packed = path.read_bytes(), path.with_name(path.name + suffix)
    if suffix == ".gz":
        packed.write_bytes(gzip.compress(plain))
    else:
        compress = zstandard.ZstdCompressor(write_checksum=True).compress
        packed.write_bytes(compress(plain[:1000]) + compress(plain[1000:]))
    return packed


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_are_read_as_what_they_hold(
    engine: Engine, ledger_url: str, tmp_path: Path, suffix: str
) -> None:
    path = pack(ndjson(tmp_path / "orders.ndjson", *a_day(200)), suffix)
    heard: list[int] = []
    source = sources.open_file(path, None, None, ARRIVED, heard.append)
    loop.run(Booker(engine, rules()), source, totals := Totals())
    assert (totals.records, totals.orders) == (405, 200)
    assert sum(heard) == path.stat().st_size


def test_blank_lines_and_line_ends_of_other_systems_are_no_records(
    engine: Engine, ledger_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "orders.ndjson"
    path.write_bytes(b"\n\n" + encode(accepted("A")) + b"\r\n\r\n\n" + encode(accepted("B")))
    assert answers(ingest(engine, path)) == {"new": 2}
    assert rows(ledger_url, "select next_offset from partition_head") == [(2,)]


def test_an_empty_file_is_booked_as_nothing(engine: Engine, ledger_url: str, tmp_path: Path) -> None:
    assert ingest(engine, ndjson(tmp_path / "orders.ndjson")) == Totals()
    assert value(ledger_url, "select count(*) from batch") == 0


def test_a_directory_is_its_files_of_records_by_name(engine: Engine, ledger_url: str, tmp_path: Path) -> None:
    ndjson(tmp_path / "b.ndjson", accepted("A", worker="W2"))
    pack(ndjson(tmp_path / "a.jsonl", accepted("A")), ".gz")
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "README.md").write_text("no records")
    (tmp_path / "inner.ndjson").mkdir()
    found = sources.files(tmp_path)
    assert [path.name for path in found] == ["a.jsonl.gz", "b.ndjson"]
    assert answers(ingest(engine, *found)) == {"new": 1, "conflict": 1}


def test_a_place_without_records_is_a_bad_question(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadQuestion):
            sources.files(path)


def test_a_csv_without_a_mapping_is_a_bad_question_that_names_the_bundled_ones(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(BadQuestion, match="mapping") as refused:
        sources.open_file(path, None, None, ARRIVED)
    assert "eleme" in refused.value.fix.en


def test_lists_of_rubbish_make_no_larger_batches_than_events_do() -> None:
    rubbish = b"[" + b"1," * 4999 + b"1]"
    batches = list(sources.in_batches(sources.Record(offset, 0, rubbish) for offset in range(1000)))
    assert sum(len(batch) for batch in batches) == 1000
    assert max(len(batch) for batch in batches) * 5000 < 10 * EVENTS_PER_BATCH


# ---- CSV by a mapping


MAPPING = """
name: ours
about: Our export, one row per order.
time_format: "%Y/%m/%d %H:%M"
zone: "+08:00"
platform: eleme
order_id: "{no}"
translate: {city: {Shanghai: "310100"}}
events:
  - {type: order.accepted, id: "{no}/a", time: "{from}", worker_id: "{worker}", line: instant_delivery,
     accepted_city: "{city}"}
  - {type: order.completed, id: "{no}/c", time: "{to}", time_missing: no_event}
platforms: []
"""
EXPORT = """no,worker,city,from,to
1,W1,Shanghai,2026/10/3 12:05,2026/10/3 12:31
2,W1,Shanghai,2026/10/3 12:09,
3,,Shanghai,2026/10/3 12:11,2026/10/3 12:40
4,W2,Nairobi,2026/10/3 12:15,2026/10/3 12:40
5,W2,Shanghai,yesterday,2026/10/3 12:40
1,W1,Shanghai,2026/10/3 12:05,2026/10/3 12:33
"""


def test_rows_of_a_csv_are_booked_or_rejected_with_the_column(engine: Engine, ledger_url: str, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(b"\xef\xbb\xbf" + EXPORT.replace("\n", "\r\n").encode())
    mapping = mappings.parse(MAPPING.encode(), "ours.yaml")
    totals = ingest(engine, path, mapping=mapping)
    assert answers(totals) == {"new": 3, "duplicate": 1, "conflict": 1, "rejected": 3}
    assert rows(ledger_url, "select record_offset, reason, place from rejected_record order by 1") == [
        (2, "unmapped", "column worker"),
        (3, "unmapped", "column city"),
        (4, "unmapped", "column from"),
    ]
    [kept] = rows(ledger_url, "select description, mapping, header, shift_days from source")
    assert kept == ("export.csv", mapping.content, b"no,worker,city,from,to", 0)
    before = facts(ledger_url)
    assert answers(ingest(engine, path, mapping=mapping)) == {"duplicate": 5, "rejected": 3}
    assert facts(ledger_url) == before


def test_the_same_csv_moved_to_another_day_is_another_source_and_every_order_a_conflict(
    engine: Engine, ledger_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "export.csv"
    path.write_text("\n".join(EXPORT.splitlines()[:3]))
    mapping = mappings.parse(MAPPING.encode(), "ours.yaml")
    assert answers(ingest(engine, path, mapping=mapping)) == {"new": 3}
    assert answers(ingest(engine, path, mapping=mapping, first_day=date(2026, 10, 10))) == {"conflict": 3}
    assert rows(ledger_url, "select shift_days from source order by 1") == [(0,), (7,)]


# ---- real orders


def by_hand(name: str, rows_of: Callable[[dict[str, str]], tuple[str, bool] | None]) -> dict[str, Any]:
    """Count a file without any code of the ledger: `rows_of` gives a row's platform and whether it ended."""
    with gzip.open(real_file(name), "rt", encoding="utf-8") as file:
        found = [rows_of(row) for row in csv.DictReader(io.StringIO(file.read()))]
    booked = [one for one in found if one]
    platforms = {platform for platform, _ in booked}
    return {
        "records": len(found),
        "orders": len(booked),
        "rejected": len(found) - len(booked),
        "new": len(booked) + sum(ended for _, ended in booked),
        "by platform": {platform: sum(one[0] == platform for one in booked) for platform in platforms},
    }


def eleme_row(row: dict[str, str]) -> tuple[str, bool]:
    return "eleme", bool(row["completed_at"])


def sendy_row(row: dict[str, str]) -> tuple[str, bool]:
    return row["platform"].replace("type", "channel"), bool(row["completed_tod_s"])


def doordash_row(row: dict[str, str]) -> tuple[str, bool] | None:
    if row["placed_with_restaurant"] in ("", "None") or row["driver_id"] in ("", "None"):
        return None
    return "doordash", row["delivered"] not in ("", "None")


@pytest.mark.parametrize(
    ("name", "map_name", "count", "rate", "province"),
    [
        ("eleme_dalian_orders.csv.gz", "eleme", eleme_row, 700, "21"),
        ("sendy_nairobi_orders.csv.gz", "sendy", sendy_row, 1800, "31"),
        ("doordash_sample_orders.csv.gz", "doordash", doordash_row, 700, "44"),
    ],
    ids=["eleme", "sendy", "doordash"],
)
def test_a_file_of_real_orders_gives_what_counting_by_hand_gives(
    engine: Engine, ledger_url: str, name: str, map_name: str, count: Any, rate: int, province: str
) -> None:
    expected = by_hand(name, count)
    mapping = mappings.load(map_name)
    totals = ingest(engine, real_file(name), mapping=mapping, first_day=date(2026, 2, 1))
    assert (totals.records, totals.orders) == (expected["records"], expected["orders"])
    assert answers(totals) == {key: expected[key] for key in ("new", "rejected") if expected[key]}
    assert totals.premium == expected["orders"] * rate == value(ledger_url, "select sum(amount) from charge")
    owed: dict[str, int] = {}
    for (platform, where, _), amount in premiums(ledger_url).items():
        assert where == province
        owed[platform] = owed.get(platform, 0) + amount
    assert owed == {platform: orders * rate for platform, orders in expected["by platform"].items()}
    assert charges_without_books(ledger_url) == 0
    assert chain_faults(ledger_url) == []
    before = value(ledger_url, "select count(*) from batch")
    assert ingest(engine, real_file(name), mapping=mapping, first_day=date(2026, 2, 1)).orders == 0
    assert value(ledger_url, "select count(*) from batch") == before


def test_real_orders_before_the_scheme_are_refused_before_anything_is_booked(engine: Engine, ledger_url: str) -> None:
    with pytest.raises(BadQuestion, match="from before the scheme began on 2022-07-01: the first on 2020-02-01") as no:
        ingest(engine, real_file("eleme_dalian_orders.csv.gz"), mapping=mappings.load("eleme"))
    assert "--first-day" in no.value.fix.en
    assert value(ledger_url, "select count(*) from batch") == 0


def test_a_file_with_one_order_of_the_scheme_is_booked_and_the_older_ones_are_rejected(
    engine: Engine, ledger_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "export.csv"
    path.write_text(EXPORT.replace("1,W1,Shanghai,2026", "1,W1,Shanghai,2020"))
    totals = ingest(engine, path, mapping=mappings.parse(MAPPING.encode(), "ours.yaml"))
    assert totals.orders == 1
    assert totals.reasons[Reason.BEFORE_SCHEME] == 2


# ---- the inbox


def put(url: str, *records: bytes) -> list[int]:
    """Put records into the inbox, one transaction."""
    with connect.ledger(url, connect.INGEST) as engine, engine.begin() as tx:
        return [tx.exec_driver_sql("select inbox_put(%s)", (record,)).scalar_one() for record in records]


def book_inbox(engine: Engine) -> Totals:
    totals = Totals()
    loop.run(Booker(engine, rules()), sources.InboxSource(engine), totals)
    return totals


def test_the_inbox_is_booked_from_where_it_stands(engine: Engine, ledger_url: str) -> None:
    assert put(ledger_url, encode(accepted("A")), b"bad") == [0, 1]
    assert answers(book_inbox(engine)) == {"new": 1, "rejected": 1}
    assert book_inbox(engine) == Totals()
    put(ledger_url, encode(accepted("A")), encode(cancelled("A")))
    assert answers(book_inbox(engine)) == {"duplicate": 1, "new": 1}
    assert rows(ledger_url, "select topic, next_offset from partition_head") == [("inbox", 4)]
    assert chain_faults(ledger_url) == []


def test_the_inbox_has_no_gaps_though_writers_come_together_and_some_roll_back(engine: Engine, ledger_url: str) -> None:
    def write(number: int) -> None:
        with connect.ledger(ledger_url, connect.INGEST) as mine:
            for turn in range(10):
                with mine.connect() as tx:
                    record = encode(accepted(f"{number}-{turn}"))
                    tx.exec_driver_sql("select inbox_put(%s)", (record,))
                    if turn % 3 == 0:
                        tx.rollback()
                    else:
                        tx.commit()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in threads):
        seen += book_inbox(engine).orders  # reading all the while
    seen += book_inbox(engine).orders
    offsets = [offset for (offset,) in rows(ledger_url, "select record_offset from inbox order by 1")]
    assert offsets == list(range(24))
    assert seen == 24 == value(ledger_url, "select count(*) from charge")
    assert chain_faults(ledger_url) == []


def test_a_writer_that_is_not_done_holds_the_next_one_back_so_that_nothing_is_skipped(
    engine: Engine, ledger_url: str
) -> None:
    with connect.ledger(ledger_url, connect.INGEST) as mine, mine.connect() as slow, mine.connect() as quick:
        slow.exec_driver_sql("select inbox_put(%s)", (encode(accepted("A")),))
        quick.exec_driver_sql("set lock_timeout = '100ms'")
        with pytest.raises(Exception, match="lock timeout"):
            quick.exec_driver_sql("select inbox_put(%s)", (encode(accepted("B")),))
        quick.rollback()
        assert book_inbox(engine) == Totals()
        slow.commit()
    put(ledger_url, encode(accepted("B")))
    assert book_inbox(engine).orders == 2


def test_more_rows_than_one_reading_of_the_inbox_takes(
    engine: Engine, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "INBOX_ROWS", 7)
    put(ledger_url, *(encode(accepted(f"A{number}")) for number in range(20)))
    assert book_inbox(engine).orders == 20


def test_an_inbox_takes_no_record_that_is_empty_or_too_large(ledger_url: str) -> None:
    for record in (b"", b" " * (8 * 1024 * 1024 + 1)):
        with pytest.raises(Exception, match="check constraint"):
            put(ledger_url, record)
    assert put(ledger_url, b"x") == [0]


def test_desk_file_and_inbox_are_one_ledger(engine: Engine, ledger_url: str, tmp_path: Path) -> None:
    put(ledger_url, encode(accepted("A")))
    assert Desk(engine).answers(accepted("A")) == ["new"]
    assert answers(book_inbox(engine)) == {"duplicate": 1}
    assert answers(ingest(engine, ndjson(tmp_path / "o.ndjson", accepted("A")))) == {"duplicate": 1}
    with engine.connect() as tx:
        assert registry.find(tx, "eleme").example
    assert premiums(ledger_url) == {("eleme", "31", "2026-10"): 700}
