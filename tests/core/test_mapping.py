"""Mappings: rows of an export become order events, or are refused with the place and the reason."""

import csv
import gzip
import io
import json
import re
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from languages import speaks_both

from ledger import mapping as mappings
from ledger.errors import BadQuestion
from ledger.mapping import CsvReader, Mapping, Unmapped, bundled, first_day, load, parse, platforms
from ledger.written_time import clock
from schemas import orders

ROOT = Path(__file__).parents[2]
REAL = ROOT / ".." / "shared" / "data"
READMES = sorted((ROOT / "ledger" / "mappings").glob("README*.md"))

SMALL = """\
name: small
about: An export for these tests.
time_format: iso
zone: "+08:00"
platform: small
order_id: "{order}"
events:
  - type: order.accepted
    id: "{order}/a"
    time: "{from}"
    worker_id: "{worker}"
    line: ride_hailing
    accepted_city: 310100
  - type: order.completed
    id: "{order}/c"
    time: "{to}"
    time_missing: no_event
platforms: []
"""
HEADER = b"order,worker,from,to,note"


def small(*changes: tuple[str, str]) -> Mapping:
    text = SMALL
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return parse(text.encode(), "small.yaml")


def reader(*changes: tuple[str, str], header: bytes = HEADER, shift_days: int = 0) -> CsvReader:
    return CsvReader(small(*changes), header, shift_days)


def fault(*changes: tuple[str, str]) -> str:
    with pytest.raises(BadQuestion) as refused:
        small(*changes)
    assert speaks_both(refused.value.what)
    return refused.value.what.en


def unmapped(of: CsvReader, raw: bytes) -> tuple[str, str]:
    with pytest.raises(Unmapped) as refused:
        of.events(raw)
    return refused.value.place, refused.value.detail


def real(name: str) -> list[bytes]:
    path = REAL / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"the research copies of real orders are not at {path.parent}")
    return gzip.decompress(path.read_bytes()).splitlines()


def test_a_row_becomes_its_events_in_the_wire_shape():
    made = reader().events(b"17,W1,2026-10-03 12:05:00,2026-10-03 12:31:00+08:00,hello")
    assert made == [
        {
            "specversion": "1.0",
            "id": "17/a",
            "source": "/platforms/small",
            "type": "order.accepted",
            "subject": "17",
            "time": "2026-10-03T12:05:00+08:00",
            "data": {"worker_id": "W1", "line": "ride_hailing", "accepted_city": "310100"},
        },
        {
            "specversion": "1.0",
            "id": "17/c",
            "source": "/platforms/small",
            "type": "order.completed",
            "subject": "17",
            "time": "2026-10-03T12:31:00+08:00",
            "data": {},
        },
    ]
    assert orders.event_list.validate_python(made) == made


def test_a_missing_completion_makes_no_event():
    assert [event["type"] for event in reader().events(b"17,W1,2026-10-03 12:05,,")] == ["order.accepted"]


def test_every_day_moves_and_the_clock_time_stays():
    moved = reader(shift_days=2_191).events(b"17,W1,2020-02-29 23:59:59.5-03:30,2020-03-01 00:10:00,")
    assert [event["time"] for event in moved] == ["2026-02-28T23:59:59.5-03:30", "2026-03-01T00:10:00+08:00"]


@pytest.mark.parametrize(
    ("raw", "place", "detail"),
    [
        (b"17,W1,2026-10-03 12:05", "row", "3 columns, the header has 5"),
        (b"17,W1,2026-10-03 12:05,,a,b", "row", "6 columns, the header has 5"),
        (b"", "row", "1 columns, the header has 5"),
        (b"17,W1,2026-10-03 25:05,,", "column from", "'2026-10-03 25:05' is no time in the format iso"),
        (b"17,W1,2026-02-30 12:05,,", "column from", "'2026-02-30 12:05' is no time in the format iso"),
        (b"17,W1,,2026-10-03 12:05,", "column from", "the time is empty"),
        (b"17,,2026-10-03 12:05,,", "column worker", "empty"),
        (b" ,W1,2026-10-03 12:05,,", "column order", "empty"),
        (b"17,W\xff,2026-10-03 12:05,,", "row", "not utf-8 text at byte 4"),
        (b'17,W1,2026-10-03 12:05,,"a note that goes on', "row", "quotes cannot be read on this one line"),
        (b'the second half of the note"', "row", "1 columns, the header has 5"),
    ],
)
def test_a_row_that_cannot_be_read_says_where_and_why(raw, place, detail):
    found = unmapped(reader(), raw)
    assert found[0] == place
    assert found[1].startswith(detail)


