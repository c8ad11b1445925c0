"""An order as a platform reports it that sends at once: accepted, the worker hurt on the way, completed.

In: the clock. Out: who was hurt and when, with both events booked as they happened. What is booked from a file
afterwards was first recorded after the instant, and is doubtful evidence of it; this one is not.
"""

from datetime import datetime
from time import sleep
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from ledger.calendar import SHANGHAI, to_us
from ledger.cli import common
from ledger.evidence import Record
from schemas.codes import EventType, Line
from schemas.orders import SOURCE_BEGINS

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from consumers.loop import Booker

TOPIC = "example-live"
PLATFORM = "example-delivery"
WORKER = "W-LIVE"
CITY = "310100"


class Injury(NamedTuple):
    """Who was hurt, and when."""

    platform_id: str
    worker_id: str
    at: datetime


def order(engine: "Engine") -> Injury:
    """Book an acceptance, let a second pass, and book the completion: two batches of one event each."""
    from consumers.loop import Booker
    from ledger import rulebook

    booker, accepted_at = Booker(engine, rulebook.load()), common.now()
    order_id = f"live-{to_us(accepted_at)}"
    data = {"worker_id": WORKER, "line": Line.INSTANT_DELIVERY, "accepted_city": CITY}
    _send(booker, EventType.ACCEPTED, order_id, accepted_at, data)
    sleep(1)
    at = common.now()
    _send(booker, EventType.COMPLETED, order_id, common.now(), {})
    return Injury(PLATFORM, WORKER, at)


def _send(booker: "Booker", kind: EventType, order_id: str, moment: datetime, data: dict[str, Any]) -> None:
    event = {
        "specversion": "1.0",
        "id": f"{order_id}/{kind}",
        "source": SOURCE_BEGINS + PLATFORM,
        "type": kind,
        "subject": order_id,
        "time": moment.astimezone(SHANGHAI).isoformat(timespec="microseconds"),
        "data": data,
    }
    head = booker.head(TOPIC, 0)
    booker.book(booker.read([Record(head.next_offset, to_us(moment), orjson.dumps(event))]), head)
