"""How `danbao status` looks. In: what it found. Out: tables for a terminal."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ledger.calendar import SHANGHAI
from ledger.cli.common import say
from ledger.cli.eventview import reason_text
from schemas.codes import PROVINCES

MONTHS_SHOWN = 6

Found = dict[str, Any]


def page(found: Found) -> RenderableType:
    """All of it, the troubles first."""
    parts: list[RenderableType] = [_answers(found)]
    if found["partitions"]:
        parts += ["", _partitions(found["partitions"])]
    if found["database"]["answers"]:
        parts += ["", _freshness(found), "", _settled(found), "", _rejected(found["rejected_today"])]
    return Group(*parts)


def _answers(found: Found) -> Text:
    """Who answers."""
    line = Text(f"{clock(found['at'])}   ")
    line.append_text(_word(say("database", "数据库"), found["database"]["answers"]))
    if found["broker"] is None:
        return line.append(say("   no Kafka: the books alone", "   没有 Kafka，仅显示账簿"), style="dim")
    return line.append("   ").append_text(_word(f"Kafka {found['broker']['bootstrap']}", found["broker"]["answers"]))


def _word(name: str, answers: bool) -> Text:
    word = say(" answers", " 正常") if answers else say(" does not answer", " 没有应答")
    return Text(name).append(word, style="green" if answers else "bold red")


def _partitions(rows: list[Found]) -> Table:
    table = Table(box=None)
    table.add_column(say("topic", "主题"))
    for heading in (
        say("partition", "分区"),
        say("booked to", "已入账至"),
        say("end", "末尾"),
        say("lag, records", "积压（条）"),
        say("events/s", "事件/秒"),
        say("last booked", "最近入账"),
    ):
        table.add_column(heading, justify="right")
    table.add_column()
    for row in rows:
        gap = Text(say("stopped: a gap", "已停止：有缺口"), style="bold red") if row["gap"] else ""
        figures = (number(row["head"]), number(row["end"]), number(row["lag"]), f"{row['events_per_second']:,.1f}")
        table.add_row(row["topic"], str(row["partition"]), *figures, clock(row["booked_at"]), gap)
    return table


def _freshness(found: Found) -> Table:
    """A line a platform, with the province that is furthest behind; --json has them all."""
    table = Table(box=None)
    table.add_column(say("platform", "平台"))
    table.add_column(say("provinces", "省份数"), justify="right")
    table.add_column(say("newest orders of", "最新订单日"))
    table.add_column(say("furthest behind", "最滞后的省份"))
    table.add_column(say("days behind", "滞后（天）"), justify="right")
    table.add_column(say("last booked", "最近入账"), justify="right")
    for platform in dict.fromkeys(row["platform"] for row in found["freshness"]):
        rows = [row for row in found["freshness"] if row["platform"] == platform]
        last = max(rows, key=lambda row: row["days_behind"])
        newest = max(row["newest_day"] for row in rows).isoformat()
        booked = clock(max(row["booked_at"] for row in rows))
        behind = _province(last["province"]), str(last["days_behind"])
        table.add_row(platform, str(len(rows)), newest, *behind, booked)
    return table


def _settled(found: Found) -> RenderableType:
    """The last settlements of all provinces, by month; --json has each."""
    table = Table(box=None)
    table.add_column(say("last settled", "最近结算月"))
    table.add_column(say("provinces", "省份数"), justify="right")
    table.add_column(say("declared, yuan", "申报（元）"), justify="right")
    table.add_column(say("last sealed", "最近封存"), justify="right")
    for month in sorted({row["month"] for row in found["settlements"]}, reverse=True):
        rows = [row for row in found["settlements"] if row["month"] == month]
        declared = sum(Decimal(row["declared"]) for row in rows)
        sealed = clock(max(row["sealed_at"] for row in rows))
        table.add_row(month, str(len(rows)), f"{declared:,}", sealed)
    months = list(found["sealed_months"].items())[:MONTHS_SHOWN]
    sealed = ", ".join(f"{month} ({count})" for month, count in months) or say("none", "无")
    open_ones = ", ".join(found["months_to_settle"]) or say("none", "无")
    return Group(
        table,
        say(f"Sealed months (provinces): {sealed}", f"已封存月份（省份数）：{sealed}"),
        say(f"Months over and not settled: {open_ones}", f"已结束未结算的月份：{open_ones}"),
    )


def _rejected(reasons: dict[str, int]) -> RenderableType:
    if not reasons:
        return say("Nothing was rejected today.", "今日没有拒收。")
    table = Table(box=None)
    table.add_column(say("rejected today", "今日拒收"))
    table.add_column(say("events", "事件"), justify="right")
    for reason, events in reasons.items():
        table.add_row(reason_text(reason), f"{events:,}")
    return table


def number(value: int | None) -> str:
    """With commas; a dash where it is not known."""
    return "–" if value is None else f"{value:,}"


def clock(at: datetime | None) -> str:
    """An instant as people in China read it; a dash where there is none."""
    return "–" if at is None else f"{at.astimezone(SHANGHAI):%m-%d %H:%M:%S}"


def _province(code: str) -> str:
    return say(PROVINCES[code].name_en, PROVINCES[code].name)