def test_quotes_commas_within_them_and_space_around_cells_are_read():
    made = reader().events(b'"17",\t"W ""1""",2026-10-03 12:05,,"a, b"'.replace(b"\t", b""))
    assert made[0]["data"]["worker_id"] == 'W "1"'
    assert reader().events(b"\t17 , W1 ,2026-10-03 12:05 ,, \r")[0]["subject"] == "17"


def test_other_delimiters_and_encodings_are_read():
    other = reader(
        ("time_format", 'delimiter: "\\t"\nencoding: gb18030\ntime_format'),
        ("{worker}", "{骑手}"),
        header="order\t骑手\tfrom\tto".encode("gb18030"),
    )
    assert other.events("1\t张\t2026-10-03 12:05\t".encode("gb18030"))[0]["data"]["worker_id"] == "张"


def test_a_byte_order_mark_and_quotes_in_the_header_do_no_harm():
    made = reader(header=b'\xef\xbb\xbf"order",worker,from,to,"no,te"').events(b"17,W1,2026-10-03 12:05,,")
    assert made[0]["subject"] == "17"


def test_words_for_no_value_count_as_empty():
    of = reader(("time_format", 'empty: ["NULL"]\ntime_format'))
    assert len(of.events(b"17,W1,2026-10-03 12:05,NULL,")) == 1
    assert unmapped(of, b"17,NULL,2026-10-03 12:05,,") == ("column worker", "empty")


def test_columns_are_joined_and_percent_signs_stay():
    of = reader(('order_id: "{order}"', 'order_id: "{note}%{order}"'))
    assert of.events(b"17,W1,2026-10-03 12:05,,north")[0]["subject"] == "north%17"
    assert unmapped(of, b"17,W1,2026-10-03 12:05,,") == ("column note, order", "empty")


def test_a_text_that_is_not_translated_is_refused():
    of = reader(
        ("time_format", "translate: {note: {shanghai: 310100}}\ntime_format"),
        ("accepted_city: 310100", 'accepted_city: "{note}"'),
    )
    assert of.events(b"17,W1,2026-10-03 12:05,,shanghai")[0]["data"]["accepted_city"] == "310100"
    place, detail = unmapped(of, b"17,W1,2026-10-03 12:05,,paris")
    assert (place, detail) == ("column note", "'paris' is not in the mapping's translation")


def test_a_condition_chooses_the_event_and_other_values_are_refused():
    of = reader(
        ("    time_missing", "    when: {note: done}\n    time_missing"),
        (
            "platforms",
            '  - {type: order.cancelled, id: x, time: "{to}", when: {note: off}, reason: r}\nplatforms',
        ),
    )
    row = b"17,W1,2026-10-03 12:05,2026-10-03 12:06,"
    assert [event["type"] for event in of.events(row + b"done")] == ["order.accepted", "order.completed"]
    assert of.events(row + b"off")[1]["data"] == {"reason": "r"}
    assert unmapped(of, row + b"lost") == ("column note", "'lost' is none of done, off")


def test_a_row_that_makes_no_event_is_refused():
    of = reader(("    worker_id", "    time_missing: no_event\n    worker_id"))
    assert unmapped(of, b"17,W1,,,")[0] == "row"


def test_pay_and_position_are_left_out_where_empty():
    of = reader(
        ("    line", '    pay: "{note}"\n    position: {lat: "{to}", lng: "{note}"}\n    line'),
        ("{to}", "{note}"),
    )
    assert "pay" not in of.events(b"17,W1,2026-10-03 12:05,,")[0]["data"]
    of = reader(
        ("    line", '    position: {lat: "{to}", lng: "{note}"}\n    line'),
        ('"{to}"\n    time_m', '"{from}"\n    time_m'),
    )
    assert of.events(b"17,W1,2026-10-03 12:05,39.1,121.6")[0]["data"]["position"] == {
        "lat": 39.1,
        "lng": 121.6,
    }
    assert unmapped(of, b"17,W1,2026-10-03 12:05,north,121.6")[0] == "position"


