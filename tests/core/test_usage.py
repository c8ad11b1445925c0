"""What typer says by itself, and what a finding is called: in the reader's language.

In: command lines that typer cannot read, the codes of findings and rejections. Out: both languages, and no start that
waits for what only other commands need.
"""

import subprocess
import sys

import pytest
import typer
from languages import is_chinese, speaks_both

from ledger.cli import audit, common, usage
from ledger.cli.app import app
from ledger.errors import BadQuestion
from ledger.replay.findings import CODE_NAMES, Code
from schemas.both import Both
from schemas.orders import REASON_MEANINGS

ADD = "platforms add x --name X --name-zh 某 --uscc 1 --province 31=2026-07-01"


def mistake(line: str) -> BadQuestion:
    """What a command line that cannot be read is answered with."""
    with pytest.raises(typer.TyperException) as refused:
        app(line.split(), standalone_mode=False)
    return usage.mistake(refused.value)


@pytest.mark.parametrize(
    ("line", "english", "chinese"),
    [
        ("run --foo", "No such option: --foo", "没有选项 --foo。"),
        (
            "run --order x",
            "No such option: --order (Possible options: --orders)",
            "没有选项 --order，相近的有：--orders。",
        ),
        ("run --orders", "Option '--orders' requires an argument.", "选项 '--orders' 缺少取值。"),
        ("run --json=yes", "Option '--json' does not take a value.", "选项 '--json' 不带取值。"),
        ("balance", "Missing option '--province'.", "缺少选项 '--province'。"),
        ("explain --platform x", "Missing argument 'order'.", "缺少参数 'order'。"),
        ("settle 2026-10 2026-11", "Got unexpected extra argument(s) (2026-11)", "多余的参数：2026-11。"),
        ("setle", "No such command 'setle'. Did you mean 'settle'?", "没有命令 'setle'，相近的有：'settle'。"),
        ("nothing", "No such command 'nothing'.", "没有命令 'nothing'。"),
        (
            "simulate --orders many",
            "Invalid value for '--orders': Input should be",
            "'--orders' 的取值无效：应为整数。",
        ),
        (
            "rejects list --limit 0",
            "Invalid value for '--limit': Input should be",
            "'--limit' 的取值无效：不得小于 1。",
        ),
        (
            "rejects list --reason none",
            "Invalid value for '--reason': 'none' is not one of 'too_large', ",
            "'--reason' 的取值 'none' 无效，可选：'too_large'、",
        ),
        (ADD, "Missing option '--line'. Choose from:", "缺少选项 '--line'，可选：ride_hailing、"),
    ],
)
def test_a_mistake_in_a_command_line_is_named_in_both_languages(line: str, english: str, chinese: str) -> None:
    error = mistake(line)
    assert error.what.en.startswith(english)
    assert error.what.zh.startswith(chinese)
    assert speaks_both(error.what)
    assert speaks_both(error.fix)


def test_what_typer_says_that_we_do_not_know_is_given_as_it_is() -> None:
    error = usage.mistake(typer.TyperException("Something new."))
    assert error.what == Both("Something new.", "命令用法有误：Something new.")
    assert error.fix.en == "See: danbao --help"


def test_a_command_starts_without_what_only_others_need() -> None:
    asked = "from ledger.cli.app import app; app(['rules', 'check', '--json'], standalone_mode=False)"
    imported = "import sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{asked}; {imported}"], capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    assert "ledger.cli.rules" in modules
    assert modules.isdisjoint({"ledger.cli.ingest", "ledger.store.connect", "sqlalchemy", "psycopg", "kafka", "duckdb"})


def test_every_code_has_a_name_in_both_languages() -> None:
    assert CODE_NAMES.keys() == set(Code)
    assert all(map(speaks_both, CODE_NAMES.values()))
    assert all(map(speaks_both, REASON_MEANINGS.values()))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_finding_of_the_replay_is_shown_with_its_name(
    language: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DANBAO_LANG", language)
    monkeypatch.setattr(common.out, "width", 200)
    finding = {
        "code": Code.MISSING,
        "table": "charge",
        "key": "8801",
        "detail": "row",
        "expected": "1",
        "found": "none",
    }
    audit.show_replayed({"events": 2, "batches": 1, "findings": 1, "listed": [finding]})
    shown = capsys.readouterr().out
    assert "missing" in shown
    assert ("账簿缺失" in shown) == is_chinese(shown) == (language == "zh")
    assert ("not in the books" in shown) == (language == "en")
