"""The embedded server on real processes: shared, killed, recovered, for root and for an ordinary user.

In: the installed binaries; one home that is moved from test to test, new ones where the making matters.
Out: nothing left behind, neither a process nor a directory.
"""

import errno
import os
import pwd
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from ledger.errors import DanbaoError
from ledger.store import locks, server, server_home
from ledger.store.server import running
from schemas.both import Both

SMALL = {"fsync": "off", "shared_buffers": "16MB"}
ROOT = Path(__file__).parents[2]
COMMAND = f"""
import sys
from pathlib import Path
from ledger.store.server import running
with running(Path(sys.argv[1]), lambda line: None, {SMALL!r}) as url:
    print(url, flush=True)
    sys.stdin.readline()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can try this: it takes two users")


# ---- tools


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    """A directory that every user may enter, unlike pytest's own; cleared once, since deleting is slow."""
    directory = Path(tempfile.mkdtemp(prefix="danbao-server-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def yard(ground: Path) -> Path:
    """An empty directory for one test."""
    directory = Path(tempfile.mkdtemp(dir=ground))
    directory.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def made(ground: Path) -> Path:
    """A home with data and no server."""
    with running(ground / "made", print, SMALL):
        pass
    return ground / "made"


@pytest.fixture
def home(made: Path, yard: Path) -> Iterator[Path]:
    """The home that the tests hand round (making one takes a second), standing in the yard of this one."""
    with moved(made, yard / "home") as home:
        yield home


@contextmanager
def moved(made: Path, home: Path) -> Iterator[Path]:
    """The home elsewhere for a while; what a failed test left running is ended."""
    home.parent.mkdir(parents=True, exist_ok=True)
    made.rename(home)
    yield home
    with server._nothing_alive(server_home.lay_out(home)) as lock:
        if lock is None:
            os.kill(postmaster(home), signal.SIGKILL)
    home.rename(made)
    assert lock is not None, "the test left a server behind"


class Command:
    """Another command that uses the server until it is told to leave."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )

    @property
    def url(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().decode().strip()

    def leave(self) -> int:
        self.process.communicate(b"\n", timeout=30)
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


def ask(url: str, question: str = "SELECT 1") -> object:
    """Ask by the way the ledger asks: SQLAlchemy, with the URL as it was given."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return connection.exec_driver_sql(question).scalar_one()


def do(url: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def postmaster(home: Path) -> int:
    return int((home / "pg/data/postmaster.pid").read_text().split("\n")[0])


def family(home: Path) -> set[int]:
    """The server's process and its children."""
    parent = postmaster(home)
    found = {parent}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == parent:
            found.add(int(file.parent.name))
    return found


def living(pids: set[int]) -> set[int]:
    """Those that still run; a zombie of a parent that was killed does not."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.add(pid)
    return found


def refused(home: Path) -> DanbaoError:
    """What the user is told when the server cannot be had."""
    with pytest.raises(DanbaoError) as caught, running(home, print, SMALL):
        pass
    return caught.value


def told_as(uid: int, gid: int, act: Callable[[], object]) -> str:
    """What `act` returns, or the error it raises, when another user does it: in a fork of this process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            told = str(act())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(write, told.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return told


def as_nobody(act: Callable[[], object]) -> str:
    nobody = pwd.getpwnam("nobody")
    return told_as(nobody.pw_uid, nobody.pw_gid, act)


@pytest.fixture(scope="module")
def everyones(ground: Path) -> Path:
    """A copy of the binaries that every user can reach, wherever this checkout lies."""
    package, _ = server_home._installed()
    server_home._copy(package, ground / "postgres-everyones")
    return ground / "postgres-everyones" / package.name


@pytest.fixture
def programs(everyones: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    version = server_home._installed()[1]
    monkeypatch.setattr(server_home, "_installed", lambda: (everyones, version))
    return everyones


# ---- a first and a second time


def test_the_first_command_makes_the_database_and_the_second_reuses_it(yard: Path) -> None:
    first: list[Both] = []
    with running(yard / "home", first.append) as url:
        do(url, "CREATE TABLE kept AS SELECT 42 AS n")
        assert ask(url, "SHOW fsync") == "on"
        assert ask(url, "SHOW synchronous_commit") == "on"
        assert ask(url, "SHOW data_checksums") == "on"
        assert ask(url, "SHOW listen_addresses") == ""
        assert ask(url, "SHOW timezone") == "UTC"
        assert ask(url, "SELECT current_user") == "danbao"
        locale = "SELECT concat(datlocprovider, datlocale, pg_encoding_to_char(encoding)) FROM pg_database"
        assert ask(url, f"{locale} WHERE datname = 'danbao'") == "bC.UTF-8UTF8"
    second: list[Both] = []
    with running(yard / "home", second.append) as url:
        assert ask(url, "SELECT n FROM kept") == 42
    said = [one for one in first if not one.en.startswith("Waiting for")]  # which a slow machine says besides
    assert len(said) == 1
    assert (said[0].en.split()[0], said[0].zh[:2]) == ("Making", "正在")
    assert second == []


def test_an_existing_database_is_up_in_half_a_second(home: Path) -> None:
    waits = []
    for _ in range(3):
        began = time.monotonic()
        with running(home, print, SMALL):
            waits.append(time.monotonic() - began)
    assert min(waits) < 0.5


def test_no_process_and_no_socket_is_left_when_the_last_command_has_ended(home: Path) -> None:
    with running(home, print, SMALL):
        pids = family(home)
        assert len(pids) > 3
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not list((home / "pg/run").iterdir())


def test_an_error_in_the_command_passes_through_and_the_server_stops(home: Path) -> None:
    pids: set[int] = set()
    with pytest.raises(OSError, match="my own"), running(home, print, SMALL):  # noqa: PT012
        pids = family(home)
        raise OSError("my own")
    assert not living(pids)


# ---- sharing


def test_two_commands_share_one_server_and_the_last_one_out_stops_it(home: Path) -> None:
    starter = Command(home)
    url = starter.url
    with running(home, print, SMALL) as mine:
        assert mine == url
        pids = family(home)
        assert starter.leave() == 0
        assert living(pids)
        assert ask(mine) == 1
    assert not living(pids)


def test_commands_that_start_at_once_on_a_new_home_get_one_server(yard: Path) -> None:
    commands = [Command(yard / "home") for _ in range(3)]
    assert len({command.url for command in commands}) == 1
    pids = family(yard / "home")
    assert [command.leave() for command in commands] == [0, 0, 0]
    assert not living(pids)


def test_nobody_is_given_a_server_that_is_about_to_stop(home: Path) -> None:
    answers: list[object] = []

    def come_and_go() -> None:
        for _ in range(4):
            with running(home, print, SMALL) as url:
                answers.append(ask(url))

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 12


def test_interrupting_a_command_at_the_terminal_leaves_the_server_to_the_others(home: Path) -> None:
    starter = Command(home)
    assert starter.url
    with running(home, print, SMALL) as url, psycopg.connect(url.replace("+psycopg", "")) as connection:
        os.killpg(starter.process.pid, signal.SIGINT)
        starter.process.communicate(timeout=30)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_no_lock_of_a_command_leaks_into_the_server(home: Path) -> None:
    with running(home, print, SMALL):
        inherited = {Path(os.readlink(link)).name for link in Path(f"/proc/{postmaster(home)}/fd").iterdir()}
    assert "server.lock" in inherited
    assert not inherited & {"users.lock", "gate.lock"}


# ---- kill −9


def test_a_killed_starter_leaves_the_server_to_the_next_command_which_stops_it(home: Path) -> None:
    starter = Command(home)
    assert starter.url
    starter.kill()
    pids = family(home)
    assert living(pids)
    with running(home, print, SMALL) as url:
        assert family(home) & pids
        assert ask(url) == 1
    assert not living(pids)


def test_a_killed_server_recovers_and_has_all_that_was_committed(home: Path) -> None:
    with running(home, print, SMALL) as url:
        do(url, "CREATE TABLE killed AS SELECT 42 AS n")
        os.kill(postmaster(home), signal.SIGKILL)
    with running(home, print, SMALL) as url:
        assert ask(url, "SELECT n FROM killed") == 42


def test_a_server_and_its_starter_killed_together_recover_too(home: Path) -> None:
    starter = Command(home)
    do(starter.url, "CREATE TABLE kept AS SELECT 42 AS n")
    starter.kill()
    os.kill(postmaster(home), signal.SIGKILL)
    with running(home, print, SMALL) as url:
        assert ask(url, "SELECT n FROM kept") == 42


def test_a_server_that_dies_under_one_command_is_started_again_by_the_next(home: Path) -> None:
    with running(home, print, SMALL):
        os.kill(postmaster(home), signal.SIGKILL)
        with running(home, print, SMALL) as url:
            assert ask(url) == 1
        pids = family(home)
        assert living(pids)  # for the first one is still there
    assert not living(pids)


def test_a_killed_initdb_leaves_the_next_command_working(yard: Path) -> None:
    first = Command(yard / "home")
    while not list(yard.glob("home/pg/new-*")):
        time.sleep(0.005)
    time.sleep(0.1)
    first.kill()
    with running(yard / "home", print, SMALL) as url:
        assert ask(url) == 1
    assert not list(yard.glob("home/pg/new-*"))


def test_a_server_that_takes_long_is_waited_for_and_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "NOTICE_EVERY_S", 0.1)
    said: list[Both] = []
    busy = locks.open_lock(home / "pg/server.lock")  # as a server in recovery holds it
    assert locks.try_lock(busy)
    threading.Timer(0.5, os.close, [busy]).start()
    with running(home, said.append, SMALL) as url:
        assert ask(url) == 1
    assert len(said) >= 2
    assert all("PostgreSQL" in line.en and line.en.endswith(" s") for line in said)
    assert all("PostgreSQL" in line.zh and line.zh.endswith(" 秒") for line in said)


def test_a_pid_file_whose_number_is_a_stranger_by_now_does_not_stop_the_next_start(home: Path) -> None:
    runner = (home / "pg/data").stat().st_uid
    stranger = subprocess.Popen(["sleep", "60"], user=runner)
    try:
        number = f"{stranger.pid}\n{home}/pg/data\n1\n5432\n{home}/pg/run\n\n  1 1\nready   \n"
        (home / "pg/data/postmaster.pid").write_text(number)
        (home / "pg/run/.s.PGSQL.5432.lock").write_text(number)
        with running(home, print, SMALL) as url:
            assert ask(url) == 1
    finally:
        stranger.kill()
        stranger.wait()


# ---- places


@pytest.mark.parametrize(
    "name",
    ["with some spaces", "单保 'a' \"b\" $HOME `c` %d \\ #e?f&g=h", "one,two", "deep/" + "x" * 120],
    ids=["spaces", "odd characters", "a comma", "too long for a socket"],
)
def test_any_path_will_do(made: Path, yard: Path, name: str) -> None:
    with moved(made, yard / name) as home, running(home, print, SMALL) as url:
        host = Path(str(sqlalchemy.make_url(url).query["host"]))
        assert ask(url, "SHOW data_directory") == str(home / "pg/data")
        assert stat.S_IMODE(host.stat().st_mode) == 0o700
    assert host == home / "pg/run" or not host.exists()


def test_a_socket_directory_that_someone_else_prepared_is_refused(yard: Path) -> None:
    host = server_home.lay_out(yard / "a,b").sockets
    host.symlink_to(yard)
    try:
        assert str(host) in refused(yard / "a,b").what.en
    finally:
        host.unlink()


def test_a_socket_that_a_cleaner_removed_is_an_error_and_not_an_endless_wait(home: Path) -> None:
    with running(home, print, SMALL):
        (home / "pg/run/.s.PGSQL.5432").unlink()
        assert "socket" in refused(home).what.en


def test_a_home_by_another_name_is_the_same_home(home: Path) -> None:
    (home.parent / "link").symlink_to(home)
    with running(home, print, SMALL) as one, running(home.parent / "link", print, SMALL) as other:
        assert one == other


def test_two_homes_stand_side_by_side(home: Path, yard: Path) -> None:
    with running(home, print, SMALL) as one, running(yard / "other", print, SMALL) as other:
        do(one, "CREATE TABLE only_here (n int)")
        assert ask(one, "SELECT to_regclass('only_here') IS NOT NULL") is True
        assert ask(other, "SELECT to_regclass('only_here') IS NOT NULL") is False


def test_no_mode_or_owner_changes_outside_the_home(made: Path, yard: Path) -> None:
    with moved(made, yard / "above/home") as home:
        (yard / "above").chmod(0o2751)
        before = [(path, path.stat().st_mode, path.stat().st_uid) for path in home.parents]
        with running(home, print, SMALL):
            pass
        assert before == [(path, path.stat().st_mode, path.stat().st_uid) for path in home.parents]


def test_a_strict_umask_does_not_lock_the_server_out(home: Path, yard: Path) -> None:
    before = os.umask(0o077)
    try:
        server_home.lay_out(yard / "new/one")  # refuses what the server's user cannot reach
        for file in (home / "pg").glob("*.conf"):
            file.unlink()
        with running(home, print, SMALL) as url:
            assert ask(url) == 1
    finally:
        os.umask(before)


def test_a_log_that_grew_long_is_set_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOG_BYTES_MAX", 1000)
    for _ in range(3):
        with running(home, print, SMALL):
            assert (home / "pg/server.log").stat().st_size <= 1000
    assert {file.name for file in (home / "pg").glob("server.log*")} == {"server.log", "server.log.1"}
    assert stat.S_IMODE((home / "pg/server.log.1").stat().st_mode) == 0o600


# ---- root, and ordinary users


@as_root
def test_root_runs_the_server_as_nobody_who_owns_the_data_alone(home: Path) -> None:
    with running(home, print, SMALL):
        assert Path(f"/proc/{postmaster(home)}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    owned = {path.name: path.owner() for path in (home / "pg").iterdir()}
    assert {name for name, owner in owned.items() if owner == "nobody"} == {"data", "run"}


@as_root
def test_an_empty_home_that_only_root_may_enter_is_opened_just_enough(yard: Path) -> None:
    (yard / "home").mkdir(mode=0o700)
    server_home.lay_out(yard / "home")
    assert stat.S_IMODE((yard / "home").stat().st_mode) == 0o701


@as_root
def test_a_home_with_things_of_others_is_not_opened(yard: Path) -> None:
    (yard / "home").mkdir(mode=0o700)
    (yard / "home/letters").touch()
    assert str(yard / "home") + "." in refused(yard / "home").what.en
    assert stat.S_IMODE((yard / "home").stat().st_mode) == 0o700


@as_root
def test_binaries_that_the_server_cannot_reach_are_copied_once(home: Path, programs: Path) -> None:
    closed = programs.parent
    closed.chmod(0o700)
    said: list[Both] = []
    for _ in range(2):
        with running(home, said.append, SMALL) as url:
            assert str(home) in os.readlink(f"/proc/{postmaster(home)}/exe")
            do(url, "CREATE EXTENSION IF NOT EXISTS btree_gist")
    assert [line.en.split()[0] for line in said] == ["Copying"]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    closed.chmod(0o755)


@as_root
def test_a_home_behind_a_closed_door_is_refused_with_the_door_and_a_better_place(yard: Path) -> None:
    (yard / "closed").mkdir(mode=0o700)
    error = refused(yard / "closed/home")
    assert str(yard / "closed") + "." in error.what.en
    assert "DANBAO_HOME" in error.fix.en
    assert stat.S_IMODE((yard / "closed").stat().st_mode) == 0o700
    assert not (yard / "closed/home").exists()


@as_root
def test_an_ordinary_user_has_a_server_of_his_own(yard: Path, programs: Path) -> None:
    yard.chmod(0o777)

    def visit() -> object:
        with running(yard / "his", print, SMALL) as url:
            assert Path(f"/proc/{postmaster(yard / 'his')}").stat().st_uid == os.geteuid()
            return ask(url, "SELECT current_user")

    assert as_nobody(visit) == "danbao"
    assert as_nobody(visit) == "danbao"
    assert stat.S_IMODE((yard / "his/pg").stat().st_mode) == 0o700
    (yard / "his").chmod(0o700)
    assert "belongs to the user nobody" in refused(yard / "his").what.en
    assert stat.S_IMODE((yard / "his").stat().st_mode) == 0o700


@as_root
def test_a_home_of_root_is_refused_to_an_ordinary_user(home: Path, programs: Path) -> None:
    told = as_nobody(lambda: running(home, print, SMALL).__enter__())
    assert "belongs to the user root, and this is nobody" in told
    assert "DANBAO_HOME" in told


@as_root
def test_the_server_lets_in_nobody_but_the_owner_of_the_home(home: Path) -> None:
    with running(home, print, SMALL) as url:
        told = as_nobody(lambda: psycopg.connect(url.replace("+psycopg", "")))
        assert "authentication failed" in told


@as_root
def test_a_user_without_a_name_is_told_so(yard: Path) -> None:
    told = told_as(54321, 54321, lambda: running(yard / "home", print, SMALL).__enter__())
    assert "54321 has no name" in told


@as_root
def test_a_place_where_the_user_may_not_write_is_named(yard: Path) -> None:
    told = as_nobody(lambda: running(yard / "home", print, SMALL).__enter__())
    assert f"cannot use {yard / 'home'}: Permission denied" in told
    assert "DANBAO_HOME" in told


# ---- what goes wrong


def test_data_of_another_major_version_is_refused(home: Path) -> None:
    (home / "pg/data/PG_VERSION").write_text("17\n")
    error = refused(home)
    (home / "pg/data/PG_VERSION").write_text("18\n")
    assert "PostgreSQL 17" in error.what.en
    assert "PostgreSQL 18" in error.what.en


def test_a_server_that_will_not_start_is_quoted_and_leaves_nothing_behind(home: Path) -> None:
    with pytest.raises(DanbaoError) as caught, running(home, print, {"work_mem": "plenty"}):
        pass
    assert 'invalid value for parameter "work_mem"' in caught.value.what.en
    with running(home, print, SMALL) as url:
        assert ask(url) == 1


def test_a_disk_that_takes_no_more_is_an_error_and_leaves_nothing_in_place(yard: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        error = refused(yard / "home")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "The database could not be made" in error.what.en
    assert not (yard / "home/pg/data").exists()


def test_a_full_disk_is_called_so(home: Path) -> None:
    place = server_home.lay_out(home)
    said = b"FATAL:  could not write lock file: No space left on device"
    assert "Free some space" in server_home.failure(place, Both("It did not start.", "未能启动。"), said).fix.en
    with pytest.raises(DanbaoError, match="Free some space"), server._explained(home):
        raise OSError(errno.ENOSPC, "No space left on device", "there")


# ---- the fixtures that other tests stand on


def test_each_test_gets_an_empty_database_of_its_own(database_url: str, server_url: str) -> None:
    assert sqlalchemy.make_url(database_url).database != sqlalchemy.make_url(server_url).database
    assert ask(database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