@pytest.mark.parametrize(
    ("time_format", "written", "read"),
    [
        ("iso", "2026-10-03T12:05:30Z", "2026-10-03T12:05:30Z"),
        ("unix_s", "1790999130", "2026-10-03T10:45:30+07:00"),
        ("unix_ms", "1790999130250", "2026-10-03T10:45:30.250000+07:00"),
        ("day_seconds", "31 43530", "2000-01-31T12:05:30+07:00"),
        ("%d %H:%M:%S", "31 12:05:30", "2000-01-31T12:05:30+07:00"),
        ("%m-%d %H:%M", "02-29 12:05", "2000-02-29T12:05:00+07:00"),
        ("%Y/%m/%d %H:%M", "2026/10/3 12:05", "2026-10-03T12:05:00+07:00"),
        ("%d.%m.%y %H:%M %z", "3.10.26 12:05 +0530", "2026-10-03T12:05:00+05:30"),
    ],
)
def test_times_are_read_as_the_export_writes_them(time_format, written, read):
    assert clock(time_format, "+07:00", 0)(written) == read


@pytest.mark.parametrize(
    ("time_format", "written"),
    [
        ("iso", "2026-10-3 12:05"),
        ("iso", "2026-10-03 12:05:60"),
        ("iso", "２０２６-10-03 12:05"),
        ("unix_s", "1790999130.5"),
        ("unix_s", "9999999999999999"),
        ("day_seconds", "32 0"),
        ("day_seconds", "1 86400"),
        ("%d %H:%M", "31 24:05"),
    ],
)
def test_a_time_in_another_format_is_refused(time_format, written):
    with pytest.raises((ValueError, OverflowError)):
        clock(time_format, "+08:00", 0)(written)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("order_id: ", "order_ids: ", "small.yaml:6: order_ids: there is no such field; is order_id meant?"),
        ("about: ", "colour: blue\nabout: ", "small.yaml:2: colour: there is no such field"),
        ("310100", "319900", "small.yaml:13: events.0.accepted_city: '319900' is not a city of GB/T 2260"),
        (
            "ride_hailing",
            "rides",
            "small.yaml:12: events.0.line: 'rides' is not a line of business; known: ride_hailing, ",
        ),
        ("order.completed", "order.finished", "small.yaml:14: events.1: 'type' must be one of 'order.accepted', "),
        ('"{from}"', '"{from"', "small.yaml:10: events.0.time: '{from' has a brace without its partner"),
        ("time_format: iso", 'time_format: "%Y-%Q"', "small.yaml:3: time_format: '%Y-%Q' is no time pattern"),
        ("time_format: iso", "time_format: fast", "small.yaml:3: time_format: 'fast' is neither one of"),
        (
            'zone: "+08:00"',
            "zone: Asia/Shanghai",
            "small.yaml:4: zone: 'Asia/Shanghai' is not an offset: write it",
        ),
        ("platform: small", 'platform: "{note}"', "small.yaml:5: platform: '{note}' must be a constant, or one column"),
        ("platform: small", "platform: Small", "small.yaml:5: platform: 'Small' is not a platform id"),
        ('"{from}"', "{from}", 'small.yaml:10: events.0.time: a text that begins with a brace needs quotes: "{from}"'),
        ("name: small\n", "", "small.yaml:1: name: is missing"),
        ("310100", "310115", "small.yaml:13: events.0.accepted_city: '310115' is not the code of a city; give the"),
        ("about: ", "name: again\nabout: ", "small.yaml:2: name stands twice"),
        ("about: An", "about: [An", "small.yaml:3: not YAML:"),
        ("about: ", "about: &a x\nempty: [*a]\nabout: ", "small.yaml:3: *a: write it out"),
    ],
)
def test_a_fault_in_a_mapping_names_file_line_and_reason(old, new, said):
    assert fault((old, new)).startswith(said)


