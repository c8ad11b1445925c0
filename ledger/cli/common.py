"""What every command shares: language, one JSON object on stdout, errors that say what to do, the database.

In: the environment (`LANG`, `DANBAO_LANG`, `DANBAO_HOME`, `DANBAO_DATABASE_URL`, `DANBAO_KAFKA_BOOTSTRAP`) —
this package and `consumers/` are the only places that may read it, or the clock. Out: exit codes: 0 yes or done,
1 no or failed, 2 the question was bad, 3 doubtful.
"""

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import wraps
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import orjson
import platformdirs
import typer
from rich.console import Console
from rich.text import Text

from ledger.calendar import SHANGHAI, local_day
from ledger.errors import BadQuestion, DanbaoError
from schemas.both import Both

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from consumers.kafka.settings import Access

P = ParamSpec("P")
R = TypeVar("R")

YES = ("y", "yes", "是")
PIPE_COLUMNS = 160  # into a pipe or a file, tables are not cut to a terminal's width


class Out(Console):
    """Stdout. Where the reader has had enough, as `head` has, the rest goes nowhere and the exit code stays ours."""

    def on_broken_pipe(self) -> None:
        """What rich does when nobody reads on."""
        close_stdout()


err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PIPE_COLUMNS)
out = Out(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
_signals: list[int] = []  # that ask this process to end
_REFUSALS = {
    errno.ENOENT: "不存在",
    errno.ENOTDIR: "其中有一段不是目录",
    errno.EISDIR: "是目录",
    errno.EACCES: "没有权限",
    errno.EPERM: "没有权限",
    errno.EROFS: "是只读的",
}


class Stopped(DanbaoError):
    """A signal ended the command on its way."""

    def __init__(self, number: int) -> None:
        super().__init__(
            Both("Stopped.", "已停止。"),
            Both("What is committed stays; run it again to go on.", "已提交的保留不变；重新执行即可继续。"),
        )
        self.exit_code = 128 + number


def chinese() -> bool:
    """Whether to speak Chinese: `DANBAO_LANG` decides, else the locale variables as POSIX orders them."""
    for name in ("DANBAO_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return value.lower().startswith("zh")
    return False


def say(english: str, mandarin: str) -> str:
    """The sentence in the reader's language; both stand side by side in the code."""
    return mandarin if chinese() else english


AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help=say("One JSON object on stdout, messages on stderr.", "输出一个 JSON 对象，提示写到标准错误。"),
    ),
]


Since = Annotated[
    str | None,
    typer.Option(help=say("Only what was recorded since this day.", "仅自该日起入账的。"), metavar="2026-11-01"),
]


def home() -> Path:
    """The state directory: `DANBAO_HOME`, else per user; as root where the server's own user can go."""
    if named := os.environ.get("DANBAO_HOME"):
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/danbao")
    return Path(platformdirs.user_data_dir("danbao", appauthor=False))


def where() -> str:
    """Where the ledger is, for a person: its directory, or that it is the named database."""
    if os.environ.get("DANBAO_DATABASE_URL"):
        return say("the database at DANBAO_DATABASE_URL", "DANBAO_DATABASE_URL 所指的数据库")
    return str(home())


def now() -> datetime:
    """The clock, in UTC."""
    return datetime.now(UTC)


def today() -> date:
    """The day in Asia/Shanghai."""
    return local_day(now())


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE, default=str).decode()
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        close_stdout()


