"""danbao push: the platform's side of an order stream; sends a file of order events to Kafka.

In: a file, `DANBAO_KAFKA_BOOTSTRAP` and the credentials of consumers/kafka/settings.py; no database. Out: exit code 0
acknowledged (with --answers: and nothing rejected), 1 rejected or not acknowledged, 2 not to be sent, 3 with --answers:
the ledger was not seen to have passed it.
"""

from collections import Counter
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ledger.cli import common
from ledger.cli.common import say
from ledger.cli.eventview import reason_text
from ledger.errors import BadQuestion
from schemas.both import Both
from schemas.orders import EVENTS_PER_RECORD_MAX, ORDERS_TOPIC

if TYPE_CHECKING:
    from consumers.kafka.answers import AnswerReader, Answers, Places
    from consumers.push import Counts, Pusher
    from consumers.sources import FileSource

SHOWN_MAX = 20
TOLD_MAX = 1_000
RAW_CHARS_MAX = 1_000
ANSWERS_S_MAX = 3_600

_Path = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help=say("NDJSON, or CSV with --map; .gz, .zst.", "NDJSON，或配 --map 的 CSV；可为 .gz、.zst。"),
    ),
]
_Platform = Annotated[
    str,
    typer.Option(help=say("Your id; the source of every event must name it.", "本平台标识，须与每个事件的来源一致。")),
]
_Map = Annotated[
    str | None,
    typer.Option(
        "--map",
        help=say("Mapping of a CSV: a bundled name, or your YAML file.", "CSV 的映射：内置名称或自备 YAML 文件。"),
    ),
]
_FirstDay = Annotated[
    str | None,
    typer.Option(
        help=say("Move the file's first day to this date.", "把文件的第一天移到该日期。"), metavar="2026-02-01"
    ),
]
_Topic = Annotated[str, typer.Option(help=say("Topic; yours, or the one all share.", "主题：专用主题或共用主题。"))]
_Key = Annotated[
    Path | None,
    typer.Option(
        help=say(
            "Private key to sign with, as danbao platforms key new makes it.",
            "签名私钥文件，由 danbao platforms key new 生成。",
        )
    ),
]
_PerRecord = Annotated[
    int, typer.Option(help=say("Events in a record.", "每条记录的事件数。"), min=1, max=EVENTS_PER_RECORD_MAX)
]
_Answers = Annotated[
    int | None,
    typer.Option(
        metavar="SECONDS",
        help=say(
            "Read back what was rejected, until the ledger has got so far, or for so many seconds.",
            "回读拒收情况：直至账簿处理完毕，或最多等待该秒数。",
        ),
        min=1,
        max=ANSWERS_S_MAX,
    ),
]
_Group = Annotated[str, typer.Option(help=say("The ledger's consumer group.", "账簿的消费组。"))]


@common.command("把文件中的订单事件报送到 Kafka：先逐条核对，再打包、签名、发送，直至全部得到确认。")
def push(
    path: _Path,
    platform: _Platform,
    map_name: _Map = None,
    first_day: _FirstDay = None,
    topic: _Topic = ORDERS_TOPIC,
    key: _Key = None,
    per_record: _PerRecord = 500,
    answers: _Answers = None,
    group: _Group = "danbao-orders",
    as_json: common.AsJson = False,
) -> None:
    """Push the order events of a file to Kafka: all are looked at, then packed, signed, sent and acknowledged.

    Example: danbao push today.ndjson --platform kuaisong --topic orders.v1.kuaisong --answers 60
    """
    from contextlib import nullcontext

    from consumers import pushfile
    from consumers.kafka import settings
    from consumers.kafka.answers import AnswerReader, Places
    from consumers.push import Pusher, read_key

    signer = read_key(key) if key else None
    places = Places(topic)
    with common.progress(2 * _size(path)) as advance:
        source = _open(path, map_name, common.parse_day(first_day) if first_day else None)
        source.on_bytes = advance
        pushfile.check(source, platform)
        access = settings.access(common.kafka_bootstrap())
        with AnswerReader(access, group, platform) if answers else nullcontext() as reader:
            started = perf_counter()
            pusher = Pusher(
                access, platform, topic, key=signer, per_record=per_record, on_placed=lambda one: places.add(*one)
            )
            _push(pusher, source)
            result = _counted(pusher.counts, topic, perf_counter() - started)
            found = _read(reader, places, answers) if reader and answers else None
    _finish(result, found, as_json)


