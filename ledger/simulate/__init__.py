"""Simulated order streams, shaped like real ones. Pure: the same plan always gives the same bytes.

In: a plan (how many orders, seed, platforms, provinces, days, faults). Out: NDJSON in order of arrival,
chunk by chunk, and a tally of what an ingest must answer. Time goes by slot by slot; kept are only the
workers, the orders that are open, and what is still on its way.

The shapes (hours, durations, orders at once) are in `shapes.yaml`, the faults in
`ledger.simulate.faults`.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from heapq import heappop, heappush
from math import ceil
from random import Random

from ledger.calendar import SCHEME_BEGAN, US_PER_SECOND, day_begins_us
from ledger.errors import BadQuestion
from ledger.simulate.faults import KINDS, LATE_DAYS_MAX, Case, Schedule
from ledger.simulate.shapes import TABLE_SIZE, by_weight, cities, shapes, table
from ledger.simulate.wire import DAY_S, Clock, Order, Post, Tally, Wire
from schemas.both import Both
from schemas.codes import EventType
from schemas.orders import EVENTS_PER_RECORD_MAX
from schemas.platforms import PlatformRegistration

ORDERS_MAX = 1_000_000_000
ORDERS_PER_DAY_MAX = 20_000_000  # so that no second has more orders than it has ids
DAYS_MAX = 366
SEED_MAX = 2**63 - 1
SLOT_S = 60
SLOTS_PER_DAY = DAY_S // SLOT_S
ORDERS_PER_WORKER_DAY = 25
IDLE_TRIES = 3
WHEEL_SIZE = 8_192
ARRIVAL_DELAYS_S = (0, 0, 0, 0, 0, 0, 1, 1, 1, 2)
CANCEL_REASONS = ("customer", "merchant", "worker", "platform")
IDS = ("time", "random")
FAULT_SHARES = {"none": 0.0, "some": 0.01, "all": 0.05}

# Random order ids: 16 digits, each once. Odd factors and shifts that fold keep 53 bits one to one.
IDS_FROM, ID_COUNT, ID_BITS = 10**15, 9 * 10**15, (1 << 53) - 1
ID_FACTORS, SEED_STEP = (6_364_136_223_846_793, 1_442_695_040_888_963), 3_935_559_000_370_003


@dataclass(frozen=True)
class Plan:
    """What to simulate. `ids`: time, random. `faults`: none, some (1 % of events), all (5 %, every kind)."""

    orders: int
    seed: int
    platforms: tuple[PlatformRegistration, ...]
    provinces: tuple[str, ...]
    first_day: date
    days: int = 3
    ids: str = "time"
    faults: str = "none"
    per_record: int = 1

    def __post_init__(self) -> None:
        _within("--days", self.days, 1, DAYS_MAX)
        _within("--orders", self.orders, 1, min(ORDERS_MAX, ORDERS_PER_DAY_MAX * self.days))
        _within("--seed", self.seed, 0, SEED_MAX)
        _within("--per-record", self.per_record, 1, EVENTS_PER_RECORD_MAX)
        _one_of("--ids", self.ids, IDS)
        _one_of("--faults", self.faults, tuple(FAULT_SHARES))
        if self.first_day < SCHEME_BEGAN:
            raise BadQuestion(
                Both(
                    f"--first-day {self.first_day} is before the scheme began.",
                    f"--first-day {self.first_day} 早于制度施行日。",
                ),
                Both(f"Give {SCHEME_BEGAN} or later.", f"请给出 {SCHEME_BEGAN} 或更晚的日期。"),
            )
        assert self.platforms, "a plan has platforms"
        assert self.provinces, "a plan has provinces"


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise BadQuestion(
            Both(f"{name} {value} is out of range.", f"{name} {value} 超出范围。"),
            Both(f"Give {least} to {most}.", f"请给出 {least} 至 {most}。"),
        )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadQuestion(
            Both(f"{name} {value!r} is not known.", f"{name} {value!r} 不是可用的取值。"),
            Both(f"Give one of: {', '.join(known)}.", f"可用的取值：{'、'.join(known)}。"),
        )


class Simulation:
    """A plan under way: `chunks` gives the stream, `tally` what has been sent so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally()
        self.dice = Random(plan.seed)  # noqa: S311  repeatable, not secret
        self.post = Post(self.tally)
        self.clock = Clock(plan.first_day, plan.days + LATE_DAYS_MAX + 3)
        share = FAULT_SHARES[plan.faults]
        self._spoil_dice = Random(plan.seed + 1)  # noqa: S311
        self._faults = Schedule(plan.orders, share, plan.faults == "all", self._spoil_dice)
        self.order_id = _order_ids(plan)
        self._streams = _streams(self)
        self._waiting: list[str] = []  # events that do not yet fill a record

    def chunks(self) -> Iterator[bytes]:
        """The stream in order of arrival, each chunk whole lines."""
        slot = 0
        while slot < self.plan.days * SLOTS_PER_DAY or self._under_way():
            if lines := self._slot(slot):
                yield self._encode(lines)
            slot += 1
        if lines := self._records(all_of_it=True):
            yield self._encode(lines)

    def faults(self, count: int) -> dict[int, str]:
        """The faults among the next `count` orders, by order number."""
        return self._faults.take(self.tally.orders, count)

    def spoil(self, kind: str, order: Order) -> None:
        """Send an order with a fault in it."""
        self.tally.faults[kind] += 1
        KINDS[kind](Case(self.post, order, self._spoil_dice, self.plan.per_record > 1))

    def _under_way(self) -> bool:
        return bool(self.post.events or self.post.records or any(stream.open for stream in self._streams))

    def _slot(self, slot: int) -> list[str]:
        """One minute: orders accepted, orders completed, and what arrives."""
        begins = slot * SLOT_S
        for stream in self._streams:
            stream.accept(slot)
        lines: list[str] = []
        for second in range(begins, begins + SLOT_S):
            for stream in self._streams:
                if second in stream.open:
                    stream.complete(second)
            self._waiting += self.post.events.pop(second, ())
            if alone := self.post.records.pop(second, None):
                lines += self._records()
                lines += alone
        return lines + self._records()

    def _records(self, all_of_it: bool = False) -> list[str]:
        """The waiting events as records; what does not fill one goes on waiting."""
        waiting, size = self._waiting, self.plan.per_record
        if size == 1:
            self._waiting = []
            return waiting
        until = len(waiting) if all_of_it else len(waiting) // size * size
        self._waiting = waiting[until:]
        return [f"[{','.join(waiting[at : at + size])}]" for at in range(0, until, size)]

    def _encode(self, lines: list[str]) -> bytes:
        self.tally.records += len(lines)
        lines.append("")
        return "\n".join(lines).encode()


