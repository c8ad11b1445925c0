"""Which rule holds: rules by kind, key and day.

In: rows of `schemas.rulebook`. Out: the rule in force. The most special one wins: platform and
province named, then the province, then the platform, then neither; between two alike in this, the
one that names the line. When a special rule ends, the next general one holds again.
"""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import NamedTuple, TypeVar, cast

from schemas.codes import ANY, LINE_NAMES
from schemas.rulebook import TOPICS, Rule

R = TypeVar("R", bound=Rule)
ONE_DAY = timedelta(days=1)
TOPIC_OF = {kind: topic for topic, kind in TOPICS.items()}
_KINDS = list(TOPIC_OF)
_LINE_ORDER = {line: place for place, line in enumerate((ANY, *map(str, LINE_NAMES)))}


class Key(NamedTuple):
    """To what a rule applies, or about what a question asks; "any" where it does not say."""

    line: str = ANY
    province: str = ANY
    platform: str = ANY


def key_of(rule: Rule) -> Key:
    """To what the rule applies."""
    return Key(*(str(getattr(rule, part, ANY)) for part in Key._fields))


def topic_of(rule: Rule) -> str:
    """The topic under which the rule stands in its file."""
    return TOPIC_OF[type(rule)]


def joint(one: Key, other: Key) -> Key | None:
    """The least special key under which both apply; None when no order can fall under both."""
    pairs = list(zip(one, other, strict=True))
    if any(a != b and ANY not in (a, b) for a, b in pairs):
        return None
    return Key(*(b if a == ANY else a for a, b in pairs))


def order(key: Key) -> tuple[int, str, str]:
    """Lines as the code list has them, the general before the special."""
    return _LINE_ORDER[key.line], key.province.replace(ANY, ""), key.platform.replace(ANY, "")


def turns(rules: Iterable[Rule], first: date, last: date) -> list[date]:
    """The days after `first`, up to `last`, on which some rule begins, or holds no longer."""
    days = {rule.in_force_from for rule in rules}
    days |= {rule.in_force_until + ONE_DAY for rule in rules if rule.in_force_until}
    return sorted(day for day in days if first < day <= last)


def _place(rule: Rule) -> tuple[int, tuple[int, str, str], date]:
    return _KINDS.index(type(rule)), order(key_of(rule)), rule.in_force_from


class RuleIndex:
    """All rules, ready for look-up."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(sorted(rules, key=_place))
        rows: dict[type[Rule], dict[tuple[str, str, str], list[Rule]]] = {kind: {} for kind in TOPIC_OF}
        for rule in self.rules:
            rows[type(rule)].setdefault(key_of(rule), []).append(rule)
        self._rows = rows

    def keys(self, kind: type[Rule]) -> list[Key]:
        """The keys that rules of that kind name."""
        return sorted((Key(*key) for key in self._rows[kind]), key=order)

    def find(self, kind: type[R], key: Key, on: date) -> R | None:
        """The most special rule of that kind in force for the key on that day."""
        line, province, platform = key
        rows = self._rows[kind]
        for candidate in (
            (line, province, platform),
            (ANY, province, platform),
            (line, province, ANY),
            (ANY, province, ANY),
            (line, ANY, platform),
            (ANY, ANY, platform),
            (line, ANY, ANY),
            (ANY, ANY, ANY),
        ):
            for rule in rows.get(candidate, ()):
                if rule.holds_on(on):
                    return cast(R, rule)
        return None
