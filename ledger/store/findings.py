"""Business findings: what deserves a look in books that are in order. In: a read-only connection. Out: plain rows.

Every one of them is a named query; an order they name is insured all the same.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Row, TextClause

from ledger.calendar import local_day
from ledger.store import gaps
from ledger.store.queries import sql
from schemas.both import Both
from schemas.codes import FACT_NAMES, LINE_NAMES, PROVINCES, Line


@dataclass(frozen=True, slots=True)
class Business:
    """One finding: its code, whom it concerns, how many orders or events, particulars.

    `example`: an order, a month or a reason to look further by; '' where the platform is enough.
    """

    code: str
    platform: str
    count: int
    particulars: Both
    example: str = ""


def business_findings(tx: Connection, today: date, since: datetime | None = None) -> list[Business]:
    """All of them, as the books stand now; `since`: only of what was recorded from then on. Months wait in any case."""
    return [
        *_unregistered(tx, since),
        *_counted(tx, "never_accepted", sql("finding_never_accepted"), since),
        *_conflicts(tx, since),
        *_counted(tx, "other_day", sql("finding_other_day"), since),
        *_unsettled(tx, today),
        *_rejected(tx, since),
        *_gaps(tx, since),
    ]


def _unregistered(tx: Connection, since: datetime | None) -> list[Business]:
    return [
        Business(row.finding, row.platform_id, int(row.orders), _place(row))
        for row in tx.execute(sql("finding_unregistered_places"), {"since": since})
    ]


def _place(row: Row[Any]) -> Both:
    area, (line, line_zh) = PROVINCES[row.province], LINE_NAMES[Line(row.line)]
    days = f"{row.first_day} … {row.last_day}"
    return Both(f"{row.province} {area.name_en}, {line}, {days}", f"{row.province} {area.name}，{line_zh}，{days}")


def _counted(tx: Connection, code: str, query: TextClause, since: datetime | None) -> list[Business]:
    return [
        Business(code, row.platform_id, row.orders, Both(f"e.g. {row.example}", f"如 {row.example}"), row.example)
        for row in tx.execute(query, {"since": since})
    ]


def _conflicts(tx: Connection, since: datetime | None) -> list[Business]:
    return [
        Business("conflict", row.platform_id, row.versions, _versions(row), row.example)
        for row in tx.execute(sql("finding_conflicts"), {"since": since})
    ]


def _versions(row: Row[Any]) -> Both:
    differs = "、".join(FACT_NAMES[name][1] for name in row.differs.split(", "))
    orders = "1 order" if row.orders == 1 else f"{row.orders} orders"
    return Both(
        f"{row.differs}; {orders}, e.g. {row.example}",
        f"差异：{differs}；{row.orders} 单，如 {row.example}",
    )


def _unsettled(tx: Connection, today: date) -> list[Business]:
    this_month = today.replace(day=1)
    months: dict[date, list[str]] = {}
    for row in tx.execute(sql("unsealed_months"), {"month": today}):
        if row.month < this_month:
            months.setdefault(row.month, []).append(row.province)
    return [
        Business(
            "not_settled",
            "",
            len(provinces),
            Both(f"{month:%Y-%m}: {', '.join(provinces)}", f"{month:%Y-%m}：{'、'.join(provinces)}"),
            f"{month:%Y-%m}",
        )
        for month, provinces in sorted(months.items())
    ]


def _rejected(tx: Connection, since: datetime | None) -> list[Business]:
    rows = tx.execute(sql("finding_rejected"), {"since": since})
    return [Business("rejected", row.platform_id, row.events, Both(row.reason, row.reason), row.reason) for row in rows]


def _gaps(tx: Connection, since: datetime | None) -> list[Business]:
    return [
        Business("gap_accepted", "", one.next_offset - one.first_offset, _decision(one))
        for one in gaps.accepted_since(tx, since)
    ]


def _decision(one: gaps.Gap) -> Both:
    place = f"{one.topic}[{one.partition}] {one.first_offset} … {one.next_offset - 1}"
    day = local_day(one.accepted_at)
    return Both(
        f"{place}; accepted on {day} by {one.accepted_by}: {one.why}",
        f"{place}；{day} 由 {one.accepted_by} 接受：{one.why}",
    )