def _size(path: Path) -> int:
    if not path.is_file():
        raise BadQuestion(
            Both(f"{path} is not a file.", f"{path} 不是文件。"),
            Both("Give a file of order events.", "请给出订单事件文件。"),
        )
    return path.stat().st_size


def _open(path: Path, map_name: str | None, first_day: date | None) -> "FileSource":
    from consumers import sources
    from ledger import mapping as mappings

    mapping = mappings.load(map_name) if map_name else None
    return sources.open_file(path, mapping, first_day, common.now())


def _push(pusher: "Pusher", source: "FileSource") -> None:
    from consumers import pushfile

    with pusher:
        for _, event in pushfile.events(source):
            pusher.push(event)


def _read(reader: "AnswerReader", places: "Places", seconds: int) -> "Answers":
    common.notice(Both("Waiting for what the ledger says …", "正在等待账簿的答复……"))
    return reader.read(places, seconds)


def _counted(counts: "Counts", topic: str, seconds: float) -> dict[str, Any]:
    """What was acknowledged, for a machine."""
    return {
        "topic": topic,
        "records": counts.records,
        "events": counts.events,
        "orders": counts.orders,
        "seconds": round(seconds, 3),
        "events_per_second": round(counts.events / seconds) if seconds else 0,
    }


def _finish(result: dict[str, Any], found: "Answers | None", as_json: bool) -> None:
    """Say what was sent and what was rejected, and end with the code that says it."""
    if found is not None:
        reasons = Counter(told.reason for told in found.rejected)
        result |= {
            "passed": found.passed,
            "rejected": len(found.rejected),
            "reasons": dict(sorted(reasons.items())),
            "rejections": [_as_value(told) for told in found.rejected[:TOLD_MAX]],
        }
    if as_json:
        common.print_json(result)
    else:
        _print(result)
    if found and found.rejected:
        raise typer.Exit(1)
    if found and not found.passed:
        raise typer.Exit(3)


def _as_value(told: Any) -> dict[str, Any]:
    return {
        "partition": told.partition,
        "offset": told.offset,
        "item": told.item,
        "reason": told.reason,
        "place": told.place,
        "detail": told.detail,
        "record": told.raw.decode(errors="replace")[:RAW_CHARS_MAX],
    }


def _print(result: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, words in (
        ("records", say("records acknowledged", "已确认记录")),
        ("events", say("events", "事件")),
        ("orders", say("orders accepted among them", "其中接单")),
        ("events_per_second", say("events a second", "每秒事件数")),
    ):
        table.add_row(words, f"{result[name]:,}")
    if "rejected" in result:
        table.add_row(say("rejected by the ledger", "账簿拒收"), f"{result['rejected']:,}")
        for reason, count in result["reasons"].items():
            table.add_row(f"  {reason_text(reason)}", f"{count:,}")
    common.out.print(table)
    for told in result.get("rejections", [])[:SHOWN_MAX]:
        place = f"{result['topic']}[{told['partition']}] @{told['offset']}"
        item = f" #{told['item']}" if told["item"] >= 0 else ""
        common.out.print(f"{place}{item} {told['reason']}, {told['place']}: {told['detail']}", markup=False)
    if result.get("passed", True) is not True:
        common.notice(_NOT_PASSED[result["passed"]])


_NOT_PASSED = {
    None: Both(
        "How far the ledger is cannot be seen from here; what it rejects later is on the topic of rejected records.",
        "无法得知账簿的处理进度；此后如有拒收，将写入拒收主题。",
    ),
    False: Both(
        "The ledger has not got so far yet; what it rejects later is on the topic of rejected records.",
        "账簿尚未处理完毕；此后如有拒收，将写入拒收主题。",
    ),
}
