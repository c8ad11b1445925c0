"""Order windows 订单时段: whether a worker was executing an order at an instant, and how sure we are. Pure.

In: all recorded events of the orders that once were the worker's, the instant, the rulebook. Out: a
verdict, the windows that cover the instant with their doubts, and near misses where none does.

A window runs from the worker's acceptance of the order, or its reassignment to him, up to but not
including the first of completion, cancellation and reassignment to another (domain.md §3). The
longest-window rule of the line, in force on the day of acceptance, bounds it. Nothing is stored: a late
event changes the answer, and the doubts say what was known when.

Events in an impossible order: an order is accepted first, then passed on, then ended, whatever the
times say. An ending or a passing-on that claims to lie before the window's start cannot end it, since
when it really happened is unknown: the window then runs on to the next event that can end it, else to
the rule's bound, and is `out_of_order`. So is a window begun by a reassignment that claims to lie before
the acceptance; it runs from the time it claims. Such a cover is a matter for a person to judge.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from ledger.calendar import SCHEME_BEGAN, local_day
from ledger.errors import BadQuestion
from ledger.rulebook import Rulebook
from schemas.both import Both
from schemas.codes import Doubt, EventType, Line
from schemas.rulebook import LongestWindow

NEAR_AFTER = timedelta(hours=24)  # how far ahead of the instant a near miss is looked for
NEAR_MAX = 5  # near misses shown of one sort
RULE_HOURS_MAX = timedelta(hours=720)  # the longest that a rule file may say
# Several orders at once are usual work: each still covers the instant, and all are listed.
NO_DOUBT_OF_COVER = frozenset({Doubt.OVERLAP})


class Verdict(StrEnum):
    """Whether the worker was executing an order: yes; perhaps, see the doubts; no record says so."""

    COVERED = "covered"
    DOUBTFUL = "doubtful"
    NOT_COVERED = "not_covered"


class RecordedEvent(NamedTuple):
    """An order event with its two times, and its place: the ordinal in the batch."""

    type: EventType
    occurred_at: datetime
    recorded_at: datetime
    worker_id: str | None
    batch_id: int
    ordinal: int


class OtherVersion(NamedTuple):
    """A conflicting version of an event: kept as evidence, never booked. `differs` names the facts."""

    differs: tuple[str, ...]
    event: dict[str, Any]
    recorded_at: datetime
    batch_id: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class Order:
    """All that is recorded of one order. Without an acceptance its line and city are unknown.

    `premium`: what it was charged, in 毫; None where nothing ever was.
    """

    order_id: str
    line: Line | None
    city: str | None
    premium: int | None
    acceptance: RecordedEvent | None
    reassignments: tuple[RecordedEvent, ...]
    ending: RecordedEvent | None
    conflicts: tuple[OtherVersion, ...] = ()

    @property
    def events(self) -> tuple[RecordedEvent, ...]:
        """Every event that stands, by the time it claims."""
        every = (self.acceptance, *self.reassignments, self.ending)
        return tuple(sorted((event for event in every if event), key=lambda event: event.occurred_at))


@dataclass(frozen=True, slots=True)
class Window:
    """While the worker had the order. `ended_by` None: the rule's bound is the end."""

    order: Order
    begun_by: RecordedEvent
    ended_by: RecordedEvent | None
    end: datetime
    rule: LongestWindow
    doubts: tuple[Doubt, ...]

    @property
    def start(self) -> datetime:
        """When the worker got the order."""
        return self.begun_by.occurred_at

    @property
    def longest(self) -> timedelta:
        """How long the rule lets it be."""
        return timedelta(seconds=self.rule.seconds)

    def covers(self, at: datetime) -> bool:
        """Whether the instant lies in [start, end)."""
        return self.start <= at < self.end


class Nearness(StrEnum):
    """How a window missed the instant."""

    BEFORE = "before"  # the last one over by then
    AFTER = "after"  # the first one begun later
    BEYOND_RULE = "beyond_rule"  # the order had not ended, but the rule had ended its window
    PASSED_ON = "passed_on"  # the order had not ended, but another worker had it


class Near(NamedTuple):
    """A window that does not cover the instant, and by how much it misses."""

    nearness: Nearness
    gap: timedelta
    window: Window


@dataclass(frozen=True, slots=True)
class Cover:
    """The answer for one worker and instant, the strongest evidence first: fewest doubts, then the latest begun.

    `near` is empty where a window covers the instant.
    """

    at: datetime
    verdict: Verdict
    windows: tuple[Window, ...]
    near: tuple[Near, ...]


def look_back(rules: Rulebook, at: datetime) -> dict[Line | None, timedelta]:
    """How long before the instant a window that covers it can have begun, by the order's line.

    None stands for a line that is not known: the longest of any.
    """
    by_length = _rules_of_all(rules, local_day(at))
    longest: dict[Line | None, timedelta] = {rule.line: timedelta(seconds=rule.seconds) for rule in by_length}
    return longest | {None: timedelta(seconds=by_length[-1].seconds)}


def never_bounded(rules: Rulebook, at: datetime) -> timedelta:
    """Up to which length the rule of no line bounds a window: the shortest of all."""
    return timedelta(seconds=_rules_of_all(rules, local_day(at))[0].seconds)


def judge(orders: Iterable[Order], worker_id: str, at: datetime, rules: Rulebook) -> Cover:
    """Fold the worker's orders into windows and say whether they cover the instant."""
    every = [window for order in orders for window in windows_of(order, worker_id, at, rules)]
    every.sort(key=lambda window: (window.start, window.order.order_id))
    covering = [window for window in every if window.covers(at)]
    if len({window.order.order_id for window in covering}) > 1:
        covering = [_overlapping(window) for window in covering]
    covering.sort(key=lambda window: (len(_doubts_of_cover(window)), at - window.start))
    near = () if covering else tuple(_near(every, at))
    return Cover(at, _verdict(covering), tuple(covering), near)


