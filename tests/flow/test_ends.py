"""How commands end when they are stopped, or when nobody reads on.

In: the installed command, a signal while it waits, a closed pipe. Out: exit code 130 and what to do, no traceback.
"""

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import typer
from command import Command
from sqlalchemy import Engine
from support import Desk, accepted, ndjson, owner, value

from ledger.cli import common

WAIT_S = 30
WAITING = """select count(*) from pg_locks l join pg_database d on d.oid = l.database
    where not l.granted and d.datname = current_database()"""
# A command, and the table on which it is made to wait.
WAITS = {
    ("ingest", "o.ndjson"): "batch",
    ("settle", "2026-10"): "settlement",
    ("audit", "replay"): "batch",
    ("audit", "findings"): "rejected_record",
    ("explain", "A", "--platform", "eleme"): "charge",
    ("platforms", "list"): "platform_province",
}


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("arguments", WAITS, ids=" ".join)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_says_what_stands_and_what_to_do(
    danbao: Command, ledger_url: str, arguments: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    ndjson(danbao.here / "o.ndjson", accepted("A"))
    with owner(ledger_url, autocommit=False) as held:
        held.execute(f"lock table {WAITS[arguments]} in access exclusive mode")
        process = danbao.start(*arguments)
        until(lambda: value(ledger_url, WAITING) > 0 or process.poll() is not None)
        process.send_signal(number)
        _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, said
    assert "Stopped." in said
    assert "What is committed stays; run it again to go on." in said
    assert "Traceback" not in said


def test_a_signal_that_a_library_turns_into_an_error_of_its_own_is_still_a_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DANBAO_LANG", "en")
    monkeypatch.setattr(common, "_signals", [])
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)

    @common.command("说明")
    def interrupted() -> None:
        """Say.

        Example: danbao interrupted
        """
        try:
            common.stop(signal.SIGINT, None)
        except KeyboardInterrupt:
            raise ValueError("Query interrupted") from None

    with pytest.raises(typer.Exit) as ended:
        interrupted()
    assert ended.value.exit_code == 130
    assert "Stopped." in capsys.readouterr().err


CUT_OFF = """
import logging, signal
from ledger.cli import common
logging.getLogger("library").error("before")
try:
    common.stop(signal.SIGINT, None)
except KeyboardInterrupt:
    logging.getLogger("library").error("Exception during reset")
"""


def test_what_a_library_logs_of_a_query_that_was_cut_off_is_not_shown() -> None:
    """As it does where a busy server takes its time to cancel it; in a process in which nobody else reads the log."""
    done = subprocess.run([sys.executable, "-c", CUT_OFF], capture_output=True, text=True, check=True)
    assert done.stderr == "before\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("ingest", "--help"), 0),
        (("settle", "2026-10", "--dry-run"), 0),
        (("explain", "A", "--platform", "eleme"), 0),
        (("explain", "A", "--platform", "eleme", "--json"), 0),
        (("rejects", "list", "--json"), 0),
        (("windows", "--platform", "eleme", "--worker", "W9", "--at", "2026-10-03T12:10+08:00"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_who_reads_only_the_beginning_does_no_harm_and_the_exit_code_stays(
    danbao: Command, engine: Engine, arguments: tuple[str, ...], code: int
) -> None:
    assert Desk(engine).answers(accepted("A"), *[b"x" * 5_000] * 20) == ["new"] + ["rejected"] * 20
    process = danbao.start(*arguments)
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(WAIT_S) == code, said
    assert said == ""
    process.stderr.close()
