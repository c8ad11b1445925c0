"""Rejected records: where each stands (file and line, or topic and offset), why, and what it holds.

In: rows of the store, or outcomes of a run. Out: plain values for --json, made into lines for a person.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from ledger.cli.common import out, say
from ledger.cli.eventview import local_time, reason_text
from ledger.cli.places import seen, where, where_text
from ledger.identity_number import masked
from ledger.intake import Rejection

OF_A_REASON_MAX = 3
FIRST_MAX = 10
RAW_CHARS_SHOWN = 120


def _place(topic: str, partition: int, offset: int, item: int, file: str | None, header: bool) -> dict[str, Any]:
    """The place of a rejected record. `item`: the place in its list, from 0, where it is of one."""
    place = where(topic, partition, offset, file, header)
    return place | {"record_offset": offset, "item": None if item < 0 or header else item}


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the store, with its raw bytes as text that is safe in a terminal."""
    place = _place(row["topic"], row["partition"], row["record_offset"], row["item"], row["file"], row["header"])
    # A row of a file stands as it was sent; an item of a list, or an event that a row made, as JSON.
    encoding = row["encoding"] if row["item"] < 0 and row["encoding"] else "utf-8"
    raw = bytes(row["raw"])
    return place | {
        "platform_id": row["platform_id"],
        "reason": row["reason"],
        "place": row["place"],
        "detail": row["detail"],
        "recorded_at": local_time(row["recorded_at"]),
        "raw": readable(raw, encoding) + ("…" if row["raw_bytes"] > len(raw) else ""),
        "raw_bytes": row["raw_bytes"],
    }


def readable(raw: bytes, encoding: str) -> str:
    """Bytes of a stranger as text that is safe in a terminal, and names no person."""
    decoded = raw.decode(encoding, "replace")
    return masked(seen(decoded))


class First:
    """The first rejected rows of a run, some of each reason."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._seen: Counter[str] = Counter()

    def take(self, one: Rejection, topic: str, partition: int, file: str | None, header: bool) -> None:
        """Keep it where it is one of the first."""
        self._seen[one.reason] += 1
        if self._seen[one.reason] <= OF_A_REASON_MAX and len(self.rows) < FIRST_MAX:
            told = {"reason": str(one.reason), "place": one.place, "detail": one.detail}
            self.rows.append(_place(topic, partition, one.offset, one.item, file, header) | told)


# ---- for a person


def _where_text(one: Mapping[str, Any]) -> str:
    text = where_text(one, one["record_offset"])
    return text if one["item"] is None else text + say(f", item {one['item']}", f"，第 {one['item']} 项")


def show_first(rows: list[dict[str, Any]]) -> None:
    """The first rejected rows of a run, a line each."""
    if not rows:
        return
    out.print(say("The first rejected ones (blank lines are not counted):", "最先拒收的几条（空行不计行号）："))
    for one in rows:
        out.print(Text(f"  {_where_text(one)} · {one['reason']} · {one['place']}: {one['detail']}"))


def show(rows: list[dict[str, Any]]) -> None:
    """Rejected records with what they hold."""
    for one in rows:
        out.print(Text(reason_text(one["reason"]), style="bold") + Text(f"  {_where_text(one)}", style="not bold"))
        out.print(Text(f"  {one['place']}: {one['detail']}"))
        cut = "…" if len(one["raw"]) > RAW_CHARS_SHOWN else ""
        out.print(Text(f"  {one['raw'][:RAW_CHARS_SHOWN]}{cut}", style="dim"))
    if any(one["file"] for one in rows):
        out.print(Text(say("Lines are counted without blank ones.", "行号不计空行。"), style="dim"))
    if not rows:
        out.print(say("No rejected records.", "没有拒收记录。"))
