"""Workers, watched: started again when they die, ended when they are to end, given up where no restart would help.

In: small Python programs as workers. Out: how often they ran, and what was said.
"""

import sys
from pathlib import Path
from threading import Event, Timer
from time import monotonic

import pytest

from consumers import workers
from consumers.workers import Workers
from ledger.errors import BadQuestion, DanbaoError
from schemas.both import Both


def program(text: str, log: Path) -> list[str]:
    head = f"import os, signal, sys, time; log = open({str(log)!r}, 'a'); log.write('began\\n'); log.flush()\n"
    return [sys.executable, "-c", head + text]


def times(log: Path, word: str = "began") -> int:
    return log.read_text().split().count(word) if log.exists() else 0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BACK_OFF_S", (0.05, 0.2))
    monkeypatch.setattr(workers, "LOOK_S", 0.01)


def test_workers_that_end_by_themselves_are_done(tmp_path: Path):
    said: list[Both] = []
    Workers(program("", tmp_path / "log"), 3, True, said.append).run()
    assert times(tmp_path / "log") == 3
    assert said == []


def test_a_worker_that_dies_is_started_again_after_longer_and_longer_pauses(tmp_path: Path):
    log, said = tmp_path / "log", list[Both]()
    die = f"""
if open({str(log)!r}).read().count('began') < 4:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    Workers(program(die, log), 1, True, said.append).run()
    assert times(log) == 4
    assert [text.en.split("(")[1].split(")")[0] for text in said] == ["signal 9"] * 3
    pauses = [float(text.en.split(" in ")[1].split(" s")[0]) for text in said]
    assert pauses == sorted(pauses)


def test_a_worker_that_cannot_come_to_its_end_is_given_up(tmp_path: Path):
    with pytest.raises(DanbaoError, match="ended 5 times"):
        Workers(program("sys.exit(1)", tmp_path / "log"), 1, True, lambda _: None).run()


def test_a_wrong_question_ends_all_workers_at_once(tmp_path: Path):
    log = tmp_path / "log"
    text = f"""
if open({str(log)!r}).read().count('began') > 1:
    sys.exit(2)
time.sleep(60)
"""
    began = monotonic()
    with pytest.raises(BadQuestion, match="cannot run as asked"):
        Workers(program(text, log), 2, False, lambda _: None).run()
    assert monotonic() - began < 30


def test_told_to_stop_they_are_asked_to_and_one_that_does_not_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "STOP_S", 1.0)
    log, stop = tmp_path / "log", Event()
    text = """
signal.signal(signal.SIGTERM, lambda *_: (log.write('asked\\n'), log.flush()))
log.write('ready\\n'); log.flush()
while True:
    time.sleep(0.05)
"""
    watched = Workers(program(text, log), 2, False, lambda _: None, stop)

    def when_ready() -> None:
        if times(log, "ready") == 2:
            stop.set()

    watched.run(when_ready)
    assert times(log, "asked") == 2
    assert all(seat.process is not None and seat.process.poll() == -9 for seat in watched._seats)


def test_nothing_starts_after_being_told_to_stop(tmp_path: Path):
    stop = Event()
    Timer(0.3, stop.set).start()
    Workers(program("sys.exit(1)", tmp_path / "log"), 1, False, lambda _: None, stop).run()
    ran = times(tmp_path / "log")
    assert ran >= 1
