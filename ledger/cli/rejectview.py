"""Rejected records: where each stands (file and line, or topic and offset), why, and what it holds.

In: rows of the store, or outcomes of a run. Out: plain values for --json, made into lines for a person.
"""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from rich.text import Text

from ledger.cli.common import out, say
from ledger.cli.eventview import clock, local_time, reason_text
from ledger.cli.places import seen, where, where_text
from ledger.identity_number import masked
from ledger.intake import Rejection
from schemas.both import Both
from schemas.codes import Reason

OF_A_REASON_MAX = 3
FIRST_MAX = 10
RAW_CHARS_SHOWN = 120
LINES_SHOWN = 200
LINE_CHARS_SHOWN = 2_000
AS_WRITTEN: dict[str, Any] = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), orjson.Fragment)
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
        "Register the platform (danbao platforms add). What it pushed it then pushes again; what came by file or inbox:"
        " danbao rejects retry --reason unknown_platform",
        "登记平台（danbao platforms add）。经 Kafka 报送的由平台重新报送；经文件或收件表的："
        "danbao rejects retry --reason unknown_platform",
    ),
    Reason.UNKNOWN_CITY: _CORRECT,
    Reason.BEFORE_SCHEME: _DATE,
    Reason.IN_FUTURE: _DATE,
    Reason.NO_RATE: Both(
        "Look whether a rate is in force for its day (danbao rules check), then: danbao rejects retry --reason no_rate",
        "核对当日是否有生效费率（danbao rules check），然后：danbao rejects retry --reason no_rate",
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


_RETRIED = {
    "waits": Both("waits in the inbox", "在收件表中待入账"),
    "passed": Both("passed", "已通过"),
    "rejected": Both("rejected again", "再次拒收"),
}
_LEFT_OUT = {
    "retried": Both(
        "tried again before: what was rejected again has an id of its own, what still waits: danbao ingest --inbox",
        "此前已重新受理；再次拒收的另有标识，仍待入账的：danbao ingest --inbox",
    ),
    "sender_in_doubt": Both(
        "not known to be from their platform: it sends them again, signed or by its own topic.",
        "无法确认来自该平台：请平台签名或经专用主题重新报送。",
    ),
    "csv": Both(
        "rows of a CSV file, which needs its mapping: danbao ingest FILE --map MAPPING --again",
        "CSV 文件的行，需要映射：danbao ingest 文件 --map 映射 --again",
    ),
    "at_fault": Both(
        "at fault themselves: the platform sends them corrected (see danbao rejects list).",
        "记录本身有误：请平台更正后重新报送（见 danbao rejects list）。",
    ),
}


def _place(topic: str, partition: int, offset: int, item: int, file: str | None, header: bool) -> dict[str, Any]:
    """The place of a rejected record. `item`: the place in its list, from 0, where it is of one."""
    place = where(topic, partition, offset, file, header)
    return place | {"record_offset": offset, "item": None if item < 0 or header else item}


def record_id(row: Mapping[str, Any]) -> str:
    """What names a rejected record in the books: BATCH/OFFSET, and /ITEM where it is one of a list."""
    whole = f"{row['batch_id']}/{row['record_offset']}"
    return whole if row["item"] < 0 else f"{whole}/{row['item']}"


def plain(row: Mapping[str, Any], answer: str | None) -> dict[str, Any]:
    """A row of the store, with its raw bytes as text that is safe in a terminal. `answer`: what came of its retry."""
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
            "retried": answer,
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
        out.print(Text(f"  {one['id']}", style="cyan") + _retried(one))
        out.print(Text(f"  {one['place']}: {one['detail']}"))
        cut = "…" if len(one["raw"]) > RAW_CHARS_SHOWN else ""
        out.print(Text(f"  {one['raw'][:RAW_CHARS_SHOWN]}{cut}", style="dim"))
    if any(one["file"] for one in rows):
        out.print(Text(say("Lines are counted without blank ones.", "行号不计空行。"), style="dim"))
    if not rows:
        out.print(say("No rejected records.", "没有拒收记录。"))


def _retried(one: Mapping[str, Any]) -> Text:
    if one["retried"] is None:
        return Text()
    word = say(*_RETRIED[one["retried"]])
    return Text(say(f"  retried: {word}", f"  已重新受理：{word}"), style="green")


def show_one(one: Mapping[str, Any], raw: bytes) -> None:
    """One rejected record, whole: JSON is spread out, what is none stands as it came."""
    out.print(Text(reason_text(one["reason"]), style="bold") + Text(f"  {_where_text(one)}", style="not bold"))
    out.print(Text(f"  {one['id']}", style="cyan") + _retried(one))
    out.print(Text(f"  {one['place']}: {one['detail']}"))
    platform = one["platform_id"] or "–"
    at = clock(datetime.fromisoformat(one["recorded_at"]))
    recorded = say(f"recorded {at}", f"入账时间 {at}")
    out.print(Text(say(f"  platform {platform}, {recorded}", f"  平台 {platform}，{recorded}")))
    out.print(Text("  " + what_to_do(one["reason"])))
    size = say(f"{len(raw):,} bytes", f"{len(raw):,} 字节")
    out.print(Text(f"── {size}", style="dim"))
    lines = _spread(raw) or [one["raw"]]
    for line in lines[:LINES_SHOWN]:
        out.print(Text(line[:LINE_CHARS_SHOWN] + ("…" if len(line) > LINE_CHARS_SHOWN else "")), soft_wrap=True)
    if len(lines) > LINES_SHOWN or any(len(line) > LINE_CHARS_SHOWN for line in lines):
        text = say(
            f"All of it: danbao rejects show {one['id']} --raw > FILE",
            f"完整内容：danbao rejects show {one['id']} --raw > 文件",
        )
        out.print(Text(text, style="dim"))


def _spread(raw: bytes) -> list[str]:
    """JSON, a value a line; nothing where it is none, or where spreading it out would change what it says."""
    try:
        value = json.loads(raw, object_pairs_hook=_each_once, **AS_WRITTEN)
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()  # numbers as they were written
    except (ValueError, TypeError, RecursionError):
        return []
    return [masked(seen(line)) for line in text.splitlines()]


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def show_plan(reasons: Mapping[str, int], left_out: Mapping[str, int]) -> None:
    """What a retry would put in again, and what it leaves out."""
    for reason, count in reasons.items():
        out.print(Text(f"{count:,}  {reason_text(reason)}", style="bold"))
    if not reasons:
        out.print(say("Nothing to try again.", "没有可重新受理的记录。"))
    for why, count in left_out.items():
        out.print(
            Text(say(f"Left out: {count:,}, {_LEFT_OUT[why].en}", f"不予受理：{count:,} 条，{_LEFT_OUT[why].zh}"))
        )
