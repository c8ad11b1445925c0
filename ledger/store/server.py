"""The embedded PostgreSQL: started by the first command that needs it, shared, stopped by the last one.

In: the state directory, and where to say that something takes long. Out: a SQLAlchemy URL of a server
that is up. What lies in the directory, and as whom the server runs: `server_home.py`.

Commands share one server by three lock files in `<home>/pg`. The kernel drops a lock with the process
that held it, so that no kill −9 leaves one behind:

    gate.lock    exclusive, while a command joins or leaves: a start and a stop never overlap
    users.lock   shared, by each command that uses the server; on leaving, who is alone stops the server
    server.lock  exclusive, inherited by the processes of the server and by nobody else: while it is
                 held something of the server is alive, be it starting, recovering or leaving

users.lock changes only behind the gate: making a shared lock exclusive is not atomic, and a newcomer
in that gap would be given a server that is about to stop. The gate and users locks never reach the
server (descriptors are closed on exec), or they would be held as long as it runs.
"""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from psycopg import pq
from psycopg.conninfo import make_conninfo

from ledger.errors import DanbaoError
from ledger.store import server_home
from ledger.store.locks import one_at_a_time, open_lock, patiently, try_lock
from ledger.store.server_home import Notice, Place
from schemas.both import Both

LOG_BYTES_MAX = 8 << 20
NOTHING: Mapping[str, str] = MappingProxyType({})

# What a command may have to wait for
ANOTHER_COMMAND = Both(
    "Waiting for another command that starts or stops the server", "正在等待另一条命令启动或停止数据库服务"
)
RECOVERY = Both(
    "Waiting for PostgreSQL (after a crash it recovers first, which can take minutes)",
    "正在等待 PostgreSQL（异常退出后须先恢复，可能需要几分钟）",
)
STOP = Both("Waiting for PostgreSQL to write everything down and stop", "正在等待 PostgreSQL 写盘并停止")


@contextmanager
def running(home: Path, notice: Notice, settings: Mapping[str, str] = NOTHING) -> Iterator[str]:
    """Yield a SQLAlchemy URL of a server that is up; it stops on leaving when this was its last user.

    `settings` are added to the configuration when this call is the one that starts the server.
    """
    process: subprocess.Popen[bytes] | None = None
    with _explained(home):
        place = server_home.lay_out(home)
        users = open_lock(place.pg / "users.lock")
    try:
        with _explained(home), _gate(place, notice):
            fcntl.flock(users, fcntl.LOCK_SH)
            process = _bring_up(place, notice, settings)
            _shorten_log(place)
        yield place.url
    finally:
        try:
            with _explained(home), _gate(place, notice):
                _leave(place, notice, users, process)
        finally:
            os.close(users)


def _leave(place: Place, notice: Notice, users: int, process: subprocess.Popen[bytes] | None) -> None:
    """Be no user any more, and stop the server when there is no other one."""
    if try_lock(users):
        _stop(place, notice)
        if process is not None:
            process.wait()  # it has ended already; this leaves no zombie
    fcntl.flock(users, fcntl.LOCK_UN)  # closing is not enough while a forked child has the file open


# ---- the locks


@contextmanager
def _gate(place: Place, notice: Notice) -> Iterator[None]:
    """One command at a time joins or leaves."""
    with one_at_a_time(place.pg / "gate.lock", notice, ANOTHER_COMMAND):
        yield


@contextmanager
def _nothing_alive(place: Place) -> Iterator[int | None]:
    """The server's lock when no process of it is alive, else None; a server started within inherits it."""
    lock = open_lock(place.pg / "server.lock")
    try:
        yield lock if try_lock(lock) else None
    finally:
        os.close(lock)


# ---- start and stop, both behind the gate


