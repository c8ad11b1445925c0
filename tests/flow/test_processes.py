"""Whole commands as processes: killed at every step, with their server, and two at once.

In: the installed command `danbao` on a home of its own, with durable commits. Out: the next command finds
everything that was committed, completes the rest, and leaves no process behind.
"""

import json
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from command import Started, answer, clean, kill
from support import accepted, completed, libpq, ndjson

from consumers.loop import EVENTS_PER_BATCH, STEPS
from ledger.store import server_home

PER_FILE = 3
WAIT_S = 60


@pytest.fixture(scope="module")
def home(server_url: str) -> Iterator[Path]:
    """A state directory that the server's user can reach; asked for after `server_url`, which can skip."""
    directory = Path(tempfile.mkdtemp(prefix="danbao-processes-"))
    directory.chmod(0o755)
    yield directory / "home"
    shutil.rmtree(directory)


def start(home: Path, *arguments: object, crash_at: str | None = None) -> Started:
    """A command on this home, its answer for machines."""
    crash = {"DANBAO_CRASH_AT": crash_at} if crash_at else {}
    return Started([*arguments, "--json"], clean(crash | {"DANBAO_HOME": str(home)}, "en"))


def danbao(home: Path, *arguments: object) -> dict[str, Any]:
    """Run a command to its end."""
    return answer(start(home, *arguments), seconds=WAIT_S)


def owed(home: Path, platform: str) -> tuple[int, str]:
    """Orders and yuan that a platform owes in Shanghai."""
    accounts = danbao(home, "balance", "--province", "31", "--platform", platform)["accounts"]
    return next((one["order_count"], one["balance"]) for one in accounts if one["account"] == "premium_receivable")


def server_pids(home: Path) -> list[int]:
    """The processes of the home's server, postmaster first."""
    try:
        postmaster = int((server_home.lay_out(home).data / "postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return []
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children")
    return [postmaster, *map(int, children.read_text().split())] if children.exists() else []


def booked(url: str) -> int:
    """How many records of the largest file are booked; 0 as long as nobody can tell."""
    try:
        with psycopg.connect(libpq(url), connect_timeout=5) as connection:
            found = connection.execute("select coalesce(max(next_offset), 0) from partition_head").fetchone()
            return int(found[0]) if found else 0
    except psycopg.Error:
        return 0


def test_an_ingest_killed_at_any_step_is_completed_by_the_next(home: Path, tmp_path: Path) -> None:
    """All are under way at once, on a home that the first of them makes."""
    doomed = []
    for step in STEPS:
        orders = [accepted(f"{step}{number}") for number in range(PER_FILE)]
        path = ndjson(tmp_path / f"{step}.ndjson", orders, completed(f"{step}0"))
        doomed.append(start(home, "ingest", path, crash_at=step))
    for process in doomed:
        process.communicate(timeout=WAIT_S)
        assert process.returncode == -signal.SIGKILL
    total = danbao(home, "ingest", tmp_path)
    files = len(STEPS)
    assert total["events"] == files * (PER_FILE + 1)
    assert (total["new"], total["duplicate"]) == ((files - 1) * (PER_FILE + 1), PER_FILE + 1)  # one was committed
    assert owed(home, "eleme") == (files * PER_FILE, f"{files * PER_FILE * 0.07:.2f}")
    assert danbao(home, "ingest", tmp_path)["new"] == 0
    assert server_pids(home) == []


def test_a_server_killed_while_it_commits_has_all_that_it_answered_for(home: Path, tmp_path: Path) -> None:
    count = 6 * EVENTS_PER_BATCH
    texts = (json.dumps(accepted(f"P{number}", platform="doordash")) for number in range(count))
    path = tmp_path / "many.ndjson"
    path.write_text("\n".join(texts))
    seen, url = 10, server_home.lay_out(home).url
    for _ in range(2):
        process = start(home, "ingest", path)
        started = time.monotonic()
        while (now := booked(url)) <= seen and process.poll() is None:
            assert time.monotonic() - started < WAIT_S
            time.sleep(0.01)
        kill(server_pids(home))
        out, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == 1, (out, err)
        assert "error" in json.loads(out)
        seen = now
    assert 0 < seen < count
    total = danbao(home, "ingest", path)
    assert total["events"] == count
    assert total["duplicate"] >= seen
    assert total["new"] + total["duplicate"] == count
    accounts = danbao(home, "balance", "--province", "31", "--platform", "doordash")["accounts"]
    assert [one["order_count"] for one in accounts if one["order_count"]] == [count]
    assert server_pids(home) == []


def test_two_ingests_at_once_share_the_server_and_the_last_one_stops_it(home: Path, tmp_path: Path) -> None:
    paths = []
    for place in range(2):  # numbers 1,000 to 1,999 are in both
        numbers = range(place * 1_000, place * 1_000 + 2_000)
        events = [accepted(f"S{number}", platform="example-eats") for number in numbers]
        paths.append(ndjson(tmp_path / f"{place}.ndjson", *events))
    found = [answer(process, seconds=WAIT_S) for process in [start(home, "ingest", path) for path in paths]]
    assert sum(one["new"] for one in found) == 3_000
    assert sum(one["duplicate"] for one in found) == 1_000
    assert owed(home, "example-eats") == (3_000, "750.00")
    assert server_pids(home) == []


def test_two_ingests_of_one_file_book_it_once(home: Path, tmp_path: Path) -> None:
    events = [accepted(f"T{number}", platform="example-delivery") for number in range(2_000)]
    path = ndjson(tmp_path / "one.ndjson", *events)
    for process in [start(home, "ingest", path) for _ in range(2)]:
        out, _ = process.communicate(timeout=WAIT_S)
        if process.returncode:
            assert "Another process booked" in json.loads(out)["error"]
    total = danbao(home, "ingest", path)
    assert (total["new"], total["duplicate"]) == (0, 2_000)
    assert owed(home, "example-delivery") == (2_000, "168.00")
    assert server_pids(home) == []


def test_a_step_that_the_loop_does_not_have_is_a_bad_question(home: Path, tmp_path: Path) -> None:
    process = start(home, "ingest", ndjson(tmp_path / "o.ndjson", accepted("A")), crash_at="lunch")
    out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 2
    assert "lunch" in json.loads(out)["error"]
    assert server_pids(home) == []
