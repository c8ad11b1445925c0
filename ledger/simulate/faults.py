"""The faults of simulated streams: what platforms really send. Pure.

In: an order as drawn, and dice. Out: its events in the post with one fault among them, told so that the
answers are certain: an order has one fault at most, and the true version always arrives first.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from ledger.simulate.wire import DAY_S, Order, Post
from schemas.codes import EventType, Line, Reason

HOUR_S = 3_600
LATE_DAYS_MAX = 2
LINES = (Line.INSTANT_DELIVERY, Line.RIDE_HAILING, Line.INTRA_CITY_FREIGHT)
ELSEWHERE = ("310100", "110100")


class Case(NamedTuple):
    """One order and what is needed to spoil it. `lists`: records are lists of events anyway."""

    post: Post
    order: Order
    dice: Random
    lists: bool

    def accept(self, late_s: int = 0) -> None:
        """The acceptance, as it should be."""
        order = self.order
        self.post.new(EventType.ACCEPTED, order.accepted + late_s, order.wire.accepted(order))

    def complete(self, late_s: int = 0, skew_s: int = 0) -> None:
        """The completion; `skew_s` makes its own clock run behind."""
        order = self.order
        text = order.wire.completed(order, order.ended - skew_s)
        self.post.new(EventType.COMPLETED, order.ended + late_s, text)

    def accept_and_complete(self) -> None:
        """Both, as they should be."""
        self.accept()
        self.complete()

    def soon(self) -> int:
        """A second within a minute after the acceptance."""
        return self.order.accepted + 1 + self.dice.randrange(60)

    def later(self) -> int:
        """A second within two days after the ending."""
        return self.order.ended + 1 + self.dice.randrange(LATE_DAYS_MAX * DAY_S)

    def contradict(self, second: int, other: Order, line: Line | None = None) -> None:
        """The whole order as it should be, and its acceptance once more with something changed."""
        self.accept_and_complete()
        self.post.conflict(second, other.wire.accepted(other, line))

    def bad(self, reason: Reason, old: str, new: str) -> None:
        """The whole order as it should be, and the acceptance of another with something wrong in it."""
        self.accept_and_complete()
        self.post.reject(reason, self.soon(), self.spoilt(old, new))

    def spoilt(self, old: str, new: str) -> str:
        """An acceptance of an order that is otherwise not heard of, with something wrong in it."""
        other = self.order._replace(order_id=f"{self.order.order_id}-bad")
        text = other.wire.accepted(other)
        assert old in text
        return text.replace(old, new, 1)


def _duplicate_accepted(case: Case) -> None:
    case.accept_and_complete()
    case.post.duplicate(case.later(), case.order.wire.accepted(case.order))


def _duplicate_at_once(case: Case) -> None:
    case.accept_and_complete()
    case.post.duplicate(case.order.accepted, case.order.wire.accepted(case.order))


def _duplicate_completed(case: Case) -> None:
    case.accept_and_complete()
    case.post.duplicate(case.later(), case.order.wire.completed(case.order, case.order.ended))


def _reassign(case: Case) -> int:
    """The order passes on within its window; returns when."""
    order = case.order
    second = order.accepted + (order.ended - order.accepted) // 2
    case.accept_and_complete()
    case.post.new(EventType.REASSIGNED, second, order.wire.reassigned(order, second, order.worker + 1))
    return second


def _duplicate_reassigned(case: Case) -> None:
    second, order = _reassign(case), case.order
    case.post.duplicate(case.later(), order.wire.reassigned(order, second, order.worker + 1))


def _conflict_reassigned(case: Case) -> None:
    second, order = _reassign(case), case.order
    case.post.conflict(case.later(), order.wire.reassigned(order, second, order.worker + 2))


def _conflict_time(case: Case) -> None:
    second = case.soon()
    case.contradict(second, case.order._replace(accepted=second))


def _conflict_day(case: Case) -> None:
    another_day = case.order.accepted + DAY_S
    case.contradict(another_day, case.order._replace(accepted=another_day))


def _conflict_worker(case: Case) -> None:
    case.contradict(case.later(), case.order._replace(worker=case.order.worker + 1))


def _conflict_city(case: Case) -> None:
    other = next(city for city in (*case.order.wire.cities, *ELSEWHERE) if city != case.order.city)
    case.contradict(case.later(), case.order._replace(city=other))


def _conflict_line(case: Case) -> None:
    other = next(line for line in LINES if line != case.order.wire.line)
    case.contradict(case.later(), case.order, other)


def _conflict_completed_again(case: Case) -> None:
    case.accept_and_complete()
    second = case.later()
    case.post.conflict(second, case.order.wire.completed(case.order, second))


def _conflict_cancelled_after(case: Case) -> None:
    case.accept_and_complete()
    text = case.order.wire.cancelled(case.order, case.order.ended, "not-delivered")
    case.post.conflict(case.later(), text)


def _late_accepted(case: Case) -> None:
    case.complete()
    case.accept(late_s=case.later() - case.order.accepted)


def _late_completed(case: Case) -> None:
    case.accept()
    case.complete(late_s=case.later() - case.order.ended)


def _out_of_order(case: Case) -> None:
    case.complete()
    case.accept(late_s=case.order.ended - case.order.accepted + 1 + case.dice.randrange(60))


def _clock_skew(case: Case) -> None:
    case.accept()
    case.complete(skew_s=case.order.ended - case.order.accepted + 1 + case.dice.randrange(600))


def _missing_completed(case: Case) -> None:
    case.accept()


def _malformed(case: Case) -> None:
    case.accept_and_complete()
    case.post.reject_record(Reason.MALFORMED, case.soon(), case.spoilt('"subject":', '"subject"'))


def _truncated(case: Case) -> None:
    case.accept_and_complete()
    text = case.order.wire.accepted(case.order)
    case.post.reject_record(Reason.MALFORMED, case.order.accepted, text[: len(text) // 2])


def _empty_list(case: Case) -> None:
    case.accept_and_complete()
    case.post.reject_record(Reason.EMPTY_LIST, case.soon(), "[]")


def _missing_field(case: Case) -> None:
    case.bad(Reason.INVALID, f'"worker_id":"W{case.order.worker:07}",', "")


def _unknown_field(case: Case) -> None:
    case.bad(Reason.INVALID, '"data":{', '"data":{"vehicle":"bicycle",')


def _unknown_platform(case: Case) -> None:
    case.bad(Reason.UNKNOWN_PLATFORM, '"/platforms/', '"/platforms/un-')


def _unknown_city(case: Case) -> None:
    case.bad(Reason.UNKNOWN_CITY, f'"{case.order.city}"', f'"{case.order.city[:2]}9999"')


def _before_scheme(case: Case) -> None:
    case.bad(Reason.BEFORE_SCHEME, case.order.wire.clock(case.order.accepted), "2022-06-30T23:59:59+08:00")


def _bad_in_list(case: Case) -> None:
    """A bad event beside a good one in one record: the good one is booked."""
    good, bad = case.order.wire.accepted(case.order), case.spoilt('"line":', '"trade":')
    if case.lists:
        case.accept()
        case.post.reject(Reason.INVALID, case.order.accepted, bad)
    else:
        case.post.reject_record(Reason.INVALID, case.order.accepted, f"[{good},{bad}]")
        case.post.tally.new_by_type[EventType.ACCEPTED] += 1
    case.complete()


KINDS: dict[str, Callable[[Case], None]] = {
    "duplicate_accepted": _duplicate_accepted,
    "conflict_time": _conflict_time,
    "malformed": _malformed,
    "late_accepted": _late_accepted,
    "duplicate_completed": _duplicate_completed,
    "conflict_day": _conflict_day,
    "truncated": _truncated,
    "late_completed": _late_completed,
    "duplicate_reassigned": _duplicate_reassigned,
    "conflict_worker": _conflict_worker,
    "missing_field": _missing_field,
    "out_of_order": _out_of_order,
    "duplicate_at_once": _duplicate_at_once,
    "conflict_city": _conflict_city,
    "unknown_field": _unknown_field,
    "clock_skew": _clock_skew,
    "conflict_line": _conflict_line,
    "unknown_platform": _unknown_platform,
    "missing_completed": _missing_completed,
    "conflict_reassigned": _conflict_reassigned,
    "unknown_city": _unknown_city,
    "conflict_completed_again": _conflict_completed_again,
    "before_scheme": _before_scheme,
    "conflict_cancelled_after": _conflict_cancelled_after,
    "bad_in_list": _bad_in_list,
    "empty_list": _empty_list,
}


class Schedule:
    """Which orders have which fault: one in each stretch of `step` orders, the kinds in turn.

    `share` is of events; a step never so long that a kind would be left out when `every_kind`.
    """

    def __init__(self, orders: int, share: float, every_kind: bool, dice: Random) -> None:
        events_per_order = 2
        step = max(1, round(1 / (share * events_per_order))) if share else 0
        self._step = min(step, max(1, orders // len(KINDS))) if every_kind else step
        self._names = list(KINDS)
        self._dice = dice
        self._stretch = 0
        self._next = self._draw() if share else orders

    def _draw(self) -> int:
        return self._stretch * self._step + self._dice.randrange(self._step)

    def take(self, first: int, count: int) -> dict[int, str]:
        """The faults among `count` orders from number `first`: order number → kind."""
        found = {}
        while self._next < first + count:
            found[self._next] = self._names[self._stretch % len(KINDS)]
            self._stretch += 1
            self._next = self._draw()
        return found
