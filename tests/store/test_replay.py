"""`danbao audit replay`: sound books agree with their segments; whatever is changed by hand is named.

In: a ledger with something of everything, made once, and the superuser's way round every trigger. Out: the
findings after one change. Each change is taken back before the next.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from support import (
    ARRIVED,
    Desk,
    accepted,
    cancelled,
    completed,
    new_ledger,
    reassigned,
    rules,
    rules_where,
    value,
)

from consumers import loop, sources
from ledger import mapping
from ledger.store import connect, settle
from ledger.store.replay import Report, replay

LATE = "2026-10-04T09:00:00+08:00"
SEPTEMBER = "2026-09-30T21:00:00+08:00"


def replayed(url: str) -> Report:
    with tempfile.TemporaryDirectory() as spill, connect.ledger(url, connect.AUDIT) as engine:
        return replay(engine, Path(spill), 2, lambda _: nullcontext(lambda _: None))


# ---- a ledger with something of everything


def spaced(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def compact(event: dict[str, Any] | list[dict[str, Any]]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def with_data(event: dict[str, Any], **data: Any) -> dict[str, Any]:
    return event | {"data": event["data"] | data}


def book_everything(url: str) -> None:
    with connect.ledger(url, connect.INGEST) as engine:
        desk, other = Desk(engine), Desk(engine, "desk", 1)
        book_orders(desk, other)
        book_doubtful(desk)
        book_files(engine)
        book_inbox(engine)
    with connect.ledger(url, connect.SETTLE) as engine:
        for month in (date(2026, 9, 1), date(2026, 10, 1)):
            for province in ("21", "31"):
                settle.seal(engine, province, month, rules())
    with connect.ledger(url, connect.INGEST) as engine:
        Desk(engine).hand_in(compact(accepted("late", LATE)), compact(completed("late")))
        book_other_rules(engine)


def book_orders(desk: Desk, other: Desk) -> None:
    desk.hand_in(*(compact(accepted(f"A{number}", worker=f"W{number % 3}")) for number in range(7)))
    desk.hand_in(
        compact([accepted("B1", city="210200"), completed("B1"), accepted("B2", SEPTEMBER, line="food_delivery")]),
        compact([completed(f"A{number}") for number in range(4)]),
        compact(cancelled("A4")),
        compact([reassigned("A5", "W9"), reassigned("A5", "W8", "2026-10-03T12:15:00+08:00", "2"), completed("A5")]),
        spaced(accepted("B3", worker="W4")),
        spaced(with_data(accepted("B4"), pay="6.50", position={"lat": 31.2, "lng": 121})),
        compact(with_data(cancelled("B4"), reason="商家取消")),
    )
    other.hand_in(compact(accepted("C1", platform="meituan")), compact(completed("C1", platform="meituan")))


def book_doubtful(desk: Desk) -> None:
    desk.hand_in(
        compact(accepted("A1", worker="W1")),
        compact(accepted("A2", LATE)),
        compact([accepted("D1"), {"specversion": "1.0"}, accepted("D1"), completed("D1"), completed("D1", LATE)]),
        b"[" + compact(accepted("D2")) + b"," + compact(completed("D2"))[:-5] + b"]",
        compact(accepted("D3", city="999999")),
        compact(accepted("D4")).replace(b'"D4"', b'"\\u0044' + b'4"'),
        compact(accepted("D5", platform="nobody-knows")),
        b"[]",
        compact(completed("never-accepted")),
    )


CSV = """order_id,worker_id,accepted_at,completed_at,cancelled,pick_lat,pick_lng
F1,K1,2026-10-03 09:04:48+08:00,2026-10-03 09:30:00+08:00,False,38.9,121.6
F2,K2,2026-10-03 09:05:48+08:00,,False,,
F3,K1,soon,,False,,
"""


def book_files(engine: Engine) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.csv"
        path.write_text(CSV)
        eleme = mapping.load("eleme")
        source = sources.open_file(path, eleme, None, ARRIVED)
        sources.keep(engine, source, eleme)
        loop.run(loop.Booker(engine, rules()), source, loop.Totals())


def book_inbox(engine: Engine) -> None:
    with engine.begin() as tx:
        for record in (compact(accepted("I1")), compact(completed("I1"))):
            tx.exec_driver_sql("select inbox_put(%s)", (record,))
    loop.run(loop.Booker(engine, rules()), sources.InboxSource(engine), loop.Totals())


def book_other_rules(engine: Engine) -> None:
    late = Desk(engine, "completing", book=rules_where("completed", "keep"))
    late.hand_in(compact(accepted("E1")), compact(accepted("E2")), compact(completed("E1")))
    late.hand_in(compact(completed("E2")), compact(completed("E3")))
    late.hand_in(compact(accepted("E3")))
    back = Desk(engine, "reversing", book=rules_where("accepted", "reverse"))
    back.hand_in(compact(accepted("R1")), compact(cancelled("R1")), compact(accepted("R2")))
    back.hand_in(compact(cancelled("R2")))


@pytest.fixture(scope="module")
def books(server_url: str) -> Iterator[str]:
    """The ledger, made once."""
    with new_ledger(server_url) as url:
        book_everything(url)
        yield url


def test_sound_books_agree_with_their_segments(books: str):
    report = replayed(books)
    assert report.findings.listed() == []
    assert report.findings.total == 0
    assert report.events == value(books, "select sum(events) from batch")
