"""What a ledger is, as plain dictionaries. Pure. In: what was produced, and what the books say. Out: where they differ.

The model knows neither batches nor databases nor faults. What it says of an order: charged once; the version that
stands is the first one of some partition, since nothing orders one partition against another; every other event of
that order is a duplicate of it or a conflict with it, counted and, if a conflict, kept.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from consumers.chaos.plan import UNKNOWN_CITY, Produce

Key = tuple[str, str, str]  # platform, order, which fact of it
Facts = tuple[Any, ...]
ACCEPTED = "accepted"
ENDED = "ended"


@dataclass(slots=True)
class Books:
    """The ledger, read. `raw`: partition → the records of its segments, in order."""

    facts: dict[Key, Facts]
    charges: int
    answers: dict[str, int]
    conflicts: Counter[tuple[str, str]]
    rejected: set[tuple[int, int]]
    heads: dict[int, int]
    raw: dict[int, list[bytes]]
    findings: list[str]


@dataclass(slots=True)
class Model:
    """Everything that was produced."""

    raw: dict[int, list[bytes]] = field(default_factory=dict)
    versions: dict[Key, list[tuple[int, Facts]]] = field(default_factory=dict)
    rejections: int = 0
    rejected: set[tuple[int, int]] = field(default_factory=set)

    def hear(self, step: Produce) -> None:
        """Records arrive on a partition."""
        heard = self.raw.setdefault(step.partition, [])
        for record in step.records:
            for event in events(record):
                self._hear(event, step.partition, len(heard))
            heard.append(record)

    def _hear(self, event: Any, partition: int, offset: int) -> None:
        fact = fact_of(event)
        if fact is None:
            self.rejections += 1
            self.rejected.add((partition, offset))
        else:
            key, facts = fact
            self.versions.setdefault(key, []).append((partition, facts))


def events(record: bytes) -> list[Any]:
    """The events of a record; None in place of one that cannot be read."""
    try:
        read = json.loads(record)
    except ValueError:
        return [None]
    return (read or [None]) if isinstance(read, list) else [read]


def fact_of(event: Any) -> tuple[Key, Facts] | None:
    """What an event says of which order; None when it says nothing that can be booked."""
    if not event or "subject" not in event:
        return None
    platform, kind, data = event["source"].removeprefix("/platforms/"), event["type"], event["data"]
    time = datetime.fromisoformat(event["time"])
    if kind == "order.accepted":
        if data["accepted_city"] == UNKNOWN_CITY:
            return None
        return (platform, event["subject"], ACCEPTED), (time, data["worker_id"], int(data["accepted_city"]))
    slot = event["id"] if kind == "order.reassigned" else ENDED
    return (platform, event["subject"], slot), (kind, time, data.get("worker_id"))


def differences(model: Model, books: Books) -> list[str]:
    """Where the books are not those of the model, in one line each."""
    expected, conflicts = answers(model, books)
    pairs: tuple[tuple[str, object, object], ...] = (
        ("orders charged", sum(key[2] == ACCEPTED for key in model.versions), books.charges),
        ("facts", set(model.versions), set(books.facts)),
        ("answers", expected, books.answers),
        ("conflicts kept", conflicts, books.conflicts),
        ("rejected kept", model.rejected, books.rejected),
        ("heads", {partition: len(raw) for partition, raw in model.raw.items()}, books.heads),
        ("raw records", model.raw, books.raw),
        ("replay", [], books.findings),
    )
    found = [f"{what}: expected {wanted}, found {seen}" for what, wanted, seen in pairs if wanted != seen]
    return found + list(_not_first(model, books))


def answers(model: Model, books: Books) -> tuple[dict[str, int], Counter[tuple[str, str]]]:
    """How many answers of each sort there must be, given which versions stand; and the conflicts of each order."""
    counted: Counter[str] = Counter(rejected=model.rejections, new=len(model.versions))
    conflicts: Counter[tuple[str, str]] = Counter()
    for key, versions in model.versions.items():
        same = sum(facts == books.facts.get(key) for _, facts in versions)
        counted["duplicate"] += max(0, same - 1)
        conflicts[key[:2]] += len(versions) - max(1, same)
    counted["conflict"] = conflicts.total()
    return {name: counted[name] for name in ("new", "duplicate", "conflict", "rejected")}, +conflicts


def _not_first(model: Model, books: Books) -> Iterable[str]:
    for key, versions in model.versions.items():
        first: dict[int, Facts] = {}
        for partition, facts in versions:
            first.setdefault(partition, facts)
        if key in books.facts and books.facts[key] not in first.values():
            yield f"{key}: {books.facts[key]} stands, and is first on no partition"
