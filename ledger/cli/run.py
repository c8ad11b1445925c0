"""danbao run: the main job, end to end: book orders, settle the month, verify an injury, replay."""

import shlex
from datetime import date
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ledger.calendar import next_month
from ledger.cli import audit, common, ingest, live, records, settle, stream, windows
from ledger.cli import simulate as simulation
from ledger.cli.common import say
from ledger.cli.eventview import local_time
from ledger.errors import BadQuestion
from ledger.money import HAO_PER_FEN, yuan
from schemas.both import Both
from schemas.codes import PROVINCES, Doubt

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.store.settle import Settled

STEPS = 4
SIMULATED_ORDERS = 60_000
SIMULATED_SEED = 20261001
SIMULATED_FIRST_DAY = date(2026, 10, 1)
PROVINCES_SHOWN = 8


@common.command(
    "用模拟或自备订单走一遍主流程：入账、结算、核验、重放。\n\n"
    "自备文件只预览结算，不封存任何月份。加 --kafka 时，模拟订单经 Kafka 报送，由两个进程入账，合计与直接读文件相同。"
)
def run(
    orders: Annotated[
        Path | None,
        typer.Option(help=say("Your own file; simulated orders when left out.", "自备文件；省略则用模拟订单。")),
    ] = None,
    map_name: Annotated[str | None, typer.Option("--map", help=say("Mapping of a CSV file.", "CSV 的映射。"))] = None,
    first_day: Annotated[
        str | None,
        typer.Option(help=say("Move the file's first day here.", "把文件的第一天移到该日期。"), metavar="DAY"),
    ] = None,
    kafka: Annotated[
        bool,
        typer.Option(
            "--kafka",
            help=say(
                "Push simulated orders through Kafka; starts one where none runs.",
                "经 Kafka 报送模拟订单；没有运行中的 Kafka 时自行启动。",
            ),
        ),
    ] = False,
    as_json: common.AsJson = False,
) -> None:
    """Run the main job on simulated orders or on a file of yours: book, settle, verify an injury, replay.

    Of a file of yours the months are only shown as they would be declared; none is sealed. With --kafka the simulated
    orders go through Kafka and two processes book them; the totals are those of the file.

    Example: danbao run --orders orders.csv.gz --map eleme --first-day 2026-02-01
    """
    started = perf_counter()
    _refuse_without_orders(orders, {"--map": map_name, "--first-day": first_day})
    if kafka and orders:
        raise BadQuestion(
            Both("--kafka is for the simulated orders.", "--kafka 只用于模拟订单。"),
            Both(
                "Push a file of yours as its platform does: danbao push FILE --platform P; then: danbao consume orders",
                "自备文件请按平台方式报送：danbao push FILE --platform P；再执行：danbao consume orders",
            ),
        )
    wanted = records.wanted(orders or simulated_orders(), map_name, first_day)
    result = _main_job(wanted, orders is not None, kafka)
    result["seconds"] = round(perf_counter() - started, 1)
    if as_json:
        common.print_json(result)
    else:
        _show(result)
    if result["replay"]["findings"] or result["nothing_but_rejections"]:
        raise typer.Exit(1)


def _refuse_without_orders(orders: Path | None, given: dict[str, str | None]) -> None:
    if orders is None and (names := [name for name, value in given.items() if value]):
        raise BadQuestion(
            Both(f"{', '.join(names)} needs --orders.", f"{'、'.join(names)} 须与 --orders 同用。"),
            Both("Simulated orders have their own days and no columns.", "模拟订单的日期固定，且没有列。"),
        )


