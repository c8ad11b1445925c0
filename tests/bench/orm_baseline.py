"""The baseline: what an ordinary team writes: SQLAlchemy ORM, one row and one entry per order, batches of 500.

In: a server and a file of one event per record. Out: events per second with the same durability. It validates with
pydantic model classes, looks orders up before it inserts, and keeps an order, an entry and two postings.
"""

from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import BaseModel
from sqlalchemy import BigInteger, DateTime, ForeignKey, Text, UniqueConstraint, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

BATCH = 500


class Base(DeclarativeBase):
    """Declarative base."""


class Posting(Base):
    """One line of an entry."""

    __tablename__ = "orm_posting"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("orm_entry.id"))
    account: Mapped[str] = mapped_column(Text)
    amount: Mapped[int]


class Entry(Base):
    """A balanced entry."""

    __tablename__ = "orm_entry"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    postings: Mapped[list[Posting]] = relationship()


class OrderRow(Base):
    """An order, its charge in it."""

    __tablename__ = "orm_order"
    __table_args__ = (UniqueConstraint("platform", "order_id"),)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    platform: Mapped[str] = mapped_column(Text)
    order_id: Mapped[str] = mapped_column(Text)
    worker_id: Mapped[str] = mapped_column(Text)
    accepted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    amount: Mapped[int]
    entry_id: Mapped[int] = mapped_column(ForeignKey("orm_entry.id"))
    entry: Mapped[Entry] = relationship()


class Event(BaseModel):
    """An order event as a model class."""

    id: str
    source: str
    subject: str
    type: str
    time: datetime
    data: dict[str, Any]


def events_per_second(url: str, file: Path, events_max: int) -> float:
    """Book the first events of the file."""
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with file.open("rb") as lines:
        records = [line for line, _ in zip(lines, range(events_max), strict=False)]
    started = perf_counter()
    for at in range(0, len(records), BATCH):
        with Session(engine) as session, session.begin():
            _book(session, [Event.model_validate_json(record) for record in records[at : at + BATCH]])
    seconds = perf_counter() - started
    Base.metadata.drop_all(engine)
    engine.dispose()
    return len(records) / seconds


def _book(session: Session, events: list[Event]) -> None:
    orders = {event.subject for event in events}
    wanted = select(OrderRow).where(OrderRow.order_id.in_(orders))
    known = {(row.platform, row.order_id): row for row in session.scalars(wanted)}
    for event in events:
        key = (event.source, event.subject)
        if event.type == "order.accepted" and key not in known:
            postings = [Posting(account="receivable", amount=700), Posting(account="income", amount=-700)]
            known[key] = OrderRow(
                platform=event.source,
                order_id=event.subject,
                worker_id=event.data["worker_id"],
                accepted_at=event.time,
                amount=700,
                entry=Entry(postings=postings),
            )
            session.add(known[key])
        elif event.type != "order.accepted" and key in known:
            known[key].ended_at = event.time