def _bring_up(place: Place, notice: Notice, settings: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
    """Adopt the server that is up or coming up, else start one; wait as long as anything of it is alive."""
    process: subprocess.Popen[bytes] | None = None
    for _ in patiently(notice, RECOVERY):
        if _is_up(place):
            break
        with _nothing_alive(place) as lock:
            if lock is None:
                continue
            if process is not None:
                process.wait()
                what = Both("PostgreSQL did not start.", "PostgreSQL 未能启动。")
                raise server_home.failure(place, what, place.log.read_bytes())
            process = _start(place, lock, notice, settings)
    return process


def _start(place: Place, lock: int, notice: Notice, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the server on its data directory, which is made when it is missing; the server keeps the lock."""
    _clear_leftovers(place)
    command = server_home.ready_to_start(place, lock, notice, settings)
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(command, stdout=log, stderr=log, pass_fds=[lock], **place.as_runner)
    finally:
        os.close(log)


def _stop(place: Place, notice: Notice) -> None:
    """Ask for a fast shutdown (the signal of pg_ctl), and wait until no process of the server is left."""
    asked = False
    for _ in patiently(notice, STOP):
        with _nothing_alive(place) as lock:
            if lock is not None:
                break
        asked = asked or _ask_to_stop(place)
    if not place.sockets.is_relative_to(place.pg):
        with suppress(OSError):  # not empty after a crash: the next start clears it, the next stop removes it
            place.sockets.rmdir()


def _ask_to_stop(place: Place) -> bool:
    """Signal the server that postmaster.pid names; False while one that starts has not written it yet."""
    pid = _pid_in(place.data / "postmaster.pid")
    if pid is None or not _is_postgres(pid):
        return False
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return False
    return True


def _is_up(place: Place) -> bool:
    """Whether the server takes connections: its own word first, for a refused knock is a line in the log."""
    try:
        lines = (place.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    if len(lines) < 8 or lines[7].strip() != "ready":
        return False
    if not place.socket.exists() and _is_postgres(int(lines[0])):
        raise DanbaoError(
            Both(
                f"PostgreSQL runs, but somebody removed its socket {place.socket}.",
                f"PostgreSQL 正在运行，但其套接字 {place.socket} 已被删除。",
            ),
            Both(
                "Let the other danbao commands on this home end; the next one makes it anew.",
                "请待使用此目录的其他 danbao 命令结束，下一条命令会重新建立。",
            ),
        )
    address = make_conninfo(host=str(place.sockets), port=server_home.PORT, user="danbao", dbname="danbao")
    return pq.PGconn.ping(os.fsencode(f"{address} connect_timeout=3")) == pq.Ping.OK


# ---- what is left of earlier runs


def _clear_leftovers(place: Place) -> None:
    """Remove what a killed initdb left, and pid files whose number is a stranger's by now.

    After a restart of the machine or container the old number may be taken by another process of the
    same user; PostgreSQL would believe that its predecessor lives and refuse for ever.
    """
    for unfinished in place.pg.glob(f"{server_home.UNFINISHED}*"):
        shutil.rmtree(unfinished)
    for file in (place.data / "postmaster.pid", Path(f"{place.socket}.lock")):
        pid = _pid_in(file)
        if pid is not None and Path(f"/proc/{pid}").exists() and not _is_postgres(pid):
            file.unlink()


def _pid_in(file: Path) -> int | None:
    try:
        return int(file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _is_postgres(pid: int) -> bool:
    """Whether a PostgreSQL runs by this number, and not a zombie, which its parent may keep for long.

    Where the system does not tell (no /proc) it is taken for one.
    """
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return not Path("/proc/self").exists()
    return name == "postgres" and rest.split()[0] not in "ZX"


def _shorten_log(place: Place) -> None:
    """Set a long log aside, over the one set aside before; the server appends, so it may be running."""
    if place.log.exists() and place.log.stat().st_size > LOG_BYTES_MAX:
        shutil.copy(place.log, f"{place.log}.1")
        os.truncate(place.log, 0)


# ---- what to say when the system refuses


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Turn a refusal of the system (no space, no right, read-only) into what was wrong and what to do."""
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(home)
        fixes = {
            errno.ENOSPC: Both(f"Free some space on the disk that holds {home}.", f"请在 {home} 所在磁盘上腾出空间。"),
            errno.EDQUOT: Both(
                f"Free some of your quota on the disk that holds {home}.", f"请在 {home} 所在磁盘上腾出配额。"
            ),
        }
        writable = Both(
            "Set DANBAO_HOME to a directory where you may write.", "请将 DANBAO_HOME 设为您可以写入的目录。"
        )
        what = Both(
            f"The embedded server cannot use {where}: {error.strerror}.",
            f"内置数据库无法使用 {where}：{error.strerror}。",
        )
        raise DanbaoError(what, fixes.get(error.errno or 0, writable)) from error
