"""Rules in words and tables with numbered sources, in the reader's language; and the same as JSON.

In: rules, premiums and changes from `ledger.rulebook`. Out: rich tables and plain dictionaries;
nothing here decides an amount.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from importlib.resources import files
from typing import Any, NamedTuple

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from ledger.calendar import SCHEME_BEGAN
from ledger.cli.common import out, say
from ledger.money import yuan
from ledger.rulebook import Change, Key, Premium, Rulebook, RuleFault, key_of, topic_of
from schemas.codes import ANY, LINE_NAMES, PROVINCES, Line
from schemas.rulebook import (
    MARK_MEANINGS,
    TOPICS,
    DueDay,
    FloatBands,
    FloatFactor,
    LatePayment,
    LongestWindow,
    Mark,
    OrderRule,
    PremiumBase,
    Rounding,
    Rule,
)

TOPIC_NAMES = {
    "premium_bases": ("base amount per order", "缴费基准额"),
    "float_factors": ("float factor", "浮动系数"),
    "float_bands": ("float bands", "浮动档次"),
    "order_rules": ("what charges an order", "计费规则"),
    "longest_windows": ("longest window", "最长订单时段"),
    "due_days": ("due day", "缴费期限"),
    "late_payments": ("late payment", "滞纳金"),
    "rounding": ("rounding", "取整"),
}
_CHARGED = {
    "accepted": ("charged when accepted", "接单时计费"),
    "completed": ("charged when completed", "完成时计费"),
}
_CANCELLED = {"keep": ("kept if cancelled", "取消后保留"), "reverse": ("reversed if cancelled", "取消后冲回")}


class PricedKey(NamedTuple):
    """For whom, what an order costs, and by which two rules."""

    key: Key
    premium: Premium
    base: PremiumBase
    factor: FloatFactor


class Answer(NamedTuple):
    """What applies on a day."""

    book: Rulebook
    on: date
    asked: Key
    priced: list[PricedKey]
    rules: list[Rule]


class Sources:
    """Footnotes: who says so, how sure we are, since when it holds. Each once, in the order of mention."""

    def __init__(self) -> None:
        self._notes: dict[str, int] = {}

    def number(self, rule: Rule) -> int:
        """The footnote's number for the rule."""
        return self._notes.setdefault(_provenance(rule), len(self._notes) + 1)

    def print(self) -> None:
        """The footnotes."""
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right")
        table.add_column(overflow="fold")
        for note, number in self._notes.items():
            _row(table, number, note)
        out.print(say("Sources", "依据"), style="bold")
        out.print(table)


def _provenance(rule: Rule) -> str:
    """Source, mark in words, period and note of a rule, each on a line."""
    sure, last = say(*MARK_MEANINGS[rule.mark]), rule.in_force_until
    until = say(f" to {last}", f" 至 {last}") if last else ""
    period = say(f"in force from {rule.in_force_from}{until}", f"生效日期 {rule.in_force_from}{until}")
    checked = say(f"{rule.mark}: {sure}", f"{rule.mark}：{sure}")
    dates = say(f"{period}; checked on {rule.checked_on}", f"{period}；核对日期 {rule.checked_on}")
    return "\n".join(filter(None, (rule.source, checked, dates, rule.note)))


def answer(book: Rulebook, on: date, asked: Key) -> Answer:
    """What applies on that day, for all that the question leaves open."""
    priced = []
    for key in book.premium_keys(on, asked):
        premium = book.premium(*key, on)
        base, factor = book.find(PremiumBase, key, on), book.find(FloatFactor, key, on)
        assert premium, "these keys have a premium"
        assert base, "and so a base"
        assert factor, "and a factor"
        priced.append(PricedKey(key, premium, base, factor))
    rules = [rule for rule in book.applying(on, asked) if not isinstance(rule, PremiumBase | FloatFactor)]
    return Answer(book, on, asked, priced, rules)


def print_answer(given: Answer) -> None:
    """The premium per order, then the other rules, then the sources of both."""
    sources = Sources()
    who = _applies(given.asked)
    out.print(
        say(f"Rules in force on {given.on}: {who}", f"{given.on} 适用的规则：{who}"),
        style="bold",
        markup=False,
    )
    if given.priced:
        out.print(_premium_table(given.priced, sources))
    else:
        out.print(_no_rate(given), markup=False, style="yellow")
    if given.rules:
        out.print(_rule_table(given.rules, sources))
    if given.priced or given.rules:
        sources.print()


