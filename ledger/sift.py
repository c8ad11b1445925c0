"""Sifting: which events of a batch are new, which repeat, which contradict. Pure.

In: the events of a batch in their order, and what the books already hold for their keys. Out: what is
fresh, the ordinals of duplicates, and the conflicts with what differs. The first version stands:
an order is charged once, for ever, and ends once, whatever day a later version claims.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ledger.intake import Acceptance, Key, Later
from schemas.codes import Line

LaterKey = tuple[int, str, str]


class KnownAcceptance(NamedTuple):
    """What the books hold of an order's acceptance."""

    occurred_us: int
    worker_id: str
    city: int
    line: Line


class KnownLater(NamedTuple):
    """What the books hold under a later event's key."""

    occurred_us: int
    kind: bytes
    worker_id: str | None


class Conflict(NamedTuple):
    """An event that contradicts the one that stands; `differs` names the facts."""

    event: Acceptance | Later
    differs: tuple[str, ...]


@dataclass(slots=True)
class Sifted:
    """A batch, sorted out. `duplicates` are ordinals."""

    acceptances: list[Acceptance] = field(default_factory=list)
    later: list[Later] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def sift(
    acceptances: Iterable[Acceptance],
    later: Iterable[Later],
    known_acceptances: Mapping[Key, KnownAcceptance],
    known_later: Mapping[LaterKey, KnownLater],
) -> Sifted:
    """Sort a batch out against what is known. Events must come in the order of their ordinals."""
    sifted = Sifted()
    seen: dict[Key, Acceptance] = {}
    for event in acceptances:
        key = event[:2]
        first = known_acceptances.get(key) or seen.setdefault(key, event)
        if first is event:
            sifted.acceptances.append(event)
        else:
            _judge(sifted, event, acceptance_differs(first, event))
    seen_later: dict[LaterKey, Later] = {}
    for event_ in later:
        later_key = event_[:3]
        first_ = known_later.get(later_key) or seen_later.setdefault(later_key, event_)
        if first_ is event_:
            sifted.later.append(event_)
        else:
            _judge(sifted, event_, later_differs(first_, event_))
    return sifted


def _judge(sifted: Sifted, event: Acceptance | Later, differs: tuple[str, ...]) -> None:
    if differs:
        sifted.conflicts.append(Conflict(event, differs))
    else:
        sifted.duplicates.append(event.ordinal)


def acceptance_differs(first: KnownAcceptance | Acceptance, second: Acceptance) -> tuple[str, ...]:
    """Which facts of a repeated acceptance differ from the one that stands."""
    return tuple(
        name
        for name, one, other in (
            ("time", first.occurred_us, second.occurred_us),
            ("worker", first.worker_id, second.worker_id),
            ("city", first.city, second.city),
            ("line", first.line, second.line),
        )
        if one != other
    )


def later_differs(first: KnownLater | Later, second: Later) -> tuple[str, ...]:
    """Which facts of a repeated later event differ from the one that stands."""
    return tuple(
        name
        for name, one, other in (
            ("type", first.kind, second.kind),
            ("time", first.occurred_us, second.occurred_us),
            ("worker", first.worker_id, second.worker_id),
        )
        if one != other
    )
