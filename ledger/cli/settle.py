"""danbao settle: declare and seal a month, province by province."""

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ledger.calendar import SHANGHAI, next_month
from ledger.cli import common
from ledger.cli.common import say
from ledger.errors import DanbaoError
from ledger.money import HAO_PER_FEN, yuan
from schemas.both import Both
from schemas.codes import LINE_NAMES, PROVINCES

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.store.settle import Settled


@common.command("月度结算：申报行逐行取整到分，随后永久封存。重复执行不改变结果。")
def settle(
    month: Annotated[str, typer.Argument(help=say("The month, over by now.", "已结束的月份。"), metavar="2026-10")],
    province: Annotated[
        str | None,
        typer.Option(
            help=say("Code or name; all with entries when left out.", "代码或名称；省略则为所有有分录的省份。")
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=say("Show, write nothing.", "只显示，不写入。"))] = False,
    as_json: common.AsJson = False,
) -> None:
    """Settle a month: declared lines rounded once to fen, then sealed for ever. Twice changes nothing.

    Example: danbao settle 2026-10 --province 31
    """
    from ledger.store import connect

    wanted = common.parse_month(month)
    code = common.parse_province(province) if province else None
    if not dry_run:
        refuse_running_month(wanted)
    with common.database(connect.SETTLE) as engine:
        results = list(settled(engine, wanted, code, dry_run))
        names = _platform_names(engine)
    if as_json:
        common.print_json({"month": month, "dry_run": dry_run, "settlements": [_plain(one, names) for one in results]})
    else:
        show(results, names)


def refuse_running_month(month: date) -> None:
    """A month is settled after its last day in Asia/Shanghai."""
    if common.now().astimezone(SHANGHAI).date() < next_month(month):
        raise DanbaoError(
            Both(f"{month:%Y-%m} is not over yet.", f"{month:%Y-%m} 尚未结束。"),
            Both(
                f"Settle it from {next_month(month)} on, or look ahead with --dry-run.",
                f"请于 {next_month(month)} 起结算，或用 --dry-run 预览。",
            ),
        )


def settled(engine: "Engine", month: date, province: str | None, dry_run: bool = False) -> "Iterator[Settled]":
    """Settle one province, or every province that has entries or a settlement in the month."""
    from ledger import rulebook
    from ledger.store import settle as store

    rules = rulebook.load()
    with engine.connect() as connection:
        found = {*store.open_provinces(connection, month), *store.settled_provinces(connection, month)}
    provinces = [province] if province else sorted(found)
    with common.progress(len(provinces)) as advance:
        for code in provinces:
            if dry_run:
                with engine.connect() as connection:
                    yield store.preview(connection, code, month, rules)
            else:
                yield store.seal(engine, code, month, rules)
            advance(1)


def show(results: "list[Settled]", names: dict[int, str]) -> None:
    """One table for all provinces, and a line per province on its state."""
    if not results:
        common.out.print(say("No entries in this month.", "该月没有分录。"))
        return
    table = Table(box=None)
    for heading in (say("province", "省份"), say("platform", "平台"), say("line", "行业")):
        table.add_column(heading)
    for heading in (
        say("orders", "单量"),
        say("base", "基准额"),
        say("factor", "浮动系数"),
        say("exact, yuan", "精确额（元）"),
        say("declared, yuan", "申报额（元）"),
        say("residue, yuan", "尾差（元）"),
    ):
        table.add_column(heading, justify="right")
    for one in results:
        area = PROVINCES[one.province]
        for item in one.declarations:
            line = item.of
            late = "" if line.origin_month == one.month else f" ({line.origin_month:%Y-%m})"
            table.add_row(
                say(area.name_en, area.name),
                names[line.platform_no],
                say(*LINE_NAMES[line.line]) + late,
                f"{line.order_count:,}",
                yuan(line.premium_base),
                f"{line.float_factor.normalize():f}",
                yuan(line.amount),
                yuan(item.declared_fen * HAO_PER_FEN),
                yuan(item.residue),
            )
    common.out.print(table)
    for one in results:
        common.out.print(_state(one))


def _state(one: "Settled") -> str:
    area = PROVINCES[one.province]
    total = yuan(sum(item.declared_fen for item in one.declarations) * HAO_PER_FEN)
    if one.sealed_at is None:
        return say(f"{area.name_en}: would declare {total} yuan (dry run)", f"{area.name}：将申报 {total} 元（预览）")
    at = one.sealed_at.astimezone(SHANGHAI).isoformat(" ", "seconds")
    before = "" if one.changed else say(" already", "此前已")
    return say(
        f"{area.name_en}:{before} sealed {at}, {total} yuan due {one.due_on}",
        f"{area.name}：{before}封存于 {at}，应缴 {total} 元，截止 {one.due_on}",
    )


def _plain(one: "Settled", names: dict[int, str]) -> dict[str, Any]:
    return {
        "province": one.province,
        "order_count": sum(item.of.order_count for item in one.declarations),
        "declared": yuan(sum(item.declared_fen for item in one.declarations) * HAO_PER_FEN),
        "due_on": one.due_on.isoformat(),
        "sealed_at": one.sealed_at and one.sealed_at.isoformat(),
        "changed": one.changed,
        "lines": [
            {
                "platform": names[item.of.platform_no],
                "line": str(item.of.line),
                "origin_month": f"{item.of.origin_month:%Y-%m}",
                "order_count": item.of.order_count,
                "premium_base": yuan(item.of.premium_base),
                "float_factor": f"{item.of.float_factor.normalize():f}",
                "amount": yuan(item.of.amount),
                "declared": yuan(item.declared_fen * HAO_PER_FEN),
                "residue": yuan(item.residue),
            }
            for item in one.declarations
        ],
    }


def _platform_names(engine: "Engine") -> dict[int, str]:
    from ledger.store import registry

    with engine.connect() as connection:
        return {row.platform_no: row.platform_id for row in registry.all_platforms(connection)}