def _main_job(wanted: records.Wanted, own: bool, kafka: bool) -> dict[str, Any]:
    """The steps, each named as it begins. `own`: a file of the user's, of which nothing is sealed."""
    from ledger.store.connect import AUDIT, INGEST, SETTLE

    result: dict[str, Any] = {"own": own}
    name = (
        wanted.paths[0].name
        if len(wanted.paths) == 1
        else say(f"{len(wanted.paths)} files", f"{len(wanted.paths)} 个文件")
    )
    with common.database(INGEST) as engine, common.database(AUDIT) as reading:
        files: list[ingest.BookedFile] = []
        if kafka:
            _step(1, say(f"Book {name} through Kafka", f"经 Kafka 入账 {name}"))
            result["pushed"], result["ingest"] = stream.book(engine, wanted)
        else:
            _step(1, say(f"Book {name}", f"入账 {name}"))
            begun = perf_counter()
            booked = ingest.book(engine, wanted)
            files = booked.files
            result["ingest"] = ingest.summary(booked, perf_counter() - begun)
        result["nothing_but_rejections"] = ingest.nothing_but_rejections(result["ingest"])
        if own:
            _step(2, say("Look at what the months that are over would declare", "预览已结束月份将申报的金额"))
            settled = settle_all(reading, dry_run=True)
        else:
            _step(2, say("Settle the months that are over", "结算已结束的月份"))
            with common.database(SETTLE) as settling:
                settled = settle_all(settling, dry_run=False)
        result["settlements"] = [_settlement(one) for one in settled]
        _step(3, say("Verify an injury against the order windows", "以订单时段核验一起伤害"))
        hurt = injury_of(reading, files) if own else live.order(engine)
        result["injury"] = hurt and verified(reading, hurt)
        _step(4, say("Replay the raw records and compare with the books", "重放原始记录，与账簿核对"))
        result["replay"] = audit.replayed(reading)
        result["provinces"] = totals(reading)
    return result


def _step(number: int, text: str) -> None:
    common.err.print(f"[bold]{number}/{STEPS}[/] {escape(text)} …")


def simulated_orders() -> Path:
    """The bundled simulated orders: made once in the state directory, the same bytes on every machine."""
    from ledger.examples import simulated
    from ledger.simulate import Plan

    target = common.home() / "simulated-orders.ndjson.zst"
    if not target.exists():
        common.notice(Both("Simulating a platform's orders (once) …", "模拟平台订单（仅此一次）……"))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"making-{target.name}")
        plan = Plan(SIMULATED_ORDERS, SIMULATED_SEED, simulated(), tuple(PROVINCES), SIMULATED_FIRST_DAY)
        simulation.write(plan, str(partial))
        partial.rename(target)
    return target


def settle_all(engine: "Engine", dry_run: bool) -> "list[Settled]":
    """Settle every month that has entries and is over, in order; or show what that would declare."""
    from ledger.store.settle import unsettled_months

    today = common.today()
    with engine.connect() as connection:
        months = [month for month in unsettled_months(connection, today) if next_month(month) <= today]
    every = [one for month in months for one in settle.settled(engine, month, None, dry_run)]
    return [one for one in every if one.changed or (dry_run and one.sealed_at is None)]


def _settlement(one: "Settled") -> dict[str, Any]:
    declared = sum(item.declared_fen for item in one.declarations) * HAO_PER_FEN
    month = f"{one.month:%Y-%m}"
    return {"province": one.province, "month": month, "declared": yuan(declared), "sealed": one.sealed_at is not None}


def totals(engine: "Engine") -> list[dict[str, Any]]:
    """Orders and premium of every province, the largest first."""
    from ledger.store.queries import sql

    with engine.connect() as connection:
        return [
            {"province": row.province, "order_count": int(row.order_count), "premium": yuan(int(row.amount))}
            for row in connection.execute(sql("totals_by_province"))
        ]


def injury_of(engine: "Engine", files: list[ingest.BookedFile]) -> live.Injury | None:
    """A moment in the middle of a completed order of what was booked, in a file of which one is new."""
    from ledger.store.queries import sql

    with engine.connect() as connection:
        for file in files:
            row = connection.execute(sql("example_injury"), {"topic": file.topic}).one_or_none()
            if row:
                return live.Injury(row.platform_id, row.worker_id, row.at.replace(microsecond=0))
    return None


def verified(engine: "Engine", hurt: live.Injury) -> dict[str, Any]:
    """Ask for the windows at the instant, as a claims officer would."""
    answer = windows.asked(engine, hurt.platform_id, hurt.worker_id, hurt.at)
    return {"platform": hurt.platform_id, "worker": hurt.worker_id, "at": local_time(hurt.at)} | answer


# ---- for a person


