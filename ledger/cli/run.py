"""danbao run: the main job, end to end: book orders, settle the month, verify an injury, replay."""

from datetime import date, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ledger.calendar import SHANGHAI, next_month
from ledger.cli import audit, common, ingest, records, settle, windows
from ledger.cli import simulate as simulation
from ledger.cli.common import say
from ledger.errors import BadQuestion
from ledger.money import HAO_PER_FEN, yuan
from schemas.both import Both
from schemas.codes import PROVINCES

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.store.settle import Settled

SIMULATED_ORDERS = 60_000
SIMULATED_SEED = 20261001
SIMULATED_FIRST_DAY = date(2026, 10, 1)
PROVINCES_SHOWN = 8


@common.command("用模拟或自备订单走一遍主流程：入账、结算、核验、重放。")
def run(
    orders: Annotated[
        Path | None,
        typer.Option(help=say("Your own file; simulated orders when left out.", "自备文件；省略则用模拟订单。")),
    ] = None,
    map_name: Annotated[str | None, typer.Option("--map", help=say("Mapping of a CSV file.", "CSV 的映射。"))] = None,
    first_day: Annotated[
        str | None, typer.Option(help=say("Move the file's first day here.", "把文件的第一天移到该日期。"))
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Run the main job on simulated orders or on a file of yours: book, settle, verify an injury, replay.

    Example: danbao run --orders orders.csv.gz --map eleme --first-day 2026-02-01
    """
    from ledger.store.connect import AUDIT, INGEST, SETTLE

    started = perf_counter()
    _refuse_without_orders(orders, {"--map": map_name, "--first-day": first_day})
    if orders is None:
        _step(1, say("Simulate a platform's orders", "模拟平台订单"))
        orders = simulated_orders()
    wanted = records.wanted(orders, map_name, first_day)
    result: dict[str, Any] = {}
    with common.database(INGEST) as engine:
        _step(2, say(f"Book {orders.name}", f"入账 {orders.name}"))
        begun = perf_counter()
        booked = ingest.book(engine, wanted)
        result["ingest"] = ingest.summary(booked, perf_counter() - begun)
        with common.database(SETTLE) as settling:
            _step(3, say("Settle the months that are over", "结算已结束的月份"))
            settled = settle_all(settling)
            result["settlements"] = [_settlement(one) for one in settled]
        with common.database(AUDIT) as reading:
            _step(4, say("Verify an injury against the order windows", "以订单时段核验一起伤害"))
            injury = example_injury(reading)
            result["injury"] = injury
            _step(5, say("Replay the raw records and compare with the books", "重放原始记录，与账簿核对"))
            result["replay"] = audit.replayed(reading)
            result["provinces"] = totals(reading)
    result["seconds"] = round(perf_counter() - started, 1)
    if as_json:
        common.print_json(result)
    else:
        _show(result)
    if result["replay"]["findings"]:
        raise typer.Exit(1)


def _refuse_without_orders(orders: Path | None, given: dict[str, str | None]) -> None:
    if orders is None and (names := [name for name, value in given.items() if value]):
        raise BadQuestion(
            Both(f"{', '.join(names)} needs --orders.", f"{'、'.join(names)} 须与 --orders 同用。"),
            Both("Simulated orders have their own days and no columns.", "模拟订单的日期固定，且没有列。"),
        )


def _step(number: int, text: str) -> None:
    common.err.print(f"[bold]{number}/5[/] {text} …")


def simulated_orders() -> Path:
    """The bundled simulated orders: made once in the state directory, the same bytes on every machine."""
    from ledger.examples import simulated
    from ledger.simulate import Plan

    target = common.home() / "simulated-orders.ndjson.zst"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"making-{target.name}")
        plan = Plan(SIMULATED_ORDERS, SIMULATED_SEED, simulated(), tuple(PROVINCES), SIMULATED_FIRST_DAY)
        simulation.write(plan, str(partial))
        partial.rename(target)
    return target


def settle_all(engine: "Engine") -> "list[Settled]":
    """Settle every month that has entries and is over, in order."""
    from ledger.store.settle import unsettled_months

    today = common.now().astimezone(SHANGHAI).date()
    with engine.connect() as connection:
        months = [month for month in unsettled_months(connection, today) if next_month(month) <= today]
    return [one for month in months for one in settle.settled(engine, month, None)]


def _settlement(one: "Settled") -> dict[str, Any]:
    declared = sum(item.declared_fen for item in one.declarations) * HAO_PER_FEN
    return {"province": one.province, "month": f"{one.month:%Y-%m}", "declared": yuan(declared)}


def totals(engine: "Engine") -> list[dict[str, Any]]:
    """Orders and premium of every province, the largest first."""
    from ledger.store.queries import sql

    with engine.connect() as connection:
        return [
            {"province": row.province, "orders": int(row.order_count), "premium": yuan(int(row.amount))}
            for row in connection.execute(sql("totals_by_province"))
        ]


def example_injury(engine: "Engine") -> dict[str, Any] | None:
    """Ask for the windows at a moment in the middle of a completed order, as a claims officer would."""
    from ledger.store.queries import sql

    with engine.connect() as connection:
        row = connection.execute(sql("example_injury")).one_or_none()
    if row is None:
        return None
    at: datetime = row.at.astimezone(SHANGHAI).replace(microsecond=0)
    answer = windows.asked(engine, row.platform_id, row.worker_id, at)
    return {"platform": row.platform_id, "worker": row.worker_id, "at": at.isoformat()} | answer


def _show(result: dict[str, Any]) -> None:
    out = common.out
    out.rule(say("Booked", "入账"), align="left")
    ingest.show(result["ingest"])
    out.rule(say("Settled and sealed", "已结算封存"), align="left")
    if not result["settlements"]:
        out.print(say("Every month that is over was settled before.", "已结束的月份此前均已结算。"))
    else:
        months = sorted({one["month"] for one in result["settlements"]})
        count = len({one["province"] for one in result["settlements"]})
        out.print(
            say(
                f"{', '.join(months)} in {count} provinces; each month is sealed for ever.",
                f"{'、'.join(months)}，共 {count} 个省份；封存后永不更改。",
            )
        )
    out.rule(say("What the funds have earned", "各省基金保障费"), align="left")
    _show_provinces(result["provinces"])
    if result["injury"]:
        out.rule(say("An injury, verified", "伤害核验"), align="left")
        windows.show(result["injury"])
    out.rule(say("Replay", "审计重放"), align="left")
    audit.show_replayed(result["replay"])
    out.print(say(f"Done in {result['seconds']} s. Look further:", f"用时 {result['seconds']} 秒。继续查看："))
    province = result["provinces"][0]["province"] if result["provinces"] else "31"
    for command in (f"danbao balance --province {province}", "danbao audit findings", "danbao --help"):
        out.print(f"  {command}", style="cyan")


def _show_provinces(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None)
    table.add_column(say("province", "省份"))
    table.add_column(say("orders", "单量"), justify="right")
    table.add_column(say("premium, yuan", "保障费（元）"), justify="right")
    for row in rows[:PROVINCES_SHOWN]:
        area = PROVINCES[row["province"]]
        table.add_row(say(area.name_en, area.name), f"{row['orders']:,}", row["premium"])
    common.out.print(table)
    if len(rows) > PROVINCES_SHOWN:
        rest = len(rows) - PROVINCES_SHOWN
        common.out.print(say(f"… and {rest} more provinces", f"……以及另外 {rest} 个省份"), style="dim")
