"""What every command shares: language, one JSON object on stdout, errors that say what to do, the database.

In: the environment (`LANG`, `DANBAO_LANG`, `DANBAO_HOME`, `DANBAO_DATABASE_URL`) — this package and
`consumers/` are the only places that may read it, or the clock. Out: exit codes: 0 yes or done,
1 no or failed, 2 the question was bad, 3 doubtful.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import orjson
import platformdirs
import typer
from rich.console import Console

from ledger.errors import BadQuestion, DanbaoError

if TYPE_CHECKING:
    from sqlalchemy import Engine


P = ParamSpec("P")
R = TypeVar("R")

AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, messages on stderr. 供程序读取的 JSON。")
]

PIPE_COLUMNS = 160  # into a pipe or a file, tables are not cut to a terminal's width

err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PIPE_COLUMNS)
out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def chinese() -> bool:
    """Whether to speak Chinese: `DANBAO_LANG` decides, else the locale variables as POSIX orders them."""
    for name in ("DANBAO_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return value.lower().startswith("zh")
    return False


def say(english: str, mandarin: str) -> str:
    """The sentence in the reader's language; both stand side by side in the code."""
    return mandarin if chinese() else english


def home() -> Path:
    """The state directory: `DANBAO_HOME`, else per user; as root where the server's own user can go."""
    if named := os.environ.get("DANBAO_HOME"):
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/danbao")
    return Path(platformdirs.user_data_dir("danbao", appauthor=False))


def now() -> datetime:
    """The clock, in UTC."""
    return datetime.now(UTC)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE, default=str).decode())


def fail(error: DanbaoError, as_json: bool = False) -> NoReturn:
    """Say what was wrong and what to do on stderr (with --json also as an object on stdout), and exit."""
    if as_json:
        print_json({"error": error.what, "fix": error.fix})
    err.print(f"[bold red]{say('error', '错误')}[/]: ", end="")
    err.print(error.what, markup=False)
    if error.fix:
        err.print(f"[bold]{say('what to do', '怎么办')}[/]: ", end="")
        err.print(error.fix, markup=False)
    raise typer.Exit(error.exit_code)


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn a DanbaoError into its message and exit code."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except DanbaoError as error:
            fail(error, bool(kwargs.get("as_json")))

    return wrapped


@contextmanager
def database(role: str) -> Iterator["Engine"]:
    """An engine on the ledger, every connection in the given database role, the schema up to date.

    Starts the embedded server when `DANBAO_DATABASE_URL` names no other, and stops it when this was
    its last user.
    """
    from ledger.store import connect
    from ledger.store.server import running

    if url := os.environ.get("DANBAO_DATABASE_URL"):
        with connect.ledger(url, role) as engine:
            yield engine
    else:
        with running(home(), notice) as url, connect.ledger(url, role) as engine:
            yield engine


def notice(message: str) -> None:
    """A line for a person who waits, on stderr."""
    err.print(message, markup=False, style="dim")


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, where that is a terminal, for `total` units of work; yields how to advance it."""
    from rich.progress import Progress

    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=total or None)
        yield lambda done: bar.advance(task, done)


def parse_day(text: str) -> date:
    """2026-10-15 → date."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadQuestion(
            say(f"{text!r} is not a date.", f"{text!r} 不是日期。"),
            say("Write it like 2026-10-15.", "请写成 2026-10-15。"),
        ) from None


def parse_month(text: str) -> date:
    """2026-10 → date of its first day."""
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007  a month has no zone
    except ValueError:
        raise BadQuestion(
            say(f"{text!r} is not a month.", f"{text!r} 不是月份。"),
            say("Write it like 2026-10.", "请写成 2026-10。"),
        ) from None


def parse_instant(text: str) -> datetime:
    """2026-10-03T12:10+08:00 → aware datetime; the offset is required."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadQuestion(
            say(f"{text!r} is not an instant with an offset.", f"{text!r} 不是带时区偏移的时刻。"),
            say("Write it like 2026-10-03T12:10+08:00.", "请写成 2026-10-03T12:10+08:00。"),
        )
    return moment


def parse_province(text: str) -> str:
    """A province code (31), its Chinese or its English name → the code."""
    from schemas.codes import PROVINCES

    for code, area in PROVINCES.items():
        if text in (code, area.name) or text.lower() == area.name_en.lower():
            return code
    known = ", ".join(f"{code} {say(area.name_en, area.name)}" for code, area in PROVINCES.items())
    raise BadQuestion(
        say(f"{text!r} is not a province.", f"{text!r} 不是省级行政区。"),
        say(f"Known provinces: {known}", f"可用的省份：{known}"),
    )
