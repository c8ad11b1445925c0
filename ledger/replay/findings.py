"""Findings 审计发现 as values. In: what was expected and what was found. Out: what differs, counted. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from schemas.both import Both

E = TypeVar("E")
F = TypeVar("F")

LISTED_MAX = 100
LISTED_OF_A_KIND_MAX = 20
TEXT_CHARS_MAX = 200


class Code(StrEnum):
    """What is wrong."""

    CHAIN = "chain"  # offsets or hashes of a partition do not follow one another
    DAMAGED = "damaged"  # a segment that is not what was stored
    MISSING = "missing"  # the segments yield it, the books do not have it
    UNFOUNDED = "unfounded"  # the books have it, no segment yields it
    DIFFERS = "differs"  # both have it, with different values
    PRECEDENCE = "precedence"  # a later version stands although an earlier one was recorded
    SEAL = "seal"  # booked in a month that it could not be booked in
    SUM = "sum"  # amounts that should add up do not
    UNREADABLE = "unreadable"  # cannot be checked, because what it rests on cannot be read


CODE_NAMES: dict[Code, Both] = {
    Code.CHAIN: Both("the chain is broken", "证据链中断"),
    Code.DAMAGED: Both("not what was stored", "内容已损坏"),
    Code.MISSING: Both("not in the books", "账簿缺失"),
    Code.UNFOUNDED: Both("without a raw record", "没有原始记录依据"),
    Code.DIFFERS: Both("another value", "数值不符"),
    Code.PRECEDENCE: Both("a later version stands", "后到版本取代先到版本"),
    Code.SEAL: Both("booked in a closed month", "记入不应入账的月份"),
    Code.SUM: Both("sums disagree", "合计不符"),
    Code.UNREADABLE: Both("cannot be checked", "无法核对"),
}

# What other findings follow from is listed first.
_TABLES = (
    *("rulebook", "rate", "platform", "source", "segment", "batch", "partition_head", "inbox"),
    *("account", "entry", "posting", "settlement", "declaration", "charge", "charge_change", "event_key"),
    *("order_event", "conflict", "rejected_record"),
)
_RANK = {table: rank for rank, table in enumerate(_TABLES)}


class Finding(NamedTuple):
    """One disagreement 审计发现. `detail`: the column, or what of the row."""

    code: Code
    table: str
    key: str
    detail: str
    expected: str
    found: str


@dataclass(slots=True)
class Findings:
    """All findings counted by code and table; of each kind the first ones kept."""

    counts: Counter[tuple[Code, str]] = field(default_factory=Counter)
    kept: list[Finding] = field(default_factory=list)

    def add(self, found: Iterable[Finding]) -> None:
        """Count them all, keep the first of each kind."""
        for finding in found:
            kind = finding.code, finding.table
            self.counts[kind] += 1
            if self.counts[kind] <= LISTED_OF_A_KIND_MAX:
                self.kept.append(finding)

    @property
    def total(self) -> int:
        """How many there are."""
        return self.counts.total()

    def tables(self) -> set[str]:
        """The tables that something was found of."""
        return {table for _, table in self.counts}

    def listed(self) -> list[Finding]:
        """The ones to show, what others follow from first."""
        return sorted(self.kept, key=lambda finding: _RANK[finding.table])[:LISTED_MAX]


def text(value: object) -> str:
    """A value as a finding shows it."""
    match value:
        case None:
            return "null"
        case bytes() | bytearray() | memoryview():
            shown = bytes(value).hex()
        case datetime() | date():
            shown = value.isoformat()
        case dict():
            shown = ", ".join(f"{name} {text(part)}" for name, part in value.items())
        case _:
            shown = str(value)
    return shown if len(shown) <= TEXT_CHARS_MAX else f"{shown[:TEXT_CHARS_MAX]}…"


def differences(table: str, key: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Finding]:
    """One finding for each column that differs."""
    for column, value in expected.items():
        if value != found[column]:
            yield Finding(Code.DIFFERS, table, key, column, text(value), text(found[column]))


def missing(table: str, key: str, row: object) -> Finding:
    """A row that the books lack."""
    return Finding(Code.MISSING, table, key, "row", text(row), "none")


def unfounded(table: str, key: str, row: object) -> Finding:
    """A row that nothing accounts for."""
    return Finding(Code.UNFOUNDED, table, key, "row", "none", text(row))


def merged(
    expected: Iterable[E], found: Iterable[F], key_e: Callable[[E], Any], key_f: Callable[[F], Any]
) -> Iterator[tuple[E | None, F | None]]:
    """Two streams in order of their keys, side by side; None where one of them has no such key."""
    ahead_e, ahead_f = iter(expected), iter(found)
    one, other = next(ahead_e, None), next(ahead_f, None)
    while one is not None or other is not None:
        if other is None or (one is not None and key_e(one) < key_f(other)):
            yield one, None
            one = next(ahead_e, None)
        elif one is None or key_f(other) < key_e(one):
            yield None, other
            other = next(ahead_f, None)
        else:
            yield one, other
            one, other = next(ahead_e, None), next(ahead_f, None)