def _show(result: dict[str, Any]) -> None:
    out = common.out
    out.rule(say("Booked", "入账"), align="left")
    if pushed := result.get("pushed"):
        _show_pushed(pushed)
    ingest.show(result["ingest"])
    if 0 < result["ingest"]["events"] == result["ingest"]["duplicate"]:
        out.print(say("All of it was booked before; nothing changed.", "全部早已入账，没有任何变化。"), style="dim")
    _show_settlements(result)
    out.rule(say("What the funds have earned, in the whole ledger", "各省基金保障费（整套账簿）"), align="left")
    _show_provinces(result["provinces"])
    if result["injury"]:
        _show_injury(result["injury"])
    out.rule(say("Replay of the whole ledger", "审计重放（整套账簿）"), align="left")
    audit.show_replayed(result["replay"])
    out.print(say(f"Done in {result['seconds']} s. Look further:", f"用时 {result['seconds']} 秒。继续查看："))
    for command in _further(result):
        out.print(Text(f"  {command}", style="cyan"), soft_wrap=True)
    out.print(say(f"The ledger is in {common.where()}.", f"账簿位于 {common.where()}。"), markup=False, style="dim")


def _show_pushed(pushed: dict[str, Any]) -> None:
    events, packed = f"{pushed['events']:,}", f"{pushed['records']:,}"
    common.out.print(
        say(
            f"{pushed['platforms']} platforms pushed {events} events in {packed} records to {pushed['topic']};"
            f" {stream.PROCESSES} processes booked them.",
            f"{pushed['platforms']} 个平台向 {pushed['topic']} 报送 {events} 个事件（{packed} 条记录），"
            f"由 {stream.PROCESSES} 个进程入账。",
        ),
        soft_wrap=True,
        markup=False,
    )


def _further(result: dict[str, Any]) -> list[str]:
    """Commands to look further with: the same question about the injury again, then others."""
    province = result["provinces"][0]["province"] if result["provinces"] else "31"
    commands = [f"danbao balance --province {province}", "danbao audit findings", "danbao --help"]
    if injury := result["injury"]:
        who = f"--platform {injury['platform']} --worker {shlex.quote(injury['worker'])}"
        commands.insert(0, f"danbao windows {who} --at {injury['at']}")
    return commands


def _show_settlements(result: dict[str, Any]) -> None:
    out, settled = common.out, result["settlements"]
    title = say("Would be declared", "将申报") if result["own"] else say("Settled and sealed", "已结算封存")
    out.rule(title, align="left")
    if not settled:
        out.print(say("No month that is over waits to be settled.", "没有已结束而待结算的月份。"))
    for month in sorted({one["month"] for one in settled}):
        of_month = [one for one in settled if one["month"] == month]
        total = common.money(str(sum(Decimal(one["declared"]) for one in of_month)))
        provinces = common.count(len(of_month), "province", "个省份")
        line = say(f"{month}: {total} yuan in {provinces}", f"{month}：{provinces}，{total} 元")
        if result["own"]:
            line += say(f"; to seal it for ever: danbao settle {month}", f"；永久封存：danbao settle {month}")
        out.print(line)
    if settled and not result["own"]:
        out.print(say("A month is sealed for ever.", "封存后永不更改。"))


def _show_injury(injury: dict[str, Any]) -> None:
    covered = injury["verdict"] == "covered"
    title = (
        say("An injury, verified", "一起伤害，已核验") if covered else say("An injury, looked into", "一起伤害，经核查")
    )
    common.out.rule(title, align="left")
    windows.show(injury)
    if Doubt.LATE_DECLARED in injury["doubts"]:
        text = say(
            "What a file tells was recorded after the instant, so it is always doubtful: an order could have been"
            " made up after the accident. Orders that are sent as they happen are covered.",
            "文件中的订单在该时刻之后才入账，因此总是存疑：订单可能是事故之后补造的。随时报送的订单则可确认。",
        )
        common.out.print(text, style="dim")


def _show_provinces(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None)
    table.add_column(say("province", "省份"))
    table.add_column(say("orders", "单量"), justify="right")
    table.add_column(say("premium, yuan", "保障费（元）"), justify="right")
    for row in rows[:PROVINCES_SHOWN]:
        area = PROVINCES[row["province"]]
        table.add_row(say(area.name_en, area.name), f"{row['order_count']:,}", common.money(row["premium"]))
    common.out.print(table)
    if len(rows) > PROVINCES_SHOWN:
        rest = len(rows) - PROVINCES_SHOWN
        common.out.print(say(f"… and {rest} more provinces", f"……以及另外 {rest} 个省份"), style="dim")
