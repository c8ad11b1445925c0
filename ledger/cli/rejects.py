"""danbao rejects: what was rejected, why, what to do about it, and another try where that can help.

In: which records are asked for. Out: the records, the latest first, and how many for each reason; what a retry booked.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli import common, ingest, records, rejectview, usage
from ledger.cli.common import say
from ledger.errors import BadQuestion
from ledger.identity_number import masked
from schemas.both import Both
from schemas.codes import Reason

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from ledger.store.rejections import Asked, Key

app = typer.Typer(cls=usage.Group, no_args_is_help=True, help=say("Rejected records.", "拒收记录。"))

ROWS_SHOWN = 20
AT_A_TIME = 500  # put into the inbox at once
BIGINT_MAX = 2**63 - 1
ITEM_MAX = 2**31 - 1
_ID = re.compile(r"(\d{1,19})/(\d{1,19})(?:/(\d{1,10}))?")
# What lay with us or with the day, and may be otherwise by now; other records are at fault themselves.
_MAY_PASS = (Reason.UNKNOWN_PLATFORM, Reason.UNKNOWN_CITY, Reason.NO_RATE, Reason.IN_FUTURE)
# Who they are from is in doubt, and the inbox does not ask: what is put there is vouched for by who puts it.
_IN_DOUBT = (Reason.WRONG_SOURCE, Reason.UNSIGNED, Reason.BAD_SIGNATURE)

_Reason = Annotated[Reason | None, typer.Option(help=say("Only this reason.", "仅此原因。"))]
_Platform = Annotated[
    str | None, typer.Option(help=say("Only of this platform, as far as known.", "仅此平台（已知来源时）。"))
]
_Topic = Annotated[str | None, typer.Option(help=say("Only from this topic.", "仅此主题。"))]
_Partition = Annotated[int | None, typer.Option(help=say("Only from this partition.", "仅此分区。"), min=0)]
_Until = Annotated[
    str | None,
    typer.Option(help=say("Only what was recorded before this day.", "仅该日之前入账的。"), metavar="2026-12-01"),
]


@app.callback()
def rejects() -> None:
    """What stands before the name of a command."""


@app.command("list", cls=usage.Command)
@common.command("列出拒收记录，后入账的在前：原因、文件和行；并按原因统计尚未重新受理的，附处理办法。")
def list_(
    reason: _Reason = None,
    platform: _Platform = None,
    topic: _Topic = None,
    partition: _Partition = None,
    since: common.Since = None,
    until: _Until = None,
    limit: Annotated[int, typer.Option(help=say("At most so many.", "最多显示条数。"), min=1, max=10_000)] = ROWS_SHOWN,
    as_json: common.AsJson = False,
) -> None:
    """List rejected records, the latest first; how many of each reason were not tried again, with what to do.

    Example: danbao rejects list --reason unknown_platform --since 2026-11-01
    """
    from ledger.store import connect, rejections

    with common.database(connect.AUDIT) as engine, engine.connect() as connection:
        asked = _asked(connection, reason, platform, topic, partition, since, until)
        rows, reasons = rejections.latest(connection, asked, limit), rejections.reasons(connection, asked)
        shown = _answered(connection, rows)
    if as_json:
        told = [
            {"reason": name, "count": count, "to_do": rejectview.what_to_do(name)} for name, count in reasons.items()
        ]
        common.print_json({"rejected": shown, "reasons": told})
    else:
        rejectview.show(shown)
        rejectview.show_reasons(reasons)


def _asked(
    connection: "Connection",
    reason: Reason | None,
    platform: str | None,
    topic: str | None,
    partition: int | None,
    since: str | None,
    until: str | None,
) -> "Asked":
    from ledger.store import registry, rejections

    recorded_since, recorded_until = common.parse_since(since), common.parse_since(until)
    platform_id = registry.find(connection, platform).platform_id if platform else None
    return rejections.Asked(reason, platform_id, topic, partition, recorded_since, recorded_until)


def _answered(connection: "Connection", rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as they are shown, with what became of those that were retried."""
    from ledger.store import rejections

    retried = [row["inbox_offset"] for row in rows if row["inbox_offset"] is not None]
    answers = rejections.answered(connection, retried) if retried else {}
    return [rejectview.plain(row, answers.get(row["inbox_offset"])) for row in rows]


