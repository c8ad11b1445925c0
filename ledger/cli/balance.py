"""danbao balance: what a province's accounts hold, by when it happened and by when it was recorded."""

from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import Connection

from ledger.calendar import SHANGHAI
from ledger.cli import common
from ledger.cli.common import money, say
from ledger.errors import BadQuestion
from ledger.journal import ACCOUNT_KINDS
from ledger.money import yuan
from schemas.both import Both
from schemas.codes import PROVINCES


@common.command("查询省级基金各会计科目的余额：按发生时间或入账时间。")
def balance(
    province: Annotated[str, typer.Option(help=say("Province, code or name.", "省份代码或名称。"))],
    platform: Annotated[str | None, typer.Option(help=say("Only this platform.", "仅此平台。"))] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            help=say("What had happened by the end of this day.", "截至该日终已发生的。"),
            metavar="2026-10-15",
        ),
    ] = None,
    known_at: Annotated[
        str | None,
        typer.Option(
            help=say("What had been recorded at this instant.", "截至该时刻已入账的。"),
            metavar="2026-10-20T12:00+08:00",
        ),
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Show the balances of a provincial fund: by occurrence (--as-of) and by recording time (--known-at).

    Example: danbao balance --province 31 --as-of 2026-10-15 --known-at 2026-11-20T12:00+08:00
    """
    from ledger.store import connect, registry

    code = common.parse_province(province)
    day = common.parse_day(as_of) if as_of else date.max
    instant = common.parse_instant(known_at) if known_at else datetime.max.replace(tzinfo=UTC)
    now = common.now().astimezone(SHANGHAI)
    if as_of and day > now.date():
        raise _not_come_yet(as_of)
    if known_at and instant > now:
        raise _not_come_yet(known_at)
    with common.database(connect.AUDIT) as engine, engine.connect() as connection:
        number = registry.find(connection, platform).platform_no if platform else None
        rows = balances(connection, code, number, day, instant)
    result = {"province": code, "platform": platform, "as_of": as_of, "known_at": known_at, "accounts": rows}
    if as_json:
        common.print_json(result)
    else:
        show(code, rows, as_of, known_at)


def _not_come_yet(text: str) -> BadQuestion:
    return BadQuestion(
        Both(f"{text} has not come yet.", f"{text} 尚未到来。"),
        Both("Leave it out to see what is known now.", "省略该选项即为目前所知。"),
    )


def balances(
    tx: Connection, province: str, platform_no: int | None, as_of: date, known_at: datetime
) -> list[dict[str, Any]]:
    """Balances by account and platform; amounts in yuan as text, debit positive."""
    from ledger.store import registry
    from ledger.store.queries import sql

    names = {row.platform_no: row.platform_id for row in registry.all_platforms(tx)}
    asked = {"province": province, "platform_no": platform_no, "as_of": as_of, "known_at": known_at}
    return [
        {
            "account": row.kind,
            "platform": names[row.platform_no],
            "order_count": int(row.order_count) if row.order_count is not None else None,
            "balance": yuan(int(row.amount)),
            "amount_hao": int(row.amount),
        }
        for row in tx.execute(sql("balances"), asked)
    ]


def show(province: str, rows: list[dict[str, Any]], as_of: str | None, known_at: str | None) -> None:
    """Accounts as a fund accountant reads them: debit and credit, and that they agree."""
    area = PROVINCES[province]
    terms = [say(f"as of {as_of}", f"截至 {as_of}")] if as_of else []
    terms += [say(f"known at {known_at}", f"入账截至 {known_at}")] if known_at else []
    table = Table(title=" · ".join([say(area.name_en, area.name), *terms]), title_justify="left", box=None)
    for heading in (say("account", "会计科目"), say("platform", "平台")):
        table.add_column(heading, overflow="fold")
    for heading in (say("orders", "单量"), say("debit", "借方"), say("credit", "贷方")):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        amount = row["amount_hao"]
        orders = "" if row["order_count"] is None else f"{row['order_count']:,}"
        debit, credit = (money(yuan(amount)), "") if amount >= 0 else ("", money(yuan(-amount)))
        table.add_row(say(*ACCOUNT_KINDS[row["account"]]), row["platform"], orders, debit, credit)
    debits = sum(row["amount_hao"] for row in rows if row["amount_hao"] > 0)
    credits_ = -sum(row["amount_hao"] for row in rows if row["amount_hao"] < 0)
    table.add_section()
    table.add_row(say("total", "合计"), "", "", money(yuan(debits)), money(yuan(credits_)), style="bold")
    table.caption, table.caption_justify = say("amounts in yuan", "金额单位：元"), "left"
    common.out.print(table)