def test_a_code_that_is_none_is_named_on_its_own_line_of_the_translation():
    translated = "translate:\n  note:\n    ok: '310100'\n    Pudong: '310115'\ntime_format"
    said = fault(("time_format", translated), ("accepted_city: 310100", 'accepted_city: "{note}"'))
    assert said.startswith("small.yaml:6: translate.note.Pudong: '310115' is not the code of a city")
    assert "310100" in said


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n"])
def test_a_file_that_is_no_list_of_names_and_values_is_told_what_it_must_be(text: str):
    with pytest.raises(BadQuestion) as refused:
        parse(text.encode(), "small.yaml")
    assert speaks_both(refused.value.what)
    assert refused.value.what.en == "small.yaml:1: must be names and values, each written as name: value"


def test_a_mapping_whose_platforms_do_not_fit_its_rows_is_refused():
    listed = """platforms:
  - {platform_id: other, name: O, name_zh: 其他, uscc: 91310000MAEXAMPB66, lines: [ride_hailing],
     provinces: {all: 2022-07-01}}"""
    assert "the rows make events of small, but `platforms` lists other" in fault(("platforms: []", listed))
    wrong = listed.replace("91310000MAEXAMPB66", "91310000MAEXAMPB67").replace("other", "small")
    assert "small.yaml:19: platforms.0.uscc: 91310000MAEXAMPB67 does not have the check digit" in fault(
        ("platforms: []", wrong)
    )


def test_a_column_that_the_file_does_not_have_is_named_beside_those_it_has():
    with pytest.raises(BadQuestion, match="column 'from', which the file's header has not") as refused:
        reader(header=b"order,worker,to,note,other")
    assert "order, worker, to, note, other" in refused.value.fix.en
    with pytest.raises(BadQuestion, match="column 'order', which the file's header has twice"):
        reader(header=b"order,worker,from,to,order")


def test_an_unknown_mapping_is_answered_with_the_bundled_ones(tmp_path):
    with pytest.raises(BadQuestion) as refused:
        load("elme")
    assert "doordash, eleme, sendy" in refused.value.fix.en
    path = tmp_path / "small.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load(str(path)) == small()


def test_a_mapping_comes_back_from_its_stored_text():
    for mapping in bundled().values():
        again = Mapping.from_content(mapping.content)
        assert again == mapping
        assert again.shape == mapping.shape
        assert again.hash == mapping.hash
        assert json.loads(mapping.content)["name"] == mapping.name


def test_bundled_mappings_register_just_the_platforms_that_they_produce():
    for mapping in bundled().values():
        assert sorted(platforms(mapping)) == sorted(one.platform_id for one in mapping.shape.platforms)
        for registration in mapping.shape.platforms:
            assert "example" in registration.name
            assert "示例" in registration.name_zh
    assert platforms(load("sendy")) == tuple(f"sendy-channel-{number}" for number in (1, 2, 3, 4))


def test_a_file_without_any_acceptance_has_no_first_day():
    with pytest.raises(BadQuestion, match="reads no row as an acceptance"):
        first_day(small(), HEADER, [b"17,,2026-10-03 12:05,,"])
    rows = [b"1,W,2026-10-03 00:05,,", b"broken", b"2,W,2026-10-02 23:59+05:00,,", b"3,,2026-10-01 00:00,,"]
    assert first_day(small(), HEADER, rows) == date(2026, 10, 2)


def test_pay_that_is_no_amount_is_refused_with_its_column():
    of = reader(("    line", '    pay: "{note}"\n    line'))
    assert of.events(b"17,W1,2026-10-03 12:05,,6.50")[0]["data"]["pay"] == "6.50"
    for written in (b"6,50", b"free", b"-1", b"6.50001"):
        place, detail = unmapped(of, b'17,W1,2026-10-03 12:05,,"' + written + b'"')
        assert (place, detail) == ("column note", f"{written.decode()!r} is not yuan, such as 6.50")


def test_what_to_do_about_a_mapping_leads_to_a_text_that_is_there_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadQuestion) as refused:
        small(("about: ", "colour: blue\nabout: "))
    for told in refused.value.fix:
        [path] = re.findall(r"/\S+/README\S*\.md", told)
        assert "time_format" in Path(path).read_text("utf-8")


