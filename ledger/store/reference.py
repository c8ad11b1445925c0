"""Rows that a batch refers to, made ahead in transactions of their own: rulebook, rates, sources, days.

A batch that is rolled back then forgets none of them, and a new day's lock is not held while a batch runs.
"""

from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select
from sqlalchemy.dialects.postgresql import Range, insert

from ledger.errors import BadQuestion
from ledger.rating import Rating
from ledger.rulebook import Rulebook
from ledger.store.tables import rate, rulebook, settlement, source
from schemas.both import Both


def keep_rulebook(tx: Connection, rules: Rulebook) -> None:
    """Record a rulebook and its rates, once; the database refuses rates that overlap."""
    values = {"rulebook_hash": rules.hash, "content": rules.content}
    fresh = insert(rulebook).values(values).on_conflict_do_nothing().returning(rulebook.c.rulebook_hash)
    if tx.scalar(fresh):
        rows = [
            {
                "rulebook_hash": rules.hash,
                "line": str(item.line),
                "province": item.province,
                "platform_id": item.platform_id,
                "in_force": Range(item.first_day, item.last_day and item.last_day + timedelta(days=1)),
                "premium_base": item.premium_base,
                "mark": item.mark,
                "source": item.source,
            }
            for item in rules.rates()
        ]
        tx.execute(rate.insert(), rows)


def rulebook_of(tx: Connection, rulebook_hash: bytes) -> Rulebook:
    """A recorded rulebook, rebuilt from its text."""
    content = tx.scalar(select(rulebook.c.content).where(rulebook.c.rulebook_hash == rulebook_hash))
    assert content is not None
    return Rulebook.from_content(content)


class ChangingRules:
    """The recorded rulebooks by which an ending can change a charge, each with its rating. Knows those it has read."""

    def __init__(self, own: Rating) -> None:
        """`own`: the rating that this process books by."""
        self.own_is_plain = own.rulebook.plain_orders()
        self.ratings = {} if self.own_is_plain else {own.rulebook.hash: own}
        self._known = {own.rulebook.hash}

    def look(self, tx: Connection) -> None:
        """Read what was recorded since; where nothing was, this is one look at a few rows."""
        recorded = {bytes(found) for found in tx.scalars(select(rulebook.c.rulebook_hash))}
        for rulebook_hash in recorded - self._known:
            rules = rulebook_of(tx, rulebook_hash)
            if not rules.plain_orders():
                self.ratings[rulebook_hash] = Rating(rules)
            self._known.add(rulebook_hash)


def keep_source(engine: Engine, values: dict[str, Any]) -> None:
    """Record where a topic's records come from, and how its CSV lines are read."""
    with engine.begin() as tx:
        tx.execute(insert(source).values(values).on_conflict_do_nothing())


def deliveries(tx: Connection, topic: str) -> int:
    """How often a file's records were delivered: under its topic, and under topic#2, topic#3 …"""
    of_file = func.split_part(source.c.topic, "#", 1) == topic
    return tx.scalars(select(func.count()).select_from(source).where(of_file)).one()


def make_days(engine: Engine, days: list[date]) -> None:
    """Make the partitions of these local days where they are missing."""
    for day in days:
        with engine.begin() as tx:
            tx.execute(select(func.make_order_event_day(day)))


def sealed_months(tx: Connection, provinces: set[str]) -> set[tuple[str, date]]:
    """Which months of these provinces are settled."""
    rows = tx.execute(
        select(settlement.c.province, settlement.c.month).where(settlement.c.province.in_(sorted(provinces)))
    )
    return {(row.province, row.month) for row in rows}


def keep_stream(engine: Engine, topic: str, owner: int | None) -> None:
    """Record that a topic is a stream, and whose own it is; that never changes. BadQuestion where it would."""
    keep_source(engine, {"topic": topic, "description": topic, "stream": True, "platform_no": owner})
    with engine.connect() as connection:
        found = connection.execute(select(source).where(source.c.topic == topic)).one()
    if not found.stream or found.platform_no != owner:
        raise BadQuestion(
            Both(
                f"{topic} is recorded as {_whose(found)}, which never changes.",
                f"{topic} 已登记为{'专用' if found.platform_no else '共用'}主题，不得更改。",
            ),
            Both("Consume it as it was before, or give the topic another name.", "请按原样消费，或为主题另起名称。"),
        )


def _whose(found: Row[Any]) -> str:
    if not found.stream:
        return "no stream"
    return f"the own topic of platform {found.platform_no}" if found.platform_no else "shared by all platforms"