def answer_json(given: Answer) -> dict[str, Any]:
    """The same as one object; null where the question was open."""
    asked = {part: None if value == ANY else value for part, value in given.asked._asdict().items()}
    return {
        "at": given.on,
        **asked,
        "rulebook": given.book.hash.hex(),
        "premiums": [_priced_json(priced) for priced in given.priced],
        "rules": [_rule_json(rule) for rule in given.rules],
    }


def _priced_json(priced: PricedKey) -> dict[str, Any]:
    return {
        **priced.key._asdict(),
        "premium_base": yuan(priced.premium.premium_base),
        "float_factor": str(priced.premium.float_factor),
        "amount": yuan(priced.premium.amount),
        "unit": priced.base.unit,
        "in_force_from": priced.premium.in_force_from,
        "base": _rule_json(priced.base),
        "factor": _rule_json(priced.factor),
    }


def _rule_json(rule: Rule) -> dict[str, Any]:
    return {"topic": topic_of(rule), **rule.model_dump(mode="json")}


def _no_rate(given: Answer) -> str:
    who = _applies(given.asked)
    text = say(f"No rate is in force on {given.on} for {who}.", f"{given.on}（{who}）没有缴费基准额。")
    if given.on < SCHEME_BEGAN:
        return text + say(f" The scheme began on {SCHEME_BEGAN}.", f"制度自 {SCHEME_BEGAN} 起实施。")
    bases = [rule for rule in given.book.rules if isinstance(rule, PremiumBase) and rule.line == given.asked.line]
    for rule in reversed(bases):
        if rule.in_force_until and rule.in_force_until < given.on:
            last = say(
                f" The last one, {_value(rule)}, ended on {rule.in_force_until}.",
                f"最后一项（{_value(rule)}）于 {rule.in_force_until} 失效。",
            )
            return text + last + (f" ({rule.note})" if rule.note else "")
    return text


def _premium_table(priced: list[PricedKey], sources: Sources) -> Table:
    table = _table(
        ("line", "行业"),
        ("accepted in", "接单地"),
        ("platform", "平台"),
        ("base", "基准额"),
        ("factor", "系数"),
        ("amount", "每单金额"),
        ("source", "依据"),
        right=(3, 4, 5),
    )
    table.caption = say("yuan per order; amount = base × factor", "单位：元/单；金额 = 基准额 × 系数")
    for key, premium, base, factor in priced:
        amounts = (yuan(premium.premium_base), premium.float_factor, yuan(premium.amount))
        notes = f"{sources.number(base)}, {sources.number(factor)}"
        _row(table, *_names(key), *amounts, notes)
    return table


def _rule_table(rules: list[Rule], sources: Sources) -> Table:
    table = _table(
        ("rule", "规则"),
        ("applies to", "适用范围"),
        ("value", "取值"),
        ("source", "依据"),
    )
    for rule in rules:
        name = say(*TOPIC_NAMES[topic_of(rule)])
        _row(table, name, _applies(key_of(rule)), _value(rule), sources.number(rule))
    return table


def print_changes(changes: tuple[Change, ...]) -> None:
    """What held before, what holds after, and who says so."""
    sources = Sources()
    table = _table(
        ("from", "生效日期"),
        ("rule", "规则"),
        ("applies to", "适用范围"),
        ("before", "原规则"),
        ("after", "新规则"),
        ("source", "依据"),
    )
    for change in changes:
        note = sources.number(change.after) if change.after else ""
        values = (_marked(change.before), _marked(change.after))
        _row(table, change.on, say(*TOPIC_NAMES[change.topic]), _applies(change.key), *values, note)
    out.print(table)
    if any(change.after for change in changes):
        sources.print()


def change_json(change: Change) -> dict[str, Any]:
    """One change; null where no rule held or holds."""
    rows = {
        "before": change.before and _rule_json(change.before),
        "after": change.after and _rule_json(change.after),
    }
    return {"on": change.on, "topic": change.topic, **change.key._asdict(), **rows}


def print_book(place: str, book: Rulebook) -> None:
    """How many rules of which topic, and how sure we are of them."""
    out.print(say("The rules are in order.", "规则无误。"), style="bold green")
    out.print(say(f"Read from {place}", f"读取自 {place}"), markup=False, soft_wrap=True)
    out.print(say(f"Rulebook {book.hash.hex()}", f"规则集 {book.hash.hex()}"), markup=False, soft_wrap=True)
    topics = {say(*TOPIC_NAMES[topic]): count for topic, count in _topics(book).items()}
    marks = {f"{mark}: {say(*MARK_MEANINGS[Mark(mark)])}": count for mark, count in _marks(book).items()}
    out.print(_counts(say("topic", "事项"), topics))
    out.print(_counts(say("how sure", "核实程度"), marks))


