"""The installed command in Chinese and in English: mistakes, what it waits for, its help, its codes.

In: `danbao` as a process, with DANBAO_LANG. Out: one language, whichever layer speaks.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import typer
from command import run
from languages import is_chinese
from sqlalchemy import Engine
from support import Desk, accepted, completed
from typer.core import TyperGroup

from consumers.kafka.broker import Cluster
from ledger.cli.app import app

MAPPING = "name: mine\nabout: Of these tests.\ntime_format: fast\n"
TOPICS = "topics:\n  - name: orders.v1\n    partitions: 0\n"
ROW_WITHOUT_SOURCE = "rounding:\n  - {rounding: half_up, per: declared_line, unit: fen, in_force_from: 2022-07-01}\n"

# A real mistake → exit code, and what is said of it in each language.
MISTAKES = {
    "run --foo": (2, "No such option", "没有选项"),
    "rules show --at tomorrow": (2, "'tomorrow' is not a date", "'tomorrow' 不是日期"),
    "rules show --province 99": (2, "'99' is not a province", "'99' 不是省级行政区"),
    "simulate --orders 0 --out orders.ndjson": (2, "--orders 0 is out of range", "--orders 0 超出范围"),
    "settle 2999-01": (1, "2999-01 is not over yet", "2999-01 尚未结束"),
    "ingest nothing.ndjson": (2, "nothing.ndjson does not exist", "nothing.ndjson 不存在"),
    "ingest some.csv": (2, "is a CSV file, so a mapping must say", "是 CSV 文件，须由映射说明"),
    "ingest some.csv --map mine.yaml": (
        2,
        "mine.yaml:3: time_format: 'fast' is neither",
        "mine.yaml:3: time_format：'fast' 既不是",
    ),
    "ingest some.csv --map eleme": (2, "which the file's header has not", "而文件表头中没有该列"),
    "kafka up --brokers 2": (2, "2 brokers make no sound cluster", "2 个 broker 不能组成可靠的集群"),
    "kafka status": (1, "There is no Kafka in", "中没有 Kafka"),
    "kafka topics show": (1, "No Kafka runs in", "中没有正在运行的 Kafka"),
    "kafka topics apply topics.yaml": (
        2,
        "topics.yaml:3: topics.0.partitions: Input should be",
        "topics.yaml:3: topics.0.partitions：不得小于 1",
    ),
    "balance --province 31 --platform nobody": (
        2,
        "'nobody' is not a registered platform",
        "'nobody' 不是已登记的平台",
    ),
}
LANGUAGES = ("en", "zh")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with files that are not right."""
    (tmp_path / "some.csv").write_text("a,b\n1,2\n")
    (tmp_path / "mine.yaml").write_text(MAPPING)
    (tmp_path / "topics.yaml").write_text(TOPICS)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "own.yaml").write_text(ROW_WITHOUT_SOURCE)
    return tmp_path