@app.command(cls=usage.Command)
@common.command("完整显示一条拒收记录：原因、来源、处理办法与原始内容。")
def show(
    record_id: Annotated[
        str, typer.Argument(metavar="ID", help=say("As danbao rejects list shows it.", "见 danbao rejects list。"))
    ],
    raw: Annotated[
        bool,
        typer.Option("--raw", help=say("Only its bytes, as they are kept.", "只输出所存的字节。")),
    ] = False,
    as_json: common.AsJson = False,
) -> None:
    """Show one rejected record whole: why, where it came from, what to do, and what it holds.

    Example: danbao rejects show 17/204
    """
    from ledger.store import connect, rejections

    if raw and as_json:
        raise BadQuestion(
            Both("--raw is bytes and --json is an object.", "--raw 输出字节，--json 输出对象。"),
            Both("Give one of them.", "请只用其一。"),
        )
    key = _parsed(record_id)
    with common.database(connect.AUDIT) as engine, engine.connect() as connection:
        row = rejections.one(connection, key)
        if row is None:
            raise _unknown(record_id)
        [shown] = _answered(connection, [row])
    if raw:
        _write(record_id, bytes(row["raw"]))
    elif as_json:
        common.print_json(shown | {"to_do": rejectview.what_to_do(row["reason"])})
    else:
        rejectview.show_one(shown, bytes(row["raw"]))


def _write(record_id: str, raw: bytes) -> None:
    """The bytes to stdout, but for those in which a person's number stands."""
    text = raw.decode("latin-1")
    if masked(text) != text:
        raise BadQuestion(
            Both(
                f"{record_id} holds an identity number, which is not written out.",
                f"{record_id} 含身份证号，不予输出。",
            ),
            Both(
                f"See it masked: danbao rejects show {record_id}", f"查看遮蔽后的内容：danbao rejects show {record_id}"
            ),
        )
    try:
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        common.close_stdout()


def _parsed(record_id: str) -> "Key":
    from ledger.store.rejections import Key

    found = _ID.fullmatch(record_id)
    if found:
        key = Key(int(found[1]), int(found[2]), -1 if found[3] is None else int(found[3]))
        if max(key.batch_id, key.record_offset) <= BIGINT_MAX and key.item <= ITEM_MAX:
            return key
    raise BadQuestion(
        Both(f"{record_id!r} names no rejected record.", f"{record_id!r} 不是拒收记录的标识。"),
        Both(
            "Take one from danbao rejects list, such as 17/204 or 17/204/3.",
            "请从 danbao rejects list 中取用，如 17/204 或 17/204/3。",
        ),
    )


def _unknown(record_id: str) -> BadQuestion:
    return BadQuestion(
        Both(f"There is no rejected record {record_id}.", f"没有拒收记录 {record_id}。"),
        Both("See: danbao rejects list", "参见：danbao rejects list"),
    )


# ---- retry


@dataclass(slots=True)
class _Plan:
    """What a retry would put in again, by reason, and what it leaves out and why."""

    keys: "list[Key]" = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def take(self, row: dict[str, Any]) -> None:
        """Take it in, or count why not."""
        from ledger.store.rejections import Key

        if why := _why_not(row):
            self.left_out[why] += 1
        else:
            self.keys.append(Key.of(row))
            self.reasons[row["reason"]] += 1


