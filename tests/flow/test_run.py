"""`danbao run`: the whole job on simulated orders, and on a file of the user's, of which nothing is sealed.

In: the installed command on an empty ledger. Out: what it books, seals, verifies and replays, step by step.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from command import Command
from support import accepted, completed, ndjson, rows, value

from consumers.kafka import broker as of_home
from consumers.kafka.broker import Cluster
from ledger.cli import common, live, run


@pytest.fixture
def job(danbao: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The main job in this process, on few simulated orders."""
    monkeypatch.setenv("DANBAO_DATABASE_URL", danbao.url)
    monkeypatch.setenv("DANBAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DANBAO_LANG", "en")
    monkeypatch.setattr(run, "SIMULATED_ORDERS", 300)

    def done(capsys: pytest.CaptureFixture[str], kafka: bool = False) -> tuple[dict[str, Any], str]:
        run.run(None, None, None, kafka, True)
        read = capsys.readouterr()
        return json.loads(read.out), read.err

    return done


def steps(said: str) -> list[str]:
    return re.findall(r"^(\d/\d) ", said, re.MULTILINE)


def test_simulated_orders_are_booked_settled_and_replayed_and_a_live_one_is_covered(
    job: Any, capsys: pytest.CaptureFixture[str], ledger_url: str
) -> None:
    result, said = job(capsys)
    assert steps(said) == ["1/4", "2/4", "3/4", "4/4"]
    assert result["ingest"]["orders"] == 300
    assert {one["sealed"] for one in result["settlements"]} == {True}
    assert result["injury"]["verdict"] == "covered"
    assert result["injury"]["doubts"] == []
    assert result["replay"]["findings"] == 0
    assert value(ledger_url, "select count(*) from charge") == 301
    again, _ = job(capsys)
    assert (again["ingest"]["orders"], again["settlements"]) == (0, [])
    assert again["injury"]["verdict"] == "covered"


def test_through_kafka_come_the_same_books_as_from_the_file(
    job: Any, capsys: pytest.CaptureFixture[str], broker: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`broker` only for the skip where there can be no Kafka: the job starts one of its own, and ends it."""
    monkeypatch.delenv("DANBAO_KAFKA_BOOTSTRAP", raising=False)
    streamed, said = job(capsys, kafka=True)
    assert "Starting a Kafka" in said
    assert streamed["pushed"]["bootstrap"] != broker.bootstrap
    assert of_home.address(common.kafka_home(), lambda _: None) is None, "the Kafka that it started is ended"
    assert streamed["pushed"]["events"] == streamed["ingest"]["events"] == streamed["ingest"]["new"]
    assert streamed["ingest"]["orders"] == 300
    assert streamed["replay"]["findings"] == 0
    assert streamed["settlements"]
    read, _ = job(capsys)
    assert read["ingest"]["duplicate"] == read["ingest"]["events"] == streamed["ingest"]["events"]
    assert elsewhere(read) == elsewhere(streamed), "where the live order of each run is not"
    assert read["settlements"] == []
    again, _ = job(capsys, kafka=True)
    assert again["ingest"]["duplicate"] == again["ingest"]["events"] == streamed["ingest"]["events"]
    assert again["replay"]["findings"] == 0


def elsewhere(result: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted((one for one in result["provinces"] if one["province"] != live.CITY[:2]), key=str)


def test_of_a_file_of_the_users_nothing_is_sealed_and_the_injury_is_one_of_its_own(
    danbao: Command, ledger_url: str
) -> None:
    ndjson(danbao.here / "other.ndjson", accepted("X", worker="W9"), completed("X"))
    danbao("ingest", "other.ndjson")
    orders = [accepted("A", city="210200"), completed("A"), accepted("B", "2026-09-03T12:00:00+08:00")]
    ndjson(danbao.here / "mine.ndjson", *orders)
    done = danbao("run", "--orders", "mine.ndjson")
    assert steps(done.stderr) == ["1/4", "2/4", "3/4", "4/4"]
    assert "leak" not in done.stderr, "DuckDB complains where Python ends without looking for garbage"
    assert "2026-09: 0.07 yuan in 1 province; to seal it for ever: danbao settle 2026-09" in done.stdout
    assert "2026-10: 0.14 yuan in 2 provinces; to seal it for ever: danbao settle 2026-10" in done.stdout
    assert "in the whole ledger" in done.stdout
    assert "An injury, looked into" in done.stdout
    assert "eleme · W1 · 2026-10-03 12:15:00" in done.stdout
    [again] = re.findall(r"^  (danbao windows .*)$", done.stdout, re.MULTILINE)
    danbao(*shlex.split(again)[1:], exit_code=3)
    assert "so it is always doubtful" in " ".join(done.stdout.split())
    assert rows(ledger_url, "select count(*) from settlement") == [(0,)]
    result = danbao.plain("run", "--orders", "mine.ndjson")
    assert (result["injury"]["worker"], result["injury"]["verdict"]) == ("W1", "doubtful")
    assert {one["sealed"] for one in result["settlements"]} == {False}
    assert value(ledger_url, "select count(*) from charge") == 3, "no order of ours is added to those of the user"


def test_a_file_of_the_users_is_not_pushed_in_the_name_of_its_platform(danbao: Command) -> None:
    ndjson(danbao.here / "mine.ndjson", accepted("A"))
    done = danbao("run", "--kafka", "--orders", "mine.ndjson", exit_code=2)
    assert "danbao push FILE --platform P" in done.stderr


def test_a_file_of_nothing_but_rejections_is_no_success(danbao: Command) -> None:
    ndjson(danbao.here / "bad.ndjson", accepted("A", platform="nobody"))
    assert danbao.plain("run", "--orders", "bad.ndjson", exit_code=1)["nothing_but_rejections"] is True


def test_the_simulated_orders_are_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DANBAO_HOME", str(tmp_path))
    monkeypatch.setattr(run, "SIMULATED_ORDERS", 20)
    made = run.simulated_orders()
    before = made.stat()
    assert made == common.home() / "simulated-orders.ndjson.zst"
    assert run.simulated_orders().stat() == before
