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
from schemas.both import Both
from schemas.codes import Reason

OF_A_REASON_MAX = 3
FIRST_MAX = 10
RAW_CHARS_SHOWN = 120
_CORRECT = Both(
    "The platform corrects what the place names and sends the record again.", "由平台更正所指之处后重新报送。"
)
_DATE = Both("Check the date with the platform, which sends it again corrected.", "请与平台核对日期，更正后重新报送。")
_SIGN = Both(
    "The platform checks its key (danbao platforms show PLATFORM) and sends it again, signed.",
    "平台核对其公钥（danbao platforms show 平台）后签名重新报送。",
)
_TO_DO = {
    Reason.TOO_LARGE: Both("The platform sends it in smaller records.", "由平台拆成较小的记录重新报送。"),
    Reason.MALFORMED: _CORRECT,
    Reason.INVALID: _CORRECT,
    Reason.EMPTY_LIST: Both("Nothing was in it; there is nothing to book.", "其中没有事件，无需入账。"),
    Reason.TOO_MANY_EVENTS: Both("The platform sends it in smaller records.", "由平台拆成较小的记录重新报送。"),
    Reason.UNKNOWN_PLATFORM: Both(
        "Register the platform (danbao platforms add); then it is sent again.",
        "登记平台（danbao platforms add）后重新报送。",
    ),
    Reason.UNKNOWN_CITY: _CORRECT,
    Reason.BEFORE_SCHEME: _DATE,
    Reason.IN_FUTURE: _DATE,
    Reason.NO_RATE: Both(
        "Look whether a rate is in force for its day (danbao rules check); then it is sent again.",
        "核对当日是否有生效费率（danbao rules check）后重新报送。",
    ),
    Reason.UNMAPPED: Both(
        "Correct the row or the mapping, then: danbao ingest FILE --again",
        "更正该行或映射，然后：danbao ingest 文件 --again",
    ),
    Reason.WRONG_SOURCE: Both(
        "The platform sends its own orders only, on its own topic.", "平台只在自有主题上报送本平台的订单。"
    ),
    Reason.UNSIGNED: _SIGN,
    Reason.BAD_SIGNATURE: _SIGN,
}


def _place(topic: str, partition: int, offset: int, item: int, file: str | None, header: bool) -> dict[str, Any]:
    """The place of a rejected record. `item`: the place in its list, from 0, where it is of one."""
    place = where(topic, partition, offset, file, header)
    return place | {"record_offset": offset, "item": None if item < 0 or header else item}


def record_id(row: Mapping[str, Any]) -> str:
    """What names a rejected record in the books: BATCH/OFFSET, and /ITEM where it is one of a list."""
    whole = f"{row['batch_id']}/{row['record_offset']}"
    return whole if row["item"] < 0 else f"{whole}/{row['item']}"


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the store, with its raw bytes as text that is safe in a terminal."""
    place = _place(row["topic"], row["partition"], row["record_offset"], row["item"], row["file"], row["header"])
    # A row of a file stands as it was sent; an item of a list, or an event that a row made, as JSON.
    encoding = row["encoding"] if row["item"] < 0 and row["encoding"] else "utf-8"
    raw = bytes(row["raw"])
    return (
        {"id": record_id(row)}
        | place
        | {
            "platform_id": row["platform_id"],
            "reason": row["reason"],
            "place": row["place"],
            "detail": row["detail"],
            "recorded_at": local_time(row["recorded_at"]),
            "raw": readable(raw, encoding) + ("…" if row["raw_bytes"] > len(raw) else ""),
            "raw_bytes": row["raw_bytes"],
        }
    )


def what_to_do(reason: str) -> str:
    """What to do about records that were rejected for a reason."""
    return say(*_TO_DO[Reason(reason)])


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


def show_reasons(reasons: Mapping[str, int]) -> None:
    """How many for each reason, and what to do about them."""
    for reason, count in reasons.items():
        out.print(Text(f"{count:,}  {reason}", style="bold") + Text(f"  {what_to_do(reason)}", style="not bold"))


def show(rows: list[dict[str, Any]]) -> None:
    """Rejected records with what they hold."""
    for one in rows:
        out.print(Text(reason_text(one["reason"]), style="bold") + Text(f"  {_where_text(one)}", style="not bold"))
        out.print(Text(f"  {one['id']}", style="cyan"))
        out.print(Text(f"  {one['place']}: {one['detail']}"))
        cut = "…" if len(one["raw"]) > RAW_CHARS_SHOWN else ""
        out.print(Text(f"  {one['raw'][:RAW_CHARS_SHOWN]}{cut}", style="dim"))
    if any(one["file"] for one in rows):
        out.print(Text(say("Lines are counted without blank ones.", "行号不计空行。"), style="dim"))
    if not rows:
        out.print(say("No rejected records.", "没有拒收记录。"))