def danbao(language: str, line: str, here: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, run to its end in a directory."""
    return run(line.split(), here, {"COLUMNS": "200"} | environment, language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_in_the_readers_language(language: str, line: str, here: Path, ledger_url: str) -> None:
    exit_code, *said = MISTAKES[line]
    done = danbao(language, f"{line} --json", here, DANBAO_DATABASE_URL=ledger_url, DANBAO_HOME=str(here / "home"))
    assert done.returncode == exit_code, done.stderr
    told = json.loads(done.stdout)
    assert said[LANGUAGES.index(language)] in told["error"]
    assert is_chinese(told["error"]) == is_chinese(told["fix"]) == (language == "zh")
    shown = [line for line in done.stderr.splitlines() if line.strip()]
    assert shown[0].startswith({"en": "error: ", "zh": "错误："}[language])
    assert is_chinese(done.stderr) == (language == "zh")
    assert told["fix"].split()[0] in done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_database_that_is_none_is_refused_in_the_readers_language(language: str, here: Path) -> None:
    done = danbao(language, "platforms list", here, DANBAO_DATABASE_URL="mysql://there/danbao")
    said = {"en": "mysql is not a database that the ledger runs on", "zh": "账簿不能运行在 mysql 上"}
    assert done.returncode == 1
    assert said[language] in done.stderr
    assert is_chinese(done.stderr) == (language == "zh")


@pytest.mark.parametrize("language", LANGUAGES)
def test_faults_of_rule_files_are_listed_in_the_readers_language(language: str, here: Path) -> None:
    said = {"en": "own.yaml:2: source is missing", "zh": "own.yaml:2: 缺少 source"}
    done = danbao(language, "rules check rules", here)
    assert done.returncode == 1
    assert said[language] in done.stdout
    assert is_chinese(done.stdout) == (language == "zh")
    faults = json.loads(danbao(language, "rules check rules --json", here).stdout)["faults"]
    assert said[language].partition(": ")[2] in {fault["reason"] for fault in faults}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_rejected_record_is_shown_with_its_code_and_what_it_means(
    language: str, here: Path, engine: Engine, ledger_url: str
) -> None:
    assert Desk(engine).answers(b"rubbish") == ["rejected"]
    said = {"en": "malformed: the record is not JSON", "zh": "malformed：记录不是 UTF-8 编码的 JSON"}
    for line in ("rejects list", "audit findings"):
        shown = danbao(language, line, here, DANBAO_DATABASE_URL=ledger_url).stdout
        assert said[language] in shown, line
        assert is_chinese(shown) == (language == "zh")
    plain = danbao(language, "rejects list --json", here, DANBAO_DATABASE_URL=ledger_url).stdout
    assert json.loads(plain)["rejected"][0]["reason"] == "malformed"
    plain = danbao(language, "audit findings --json", here, DANBAO_DATABASE_URL=ledger_url).stdout
    assert json.loads(plain)["findings"][0]["particulars"] == "malformed"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_particulars_of_a_finding_are_in_the_readers_language(
    language: str, here: Path, engine: Engine, ledger_url: str
) -> None:
    assert Desk(engine).answers(accepted("A"), accepted("A", worker="W2"), completed("B")) == ["new", "conflict", "new"]
    said = {"en": ("worker; 1 order, e.g. A", "e.g. B"), "zh": ("差异：人员；1 单，如 A", "如 B")}[language]
    shown = danbao(language, "audit findings", here, DANBAO_DATABASE_URL=ledger_url).stdout
    assert all(one in shown for one in said), shown
    assert is_chinese(shown) == (language == "zh")
    plain = json.loads(danbao(language, "audit findings --json", here, DANBAO_DATABASE_URL=ledger_url).stdout)
    assert set(said) <= {one["particulars"] for one in plain["findings"]}
    assert {"conflict", "never_accepted"} <= {one["code"] for one in plain["findings"]}


@pytest.mark.parametrize("language", LANGUAGES)
def test_who_waits_for_the_first_database_is_told_so_in_his_language(
    language: str, server_url: str, here: Path
) -> None:
    """Asked for after `server_url`, which skips where no server can start."""
    yard = Path(tempfile.mkdtemp(prefix="danbao-languages-"))
    yard.chmod(0o755)
    try:
        done = danbao(language, "platforms list", here, DANBAO_HOME=str(yard / "home"))
    finally:
        shutil.rmtree(yard)
    assert done.returncode == 0, done.stderr
    assert {"en": "Making the database in", "zh": "创建数据库（仅此一次）"}[language] in done.stderr
    assert is_chinese(done.stderr) == (language == "zh")


KAFKA = {
    "kafka status": (0, "answers", "正常"),
    "kafka topics apply --dry-run": (1, "For development only", "仅供开发使用"),
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("line", KAFKA)
def test_what_there_is_to_say_of_kafka_is_in_the_readers_language(
    language: str, line: str, here: Path, broker: Cluster
) -> None:
    exit_code, *said = KAFKA[line]
    done = danbao(language, line, here, DANBAO_HOME=str(broker.directory.parent))
    assert done.returncode == exit_code, done.stderr
    shown = (done.stdout + done.stderr).replace("单保", "")  # which is in the path
    assert said[LANGUAGES.index(language)] in shown
    assert is_chinese(shown) == (language == "zh")


# ---- help


def commands(group: TyperGroup | None = None, above: str = "") -> list[str]:
    """Every command, as it is written."""
    group = group or typer.main.get_group(app)
    context, named = typer.Context(group), []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = isinstance(command, TyperGroup)
        named += commands(command, f"{above}{name} ") if inner else [f"{above}{name}"]
    return named


PAGES = """
import sys
from typer.testing import CliRunner
from ledger.cli.app import app
for line in sys.argv[1:]:
    result = CliRunner().invoke(app, [*line.split(), "--help"])
    assert result.exit_code == 0, result.output
    print(result.stdout, end="\\f")
"""


def pages(language: str, lines: list[str]) -> dict[str, str]:
    """--help of many commands, by one process: the language is chosen once."""
    environment = os.environ | {"DANBAO_LANG": language, "COLUMNS": "200", "TERMINAL_WIDTH": "200"}
    done = subprocess.run(
        [sys.executable, "-c", PAGES, *lines], env=environment, capture_output=True, text=True, check=True
    )
    return dict(zip(lines, done.stdout.split("\f"), strict=False))


def test_every_command_has_help_and_one_example_in_english() -> None:
    for line, page in pages("en", commands()).items():
        assert page.count("Example: ") == 1, line
        assert f"Example: danbao {line}" in page
        assert not is_chinese(page.replace("快送", "")), line


def test_every_command_has_help_and_the_same_example_in_chinese() -> None:
    for line, page in pages("zh", commands()).items():
        assert page.count("示例：") == 1, line
        assert f"示例：danbao {line}" in page
        prose = page[: page.index("示例：")]
        assert all(is_chinese(part) for part in prose.split("\n") if part.strip()), line
        for english in ("Usage", "Options", "Arguments", "Show this", "[required]", "[default", "Example"):
            assert english not in page, line


GROUPS = ["", "platforms", "platforms key", "rules", "inbox", "audit", "kafka", "kafka topics"]


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_commands_lists_them_in_chinese(group: str, here: Path) -> None:
    asked = danbao("zh", f"{group} --help", here)
    assert asked.returncode == 0
    without_a_command = danbao("zh", group, here)
    assert without_a_command.returncode == 2
    assert without_a_command.stderr == ""
    rows = [line for line in asked.stdout.splitlines() if line.strip(" ─╭╮╰╯")]
    assert len(rows) > 5
    assert all(map(is_chinese, rows))
    assert "Commands" not in asked.stdout