def test_the_readme_is_there_in_both_languages():
    assert [path.name for path in READMES] == ["README.md", "README.zh.md"]
    headings = [re.findall(r"^#+", path.read_text("utf-8"), re.MULTILINE) for path in READMES]
    assert headings[0] == headings[1]


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_the_worked_example_of_the_readme_runs_as_it_says(readme: Path):
    text = readme.read_text("utf-8")
    blocks = dict(re.findall(r"^```(csv|yaml|json)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    mapping = parse(blocks["yaml"].encode(), "mymap.yaml")
    header, *rows = blocks["csv"].encode().splitlines()
    of = CsvReader(mapping, header, 0)
    made = [event for row in rows[:3] for event in of.events(row)]
    assert made == [json.loads(line) for line in blocks["json"].splitlines()]
    orders.event_list.validate_python(made)
    assert unmapped(of, rows[3]) == ("column 骑手", "empty")
    for named in mappings.MappingFile.model_fields:
        assert f"| `{named}` |" in text


def counted(name: str, file: str, shift_to: date) -> tuple[Counter[str], list[dict[str, str]], list]:
    """What the mapping makes of a real file, counted, and the file as the csv module reads it."""
    header, *rows = real(file)
    mapping = load(name)
    of = CsvReader(mapping, header, (shift_to - first_day(mapping, header, rows)).days)
    count: Counter[str] = Counter()
    events = []
    for row in rows:
        try:
            made = orders.event_list.validate_python(of.events(row))
        except Unmapped as refused:
            count[refused.place] += 1
        else:
            events += made
            count.update(event["type"] for event in made)
    text = b"\n".join([header, *rows]).decode()
    return count, list(csv.DictReader(io.StringIO(text))), events


def test_real_eleme_orders_agree_with_counting_the_file_by_hand():
    count, rows, events = counted("eleme", "eleme_dalian_orders", date(2026, 2, 1))
    assert count == {
        "order.accepted": len(rows),
        "order.completed": sum(bool(row["completed_at"]) for row in rows),
    }
    assert count["order.accepted"] == 26_217
    accepted = {event["subject"]: event for event in events if event["type"] == "order.accepted"}
    for row in rows[::997]:
        event = accepted[row["order_id"]]
        assert event["time"][11:] == row["accepted_at"][11:]
        assert event["data"]["position"]["lat"] == float(row["pick_lat"])
    assert min(event["time"] for event in accepted.values())[:10] == "2026-02-01"
    assert {event["time"][:10] for event in accepted.values()} == {
        "2026-02-01", *(f"2026-03-{day:02}" for day in range(2, 8)),  # 2020 had a 29 February, 2026 has none
    }  # fmt: skip


def test_real_sendy_orders_agree_with_counting_the_file_by_hand():
    count, rows, events = counted("sendy", "sendy_nairobi_orders", date(2026, 10, 1))
    assert count == {"order.accepted": len(rows), "order.completed": len(rows)}
    channels = Counter(event["source"][-1] for event in events if event["type"] == "order.accepted")
    assert channels == Counter(row["platform"][-1] for row in rows)
    first = rows[0]
    seconds = int(first["accepted_tod_s"])
    clock_time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    assert events[0]["time"] == f"2026-10-{int(first['accepted_dom']):02}T{clock_time}+08:00"


def test_real_doordash_orders_agree_with_counting_the_file_by_hand():
    count, rows, events = counted("doordash", "doordash_sample_orders", date(2026, 10, 1))
    placed = [row for row in rows if row["placed_with_restaurant"]]
    assert count == {
        "order.accepted": len(placed),
        "order.completed": len(placed),
        "column placed_with_restaurant": len(rows) - len(placed),
    }
    times = [(one["time"], other["time"]) for one, other in zip(events[::2], events[1::2], strict=True)]
    assert sum(end < begin for begin, end in times) == 44  # over the end of the month: booked, out of order
    assert events[0]["time"] == f"2026-10-{placed[0]['placed_with_restaurant'].replace(' ', 'T')}+08:00"


def test_files_without_a_month_lie_before_the_scheme_until_they_are_moved():
    for name, file in (("sendy", "sendy_nairobi_orders"), ("doordash", "doordash_sample_orders")):
        header, *rows = real(file)
        assert first_day(load(name), header, rows) == date(2000, 1, 1)
        event = CsvReader(load(name), header, 0).events(rows[0])[0]
        assert orders.one_event.validate_python(event)["time"].startswith("2000-01-")