def _verdict(covering: list[Window]) -> Verdict:
    if not covering:
        return Verdict.NOT_COVERED
    firm = any(not _doubts_of_cover(window) for window in covering)
    return Verdict.COVERED if firm else Verdict.DOUBTFUL


def _doubts_of_cover(window: Window) -> set[Doubt]:
    return set(window.doubts) - NO_DOUBT_OF_COVER


def windows_of(order: Order, worker_id: str, at: datetime, rules: Rulebook) -> Iterator[Window]:
    """Each time the order became the worker's, until it ended or passed on; doubts as seen from `at`."""
    chain = [order.acceptance] if order.acceptance else []
    chain += sorted(order.reassignments, key=lambda event: (event.occurred_at, event.batch_id, event.ordinal))
    holder: str | None = None
    for place, event in enumerate(chain):
        if event.worker_id == worker_id != holder:
            yield _window(order, event, chain[place + 1 :], at, rules)
        holder = event.worker_id


def _window(order: Order, begun_by: RecordedEvent, later: list[RecordedEvent], at: datetime, rules: Rulebook) -> Window:
    """The window that one acceptance or reassignment begins; `later`: the reassignments after it."""
    start, rule = begun_by.occurred_at, _rule(order, begun_by, rules)
    away = [event for event in later if event.worker_id != begun_by.worker_id]
    enders = away if order.ending is None else [order.ending, *away]
    possible = [event for event in enders if event.occurred_at >= start]
    ended_by = min(possible, key=lambda event: event.occurred_at, default=None)
    bound = start + timedelta(seconds=rule.seconds)
    if ended_by and ended_by.occurred_at > bound:
        ended_by = None
    end = ended_by.occurred_at if ended_by else bound
    doubts = _doubts(order, begun_by, ended_by, away, at)
    return Window(order, begun_by, ended_by, end, rule, doubts)


def _doubts(
    order: Order,
    begun_by: RecordedEvent,
    ended_by: RecordedEvent | None,
    away: list[RecordedEvent],
    at: datetime,
) -> tuple[Doubt, ...]:
    """All but the overlap, in the order of the code list."""
    start, accepted, ending = begun_by.occurred_at, order.acceptance, order.ending
    lost = any(event.occurred_at < start for event in away)
    strange = lost or (ending and ending.occurred_at < start) or (accepted and accepted.occurred_at > start)
    passed_on = lost or (ended_by and ended_by.type is EventType.REASSIGNED)
    found = (
        (Doubt.OPEN, ending is None and not away),
        (Doubt.BOUNDED_BY_RULE, ended_by is None),
        (Doubt.LATE_DECLARED, begun_by.recorded_at > at),
        (Doubt.OUT_OF_ORDER, strange),
        (Doubt.REASSIGNED_AWAY, passed_on),
        (Doubt.CONFLICT, order.conflicts),
        (Doubt.NO_ACCEPTANCE, accepted is None),
    )
    return tuple(doubt for doubt, holds in found if holds)


def _overlapping(window: Window) -> Window:
    given = {*window.doubts, Doubt.OVERLAP}
    return replace(window, doubts=tuple(doubt for doubt in Doubt if doubt in given))


def _rule(order: Order, begun_by: RecordedEvent, rules: Rulebook) -> LongestWindow:
    """The rule of the day of acceptance; where the acceptance is missing, the longest of any."""
    day = local_day((order.acceptance or begun_by).occurred_at)
    return rules.longest_window(order.line, day) if order.line else _rules_of_all(rules, day)[-1]


@lru_cache(maxsize=64)
def _rules_of_all(rules: Rulebook, day: date) -> list[LongestWindow]:
    """The rules of all lines that can reach the day, the shortest first."""
    first = day - RULE_HOURS_MAX
    reaching = [
        rule
        for rule in rules.rules
        if isinstance(rule, LongestWindow)
        and rule.in_force_from <= day
        and (rule.in_force_until is None or rule.in_force_until >= first)
    ]
    if not reaching:
        raise BadQuestion(
            Both(f"No longest window is in force on {day}.", f"{day} 没有生效的最长订单时段规则。"),
            Both(f"The scheme began on {SCHEME_BEGAN}.", f"制度自 {SCHEME_BEGAN} 起施行。"),
        )
    return sorted(reaching, key=lambda rule: rule.hours)


def _near(every: list[Window], at: datetime) -> Iterator[Near]:
    """The windows next to an instant that none covers, then those whose order was still under way."""
    over = [window for window in every if window.end <= at]
    later = [window for window in every if window.start > at]
    running = sorted((window for window in over if _under_way(window, at)), key=lambda w: w.end, reverse=True)
    beyond = [window for window in running if window.ended_by is None][:NEAR_MAX]
    passed = [window for window in running if window.ended_by is not None][:NEAR_MAX]
    last = max(over, key=lambda window: window.end, default=None)
    if last and last not in (*beyond, *passed):
        yield Near(Nearness.BEFORE, at - last.end, last)
    yield from (Near(Nearness.PASSED_ON, at - window.end, window) for window in passed)
    yield from (Near(Nearness.BEYOND_RULE, at - window.end, window) for window in beyond)
    if later:
        first = min(later, key=lambda window: window.start)
        yield Near(Nearness.AFTER, first.start - at, first)


def _under_way(window: Window, at: datetime) -> bool:
    """Whether the order of a window that is over was still open at the instant, as far as recorded."""
    ending, ended_by = window.order.ending, window.ended_by
    if ended_by is not None and (ended_by is ending or at >= window.start + window.longest):
        return False
    return ending is None or ending.occurred_at > at