class _Stream:
    """One platform: its workers, and the orders that are open."""

    def __init__(self, simulation: Simulation, registration: PlatformRegistration, orders: int) -> None:
        plan = simulation.plan
        line = registration.lines[0]
        shape = shapes().lines[line]
        places = list(_places(plan.provinces))
        self._cities = [code for code, _ in places]
        self._wire = Wire(registration.platform_id, line, self._cities, simulation.clock)
        self._simulation = simulation
        self._shape = shape
        self._rare_share = shape.cancelled_share + shape.reassigned_share
        self._durations_s = [round(seconds) for seconds in table(shape.duration_s)]
        self._overlap_begins = table(shape.overlap_begins)
        self._schedule = by_weight(orders, [shape.hour_shares[hour] for hour in _slot_hours()] * plan.days)
        self._wheel = _wheel([share for _, share in places])
        self._free_at = [0]  # worker → the second from which the worker holds no order; 0 is nobody
        self._idle = [self._hire(orders * share / plan.days) for _, share in places]
        self._invites: list[tuple[int, int, int]] = []  # (second, worker, city) of orders to come on top
        self.open: defaultdict[int, list[str]] = defaultdict(list)  # second of completion → order ids

    def _hire(self, orders_per_day: float) -> deque[int]:
        """A city's first workers; more come when all are busy."""
        count = max(1, ceil(orders_per_day / ORDERS_PER_WORKER_DAY))
        workers = range(len(self._free_at), len(self._free_at) + count)
        self._free_at += [0] * count
        return deque(workers)

    def accept(self, slot: int) -> None:
        """The orders accepted in one slot; their completions become due."""
        count = self._schedule[slot] if slot < len(self._schedule) else 0
        if not count:
            return
        simulation = self._simulation
        number = simulation.tally.orders
        faults = simulation.faults(count)
        random, events, clock = simulation.dice.random, simulation.post.events, simulation.clock
        text, line, cities = self._wire.accepted_text, self._wire.line, self._cities
        begins, common = slot * SLOT_S, 0
        for second in sorted([begins + int(random() * SLOT_S) for _ in range(count)]):
            worker, city, ended = self._recruit(second)
            order_id = simulation.order_id(number, second)
            if number in faults:
                order = Order(self._wire, order_id, second, ended, worker, cities[city])
                simulation.spoil(faults[number], order)
            elif random() < self._rare_share:
                self._rare(Order(self._wire, order_id, second, ended, worker, cities[city]), city)
            else:
                events[second + ARRIVAL_DELAYS_S[int(random() * 10)]].append(
                    text % (order_id, order_id, clock(second), worker, line, cities[city])
                )
                self.open[ended].append(order_id)
                common += 1
            number += 1
        simulation.tally.orders = number
        simulation.tally.new_by_type[EventType.ACCEPTED] += common

    def complete(self, second: int) -> None:
        """The orders completed in one second."""
        simulation, order_ids = self._simulation, self.open.pop(second)
        random, events = simulation.dice.random, simulation.post.events
        text, time = self._wire.completed_text, simulation.clock(second)
        for order_id in order_ids:
            arrives = second + ARRIVAL_DELAYS_S[int(random() * 10)]
            events[arrives].append(text % (order_id, order_id, time))
        simulation.tally.new_by_type[EventType.COMPLETED] += len(order_ids)

    def _recruit(self, second: int) -> tuple[int, int, int]:
        """Who takes an order, where, and until when: a worker who is invited to one more, or an idle one."""
        random = self._simulation.dice.random
        invites, free_at = self._invites, self._free_at
        duration_s = self._durations_s[int(random() * TABLE_SIZE)]
        worker = 0
        while invites and invites[0][0] <= second and not worker:
            _, invited, city = heappop(invites)
            worker = invited if free_at[invited] > second else 0
        if not worker:
            city = self._wheel[int(random() * WHEEL_SIZE)]
            worker = self._idle_worker(city, second)
        ended = second + duration_s
        if free_at[worker] < ended:  # noqa: PLR1730  max() is a call
            free_at[worker] = ended
        if random() < self._shape.overlap_share:
            again = second + int(duration_s * self._overlap_begins[int(random() * TABLE_SIZE)])
            heappush(invites, (again, worker, city))
        return worker, city, ended

    def _idle_worker(self, city: int, second: int) -> int:
        """A worker of the city who holds no order; a new one when the next few are busy."""
        queue = self._idle[city]
        for _ in range(IDLE_TRIES):
            worker = queue[0]
            queue.rotate(-1)
            if self._free_at[worker] <= second:
                return worker
        worker = len(self._free_at)
        self._free_at.append(0)
        queue.append(worker)
        return worker

    def _rare(self, order: Order, city: int) -> None:
        """An order that is cancelled, or passes to another worker."""
        post, dice, shape = self._simulation.post, self._simulation.dice, self._shape
        post.new(EventType.ACCEPTED, order.accepted, self._wire.accepted(order))
        second = order.accepted + 1 + int(dice.random() * (order.ended - order.accepted - 1))
        if dice.random() * self._rare_share < shape.cancelled_share:
            reason = CANCEL_REASONS[int(dice.random() * len(CANCEL_REASONS))]
            post.new(EventType.CANCELLED, second, self._wire.cancelled(order, second, reason))
            return
        worker = self._idle_worker(city, second)
        self._free_at[worker] = order.ended
        post.new(EventType.REASSIGNED, second, self._wire.reassigned(order, second, worker))
        self.open[order.ended].append(order.order_id)