def book_json(place: str, book: Rulebook) -> dict[str, Any]:
    """The same as one object."""
    counts = {"rules": _topics(book), "marks": _marks(book)}
    return {"ok": True, "directory": place, "rulebook": book.hash.hex(), **counts, "faults": []}


def print_refused(place: str, refused: RuleFault) -> None:
    """Every fault on a line of its own, as compilers write it."""
    count = len(refused.faults)
    out.print(say(f"Faults in {place}: {count}", f"{place} 中的错误：{count} 处"), style="bold red", markup=False)
    for fault in refused.faults:
        out.print(say(*fault.told), markup=False, soft_wrap=True)
    packaged = files("ledger").joinpath("rules")
    english = f"Mend the lines named. A directory holds a whole rulebook: begin with a copy of {packaged}"
    mandarin = f"请修改上述各行。目录须包含整套规则，可先复制 {packaged}"
    out.print(say(english, mandarin), markup=False, soft_wrap=True)


def refused_json(place: str, refused: RuleFault) -> dict[str, Any]:
    """The same as one object."""
    faults = [fault._asdict() | {"reason": say(*fault.reason)} for fault in refused.faults]
    return {"ok": False, "directory": place, "rulebook": None, "faults": faults}


def _topics(book: Rulebook) -> dict[str, int]:
    counts = Counter(map(topic_of, book.rules))
    return {topic: counts[topic] for topic in TOPICS}


def _marks(book: Rulebook) -> dict[str, int]:
    counts = Counter(rule.mark for rule in book.rules)
    return {str(mark): counts[mark] for mark in Mark}


def _value(rule: Rule | None) -> str:
    """The value of a rule with its unit, in a few words."""
    match rule:
        case PremiumBase():
            text = say(f"{rule.premium_base} yuan per order", f"每单 {rule.premium_base} 元")
        case FloatFactor():
            text = f"× {rule.float_factor}"
        case FloatBands():
            text = _bands(rule)
        case OrderRule():
            text = f"{say(*_CHARGED[rule.charging_event])}; {say(*_CANCELLED[rule.on_cancellation])}"
        case LongestWindow():
            text = say(f"{rule.hours} hours", f"{rule.hours} 小时")
        case DueDay():
            text = say(f"day {rule.due_day} of the following month", f"次月 {rule.due_day} 日")
        case LatePayment():
            percent = f"{(Decimal(rule.late_share_per_day) * 100).normalize():f} %"
            text = say(f"{percent} a day", f"每日 {percent}")
        case Rounding():
            text = say("to fen, half up, once per declared line", "四舍五入到分，每申报行一次")
        case _:
            text = say("none", "无")
    return text


def _marked(rule: Rule | None) -> str:
    return f"{_value(rule)} ({rule.mark})" if rule else _value(rule)


def _bands(rule: FloatBands) -> str:
    edges = [(band.ratio_from_percent, band.float_factor) for band in rule.bands]
    return say(", ", "，").join(say(f"from {low}%: {factor}", f"{low}% 起 {factor}") for low, factor in edges)


def _names(key: Key) -> tuple[str, str, str]:
    """Line, province and platform as a person calls them."""
    line = say("any line", "各行业") if key.line == ANY else say(*LINE_NAMES[Line(key.line)])
    province = say("any province", "各省份")
    if key.province != ANY:
        area = PROVINCES[key.province]
        province = f"{key.province} {say(area.name_en, area.name)}"
    return line, province, say("any platform", "各平台") if key.platform == ANY else key.platform


def _applies(key: Key) -> str:
    named = [name for name, part in zip(_names(key), key, strict=True) if part != ANY]
    return say(", ", "、").join(named) or say("everyone", "全部")


def _table(*headings: tuple[str, str], right: tuple[int, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for place, heading in enumerate(headings):
        justify: JustifyMethod = "right" if place in right else "left"
        table.add_column(say(*heading), justify=justify, overflow="fold")
    return table


def _row(table: Table, *cells: object) -> None:
    """Cells as plain text: nothing from a rule file is taken for markup."""
    table.add_row(*(Text(str(cell)) for cell in cells))


def _counts(heading: str, counts: Mapping[str, int]) -> Table:
    table = _table((heading, heading), ("rows", "行数"), right=(1,))
    for name, count in counts.items():
        _row(table, name, count)
    return table
