"""Questions that cannot be right are answered with what is wrong, not with an empty table.

In: months, days and provinces as people write them. Out: what is meant, or a bad question.
"""

import json
import re

import pytest
from command import Command
from support import accepted, ndjson


def test_a_month_before_the_scheme_and_a_day_to_come_are_no_questions(danbao: Command) -> None:
    assert "2020-01 is before the scheme began" in danbao.refuses("settle", "2020-01", "--dry-run")
    assert "2022-06 is before the scheme began" in danbao.refuses("settle", "2022-06")
    assert "2099-01-01 has not come yet" in danbao.refuses("balance", "--province", "31", "--as-of", "2099-01-01")
    later = "2099-01-01T00:00+08:00"
    assert f"{later} has not come yet" in danbao.refuses("balance", "--province", "31", "--known-at", later)
    assert danbao.plain("settle", "2022-07", "--dry-run")["settlements"] == []


def test_a_platform_that_is_not_registered_has_no_rules(danbao: Command) -> None:
    asked = ("rules", "show", "--at", "2026-10-03", "--platform")
    assert "'exmaple-eats' is not a registered platform" in danbao.refuses(*asked, "exmaple-eats")
    assert danbao.plain(*asked, "饿了么（竞赛数据，示例）")["platform"] == "eleme"
    assert danbao.plain(*asked, "example-eats")["platform"] == "example-eats"


ADD = "platforms", "add", "kuaisong", "--name", "Kuaisong", "--name-zh", "快送", "--uscc", "91310000MA1FL4Q87R"


def test_a_registration_says_what_it_adds_for_ever(danbao: Command) -> None:
    first = (*ADD, "--line", "instant_delivery", "--province", "上海=2026-07-01")
    assert danbao(*first).stdout.startswith("Registered.")
    assert danbao(*first).stdout.startswith("Nothing new.")
    wide = (*ADD, "--line", "ride_hailing", "--province", "all=2026-07-01")
    said = " ".join(danbao(*wide).stdout.split())
    assert said.startswith("Added, for ever: ride-hailing, 30 provinces (2026-07-01: Beijing, Tianjin, ")
    assert danbao.plain(*wide)["added"] == {"lines": [], "provinces": {}}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--uscc", "91310000MA1FL4Q87X", "uscc: 91310000MA1FL4Q87X does not have the check digit"),
        ("--province", "江=2026-07-01", "'江' is not a province"),
        ("--province", "31=2021-07-01", "provinces: 2021-07-01 in province 31 is before the scheme"),
        ("--alias", "Kuai Song", "aliases.0: 'Kuai Song' is not a platform id: 1 to 32 of a-z"),
        ("--name", "", "name: must have 1 or more characters"),
    ],
)
def test_a_fault_of_a_registration_is_named_in_words(danbao: Command, option: str, value: str, said: str) -> None:
    given = dict(zip(ADD[3::2], ADD[4::2], strict=True))
    given |= {"--line": "instant_delivery", "--province": "31=2026-07-01"} | {option: value}
    assert said in danbao.refuses(*ADD[:3], *(part for pair in given.items() for part in pair))


def test_the_version_and_the_names_of_arguments_are_told(danbao: Command) -> None:
    assert re.fullmatch(r"danbao \d+\.\d+\.\d+\n", danbao("--version").stdout)
    assert "Missing argument 'MONTH'" in danbao.refuses("settle")
    assert "check, show, diff" in danbao("rules", "--help").stdout


def test_times_for_machines_are_those_of_china(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", accepted("A"), b"rubbish")
    danbao("ingest", "o.ndjson")
    [settled] = danbao.plain("settle", "2026-10")["settlements"]
    [rejected] = danbao.plain("rejects", "list")["rejected"]
    explained = danbao.plain("explain", "A", "--platform", "eleme")
    for time in (settled["sealed_at"], rejected["recorded_at"], explained["entries"][0]["recorded_at"]):
        assert time.endswith("+08:00"), time
    assert "+00:00" not in json.dumps(explained)


def test_a_month_is_settled_with_a_total_and_the_second_time_nothing_changes(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", accepted("A"), accepted("B", city="440100"), accepted("C", city="440300"))
    danbao("ingest", "o.ndjson")
    shown = danbao("settle", "2026-10", "--dry-run").stdout
    assert "Would be declared (dry run): 2 provinces, 0.21 yuan. To seal: danbao settle 2026-10" in shown
    assert "Sealed now, for ever: 2 provinces, 0.21 yuan." in danbao("settle", "2026-10").stdout
    assert "Sealed before, unchanged: 2 provinces, 0.21 yuan." in danbao("settle", "2026-10").stdout
    assert "广东省：此前已封存于" in danbao("settle", "2026-10", "--province", "广东", language="zh").stdout
