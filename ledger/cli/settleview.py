"""A settled month for a person: one province line by line, or all provinces with a total each.

In: settlements, or what would be one. Out: tables that fit a screen of 80 columns, and a sentence on the state.
"""

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ledger.calendar import SHANGHAI
from ledger.cli.common import count, money, out, say
from ledger.money import HAO_PER_FEN, yuan
from schemas.codes import LINE_NAMES, PROVINCES

if TYPE_CHECKING:
    from ledger.store.settle import Settled


def declared(settled: "Iterable[Settled]") -> str:
    """What is declared in all, in yuan."""
    fen = sum(item.declared_fen for one in settled for item in one.declarations)
    return money(yuan(fen * HAO_PER_FEN))


def orders(settled: "Iterable[Settled]") -> int:
    """For how many orders."""
    return sum(item.of.order_count for one in settled for item in one.declarations)


def show_lines(one: "Settled", names: dict[int, str], today: date) -> None:
    """The declared lines of one province, their total, and the state of the month."""
    out.print(Text(f"{_name(one)} · {one.month:%Y-%m}", style="bold"))
    if one.declarations:
        out.print(_lines(one, names))
        out.print(
            Text(say("amounts in yuan; residue: what rounding to fen added", "金额单位：元；尾差：取整到分所加"), "dim")
        )
        for origin in sorted({item.of.origin_month for item in one.declarations} - {one.month}):
            text = say(
                f"({origin:%Y-%m}): orders of that month, booked late as adjustments.",
                f"（{origin:%Y-%m}）：该月订单，迟到入账，作为调整。",
            )
            out.print(Text(text, style="dim"))
    else:
        out.print(say("No orders: nothing to declare.", "没有订单，无须申报。"))
    out.print(_state(one, today))


def _lines(one: "Settled", names: dict[int, str]) -> Table:
    table = Table(box=None)
    for heading in (say("platform", "平台"), say("line", "行业")):
        table.add_column(heading, overflow="fold")
    headings = (say("orders", "单量"), say("rate", "费率"), say("declared", "申报额"), say("residue", "尾差"))
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for item in one.declarations:
        line = item.of
        late = "" if line.origin_month == one.month else f" ({line.origin_month:%Y-%m})"
        table.add_row(
            names[line.platform_no],
            say(*LINE_NAMES[line.line]) + late,
            f"{line.order_count:,}",
            f"{yuan(line.premium_base)} × {line.float_factor.normalize():f}",
            money(yuan(item.declared_fen * HAO_PER_FEN)),
            yuan(item.residue),
        )
    table.add_row(say("total", "合计"), "", f"{orders([one]):,}", "", declared([one]), "", style="bold")
    return table


def show_provinces(results: "list[Settled]", month: date, today: date) -> None:
    """A line for each province, by its code, and one for all; what was sealed now, before, or not yet."""
    if not results:
        out.print(say(f"No entries in {month:%Y-%m}.", f"{month:%Y-%m} 没有分录。"))
        return
    table = Table(box=None)
    table.add_column(say("province", "省份"))
    for heading in (say("orders", "单量"), say("declared, yuan", "申报额（元）")):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(say("due", "截止"), no_wrap=True)
    ranked = sorted(results, key=lambda one: one.province)
    for one in ranked:
        table.add_row(f"{one.province} {_name(one)}", f"{orders([one]):,}", declared([one]), _due(one, today))
    table.add_row(say("total", "合计"), f"{orders(ranked):,}", declared(ranked), "", style="bold")
    out.print(table)
    _show_states(ranked, month)


def _show_states(results: "list[Settled]", month: date) -> None:
    open_ = [one for one in results if one.sealed_at is None]
    now = [one for one in results if one.changed]
    before = [one for one in results if one.sealed_at and not one.changed]
    if now:
        out.print(say(f"Sealed now, for ever: {_provinces(now)}.", f"现已封存，永不更改：{_provinces(now)}。"))
    if before:
        out.print(
            say(f"Sealed before, unchanged: {_provinces(before)}.", f"此前已封存，没有变化：{_provinces(before)}。")
        )
    if open_:
        text = say(
            f"Would be declared (dry run): {_provinces(open_)}. To seal: danbao settle {month:%Y-%m}",
            f"将申报（预览）：{_provinces(open_)}。封存：danbao settle {month:%Y-%m}",
        )
        out.print(text)
    example = f"danbao settle {month:%Y-%m} --province {results[0].province}"
    out.print(say(f"Line by line: {example}", f"逐行查看：{example}"), style="dim")


def _provinces(results: "list[Settled]") -> str:
    return f"{count(len(results), 'province', '个省份')}{say(', ', '，')}{declared(results)} {say('yuan', '元')}"


def _name(one: "Settled") -> str:
    area = PROVINCES[one.province]
    return say(area.name_en, area.name)


def _due(one: "Settled", today: date) -> str:
    """The day by which it is to be paid, and whether that is over."""
    late = (today - one.due_on).days
    if late <= 0:
        return f"{one.due_on}"
    return say(f"{one.due_on}, {late} d ago", f"{one.due_on}，已过 {late} 天")


def _state(one: "Settled", today: date) -> str:
    name, total = _name(one), declared([one])
    if one.sealed_at is None:
        return say(f"{name}: would declare {total} yuan (dry run)", f"{name}：将申报 {total} 元（预览）")
    at = one.sealed_at.astimezone(SHANGHAI).isoformat(" ", "seconds")
    before = "" if one.changed else say(" already", "此前已")
    return say(
        f"{name}:{before} sealed {at}, {total} yuan due {_due(one, today)}",
        f"{name}：{before}封存于 {at}，应缴 {total} 元，截止 {_due(one, today)}",
    )
