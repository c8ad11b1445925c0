"""danbao windows: was this worker executing an order at that instant? With the evidence, and what weakens it."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.calendar import SCHEME_BEGAN, day_begins_us, from_us
from ledger.cli import common
from ledger.cli.common import say
from ledger.cli.windowview import plain, plain_seen, show
from ledger.errors import BadQuestion
from schemas.both import Both
from schemas.orders import EVENT_MINUTES_AHEAD_MAX, TEXT_CHARS_MAX

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["asked", "show", "windows"]

EXIT_CODES = {"covered": 0, "not_covered": 1, "doubtful": 3}


@common.command("显示覆盖某一时刻的订单时段。\n\n退出码：0 在订单时段内，1 不在订单时段内，2 参数有误，3 存疑。")
def windows(
    platform: Annotated[
        str, typer.Option(help=say("Platform: id, alias, name or code.", "平台：标识、别名、名称或代码。"))
    ],
    worker: Annotated[str, typer.Option(help=say("The platform's number of the worker.", "平台的人员编号。"))],
    at: Annotated[
        str,
        typer.Option(
            help=say("The instant, with its offset.", "时刻（含时区偏移）。"), metavar="2026-10-03T12:10+08:00"
        ),
    ],
    as_json: common.AsJson = False,
) -> None:
    """Show the order windows that cover an instant. Exit codes: 0 covered, 1 not, 2 bad question, 3 doubtful.

    Example: danbao windows --platform example-delivery --worker 1024 --at 2026-10-03T12:10+08:00
    """
    from ledger.store import connect

    instant = parse_accident(at)
    refuse_strange_worker(worker)
    with common.database(connect.AUDIT) as engine:
        answer = asked(engine, platform, worker, instant)
    if as_json:
        common.print_json(answer)
    else:
        show(answer)
    if code := EXIT_CODES[answer["verdict"]]:
        raise typer.Exit(code)


def parse_accident(text: str) -> datetime:
    """An instant at which something can have happened: within the scheme, and not ahead of the clock."""
    at = common.parse_instant(text)
    began = from_us(day_begins_us(SCHEME_BEGAN))
    try:
        too_early, too_late = at < began, at > common.now() + timedelta(minutes=EVENT_MINUTES_AHEAD_MAX)
    except OverflowError:
        too_early, too_late = at.year < SCHEME_BEGAN.year, at.year > SCHEME_BEGAN.year
    if too_early:
        raise BadQuestion(
            Both(f"{text} is before the scheme began on {SCHEME_BEGAN}.", f"{text} 早于制度施行日 {SCHEME_BEGAN}。"),
            Both("No order was insured then; check the year.", "当时尚无订单参保，请核对年份。"),
        )
    if too_late:
        raise BadQuestion(
            Both(f"{text} has not come yet.", f"{text} 尚未到来。"),
            Both("Give the instant of the injury; check date and offset.", "请给出伤害发生的时刻，并核对日期和时区。"),
        )
    return at


def refuse_strange_worker(worker: str) -> None:
    """A worker number as the order stream can hold it."""
    if not (1 <= len(worker) <= TEXT_CHARS_MAX and worker.isprintable()):
        raise BadQuestion(
            Both("That is no worker number.", "人员编号无效。"),
            Both(f"It has 1 to {TEXT_CHARS_MAX} printable characters.", f"应为 1 至 {TEXT_CHARS_MAX} 个可见字符。"),
        )


def asked(engine: "Engine", platform: str, worker: str, at: datetime) -> dict[str, Any]:
    """The answer as one object; `seen` only where no window is near."""
    from ledger import rulebook
    from ledger.store import registry
    from ledger.store import windows as store

    rules = rulebook.load()
    with engine.connect() as connection:
        row = registry.find(connection, platform)
        cover = store.windows_at(connection, rules, row.platform_no, worker, at)
        found = cover.windows or cover.near
        seen = None if found else store.worker_seen(connection, row.platform_no, worker, at)
    return {
        "platform": row.platform_id,
        "worker": worker,
        **plain(cover),
        "seen": seen and plain_seen(seen),
        "rulebook": rules.hash.hex(),
    }
