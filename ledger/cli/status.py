"""danbao status: how the streams and the books stand, once or live.

In: the ledger, and Kafka where there is one. Out: exit code 0; 1 where the database or a Kafka that is named does not
answer, or a partition stands at a gap.
"""

import time
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.calendar import SHANGHAI, local_day
from ledger.cli import common, statusview
from ledger.cli.common import say
from ledger.errors import BadQuestion, DanbaoError
from ledger.money import HAO_PER_FEN, yuan
from schemas.both import Both

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Engine

    from consumers.kafka.ends import Held
    from consumers.kafka.settings import Access
    from ledger.store.progress import Sealed

RATE_S = 60  # the rate is that of the last minute
LOOK_S = 2.0

Found = dict[str, Any]
Place = tuple[str, int]
NOTHING_BOOKED: Found = {"head": 0, "booked_at": None, "events_per_second": 0.0, "goes_on_at": 0}


@common.command("显示各数据流的进度，以及账簿的现状：积压、新鲜度、今日拒收、结算与封存。没有 Kafka 时只看账簿。")
def status(
    watch: Annotated[
        bool, typer.Option("--watch", help=say("Live, until Ctrl-C.", "持续刷新，按 Ctrl-C 结束。"))
    ] = False,
    as_json: common.AsJson = False,
) -> None:
    """Show how far streams are booked and how the books stand: lag, freshness, rejections of today, sealed months.

    Without a Kafka it shows the books alone.

    Example: danbao status --watch
    """
    from ledger.store.connect import AUDIT

    if watch and as_json:
        raise BadQuestion(
            Both("--watch is for people and --json for machines.", "--watch 供人查看，--json 供程序读取。"),
            Both("Give one of them; a machine asks again when it wants to.", "请只用其一；程序可自行定时查询。"),
        )
    access = _access()
    try:
        with common.database(AUDIT) as engine:
            found = _live(engine, access) if watch else look(engine, access)
    except DanbaoError as error:
        if not as_json:
            raise
        found = _away(say(*error.what), access)
    if as_json:
        common.print_json(found)
    elif not watch:
        common.out.print(statusview.page(found))
    if not is_well(found):
        raise typer.Exit(1)


def is_well(found: Found) -> bool:
    """Whether all that was asked answers, and no partition stands at a gap."""
    answering = found["database"]["answers"] and (found["broker"] is None or found["broker"]["answers"])
    return bool(answering and not any(one["gap"] for one in found["partitions"]))


def _live(engine: "Engine", access: "Access | None") -> Found:
    """Look again and again; a database that goes away is shown as such, and waited for."""
    from rich.live import Live

    found = look(engine, access)
    try:
        with Live(
            statusview.page(found), console=common.out, auto_refresh=False, screen=common.out.is_terminal
        ) as live:
            while True:
                time.sleep(LOOK_S)
                found = look(engine, access)
                live.update(statusview.page(found), refresh=True)
    except KeyboardInterrupt:
        return found


def _access() -> "Access | None":
    """The Kafka that is named, or that of this home while it runs; None: there is none."""
    from consumers.kafka import settings

    bootstrap = common.known_kafka()
    return settings.access(bootstrap) if bootstrap else None


def look(engine: "Engine", access: "Access | None") -> Found:
    """How everything stands now."""
    from sqlalchemy.exc import DBAPIError

    now = common.now()
    try:
        with engine.connect() as connection:
            books, topics = _books(connection, now)
    except DBAPIError as error:
        return _away(str(error.orig).strip().splitlines()[0], access)
    held = _held(access, topics)
    books["partitions"] = partitions(books["partitions"], held or {})
    return {"at": now, "database": {"answers": True}, "broker": broker(access, held)} | books


def _away(why: str, access: "Access | None") -> Found:
    """What can be said while the database does not answer."""
    database = {"answers": False, "why": why}
    return {"at": common.now(), "database": database, "broker": broker(access, _held(access, [])), "partitions": []}


def _held(access: "Access | None", topics: list[str]) -> "dict[Place, Held] | None":
    from consumers.kafka import ends

    return ends.look(access, topics) if access else None


def broker(access: "Access | None", held: "Mapping[Place, Held] | None") -> Found | None:
    """Whether the Kafka answers, where there is one."""
    return {"bootstrap": access.bootstrap, "answers": held is not None} if access else None


def _books(connection: "Connection", now: datetime) -> tuple[Found, list[str]]:
    """What the books say, and which topics were consumed."""
    from ledger.store import progress
    from ledger.store.settle import unsettled_months

    today = local_day(now)
    midnight = datetime.combine(today, datetime.min.time(), SHANGHAI)
    heads = progress.stream_heads(connection, now - timedelta(seconds=RATE_S))
    sealed = progress.settlements(connection)
    return {
        "partitions": [
            {
                "topic": row.topic,
                "partition": row.partition,
                "head": row.next_offset,
                "booked_at": row.booked_at,
                "events_per_second": round(row.events / RATE_S, 1),
                "goes_on_at": row.goes_on_at,
            }
            for row in heads
        ],
        "freshness": [_fresh(row, today) for row in progress.freshness(connection)],
        "rejected_today": progress.rejected_recently(connection, midnight),
        "settlements": _last_ones(sealed),
        "sealed_months": _by_month(sealed),
        "months_to_settle": [
            f"{month:%Y-%m}" for month in unsettled_months(connection, today.replace(day=1) - timedelta(1))
        ],
    }, progress.streams(connection)


def _fresh(row: Any, today: date) -> Found:
    return {
        "platform": row.platform_id,
        "province": row.province,
        "newest_day": row.occurred_on,
        "days_behind": (today - row.occurred_on).days,
        "booked_at": row.booked_at,
    }


def _last_ones(sealed: "list[Sealed]") -> list[Found]:
    """The last settlement of each province; the newest of a province comes first."""
    last: dict[str, Found] = {}
    for row in sealed:
        declared = yuan(row.declared_fen * HAO_PER_FEN)
        one = {"month": f"{row.month:%Y-%m}", "declared": declared, "sealed_at": row.sealed_at}
        last.setdefault(row.province, {"province": row.province} | one)
    return list(last.values())


def _by_month(sealed: "list[Sealed]") -> dict[str, int]:
    """Month → in how many provinces it is sealed, the newest first."""
    months: dict[str, int] = {}
    for month in sorted((row.month for row in sealed), reverse=True):
        months[f"{month:%Y-%m}"] = months.get(f"{month:%Y-%m}", 0) + 1
    return months


def partitions(booked: list[Found], held: "Mapping[Place, Held]") -> list[Found]:
    """Heads beside what the broker holds. A gap: what comes next is not there any more, and nobody decided to go on
    without it; or the end was lost.

    A partition of which nothing is booked yet stands at 0; where nothing is known of the broker, end and lag are None.
    """
    by_place = {(one["topic"], one["partition"]): one for one in booked}
    rows = []
    for topic, partition in sorted({*by_place, *held}):
        one = by_place.get((topic, partition), NOTHING_BOOKED)
        there, head = held.get((topic, partition)), one["head"]
        row = {"topic": topic, "partition": partition} | one
        row |= {"end": there and there.end, "lag": None if there is None else max(0, there.end - head)}
        rows.append(row | {"gap": there is not None and not (there.begin <= row["goes_on_at"] and head <= there.end)})
    return rows
