"""`danbao kafka topics`: on a real Kafka, what differs is shown, made as the file says, and then stays."""

import json
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType
from typer.testing import CliRunner, Result

from consumers.kafka import settings, topics
from consumers.kafka.broker import Cluster
from consumers.kafka.settings import Access
from ledger.cli import common
from ledger.cli.topics import app

FILE = """\
topics:
  - name: {name}
    partitions: 2
    replication: 3
    settings:
      cleanup.policy: delete
      retention.ms: 2592000000
      retention.bytes: -1
      max.message.bytes: 9437184
      min.insync.replicas: 2
      message.timestamp.type: LogAppendTime
      unclean.leader.election.enable: false
"""
AS_MADE = {
    "partitions": 2,
    "replication": 1,
    "settings": {
        "cleanup.policy": "delete",
        "retention.ms": "2592000000",
        "retention.bytes": "-1",
        "max.message.bytes": "9437184",
        "min.insync.replicas": "1",
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "false",
    },
}
NUMBERS = count(1)
Run = Callable[..., Result]


@pytest.fixture
def name() -> str:
    """A topic of the test's own."""
    return f"topics.test.v{next(NUMBERS)}"


@pytest.fixture
def file(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "topics.yaml"
    path.write_text(FILE.format(name=name))
    return path


@pytest.fixture
def run(broker: Cluster, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command on the Kafka of the session."""
    monkeypatch.setenv("DANBAO_KAFKA_BOOTSTRAP", broker.bootstrap)
    monkeypatch.setenv("DANBAO_LANG", "en")
    monkeypatch.setattr(common.out, "width", 200)
    monkeypatch.setattr(common.err, "width", 400)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def told(result: Result, code: int) -> dict[str, Any]:
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def shown(run: Run, name: str) -> dict[str, Any] | None:
    """A topic as `show` tells it to machines."""
    return next((one for one in told(run("show", "--json"), 0)["topics"] if one["name"] == name), None)


def edit(file: Path, line: str, other: str) -> None:
    text = file.read_text()
    assert line in text
    file.write_text(text.replace(line, other))


def set_by_hand(broker: Cluster, name: str, **settings: str) -> None:
    values = {key.replace("_", "."): value for key, value in settings.items()}
    with topics.connect(Access(broker.bootstrap)) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, values)], incremental=True)


def test_topics_are_made_as_the_file_says_and_a_second_time_changes_nothing(run: Run, file: Path, name: str) -> None:
    first = run("apply", file, "--yes")
    assert first.exit_code == 0
    assert "retention.ms" in first.stdout
    assert first.stdout.endswith("Applied.\n")
    assert shown(run, name) == {"name": name, **AS_MADE}
    second = run("apply", file, "--yes")
    assert (second.exit_code, second.stdout) == (0, "The topics are as the file says.\n")
    assert told(run("apply", file, "--json"), 0) == {"differences": [], "left": []}


def test_fewer_copies_than_the_file_says_are_said_aloud(run: Run, file: Path, name: str) -> None:
    said = run("apply", file, "--dry-run")
    assert f"replication 3 → 1, min.insync.replicas 2 → 1 ({name})" in said.stderr


def test_a_dry_run_shows_every_difference_and_changes_nothing(run: Run, name: str) -> None:
    names = {"orders.v1", "orders.rejected.v1", "claims.v1", "receipts.v1"}

    def there() -> list[dict[str, Any]]:
        """Those of the file; other tests change their own meanwhile."""
        return [one for one in told(run("show", "--json"), 0)["topics"] if one["name"] in names]

    before = there()
    found = told(run("apply", "--dry-run", "--json"), 1)
    assert {one["topic"] for one in found["differences"]} == names
    assert found["left"] == found["differences"]
    assert there() == before


def test_without_a_yes_nothing_is_changed(run: Run, file: Path, name: str) -> None:
    said = run("apply", file)
    assert said.exit_code == 1
    assert "give --yes" in said.stderr
    assert shown(run, name) is None


@pytest.mark.parametrize(
    ("typed", "yes"), [("y\n", True), ("Yes\n", True), ("是\n", True), ("n\n", False), ("\n", False), ("\x04", False)]
)
def test_only_a_yes_at_the_terminal_is_a_yes(typed: str, yes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard, terminal = os.openpty()
    os.write(keyboard, typed.encode())
    with os.fdopen(terminal, encoding="utf-8") as stdin, monkeypatch.context() as here:
        here.setattr("sys.stdin", stdin)
        assert common.confirmed() is yes
    os.close(keyboard)


def test_what_somebody_set_by_hand_is_shown_and_set_right_and_the_rest_left(
    run: Run, broker: Cluster, file: Path, name: str
) -> None:
    assert run("apply", file, "--yes").exit_code == 0
    set_by_hand(broker, name, retention_ms="86400000", segment_bytes="10485760")
    found = told(run("apply", file, "--yes", "--json"), 0)
    assert found == {
        "differences": [
            {"topic": name, "setting": "retention.ms", "found": "86400000", "wanted": "2592000000", "kind": "change"}
        ],
        "left": [],
    }
    assert shown(run, name) == {"name": name, **AS_MADE}
    with topics.connect(Access(broker.bootstrap)) as admin:
        asked = [ConfigResource(ConfigResourceType.TOPIC, name, ["segment.bytes"])]
        [left] = admin.describe_configs(asked)["topic"][name].values()
    assert left["value"] == "10485760"


def test_partitions_are_added_with_a_word_about_keys_and_never_taken_away(run: Run, file: Path, name: str) -> None:
    assert run("apply", file, "--yes").exit_code == 0
    edit(file, "partitions: 2", "partitions: 3")
    more = run("apply", file, "--yes")
    assert more.exit_code == 0
    assert "keys move" in more.stderr
    edit(file, "partitions: 3", "partitions: 1")
    edit(file, "max.message.bytes: 9437184", "max.message.bytes: 1048576")
    fewer = run("apply", file, "--yes")
    assert fewer.exit_code == 1
    assert "Kafka takes no partition away" in fewer.stderr
    assert fewer.stdout.endswith("1 difference(s) left.\n")
    found = shown(run, name)
    assert found
    assert (found["partitions"], found["settings"]["max.message.bytes"]) == (3, "1048576")


def test_more_copies_than_there_are_brokers_are_a_bad_question(run: Run, file: Path) -> None:
    said = run("apply", file, "--replication", "2", "--yes")
    assert said.exit_code == 2
    assert "the cluster has 1 broker" in said.stderr


def test_a_faulty_file_is_refused_with_its_line(run: Run, file: Path) -> None:
    edit(file, "cleanup.policy: delete", "cleanup.policy: compact")
    said = run("apply", file, "--yes")
    assert said.exit_code == 2
    assert "topics.yaml:6: topics.0.settings.cleanup.policy" in said.stderr


def test_a_file_that_is_not_there_is_a_bad_question(run: Run, tmp_path: Path) -> None:
    assert run("apply", tmp_path / "none.yaml").exit_code == 2


def test_a_kafka_that_does_not_answer_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANBAO_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setattr(settings, "BOOTSTRAP_MS_MAX", 300)
    said = run("show")
    assert said.exit_code == 1
    assert "No Kafka answers at 127.0.0.1:1" in said.stderr
