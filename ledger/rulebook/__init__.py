"""The rulebook: the law as dated, cited data, read once, hashed, asked by line, place, platform and day.

In: rule files (the packaged ones, or a directory), or the canonical text that the database keeps.
Out: the rule in force, always with its source; which of several rules that is, `ledger.rulebook.index`
says. The hash is over the content alone: comments, layout, the order of rows and how they are
spread over files do not change it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import orjson
from pydantic import ValidationError

from ledger.calendar import SCHEME_BEGAN, next_month
from ledger.errors import BadQuestion
from ledger.money import hao
from ledger.rulebook.check import contradictions, gaps
from ledger.rulebook.file import Fault, Located, RuleFault, read, reason_of
from ledger.rulebook.index import ONE_DAY, TOPIC_OF, Key, R, RuleIndex, joint, key_of, order, topic_of, turns
from schemas.both import Both
from schemas.rulebook import (
    TOPICS,
    Content,
    DueDay,
    FloatBand,
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

__all__ = ["Change", "Fault", "Key", "Premium", "Rate", "RuleFault", "Rulebook", "key_of", "load", "topic_of"]

FORMAT = 1


class Premium(NamedTuple):
    """What one order costs: amount = base × factor, in whole 毫, exactly. `mark` is the base's."""

    premium_base: int
    float_factor: Decimal
    amount: int
    base_source: str
    factor_source: str
    mark: Mark
    in_force_from: date


class Rate(NamedTuple):
    """A base amount as a flat row for the database; the last day is included, None is open."""

    line: str
    province: str
    platform_id: str
    first_day: date
    last_day: date | None
    premium_base: int
    mark: str
    source: str


class Change(NamedTuple):
    """From this day another rule holds for the key; None where none held or holds."""

    on: date
    topic: str
    key: Key
    before: Rule | None
    after: Rule | None