def close_stdout() -> None:
    """Let what is still written to stdout go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def stop(number: int, _: object) -> None:
    """What a signal does: the command ends, a batch rolled back, the server stopped."""
    _signals.append(number)
    logging.disable()  # a query that is cut off is no news, and libraries would log where it stood
    if number == signal.SIGINT:
        raise KeyboardInterrupt  # which the database driver knows
    sys.exit(128 + number)


def tell(error: DanbaoError, as_json: bool = False) -> None:
    """Say what was wrong and what to do on stderr (with --json also as an object on stdout)."""
    what, fix = say(*error.what), say(*error.fix)
    if as_json:
        print_json({"error": what, "fix": fix})
    err.print(Text(say("error: ", "错误："), style="bold red") + Text(what, style="not bold default"))
    err.print(Text(say("what to do: ", "怎么办："), style="bold") + Text(fix, style="not bold"))


def command(mandarin: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Turn an error with a fix into its message and exit code. `mandarin` is what --help says in Chinese.

    The function's docstring is what it says in English; the last paragraph, the example, serves both.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                known = told_as(error)
                if known is None:
                    raise
                tell(known, bool(kwargs.get("as_json")))
                raise typer.Exit(known.exit_code) from None

        english, _, example = cleandoc(function.__doc__ or "").rpartition("\n\nExample: ")
        wrapped.__doc__ = say(f"{english}\n\nExample: {example}", f"{mandarin}\n\n示例：{example}")
        return wrapped

    return decorate


def notice(message: Both) -> None:
    """A line for a person who waits, on stderr."""
    err.print(say(*message), markup=False, style="dim")


def told_as(error: BaseException) -> DanbaoError | None:
    """What an exception is told as; None where it is an error of ours, to be seen whole.

    A library may turn a signal into an error of its own, so the signal is asked first.
    """
    if _signals and not isinstance(error, typer.Exit):
        return Stopped(_signals[0])
    if isinstance(error, OSError) and error.filename is not None:
        return _unreachable(error)
    return error if isinstance(error, DanbaoError) else None


def _unreachable(error: OSError) -> DanbaoError:
    """A file that cannot be read or written: a bad question where its name is at fault."""
    path = os.fsdecode(error.filename)
    kind = BadQuestion if error.errno in _REFUSALS else DanbaoError
    return kind(
        Both(f"{path}: {error.strerror}", f"{path}：{_REFUSALS.get(error.errno or 0, error.strerror)}"),
        Both("Check the path, and who may read and write there.", "请检查路径以及读写权限。"),
    )


@contextmanager
def database(role: str, on_notice: Callable[[Both], None] = notice) -> Iterator["Engine"]:
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
        with running(home(), on_notice) as url, connect.ledger(url, role) as engine:
            yield engine


def has_ledger() -> bool:
    """Whether there is a ledger to ask, without making one."""
    from ledger.store.server_home import has_data

    return bool(os.environ.get("DANBAO_DATABASE_URL")) or has_data(home())


def kafka_home() -> Path:
    """Where the Kafka of this home lives, if it has one."""
    return home() / "kafka"


def known_kafka(on_notice: Callable[[Both], None] = notice) -> str | None:
    """The Kafka to speak to: `DANBAO_KAFKA_BOOTSTRAP`, else the one of this home while it runs; None: there is none."""
    from consumers.kafka import broker

    return os.environ.get("DANBAO_KAFKA_BOOTSTRAP", "").strip() or broker.address(kafka_home(), on_notice)


def kafka_bootstrap(on_notice: Callable[[Both], None] = notice) -> str:
    """That Kafka, where there must be one."""
    if known := known_kafka(on_notice):
        return known
    raise DanbaoError(
        Both(
            f"No Kafka runs in {kafka_home()}, and DANBAO_KAFKA_BOOTSTRAP names no other.",
            f"{kafka_home()} 中没有正在运行的 Kafka，DANBAO_KAFKA_BOOTSTRAP 也未指定其他集群。",
        ),
        Both(
            "Start one: danbao kafka up. Or name yours: export DANBAO_KAFKA_BOOTSTRAP=host:9092",
            "启动一个：danbao kafka up；或指定已有的：export DANBAO_KAFKA_BOOTSTRAP=host:9092",
        ),
    )


def kafka_access(on_notice: Callable[[Both], None] = notice) -> "Access":
    """That Kafka, and who we are there: `DANBAO_KAFKA_CA`, `DANBAO_KAFKA_USER`, `DANBAO_KAFKA_PASSWORD_FILE`."""
    from consumers.kafka import settings

    return settings.access(kafka_bootstrap(on_notice))


def read_file(path: Path, how_to: Both) -> bytes:
    """The bytes of a file that somebody named."""
    try:
        return path.read_bytes()
    except OSError as error:
        what = Both(f"{path} cannot be read: {error.strerror}.", f"无法读取 {path}：{error.strerror}。")
        raise BadQuestion(what, how_to) from None


def confirmed() -> bool:
    """Whether the reader says yes; an answer that is no yes, or none, is a no."""
    if not sys.stdin.isatty():
        notice(Both("Nothing was changed: give --yes.", "未作更改：请加 --yes。"))
        return False
    err.print(say("Make it so? [y/N] ", "是否应用？[y/N] "), end="", markup=False)
    return sys.stdin.readline().strip().lower() in YES


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, where that is a terminal, for `total` units of work; yields how to advance it."""
    from rich.progress import Progress

    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=total or None)
        yield lambda done: bar.advance(task, done)


def money(yuan: str) -> str:
    """An amount in yuan for a person, its thousands apart."""
    return f"{Decimal(yuan):,f}"


def count(number: int, english: str, mandarin: str) -> str:
    """So many of a thing: 1 order, 2,000 orders; in Chinese with the measure word, 2,000 单."""
    return say(f"{number:,} {english}{'' if number == 1 else 's'}", f"{number:,} {mandarin}")


def parse_day(text: str) -> date:
    """2026-10-15 → date."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadQuestion(
            Both(f"{text!r} is not a date.", f"{text!r} 不是日期。"),
            Both("Write it like 2026-10-15.", "请写成 2026-10-15。"),
        ) from None


def parse_since(text: str | None) -> datetime | None:
    """The beginning of a day in Asia/Shanghai, from --since; None where it is not given."""
    if text is None:
        return None
    return datetime.combine(parse_day(text), time(), SHANGHAI)


def parse_month(text: str) -> date:
    """2026-10 → date of its first day."""
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007  a month has no zone
    except ValueError:
        raise BadQuestion(
            Both(f"{text!r} is not a month.", f"{text!r} 不是月份。"),
            Both("Write it like 2026-10.", "请写成 2026-10。"),
        ) from None


def parse_instant(text: str) -> datetime:
    """2026-10-03T12:10+08:00 → aware datetime; the offset is required."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadQuestion(
            Both(f"{text!r} is not an instant with an offset.", f"{text!r} 不是带时区偏移的时刻。"),
            Both("Write it like 2026-10-03T12:10+08:00.", "请写成 2026-10-03T12:10+08:00。"),
        )
    return moment


def parse_province(text: str) -> str:
    """A province code (31), its Chinese name (上海市 or 上海) or its English name → the code."""
    from schemas.codes import PROVINCES, short_name

    for code, area in PROVINCES.items():
        if text in (code, area.name, short_name(area)) or text.lower() == area.name_en.lower():
            return code
    english = ", ".join(f"{code} {area.name_en}" for code, area in PROVINCES.items())
    mandarin = "、".join(f"{code} {area.name}" for code, area in PROVINCES.items())
    raise BadQuestion(
        Both(f"{text!r} is not a province.", f"{text!r} 不是省级行政区。"),
        Both(f"Known provinces: {english}", f"可用的省份：{mandarin}"),
    )
