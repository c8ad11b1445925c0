"""What the rows of a rulebook must satisfy together. A plain list of functions, each rows → faults.

In: rows that have the right shape, with their places. Out: a fault for each contradiction: two rules
for one key on one day, a base and a factor that give a fraction of a 毫, a day without any rule.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from itertools import product

from ledger.calendar import SCHEME_BEGAN
from ledger.money import hao
from ledger.rulebook.file import Fault, Located
from ledger.rulebook.index import ONE_DAY, TOPIC_OF, Key, RuleIndex, joint, key_of, topic_of, turns
from schemas.both import Both
from schemas.codes import ANY, LINE_NAMES
from schemas.rulebook import FloatFactor, PremiumBase, Rule


def contradictions(rows: list[Located]) -> list[Fault]:
    """Faults that make some answer ambiguous or impossible."""
    return [*_overlaps(rows), *_fractions(rows)]


def _overlaps(rows: list[Located]) -> Iterator[Fault]:
    """Two rules for one key on one day: which one is the law?"""
    groups: dict[tuple[str, Key], list[Located]] = {}
    for row in rows:
        groups.setdefault((topic_of(row.rule), key_of(row.rule)), []).append(row)
    for (topic, key), group in groups.items():
        group.sort(key=lambda row: (row.rule.in_force_from, row.file, row.line()))
        longest = group[0]
        for row in group[1:]:
            end = longest.rule.in_force_until or date.max
            if row.rule.in_force_from <= end:
                period = _period(longest.rule)
                place = f"{longest.file}:{longest.line()}"
                reason = Both(
                    f"{topic} for {', '.join(key)} overlaps {place} ({period.en})",
                    f"{topic}（{'、'.join(key)}）与 {place}（{period.zh}）重叠",
                )
                yield row.fault("in_force_from", reason)
            if (row.rule.in_force_until or date.max) > end:
                longest = row


def _period(rule: Rule) -> Both:
    first, last = rule.in_force_from, rule.in_force_until
    return Both(f"{first} to {last or 'open'}", f"{first} 至 {last}" if last else f"{first} 起")


def _fractions(rows: list[Located]) -> Iterator[Fault]:
    """A base and a factor that can meet must give a whole number of 毫."""
    bases = [(row, row.rule) for row in rows if isinstance(row.rule, PremiumBase)]
    factors = [(row, row.rule) for row in rows if isinstance(row.rule, FloatFactor)]
    values = product({base.premium_base for _, base in bases}, {factor.float_factor for _, factor in factors})
    broken = {(base, factor) for base, factor in values if hao(base) * Decimal(factor) % 1}
    index = RuleIndex(row.rule for row in rows)
    for (base_row, base), (row, factor) in product(bases, factors) if broken else ():
        if (base.premium_base, factor.float_factor) in broken and (day := _meeting(base, factor, index)):
            place = f"{base_row.file}:{base_row.line('premium_base')}"
            product_text = f"{factor.float_factor} × {base.premium_base}"
            reason = Both(
                f"{product_text} yuan ({place}) from {day} is not a whole number of 毫",
                f"{product_text} 元（{place}）自 {day} 起不是整数毫",
            )
            yield row.fault("float_factor", reason)


def _meeting(base: PremiumBase, factor: FloatFactor, index: RuleIndex) -> date | None:
    """The first day on which some order has this base and this factor; None when it never happens.

    The joint key is enough: what is outranked there is outranked for every more special key too.
    """
    key = joint(key_of(base), key_of(factor))
    first = max(base.in_force_from, factor.in_force_from)
    last = min(base.in_force_until or date.max, factor.in_force_until or date.max)
    if key is None or last < first:
        return None
    for day in (first, *turns(index.rules, first, last)):
        if index.find(PremiumBase, key, day) is base and index.find(FloatFactor, key, day) is factor:
            return day
    return None


def gaps(rows: Iterable[Located], where: str) -> Iterator[Fault]:
    """Every question but that for a base has an answer for everyone on every day since the scheme began."""
    rows = sorted(rows, key=lambda row: row.rule.in_force_from)
    for kind, topic in TOPIC_OF.items():
        if kind is PremiumBase:
            continue
        for line in LINE_NAMES if "line" in kind.model_fields else (ANY,):
            general = (Key(line), Key())
            covering = [row for row in rows if type(row.rule) is kind and key_of(row.rule) in general]
            day, last = _first_gap(covering)
            if day:
                reason = Both(
                    f"{topic}: nothing is in force for line {line}, any province, on {day}",
                    f"{topic}：{day} 没有对行业 {line}、各省份生效的规则",
                )
                yield last.fault("in_force_until", reason) if last else Fault(where, 0, reason)


def _first_gap(covering: list[Located]) -> tuple[date | None, Located | None]:
    """The first day without a rule, and the row after which it comes."""
    day, last = SCHEME_BEGAN, None
    for row in covering:
        if row.rule.in_force_from > day:
            return day, last or row
        if row.rule.in_force_until is None:
            return None, None
        if row.rule.in_force_until >= day:
            day, last = row.rule.in_force_until + ONE_DAY, row
    return day, last