@dataclass(frozen=True, eq=False)
class Rulebook:
    """All rules of all times. Made by `load` or `from_content`, which refuse what contradicts itself."""

    content: str
    hash: bytes
    _index: RuleIndex

    @classmethod
    def from_content(cls, content: str) -> "Rulebook":
        """The very rulebook whose `content` this is, with the same hash."""
        try:
            rules = Content.model_validate_json(content).rules()
        except ValidationError as error:
            problems = error.errors(include_url=False)
            raise RuleFault(Fault("(content)", 0, reason_of(problem)) for problem in problems) from None
        if faults := contradictions([Located(rule, "(content)") for rule in rules]):
            raise RuleFault(faults)
        return _book(rules, content)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule, topic by topic, the general before the special, the old before the new."""
        return self._index.rules

    def find(self, kind: type[R], key: Key, on: date) -> R | None:
        """The most special rule of that kind in force for the key on that day."""
        return self._index.find(kind, key, on)

    def _must(self, kind: type[R], key: Key, on: date) -> R:
        if rule := self._index.find(kind, key, on):
            return rule
        raise BadQuestion(
            Both(
                f"No rule under {TOPIC_OF[kind]} is in force on {on}.", f"{on} 在 {TOPIC_OF[kind]} 下没有生效的规则。"
            ),
            Both(
                f"The scheme began on {SCHEME_BEGAN}; ask for a later day.",
                f"制度自 {SCHEME_BEGAN} 起施行，请查询之后的日期。",
            ),
        )

    def premium(self, line: str, province: str, platform_id: str, on: date) -> Premium | None:
        """What an order accepted there on that day costs; None when no rate is in force."""
        key = Key(line, province, platform_id)
        base = self.find(PremiumBase, key, on)
        if base is None:
            return None
        factor = self._must(FloatFactor, key, on)
        premium_base, multiple = hao(base.premium_base), Decimal(factor.float_factor)
        amount = int(premium_base * multiple)
        assert amount == premium_base * multiple, "the check of whole 毫 let a fraction pass"
        since = max(base.in_force_from, factor.in_force_from)
        return Premium(premium_base, multiple, amount, base.source, factor.source, base.mark, since)

    def order_rule(self, line: str, province: str, on: date) -> OrderRule:
        """What charges an order accepted there on that day, and what a later event does to the charge."""
        return self._must(OrderRule, Key(line, province), on)

    def plain_orders(self) -> bool:
        """Whether every order of every time is charged on acceptance and keeps its charge."""
        return all(
            (rule.charging_event, rule.on_cancellation, rule.on_reassignment) == ("accepted", "keep", "keep")
            for rule in self.rules
            if isinstance(rule, OrderRule)
        )

    def longest_window(self, line: str, on: date) -> LongestWindow:
        """How long a window of an order accepted on that day may stay open."""
        return self._must(LongestWindow, Key(line), on)

    def due_on(self, province: str, month: date) -> date:
        """The day by which a declared month is due, by the rule in force on the month's first day."""
        first = month.replace(day=1)
        return next_month(first).replace(day=self._must(DueDay, Key(province=province), first).due_day)

    def late_payment(self, province: str, on: date) -> LatePayment:
        """What a premium overdue on that day costs."""
        return self._must(LatePayment, Key(province=province), on)

    def rounding(self, on: date) -> Rounding:
        """How a declared line is rounded."""
        return self._must(Rounding, Key(), on)

    def float_bands(self, province: str, on: date) -> tuple[FloatBand, ...]:
        """The province's bands from payout ratio to float factor."""
        return self._must(FloatBands, Key(province=province), on).bands

    def rates(self) -> tuple[Rate, ...]:
        """Every base amount as a flat row."""
        return tuple(_rate(rule) for rule in self.rules if isinstance(rule, PremiumBase))

    def applying(self, on: date, asked: Key) -> tuple[Rule, ...]:
        """The rules that decide on that day; where the question says "any", for everyone they name."""
        found = []
        for rule in self.rules:
            key = joint(key_of(rule), asked)
            if key and rule.holds_on(on) and self.find(type(rule), key, on) is rule:
                found.append(rule)
        return tuple(found)

    def premium_keys(self, on: date, asked: Key) -> list[Key]:
        """The keys that can differ in their premium on that day, as far as the question leaves them open."""
        bases = [key_of(rule) for rule in self.rules if isinstance(rule, PremiumBase) and rule.holds_on(on)]
        factors = [key_of(rule) for rule in self.rules if isinstance(rule, FloatFactor) and rule.holds_on(on)]
        met = {key for base, factor in product(bases, factors) if (key := joint(base, factor))}
        return sorted({key for each in met if (key := joint(each, asked))}, key=order)

    def changes(self, first: date, last: date) -> tuple[Change, ...]:
        """What begins, ends or is replaced after `first` and up to `last`, day by day."""
        found = []
        for day, (kind, topic) in product(turns(self.rules, first, last), TOPIC_OF.items()):
            for key in self._index.keys(kind):
                before, after = self.find(kind, key, day - ONE_DAY), self.find(kind, key, day)
                named = any(rule and key_of(rule) == key for rule in (before, after))
                if named and before is not after:
                    found.append(Change(day, topic, key, before, after))
        return tuple(found)


def load(directory: Path | Traversable | None = None) -> Rulebook:
    """Read every *.yaml file of the directory, by default the packaged rules. RuleFault lists all faults."""
    folder = directory if directory is not None else files("ledger").joinpath("rules")
    rows: list[Located] = []
    faults: list[Fault] = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.is_file() and file.name.endswith((".yaml", ".yml")):
            good, bad = read(file.name, file.read_bytes())
            rows += good
            faults += bad
    faults += contradictions(rows)
    # A row that was refused would also show as a gap: look for gaps only once the rest is right.
    faults = faults or list(gaps(rows, folder.name))
    if faults:
        raise RuleFault(faults)
    return _book(row.rule for row in rows)


def _book(rules: Iterable[Rule], content: str | None = None) -> Rulebook:
    index = RuleIndex(rules)
    text = _canonical(index.rules) if content is None else content
    return Rulebook(text, sha256(text.encode()).digest(), index)


def _canonical(rules: Iterable[Rule]) -> str:
    """Rows as sorted JSON: the same rules give the same text, however they were written down."""
    topics: dict[str, list[str]] = {topic: [] for topic in TOPICS}
    for rule in rules:
        row = rule.model_dump(mode="json", exclude_none=True)
        topics[topic_of(rule)].append(orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode())
    rows = {topic: [orjson.Fragment(row) for row in sorted(texts)] for topic, texts in topics.items()}
    return orjson.dumps({"format": FORMAT, **rows}, option=orjson.OPT_SORT_KEYS).decode()


def _rate(rule: PremiumBase) -> Rate:
    period = (rule.in_force_from, rule.in_force_until)
    return Rate(*key_of(rule), *period, hao(rule.premium_base), str(rule.mark), rule.source)
