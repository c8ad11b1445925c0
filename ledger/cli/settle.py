"""danbao settle: declare and seal a month, province by province."""

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.calendar import SCHEME_BEGAN, next_month
from ledger.cli import common, settleview
from ledger.cli.common import say
from ledger.cli.eventview import local_time
from ledger.errors import BadQuestion, DanbaoError
from ledger.money import HAO_PER_FEN, yuan
from schemas.both import Both

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.store.settle import Settled


@common.command("月度结算：申报行逐行取整到分，随后永久封存。重复执行不改变结果。")
def settle(
    month: Annotated[str, typer.Argument(help=say("The month, like 2026-10.", "月份，如 2026-10。"), metavar="MONTH")],
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
    _refuse_before_scheme(wanted)
    if not dry_run:
        refuse_running_month(wanted)
    with common.database(connect.SETTLE) as engine:
        results = list(settled(engine, wanted, code, dry_run))
        names = _platform_names(engine)
    if as_json:
        common.print_json({"month": month, "dry_run": dry_run, "settlements": [_plain(one, names) for one in results]})
    elif code:
        settleview.show_lines(results[0], names, common.today())
    else:
        settleview.show_provinces(results, wanted, common.today())


def _refuse_before_scheme(month: date) -> None:
    if next_month(month) <= SCHEME_BEGAN:
        raise BadQuestion(
            Both(f"{month:%Y-%m} is before the scheme began.", f"{month:%Y-%m} 早于制度施行日。"),
            Both(f"It began on {SCHEME_BEGAN}; check the year.", f"制度自 {SCHEME_BEGAN} 起施行，请核对年份。"),
        )


def refuse_running_month(month: date) -> None:
    """A month is settled after its last day in Asia/Shanghai."""
    if common.today() < next_month(month):
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


def _plain(one: "Settled", names: dict[int, str]) -> dict[str, Any]:
    return {
        "province": one.province,
        "order_count": sum(item.of.order_count for item in one.declarations),
        "declared": yuan(sum(item.declared_fen for item in one.declarations) * HAO_PER_FEN),
        "due_on": one.due_on.isoformat(),
        "sealed_at": one.sealed_at and local_time(one.sealed_at),
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
