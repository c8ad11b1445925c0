"""What a simulated platform sends: the text of its events, when each arrives, and what must be answered.

In: orders as drawn. Out: lines of JSON in per-second boxes, and a tally of the answers that an ingest
into an empty ledger has to give. Times are seconds since the first local midnight of the simulation.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple

from schemas.codes import EventType, Line, Reason

DAY_S = 86_400


@dataclass
class Tally:
    """What was sent, and what must be answered: each event, and each unreadable record, once."""

    orders: int = 0
    records: int = 0
    duplicate: int = 0
    conflict: int = 0
    new_by_type: Counter[EventType] = field(default_factory=Counter)
    rejected_by_reason: Counter[Reason] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def new(self) -> int:
        """Events to be booked."""
        return self.new_by_type.total()

    @property
    def rejected(self) -> int:
        """Events and records to be rejected."""
        return self.rejected_by_reason.total()

    @property
    def events(self) -> int:
        """Answers in all."""
        return self.new + self.duplicate + self.conflict + self.rejected


class Clock:
    """Seconds since the first local midnight → RFC 3339, by look-up, from one day before."""

    def __init__(self, first_day: date, days: int) -> None:
        self._days = [f"{first_day + timedelta(days=number)}T" for number in range(-1, days)]
        self._times = [f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}+08:00" for s in range(DAY_S)]

    def __call__(self, second: int) -> str:
        return self._days[second // DAY_S + 1] + self._times[second % DAY_S]


class Order(NamedTuple):
    """An order as drawn, on the wire of its platform."""

    wire: "Wire"
    order_id: str
    accepted: int
    ended: int
    worker: int
    city: str


class Wire:
    """The texts of one platform's events, as templates: accepted, reassigned, completed, cancelled."""

    def __init__(self, platform_id: str, line: Line, cities: list[str], clock: Clock) -> None:
        self.line = line
        self.cities = cities
        self.clock = clock

        def template(event: EventType, mark: str, data: str) -> str:
            return (
                f'{{"specversion":"1.0","id":"%s-{mark}","source":"/platforms/{platform_id}","type":"{event}",'
                f'"subject":"%s","time":"%s","data":{{{data}}}}}'
            )

        self.accepted_text = template(EventType.ACCEPTED, "a", '"worker_id":"W%07d","line":"%s","accepted_city":"%s"')
        self.reassigned_text = template(EventType.REASSIGNED, "r", '"worker_id":"W%07d"')
        self.completed_text = template(EventType.COMPLETED, "c", "")
        self.cancelled_text = template(EventType.CANCELLED, "x", '"reason":"%s"')

    def accepted(self, order: Order, line: Line | None = None) -> str:
        """The acceptance."""
        number, time = order.order_id, self.clock(order.accepted)
        return self.accepted_text % (number, number, time, order.worker, line or self.line, order.city)

    def reassigned(self, order: Order, second: int, worker: int) -> str:
        """The order passes to another worker."""
        return self.reassigned_text % (order.order_id, order.order_id, self.clock(second), worker)

    def completed(self, order: Order, second: int) -> str:
        """The order is fulfilled."""
        return self.completed_text % (order.order_id, order.order_id, self.clock(second))

    def cancelled(self, order: Order, second: int, reason: str) -> str:
        """The order is called off."""
        return self.cancelled_text % (order.order_id, order.order_id, self.clock(second), reason)


class Post:
    """What arrives in each second: `events`, which may be packed into lists; `records` stand alone."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.events: defaultdict[int, list[str]] = defaultdict(list)
        self.records: defaultdict[int, list[str]] = defaultdict(list)

    def new(self, event: EventType, second: int, text: str) -> None:
        """To be booked."""
        self.events[second].append(text)
        self.tally.new_by_type[event] += 1

    def duplicate(self, second: int, text: str) -> None:
        """Said before, in the same words."""
        self.events[second].append(text)
        self.tally.duplicate += 1

    def conflict(self, second: int, text: str) -> None:
        """Said before, in other words."""
        self.events[second].append(text)
        self.tally.conflict += 1

    def reject(self, reason: Reason, second: int, text: str) -> None:
        """An event that cannot be booked."""
        self.events[second].append(text)
        self.tally.rejected_by_reason[reason] += 1

    def reject_record(self, reason: Reason, second: int, text: str) -> None:
        """A record that cannot be read."""
        self.records[second].append(text)
        self.tally.rejected_by_reason[reason] += 1