def _order_ids(plan: Plan) -> Callable[[int, int], str]:
    """(number, second of acceptance) → 16 digits: growing with time, or all over the place."""
    if plan.ids == "random":
        start = plan.seed * SEED_STEP
        return lambda number, second: str(IDS_FROM + _scattered((number + start) % ID_COUNT))
    begins_unix_s = day_begins_us(plan.first_day) // US_PER_SECOND
    # 10 digits of time, 2 of the seed, 4 of the order's number within its second
    base = begins_unix_s * 1_000_000 + plan.seed % 100 * 10_000
    return lambda number, second: str(base + second * 1_000_000 + number % 10_000)


def _scattered(number: int) -> int:
    """A number below ID_COUNT → another that looks random, one to one; one outside goes round again."""
    for factor in ID_FACTORS:
        number = number * factor & ID_BITS
        number ^= number >> 27
    return number if number < ID_COUNT else _scattered(number)


def _streams(simulation: Simulation) -> list[_Stream]:
    """The plan's orders shared out over its platforms, as the lines of business share them."""
    plan = simulation.plan
    lines = [platform.lines[0] for platform in plan.platforms]
    weights = [shapes().lines[line].orders_per_day_weight / lines.count(line) for line in lines]
    parts = by_weight(plan.orders, weights)
    return [_Stream(simulation, platform, part) for platform, part in zip(plan.platforms, parts, strict=True)]


def _places(provinces: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Cities and their shares of the orders: provinces by population, a province's cities alike."""
    weights = shapes().province_weights
    whole = sum(weights[province] for province in provinces)
    for province in provinces:
        named = cities(province)
        yield from ((code, weights[province] / whole / len(named)) for code in named)


def _wheel(shares: list[float]) -> list[int]:
    """Indexes in proportion to shares, so that one look-up draws one."""
    parts = by_weight(WHEEL_SIZE, shares)
    return [index for index, part in enumerate(parts) for _ in range(part)]


def _slot_hours() -> list[int]:
    return [slot * SLOT_S // 3_600 for slot in range(SLOTS_PER_DAY)]
