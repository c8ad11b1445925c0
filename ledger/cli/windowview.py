"""Whether an instant is covered, in words and drawn on a time axis; and the same as plain values.

In: a Cover from `ledger.windows`. Out: plain dictionaries for --json, from which the view for a person
is made; nothing here decides anything.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ledger.cli import timeline
from ledger.cli.common import out, say
from ledger.cli.eventview import (
    EVENTS,
    city_name,
    clock,
    event_text,
    fact_names,
    line_name,
    local_time,
    plain_order,
    premium_text,
    seconds,
    span,
    version_text,
)
from schemas.codes import Doubt, EventType

if TYPE_CHECKING:
    from ledger.store.windows import Seen
    from ledger.windows import Cover, Window

DRAWN_MAX = 24
TOLD_MAX = 6
CONFLICTS_MAX = 10
WIDTH_MAX = 110
VERDICTS = {
    "covered": ("green", "Covered: the worker was executing an order.", "在订单时段内：该时刻正在执行订单。"),
    "doubtful": (
        "yellow",
        "Doubtful: windows cover the instant, but each has a doubt to be weighed.",
        "存疑：有订单时段覆盖该时刻，但均有疑点，需人工判断。",
    ),
    "not_covered": (
        "red",
        "Not covered: no recorded window covers the instant.",
        "不在订单时段内：没有记录覆盖该时刻。",
    ),
}
ENDED = {
    "completed": ("ended by completion", "因完成结束"),
    "cancelled": ("ended by cancellation", "因取消结束"),
    "reassigned": ("ended by reassignment to another worker", "因改派他人结束"),
    "rule": ("end set by the longest-window rule, not recorded", "终点为最长时段规则所定，并无记录"),
}
NEARNESS = {
    "before": ("the last window over by then, {gap} before", "此前最近的时段，早 {gap}"),
    "after": ("the next window, {gap} later", "此后最近的时段，晚 {gap}"),
    "passed_on": (
        "the worker's until {gap} before; the order was still under way with another",
        "{gap} 前改派他人，当时订单仍在执行",
    ),
    "beyond_rule": (
        "no ending recorded by then, but the rule ended the window {gap} before",
        "当时尚无结束记录，但按规则时段已于 {gap} 前终止",
    ),
}
DOUBTS = {
    Doubt.OPEN: ("no completion, cancellation or reassignment is recorded", "没有完成、取消或改派的记录"),
    Doubt.BOUNDED_BY_RULE: (
        "the end is not a recorded one: the rule lets a window last {hours} h at most",
        "终点并非记录，而是按规则最长 {hours} 小时截止",
    ),
    Doubt.LATE_DECLARED: (
        "its beginning was first recorded {late} after the instant",
        "其开始在该时刻之后 {late} 才首次入账（事后申报）",
    ),
    Doubt.OUT_OF_ORDER: (
        "its events contradict each other in time; what claims to end it before it began is not believed",
        "事件时间先后矛盾；声称早于开始的结束不予采信",
    ),
    Doubt.OVERLAP: (
        "other orders cover the instant too; that is usual, and all are listed",
        "另有订单同时覆盖该时刻；属常见情形，已全部列出",
    ),
    Doubt.REASSIGNED_AWAY: ("the order passed to another worker", "订单已改派他人"),
    Doubt.CONFLICT: (
        "other versions were sent ({count}, differing in {differs}); the first one stands",
        "另有 {count} 个不一致的版本（差异：{differs}），以先到者为准",
    ),
    Doubt.NO_ACCEPTANCE: (
        "its acceptance was never recorded: line and city are unknown",
        "没有接单记录，行业和城市不明",
    ),
}


# ---- plain values


def plain(cover: "Cover") -> dict[str, Any]:
    """A cover for machines; times are local, premiums yuan as text."""
    doubts = {doubt for window in cover.windows for doubt in window.doubts}
    return {
        "verdict": str(cover.verdict),
        "at": local_time(cover.at),
        "windows": [plain_window(window) for window in cover.windows],
        "doubts": [str(doubt) for doubt in Doubt if doubt in doubts],
        "near": [
            {"nearness": str(near.nearness), "gap_s": seconds(near.gap), "window": plain_window(near.window)}
            for near in cover.near
        ],
    }


def plain_window(window: "Window") -> dict[str, Any]:
    """A window with the events behind it."""
    ended_by = window.ended_by
    return {
        "order": window.order.order_id,
        "line": window.order.line and str(window.order.line),
        "city": window.order.city,
        "start": local_time(window.start),
        "declared_at": local_time(window.begun_by.recorded_at),
        "end": local_time(window.end),
        "ended_by": ended_by.type.removeprefix("order.") if ended_by else "rule",
        "longest_hours": window.rule.hours,
        "doubts": [str(doubt) for doubt in window.doubts],
        **plain_order(window.order),
    }


def plain_seen(seen: "Seen") -> dict[str, str | None]:
    """When the worker got orders before and after."""
    return {name: moment and local_time(moment) for name, moment in seen._asdict().items()}


# ---- for a person


def show(answer: dict[str, Any]) -> None:
    """Verdict, drawing, then each window with its events and doubts."""
    style, *words = VERDICTS[answer["verdict"]]
    out.print(Text(say(*words), style=f"bold {style}"))
    at = datetime.fromisoformat(answer["at"])
    out.print(Text(f"{answer['platform']} · {answer['worker']} · {clock(at)}"))
    rows = [(None, window) for window in answer["windows"]] or [(near, near["window"]) for near in answer["near"]]
    if rows:
        out.print()
        for line in timeline.draw([_bar(window) for _, window in rows[:DRAWN_MAX]], at, min(out.width, WIDTH_MAX)):
            out.print(_drawn(line), no_wrap=True, overflow="crop")
    for near, window in rows[:TOLD_MAX]:
        out.print()
        _show_window(window, at, near)
    if (rest := len(rows) - TOLD_MAX) > 0:
        out.print()
        out.print(say(f"… and {rest} more windows; all of them: --json", f"……另有 {rest} 个时段；全部见 --json"))
    if answer["seen"]:
        _show_seen(answer["seen"])


def _bar(window: dict[str, Any]) -> timeline.Bar:
    start, end = (datetime.fromisoformat(window[name]) for name in ("start", "end"))
    return timeline.Bar(window["order"], start, end, window["ended_by"] != "rule")


def _drawn(line: str) -> Text:
    text = Text(line)
    text.highlight_regex("[┃│▲]", "bold red")
    text.highlight_regex("█+", "green")
    text.highlight_regex("░+", "yellow")
    return text


def _show_window(window: dict[str, Any], at: datetime, near: dict[str, Any] | None) -> None:
    """One window as a small table: what, when, by which events, and what weakens it."""
    title = Text(f"{say('order', '订单')} {window['order']}", style="bold")
    out.print(title + Text(f" · {line_name(window['line'])} · {city_name(window['city'])}", style="not bold"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    if near:
        table.add_row("", Text(say(*NEARNESS[near["nearness"]]).format(gap=span(timedelta(seconds=near["gap_s"])))))
    table.add_row(say("window", "时段"), Text(_span_text(window)))
    for event in window["events"]:
        table.add_row(say(*EVENTS[EventType(event["type"])]), Text(event_text(event)))
    for version in window["conflicts"][:CONFLICTS_MAX]:
        table.add_row(say("conflict", "冲突"), Text(version_text(version)))
    table.add_row(say("premium", "保障费"), Text(premium_text(window["premium"])))
    for doubt in window["doubts"]:
        table.add_row(say("doubt", "疑点"), Text(f"{doubt}: {doubt_text(Doubt(doubt), window, at)}", style="yellow"))
    out.print(table)


def _span_text(window: dict[str, Any]) -> str:
    start, end = (datetime.fromisoformat(window[name]) for name in ("start", "end"))
    until = clock(end).removeprefix(f"{start:%Y-%m-%d} ")
    return say(
        f"{clock(start)} → {until} ({span(end - start)}), {ENDED[window['ended_by']][0]}",
        f"{clock(start)} → {until}（{span(end - start)}），{ENDED[window['ended_by']][1]}",
    )


def doubt_text(doubt: Doubt, window: dict[str, Any], at: datetime) -> str:
    """A doubt in one sentence."""
    differs = {name: None for version in window["conflicts"] for name in version["differs"]}
    late = max(datetime.fromisoformat(window["declared_at"]) - at, timedelta())
    return say(*DOUBTS[doubt]).format(
        hours=window["longest_hours"],
        late=span(late),
        count=len(window["conflicts"]),
        differs=fact_names(list(differs)),
    )


def _show_seen(seen: dict[str, str | None]) -> None:
    """Where the worker's nearest orders are, or that the platform never named him."""
    before, after = (moment and clock(datetime.fromisoformat(moment)) for moment in (seen["before"], seen["after"]))
    if not before and not after:
        text = say(
            "The worker is unknown on this platform: no order of that number is on record. Check number and platform.",
            "该平台没有此人员编号的任何订单记录，请核对编号和平台。",
        )
    else:
        nothing = say("none", "无")
        text = say(
            f"No order is near. The worker's last one before began {before or nothing}, the next {after or nothing}.",
            f"附近没有订单。该人员此前最近一单始于 {before or nothing}，此后最近一单始于 {after or nothing}。",
        )
    out.print(Text(text, style="yellow"))
