"""`danbao rules`: what a person and a machine read, in both languages, and the exit codes."""

import json
import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ledger.cli import common
from ledger.cli.rules import app
from ledger.rulebook import load


@pytest.fixture(autouse=True)
def in_english_on_a_wide_screen_without_a_ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DANBAO_LANG", "en")
    monkeypatch.setenv("DANBAO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DANBAO_DATABASE_URL", raising=False)
    monkeypatch.setattr(common.out, "width", 200)


@pytest.fixture
def own_rules(tmp_path: Path) -> Path:
    """An agency's copy of the packaged rules."""
    with as_file(files("ledger").joinpath("rules")) as packaged:
        return shutil.copytree(packaged, tmp_path / "own rules")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(*arguments: object) -> dict[str, Any]:
    """The one JSON object on stdout."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def words(result: Result) -> str:
    """What was written, without borders and line breaks."""
    return " ".join(re.sub(r"[─-╿]", " ", result.output).split())


def test_check_says_how_many_rules_and_how_sure_we_are() -> None:
    result = run("check")
    assert result.exit_code == 0
    assert "The rules are in order." in words(result)
    assert "V2: read in a secondary source" in words(result)
    found = answer("check")
    assert found["ok"] is True
    assert found["rulebook"] == load().hash.hex()
    assert sum(found["rules"].values()) == sum(found["marks"].values()) == len(load().rules)


def test_check_lists_every_fault_of_an_agencys_files(own_rules: Path) -> None:
    premium = own_rules / "premium.yaml"
    text = premium.read_text("utf-8").replace('"0.01"', '"-0.01"').replace('"0.18"', "0.18")
    premium.write_text(text, "utf-8")
    lines = [text[: text.index(bad)].count("\n") + 1 for bad in ('"-0.01"', "premium_base: 0.18")]
    result = run("check", own_rules)
    assert result.exit_code == 1
    assert f"premium.yaml:{lines[0]}: premium_base: -0.01 is negative" in result.output
    assert f"premium.yaml:{lines[1]}: premium_base: 0.18 is a YAML float" in result.output
    assert "begin with a copy of" in words(result)
    found = run("check", own_rules, "--json")
    assert found.exit_code == 1
    faults = json.loads(found.stdout)["faults"]
    assert [(fault["file"], fault["line"]) for fault in faults] == [("premium.yaml", line) for line in lines]


def test_check_takes_an_agencys_own_setting(own_rules: Path) -> None:
    assert answer("check", own_rules)["rulebook"] == load().hash.hex()
    (own_rules / "own.yaml").write_text(
        'premium_bases:\n  - {line: instant_delivery, province: "32", platform: a-real-one, '
        'premium_base: "0.25",\n     unit: yuan per order, in_force_from: 2025-07-01, source: our decision, '
        "checked_on: 2026-11-22, mark: V}\n",
        "utf-8",
    )
    assert answer("check", own_rules)["rulebook"] != load().hash.hex()


@pytest.mark.parametrize("name", ["none", "empty"])
def test_check_of_no_rules_is_a_bad_question(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    result = run("check", tmp_path / name)
    assert result.exit_code == 2
    assert "is not a directory with rule files" in words(result)
    assert json.loads(run("check", tmp_path / name, "--json").stdout)["fix"]


def test_show_gives_amount_source_and_mark_in_words() -> None:
    asked = ("show", "--at", "2026-10-03", "--province", "31", "--line", "instant_delivery")
    text = words(run(*asked, "--platform", "example-delivery"))
    for part in (
        "Rules in force on 2026-10-03: instant delivery, 31 Shanghai, example-delivery",
        "0.07",
        "1.2",
        "0.084",
        "yuan per order; amount = base × factor",
        "in force from 2026-01-01 to 2026-12-31; checked on 2026-11-22",
        "沪人社规〔2025〕17号",
        "P: from a research paper",
        "12 hours",
        "charged when accepted; kept if cancelled",
        "day 15 of the following month",
    ):
        assert part in text, part


def test_show_answers_a_machine_with_base_factor_and_amount() -> None:
    found = answer("show", "--at", "2025-07-01", "--province", "上海市", "--line", "即时配送", "--platform", "mine")
    assert (found["line"], found["province"], found["platform"]) == ("instant_delivery", "31", "mine")
    (premium,) = found["premiums"]
    assert (premium["premium_base"], premium["float_factor"], premium["amount"]) == ("0.07", "1.0", "0.07")
    assert premium["base"]["mark"] == "P"
    assert premium["base"]["checked_on"] == "2026-11-22"
    assert {rule["topic"] for rule in found["rules"]} == {
        "float_bands",
        "order_rules",
        "longest_windows",
        "due_days",
        "late_payments",
        "rounding",
    }


def test_show_says_aloud_that_the_rules_name_no_such_platform_where_there_is_no_ledger_to_ask(tmp_path: Path) -> None:
    result = run("show", "--at", "2026-10-03", "--platform", "exmaple-eats")
    assert result.exit_code == 0
    assert "exmaple-eats is not among the platforms that the rules name; the general rule is shown." in words(result)
    assert "not among" not in words(run("show", "--at", "2026-10-03", "--platform", "example-eats"))
    assert not (tmp_path / "home").exists(), "no ledger is made for it"


def test_show_without_a_question_shows_all_that_can_differ() -> None:
    found = answer("show", "--at", "2026-10-03")
    keys = [(each["line"], each["province"], each["platform"]) for each in found["premiums"]]
    assert len(keys) == len(set(keys))
    assert ("ride_hailing", "any", "any") in keys
    assert ("instant_delivery", "50", "example-eats") in keys
    assert found["province"] is None
    assert len([rule for rule in found["rules"] if rule["topic"] == "longest_windows"]) == 4


def test_show_without_a_day_asks_for_today() -> None:
    assert answer("show")["premiums"]


def test_show_tells_when_the_last_rate_ended() -> None:
    result = run("show", "--at", "2025-07-01", "--line", "food_delivery")
    assert result.exit_code == 0
    assert "No rate is in force on 2025-07-01 for food delivery." in words(result)
    assert "0.06 yuan per order, ended on 2025-06-30" in words(result)
    assert "The scheme began on 2022-07-01." in words(run("show", "--at", "2022-06-30"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("show", "--at", "tomorrow"), "is not a date"),
        (("show", "--province", "99"), "is not a province"),
        (("show", "--line", "taxi"), "is not a line of business"),
        (("diff", "2025-07-01", "2025-06-30"), "2025-06-30 is before 2025-07-01"),
    ],
)
def test_a_bad_question_says_what_was_wrong_and_what_to_do(arguments: tuple[str, ...], what: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert what in words(result)
    assert "what to do" in words(result)


def test_diff_shows_before_and_after_on_the_day_of_the_change() -> None:
    text = words(run("diff", "2025-06-30", "2025-07-01"))
    assert "2025-07-01" in text
    assert "food delivery" in text
    found = answer("diff", "2025-06-30", "2025-07-01")
    bases = {(each["line"], each["province"], each["platform"]): each for each in found["changes"]}
    assert bases["food_delivery", "any", "any"]["after"] is None
    freight = bases["intra_city_freight", "any", "any"]
    assert (freight["before"]["premium_base"], freight["after"]["premium_base"]) == ("0.20", "0.18")


def test_diff_says_so_when_nothing_changes() -> None:
    assert "Nothing changes after 2026-03-01 up to 2026-03-31." in words(run("diff", "2026-03-01", "2026-03-31"))
    assert answer("diff", "2026-03-01", "2026-03-01")["changes"] == []


def test_everything_is_said_in_chinese_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANBAO_LANG", "zh")
    assert "规则无误" in run("check").output
    shown = words(run("show", "--at", "2026-10-03", "--line", "instant_delivery", "--province", "31"))
    assert "2026-10-03 适用的规则：即时配送、31 上海市" in shown
    assert "未核实" in shown
    assert "没有缴费基准额" in run("show", "--at", "2025-07-01", "--line", "food_delivery").output
    assert "规则没有变化" in run("diff", "2026-03-01", "2026-03-31").output
    assert "不是已知行业" in words(run("show", "--line", "taxi"))


@pytest.mark.parametrize("name", ["check", "show", "diff"])
def test_help_ends_with_an_example(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"danbao rules {name} " in words(result)