def _why_not(row: dict[str, Any]) -> str | None:
    if row["inbox_offset"] is not None:
        return "retried"
    # Of a platform that nobody knew, nobody asked who sent it: by a stream anybody may have.
    if row["reason"] in _IN_DOUBT or (row["reason"] == Reason.UNKNOWN_PLATFORM and row["stream"]):
        return "sender_in_doubt"
    if row["header"]:
        return "csv"
    return None if row["reason"] in _MAY_PASS else "at_fault"


@app.command(cls=usage.Command)
@common.command(
    "重新受理拒收记录：原样放入收件表，按常规流程入账。适用于原因已消除的情形，如平台已登记、费率已生效。\n\n"
    "每条只受理一次；再次拒收的另有标识。由操作者为其来源负责，因此来源存疑的不予受理；记录本身有误的也不予受理。"
)
def retry(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID…", help=say("As danbao rejects list shows them.", "见 danbao rejects list。")),
    ] = None,
    reason: _Reason = None,
    platform: _Platform = None,
    topic: _Topic = None,
    partition: _Partition = None,
    since: common.Since = None,
    until: _Until = None,
    yes: Annotated[bool, typer.Option("--yes", help=say("Do not ask.", "不再询问。"))] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=say("Only show.", "仅显示。"))] = False,
    as_json: common.AsJson = False,
) -> None:
    """Try rejected records again: into the inbox as they came, and booked from there; for when the cause is gone.

    Each once: what is rejected again has an id of its own. Who retries vouches for where they came from, so those are
    left out whose sender is in doubt; and those that are at fault themselves.

    Example: danbao rejects retry --reason unknown_platform --since 2026-11-01
    """
    from ledger.store import connect

    _refuse_both_or_neither(ids or [], (reason, platform, topic, partition, since, until))
    with common.database(connect.INGEST) as engine:
        plan = _Plan()
        with engine.connect() as connection:
            for row in _wanted(connection, ids, reason, platform, topic, partition, since, until):
                plan.take(row)
        if not as_json:
            rejectview.show_plan(plan.reasons, plan.left_out)
        result: dict[str, Any] = {"reasons": dict(plan.reasons), "left_out": dict(plan.left_out), "put": 0}
        booked: dict[str, Any] | None = None
        if plan.keys and not dry_run and (yes or common.confirmed()):
            result["put"] = _put(engine, plan.keys)
            started = perf_counter()
            of_inbox = ingest.book(engine, records.Wanted([], None, None, inbox=True))
            booked = result["ingest"] = ingest.summary(of_inbox, perf_counter() - started)
    if as_json:
        common.print_json(result)
    elif booked:
        ingest.show(booked)
    unanswered = plan.keys and booked is None and not dry_run
    if unanswered or (booked and ingest.nothing_but_rejections(booked)):
        raise typer.Exit(1)


def _refuse_both_or_neither(ids: list[str], filters: tuple[Any, ...]) -> None:
    filtered = any(one is not None for one in filters)
    if bool(ids) == filtered:
        example = "danbao rejects retry --reason unknown_platform"
        raise BadQuestion(
            Both("Name records by their ids, or by what they are like.", "请用标识或筛选条件指定记录，二者取一。"),
            Both(f"Such as: {example}", f"例如：{example}"),
        )


def _wanted(connection: "Connection", ids: list[str] | None, *filters: Any) -> Iterator[dict[str, Any]]:
    from ledger.store import rejections

    if not ids:
        yield from rejections.keys(connection, _asked(connection, *filters))
    for record_id in dict.fromkeys(ids or []):
        row = rejections.one(connection, _parsed(record_id))
        if row is None:
            raise _unknown(record_id)
        yield row


def _put(engine: "Engine", keys: "list[Key]") -> int:
    """Put them into the inbox, some at a time; what is put stays when a later one cannot be."""
    from ledger.store import rejections

    put = 0
    with common.progress(len(keys)) as advance:
        for start in range(0, len(keys), AT_A_TIME):
            some = keys[start : start + AT_A_TIME]
            put += rejections.put_again(engine, some)
            advance(len(some))
    return put
