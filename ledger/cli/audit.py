"""danbao audit: replay the raw records against the books and list what deserves a look."""

import os
import shlex
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

from ledger.cli import common, usage
from ledger.cli.common import say
from ledger.cli.eventview import reason_text
from ledger.replay.findings import CODE_NAMES

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.store.findings import Business

app = typer.Typer(
    cls=usage.Group,
    no_args_is_help=True,
    help=say("Replay and findings.", "审计重放、审计发现。"),
)

ROWS_SHOWN = 20

_CODES = {
    "province_not_registered": ("orders in a province where the platform had not registered", "接单地未登记该平台"),
    "line_not_registered": ("orders in a line the platform has not registered", "该平台未登记该行业"),
    "never_accepted": ("events whose order was never accepted", "有后续事件而无接单记录"),
    "conflict": ("versions that contradict the one that stands", "与已有记录不符的版本"),
    "other_day": ("orders declared again on another day", "同一订单改日重报"),
    "not_settled": ("provinces whose month is over and not settled", "已结束而未结算的月份"),
    "rejected": ("rejected", "拒收"),
    "gap_accepted": ("records of a stream that were lost before they were booked", "入账前已丢失的数据流记录"),
}


@app.command(cls=usage.Command)
@common.command("仅凭原始段重建账簿，与现有账簿核对。\n\n退出码 1：有审计发现。")
def replay(as_json: common.AsJson = False) -> None:
    """Rebuild the ledger from the raw segments alone and compare it with the books. Exit code 1: findings.

    Example: danbao audit replay
    """
    from ledger.store import connect

    with common.database(connect.AUDIT) as engine:
        result = replayed(engine)
    if as_json:
        common.print_json(result)
    else:
        show_replayed(result)
    if result["findings"]:
        raise typer.Exit(1)


def replayed(engine: "Engine") -> dict[str, Any]:
    """Replay everything, with a progress bar on a terminal."""
    from ledger.store.replay import replay as replay_all

    started = perf_counter()
    with tempfile.TemporaryDirectory(prefix="danbao-replay-") as spill:
        report = replay_all(engine, Path(spill), os.cpu_count() or 1, common.progress)
    seconds = perf_counter() - started
    return {
        "batches": report.batches,
        "records": report.records,
        "events": report.events,
        "findings": report.findings.total,
        "listed": [finding._asdict() for finding in report.findings.listed()],
        "seconds": round(seconds, 3),
        "events_per_second": round(report.events / seconds),
    }


def show_replayed(result: dict[str, Any]) -> None:
    """What was compared, and what differs."""
    what = say(
        f"{result['events']:,} events in {result['batches']:,} batches replayed under the rules then in force",
        f"已按当时生效的规则重放 {result['batches']:,} 个批次、{result['events']:,} 个事件",
    )
    if not result["findings"]:
        common.out.print(f"[green]✓[/] {what}{say(': the books agree.', '：与账簿一致。')}")
        return
    common.out.print(f"[bold red]✗[/] {what}{say(': they do not agree.', '：与账簿不一致。')}")
    table = Table(box=None)
    for heading in (
        say("what", "类别"),
        say("table", "表"),
        say("row", "行"),
        say("column", "列"),
        say("expected", "应为"),
        say("found", "实为"),
    ):
        table.add_column(heading, overflow="fold")
    for one in result["listed"][:ROWS_SHOWN]:
        what = f"{one['code']} {say(*CODE_NAMES[one['code']])}"
        table.add_row(what, *(Text(str(one[name])) for name in ("table", "key", "detail", "expected", "found")))
    common.out.print(table)
    shown = min(ROWS_SHOWN, len(result["listed"]))
    count = say(
        f"{result['findings']:,} findings, {shown} shown", f"共 {result['findings']:,} 项审计发现，显示 {shown} 项"
    )
    common.out.print(count)


@app.command(cls=usage.Command)
@common.command(
    "列出账簿虽无误、仍值得核查的事项。\n\n退出码 1：有此类事项。"
    "\n\n同样的拒收内容无论送来几次只计一次，其事件入账后不再计。"
)
def findings(since: common.Since = None, as_json: common.AsJson = False) -> None:
    """List what deserves a look in books that are in order. Exit code 1 when there is anything.

    Rejected bytes count once, however often they came, and no longer once the event was booked.

    Example: danbao audit findings --since 2026-11-01
    """
    from ledger.store import connect
    from ledger.store.findings import business_findings

    today, recorded_since = common.today(), common.parse_since(since)
    with common.database(connect.AUDIT) as engine, engine.connect() as connection:
        found = business_findings(connection, today, recorded_since)
    if as_json:
        common.print_json({"findings": [_plain(one) for one in found]})
    elif not found:
        common.out.print(say("Nothing deserves a look.", "没有需要关注的事项。"))
    else:
        table = Table(box=None)
        table.add_column(say("finding", "审计发现"))
        table.add_column(say("platform", "平台"))
        table.add_column(say("count", "数量"), justify="right")
        table.add_column(say("particulars", "详情"), overflow="fold")
        for one in found:
            particulars = reason_text(one.particulars.en) if one.code == "rejected" else say(*one.particulars)
            table.add_row(say(*_CODES[one.code]), one.platform or "–", f"{one.count:,}", Text(particulars))
        common.out.print(table)
        common.out.print(say("Look further:", "继续查看："))
        for command in dict.fromkeys(map(_further, found)):
            common.out.print(Text(f"  {command}", style="cyan"))
    if found:
        raise typer.Exit(1)


def _plain(one: "Business") -> dict[str, Any]:
    return {
        "code": one.code,
        "platform": one.platform or None,
        "count": one.count,
        "particulars": say(*one.particulars),
        "further": _further(one),
    }


def _further(one: "Business") -> str:
    """The command that shows what is behind a finding."""
    platform, example = f"--platform {one.platform}" if one.platform else "", shlex.quote(one.example)
    match one.code:
        case "province_not_registered" | "line_not_registered":
            command = f"platforms show {one.platform}"
        case "not_settled":
            command = f"settle {example} --dry-run"
        case "gap_accepted":
            command = "status"
        case "rejected":
            command = f"rejects list --reason {example} {platform}"
        case _:
            command = f"explain {example} {platform}"
    return f"danbao {command}".rstrip()
