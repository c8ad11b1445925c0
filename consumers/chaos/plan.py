"""What a run of the campaign does. Pure. In: a seed. Out: its history, the same whenever the seed is.

A history is a list of steps: records produced on some partition, and lives of consumer processes, each with what
happens to them. Orders are few, so that events of one order meet in every way: again, contradicting, shuffled over
partitions, in any packing; some records are no events at all. Any step may be left out and the rest is still a history.
"""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

PARTITIONS = 3
ROUNDS_PER_RUN = (1, 3)
ORDERS = 12
EVENTS_PACKED_MAX = 40
SWITCH_PASSED_MAX = 3
BOUNCES_IN_100 = 4

PLATFORMS = ("eleme", "example-delivery")
CITIES = ("310100", "440100")
CODECS = (None, "gzip", "snappy", "lz4", "zstd")
POISON = (b"", b"rubbish", b"{}", b"[]", b"\xff\xfe", b'{"specversion": "1.0"')
TIMES = ("2026-10-03T12:00:00+08:00", "2026-10-04T12:00:00+08:00", "2026-09-30T23:59:59+08:00")
UNKNOWN_CITY = "999999"


class Produce(NamedTuple):
    """Records for one partition, in order."""

    partition: int
    codec: str | None
    records: tuple[bytes, ...]


class Fault(NamedTuple):
    """`kill`: the process, as kill -9 does; `cut`: its connections to the database. At a step of the loop, when it
    comes there for the `time`th time."""

    what: str
    step: str
    time: int


class Consume(NamedTuple):
    """Processes that book at once until all is booked or they die. `together`: as members of one group, else racing.

    `set_back`: their group's committed offsets are set to 0 before. `bounce`: the broker dies meanwhile and comes back.
    """

    lives: tuple[Fault | None, ...]
    together: bool
    set_back: bool
    bounce: bool


Step = Produce | Consume
History = tuple[Step, ...]
Fails = Callable[[History], bool]


def history(seed: int, steps: Sequence[str]) -> History:
    """The history of a seed. `steps`: those of the loop, at which a process may be hit."""
    dice = Random(seed)  # noqa: S311  repeatable, not secret
    sent: list[bytes] = []
    planned: list[Step] = []
    bounce = dice.randrange(100) < BOUNCES_IN_100
    for _ in range(dice.randint(*ROUNDS_PER_RUN)):
        for partition in dice.sample(range(PARTITIONS), dice.randint(1, PARTITIONS)):
            planned.append(_produce(dice, partition, sent))
        planned.append(_consume(dice, steps, bounce))
        bounce = False
    return tuple(planned)


def _produce(dice: Random, partition: int, sent: list[bytes]) -> Produce:
    records = []
    for _ in range(dice.randint(1, 6)):
        records.append(dice.choice(sent) if sent and dice.random() < 0.2 else _record(dice))
    sent += records
    return Produce(partition, dice.choice(CODECS), tuple(records))


def _record(dice: Random) -> bytes:
    sort = dice.random()
    if sort < 0.1:
        return dice.choice(POISON)
    if sort < 0.5:
        return json.dumps(_event(dice)).encode()
    return json.dumps([_event(dice) for _ in range(dice.choice((1, 2, 5, EVENTS_PACKED_MAX)))]).encode()


def _event(dice: Random) -> dict[str, object]:
    kind = dice.choice(("accepted", "accepted", "completed", "cancelled", "reassigned"))
    order = f"O{dice.randrange(ORDERS)}"
    data: dict[str, str] = {}
    if kind in ("accepted", "reassigned"):
        data["worker_id"] = dice.choice(("W1", "W1", "W1", "W2"))
    if kind == "accepted":
        city = UNKNOWN_CITY if dice.random() < 0.05 else dice.choice(CITIES)
        data |= {"line": "instant_delivery", "accepted_city": city}
    if kind == "cancelled":
        data["reason"] = "shop closed"
    return {
        "specversion": "1.0",
        "id": dice.choice("12") if kind == "reassigned" else f"{order}/{kind}",
        "source": f"/platforms/{dice.choice(PLATFORMS)}",
        "type": f"order.{kind}",
        "subject": order,
        "time": dice.choice(TIMES),
        "data": data,
    }


def _consume(dice: Random, steps: Sequence[str], bounce: bool) -> Consume:
    together = dice.random() < 0.2
    lives: list[Fault | None] = []
    for _ in range(2 if together or dice.random() < 0.35 else 1):
        # A member that is killed stays in its group until its session ends, and the others wait for it that long.
        what = dice.choice(("cut", None) if together else ("kill", "kill", "cut", None))
        lives.append(Fault(what, dice.choice(tuple(steps)), dice.randint(1, SWITCH_PASSED_MAX)) if what else None)
    return Consume(tuple(lives), together, dice.random() < 0.2, bounce)


def bounces(planned: History) -> bool:
    """Whether the broker dies in it."""
    return any(isinstance(step, Consume) and step.bounce for step in planned)


def told(step: Step) -> str:
    """A step in one line."""
    if isinstance(step, Produce):
        records = " ".join(record.decode(errors="backslashreplace") or "(empty)" for record in step.records)
        return f"produce [{step.partition}] {step.codec or 'plain'}: {records}"
    lives = ", ".join(f"{one.what} at {one.step} {one.time}" if one else "to the end" for one in step.lives)
    how = [
        word for word, so in (("one group", step.together), ("set back", step.set_back), ("bounce", step.bounce)) if so
    ]
    return f"consume {lives}{' · ' if how else ''}{', '.join(how)}"


def shortest(failing: History, fails: Fails, tries: int) -> History:
    """The history with every step left out without which it fails as well, within so many tries."""
    at = len(failing) - 1
    while at >= 0 and tries:
        shorter = failing[:at] + failing[at + 1 :]
        tries -= 1
        if shorter and fails(shorter):
            failing = shorter
        at = min(at, len(failing)) - 1
    return failing
