"""What a rule file may not say: every refusal with its file, line and reason, and all of them at once."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from languages import speaks_both

from ledger.rulebook import Rulebook, RuleFault, load
from ledger.rulebook.file import FILE_BYTES_MAX, read

HERE = Path(__file__).parents[1] / "cases"
COMPLETE = (HERE / "complete_rules.yaml").read_text("utf-8")
FAULTS = yaml.safe_load((HERE / "rule_faults.yaml").read_text("utf-8"))
ROW: str = FAULTS["row"]

FACTOR = """\
float_factors:
  - province: "31"
    float_factor: "1.2"
    unit: multiple of the base
    in_force_from: 2022-07-01
    source: a text
    checked_on: 2026-11-22
    mark: U
"""

BANDS = """\
float_bands:
  - province: "31"
    bands: BANDS
    unit: float factor by payout ratio in per cent
    in_force_from: 2022-07-01
    source: a text
    checked_on: 2026-11-22
    mark: U
"""


def book_of(folder: Path, **texts: str) -> Rulebook:
    """Load the texts as files, beside the complete rulebook."""
    for name, text in {"complete": COMPLETE, **texts}.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return load(folder)


def faults_of(folder: Path, **texts: str) -> list[str]:
    """The faults that loading the texts ends with."""
    with pytest.raises(RuleFault) as refused:
        book_of(folder, **texts)
    found = [str(fault) for fault in refused.value.faults]
    assert all(speaks_both(fault.reason) for fault in refused.value.faults)
    assert refused.value.what.zh.splitlines() == [fault.told.zh for fault in refused.value.faults]
    assert refused.value.what.en.splitlines() == found
    return found


@pytest.mark.parametrize("case", FAULTS["cases"], ids=[case["fault"] for case in FAULTS["cases"]])
def test_a_row_is_refused_with_file_line_and_reason(tmp_path: Path, case: dict[str, str]) -> None:
    text = ROW.replace(case["replace"], case["by"], 1)
    assert text != ROW
    found = faults_of(tmp_path, row=text)
    assert len(found) == 1
    assert found[0].startswith(case["fault"])


def test_the_row_without_a_change_is_taken(tmp_path: Path) -> None:
    book_of(tmp_path, row=ROW, factor=FACTOR)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "odd.yaml:1: a rule file names its topics: premium_bases, "),
        ("- a list\n", "odd.yaml:1: a rule file names its topics: premium_bases, "),
        ("\npremium_bases: {}\n", "odd.yaml:2: premium_bases is a list of rows, each beginning with a dash"),
        ("premium_bases: [\n", "odd.yaml:2: not YAML: "),
        ("rounding: []\n---\nrounding: []\n", "odd.yaml:2: not YAML: but found another document"),
        ("rounding: \x00\n", "odd.yaml: not YAML: "),
        ("rounding: " + "[" * 1_000, "odd.yaml: not YAML: "),
        (
            "rounding: &rows []\ndue_days: *rows\n",
            "odd.yaml:2: anchors and aliases are not used in rule files",
        ),
        ("rounding: [" + "[" * 280 + "]" * 280 + "]\n", "odd.yaml:1: row: "),
        ('rounding:\n  - {note: "\\uD800"}\n', "odd.yaml:2: row: "),
        ("? [a, b]\n: c\n", "odd.yaml:2: unknown topic (no text)"),
        (
            "rounding: [" + "7, " * 10_000 + "7]\n",
            "odd.yaml:1: rounding has 10001 rows, at most 10000 are read",
        ),
    ],
)
def test_a_file_that_is_no_rule_file_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    assert faults_of(tmp_path, odd=text)[0].startswith(fault)


def test_a_topic_without_rows_is_no_fault(tmp_path: Path) -> None:
    book_of(tmp_path, empty="float_factors:  # none yet\nrounding: []\n")


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_bytes("rounding: []\n# 规则".encode("gb18030"))
    assert faults_of(tmp_path) == ["odd.yaml:2: the file is not UTF-8 text"]


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    size = FILE_BYTES_MAX + 1
    (tmp_path / "odd.yaml").write_bytes(b"#" * size)
    assert faults_of(tmp_path) == [f"odd.yaml: the file has {size} bytes, at most {FILE_BYTES_MAX} are read"]


def test_all_faults_are_listed_in_the_order_of_the_files(tmp_path: Path) -> None:
    bad = ROW.replace('"0.07"', "0.00007").replace('"31"', '"99"').replace("    mark: U\n", "")
    twice = ROW + ROW.partition("\n")[2]
    found = faults_of(tmp_path, b=bad, a=ROW.replace("instant_delivery", "taxi"), c=twice)
    places = [fault.partition(": ")[0] for fault in found]
    assert places == ["a.yaml:2", "b.yaml:2", "b.yaml:3", "b.yaml:5", "b.yaml:5", "c.yaml:17"]


@pytest.mark.parametrize(("first", "last"), [("2025-12-31", "2026-12-31"), ("2025-08-01", "2025-09-01")])
def test_a_row_that_begins_within_another_is_refused_at_its_first_day(tmp_path: Path, first: str, last: str) -> None:
    other = ROW.replace("2025-12-31", last).replace("2025-07-01", first)
    assert faults_of(tmp_path, one=ROW, two=other) == [
        "two.yaml:7: premium_bases for instant_delivery, 31, example-eats overlaps one.yaml:2 "
        "(2025-07-01 to 2025-12-31)"
    ]


@pytest.mark.parametrize(("first", "last"), [("2026-01-01", "2026-12-31"), ("2024-01-01", "2025-06-30")])
def test_a_row_that_begins_the_day_after_another_is_taken(tmp_path: Path, first: str, last: str) -> None:
    book_of(tmp_path, one=ROW, two=ROW.replace("2025-12-31", last).replace("2025-07-01", first))


def test_a_long_row_overlaps_every_row_after_it(tmp_path: Path) -> None:
    long = ROW.replace("    in_force_until: 2025-12-31\n", "")
    early = ROW.replace("2025-07-01", "2025-08-01").replace("2025-12-31", "2025-08-31")
    late = ROW.replace("2025-07-01", "2026-08-01").replace("2025-12-31", "2026-08-31")
    found = faults_of(tmp_path, a=long, b=early, c=late)
    assert [fault.split(" ")[0] for fault in found] == ["b.yaml:7:", "c.yaml:7:"]
    assert all("overlaps a.yaml:2 (2025-07-01 to open)" in fault for fault in found)


def test_a_base_and_a_factor_that_meet_give_whole_hao(tmp_path: Path) -> None:
    assert faults_of(tmp_path, odd=ROW.replace('"0.07"', '"0.0701"'), factor=FACTOR) == [
        "factor.yaml:3: 1.2 × 0.0701 yuan (odd.yaml:5) from 2025-07-01 is not a whole number of 毫"
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('province: "31"', 'province: "32"'),
        ('province: "31"', 'province: "31"\n    platform: another'),
        ('province: "31"', 'province: "31"\n    line: ride_hailing'),
        ("in_force_from: 2022-07-01", "in_force_from: 2026-01-01"),
        ('float_factor: "1.2"', 'float_factor: "2.0"'),
    ],
)
def test_a_base_and_a_factor_that_never_meet_are_free(tmp_path: Path, old: str, new: str) -> None:
    book_of(tmp_path, odd=ROW.replace('"0.07"', '"0.0701"'), factor=FACTOR.replace(old, new))


def test_a_factor_that_is_outranked_meets_the_base_only_once_the_other_ends(tmp_path: Path) -> None:
    odd = ROW.replace('"0.07"', '"0.0701"')
    own = FACTOR.replace('"31"', '"31"\n    platform: example-eats').replace('"1.2"', '"2.0"')
    book_of(tmp_path, odd=odd, factor=FACTOR, own=own)
    ending = own.replace("2022-07-01", "2022-07-01\n    in_force_until: 2025-09-30")
    assert faults_of(tmp_path, odd=odd, factor=FACTOR, own=ending) == [
        "factor.yaml:3: 1.2 × 0.0701 yuan (odd.yaml:5) from 2025-10-01 is not a whole number of 毫"
    ]


def test_a_rule_that_ends_without_a_successor_is_a_fault(tmp_path: Path) -> None:
    text = COMPLETE.replace("{due_day: 15", "{in_force_until: 2026-06-30, due_day: 15")
    line = text[: text.index("in_force_until")].count("\n") + 1
    assert faults_of(tmp_path, complete=text) == [
        f"complete.yaml:{line}: due_days: nothing is in force for line any, any province, on 2026-07-01"
    ]


def test_a_line_without_a_longest_window_is_a_fault(tmp_path: Path) -> None:
    text = "".join(row for row in COMPLETE.splitlines(keepends=True) if "line: food_delivery" not in row)
    reason = "longest_windows: nothing is in force for line food_delivery, any province, on 2022-07-01"
    assert faults_of(tmp_path, complete=text) == [f"{tmp_path.name}: {reason}"]


def test_a_provincial_rule_alone_leaves_the_others_without_one(tmp_path: Path) -> None:
    text = COMPLETE.replace("{due_day: 15", '{province: "31", due_day: 15')
    assert [fault.split(": ")[1] for fault in faults_of(tmp_path, complete=text)] == ["due_days"]


@pytest.mark.parametrize(
    ("bands", "reason"),
    [
        ("[]", "bands: []: tuple should have at least 1 item after validation, not 0"),
        ('[{ratio_from_percent: "20", float_factor: "1"}]', "bands: a band begins at 20 %, 0 was expected"),
        (
            '[{ratio_from_percent: "0", ratio_below_percent: "20", float_factor: "1"}]',
            "bands: no band says what holds from 20 % upwards",
        ),
        (
            '[{ratio_from_percent: "0", float_factor: "1"}, {ratio_from_percent: "9", float_factor: "1"}]',
            "bands: a band begins at 9 %, no further one was expected",
        ),
        (
            '[{ratio_from_percent: "0", ratio_below_percent: "0", float_factor: "1"}]',
            "bands: a band from 0 % to under 0 % is empty",
        ),
        ('[{ratio_from_percent: "0", float_factor: 1.5}]', "float_factor: 1.5 is a YAML float"),
    ],
)
def test_bands_with_a_hole_are_refused(tmp_path: Path, bands: str, reason: str) -> None:
    found = faults_of(tmp_path, bands=BANDS.replace("BANDS", bands))
    assert len(found) == 1
    assert found[0].startswith(f"bands.yaml:3: {reason}")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(ROW)), st.integers(0, 20), st.text(max_size=20))
def test_whatever_is_typed_into_a_file_is_taken_or_a_fault_with_its_line(at: int, cut: int, typed: str) -> None:
    text = ROW[:at] + typed + ROW[at + cut :]
    rows, faults = read("typed.yaml", text.encode("utf-8", "surrogatepass"))
    assert rows or faults or "premium_bases" not in text or "- line" not in text
    assert all(fault.line <= len(text.splitlines()) + 1 for fault in faults)
