"""danbao ingest: book a file, a directory of files, or what waits in the inbox."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import orjson
import typer
from rich.table import Table

from ledger.cli import common
from ledger.cli.common import say
from ledger.cli.eventview import reason_text
from ledger.errors import BadQuestion
from ledger.money import yuan
from schemas.both import Both
from schemas.codes import Answer

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from consumers.loop import Booker, Outcome, Source, Totals
    from ledger.mapping import Mapping


@dataclass(slots=True)
class Wanted:
    """What to ingest, and how to read it."""

    paths: list[Path]
    mapping: "Mapping | None"
    first_day: date | None
    answers: BinaryIO | None = None
    inbox: bool = False
    again: bool = False


_Path = Annotated[
    Path | None,
    typer.Argument(
        help=say(
            "File (NDJSON, or CSV with --map; .gz, .zst) or directory.",
            "文件（NDJSON，或配 --map 的 CSV；可为 .gz、.zst）或目录。",
        )
    ),
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
_Inbox = Annotated[
    bool, typer.Option("--inbox", help=say("Book what waits in the inbox table.", "入账收件表中待处理的记录。"))
]
_Answers = Annotated[
    Path | None,
    typer.Option(help=say("Write one answer per event to this NDJSON file.", "把每个事件的答复写入此 NDJSON 文件。")),
]
_Again = Annotated[
    bool,
    typer.Option(
        "--again",
        help=say(
            "Take a file booked before for a new delivery: what was rejected has another chance.",
            "把已入账的文件作为一次新的报送：此前拒收的记录可重新入账。",
        ),
    ),
]


@common.command("入账订单事件：每单只计费一次，每条记录或入账，或拒收并附原因。")
def ingest(
    path: _Path = None,
    map_name: _Map = None,
    first_day: _FirstDay = None,
    inbox: _Inbox = False,
    answers: _Answers = None,
    again: _Again = False,
    as_json: common.AsJson = False,
) -> None:
    """Book order events: each order charged once, every record booked or rejected with a reason.

    Example: danbao ingest orders.csv.gz --map eleme --first-day 2026-02-01
    """
    from ledger.store.connect import INGEST

    if (path is None) == (not inbox):
        raise BadQuestion(
            Both("There is nothing to book, or two things at once.", "未指定要入账的内容，或同时指定了两项。"),
            Both("Name a file or a directory, or give --inbox.", "请给出文件或目录，或使用 --inbox。"),
        )
    what = wanted(path, map_name, first_day) if path else Wanted([], None, None, inbox=True)
    what.again = again
    with ExitStack() as stack:
        if answers:
            what.answers = stack.enter_context(answers.open("wb"))
        engine = stack.enter_context(common.database(INGEST))
        started = perf_counter()
        totals = book(engine, what)
    result = summary(totals, perf_counter() - started)
    if as_json:
        common.print_json(result)
    else:
        show(result)


def wanted(path: Path, map_name: str | None, first_day: str | None) -> Wanted:
    """The files of a path, and how to read them; BadQuestion where that cannot be."""
    from consumers.sources import files
    from ledger import mapping as mappings

    mapping = mappings.load(map_name) if map_name else None
    return Wanted(files(path), mapping, common.parse_day(first_day) if first_day else None)


def book(engine: "Engine", wanted: Wanted) -> "Totals":
    """Book everything that is wanted, with a progress bar on a terminal."""
    from consumers import loop, sources
    from ledger import rulebook

    totals = loop.Totals()
    booker = loop.Booker(engine, rulebook.load(), loop.switch_from_environment())
    with common.progress(sum(path.stat().st_size for path in wanted.paths)) as advance:
        for path in wanted.paths:
            source = sources.open_file(path, wanted.mapping, wanted.first_day, common.now(), advance)
            if wanted.again:
                sources.deliver_again(engine, source)
            sources.keep(engine, source, wanted.mapping)
            _run(booker, source, totals, wanted.answers)
        if wanted.inbox:
            _run(booker, sources.InboxSource(engine), totals, wanted.answers)
    return totals


def _run(booker: "Booker", source: "Source", totals: "Totals", answers: BinaryIO | None) -> None:
    from consumers import loop

    listener: Callable[[Outcome], Any] = _writer(answers, source.topic) if answers else lambda _: None
    loop.run(booker, source, totals, listener)


def _writer(file: BinaryIO, topic: str) -> "Callable[[Outcome], None]":
    def write(outcome: "Outcome") -> None:
        for offset, item, answer, reason in outcome.each():
            line = {"topic": topic, "offset": offset, "item": item, "answer": answer, "reason": reason}
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    return write


def summary(totals: "Totals", seconds: float) -> dict[str, Any]:
    """The counts that a machine reads; premium in yuan as text."""
    return {
        "records": totals.records,
        "events": totals.events,
        "orders": totals.orders,
        **{str(answer): totals.answers[answer] for answer in Answer},
        "premium": yuan(totals.premium),
        "reasons": {str(reason): count for reason, count in sorted(totals.reasons.items())},
        "seconds": round(seconds, 3),
        "events_per_second": round(totals.events / seconds) if seconds else 0,
    }


_WORDS = {
    "records": ("records read", "读取记录"),
    "events": ("events", "事件"),
    "new": ("  new", "  新增"),
    "duplicate": ("  duplicate: already booked", "  重复：早已入账"),
    "conflict": ("  conflict: contradicts what stands", "  冲突：与已有记录不符"),
    "rejected": ("  rejected, with a reason", "  拒收（附原因）"),
    "orders": ("orders newly insured", "新参保订单"),
    "premium": ("premium charged, yuan", "计收保障费（元）"),
}


def show(result: dict[str, Any]) -> None:
    """The counts for a person."""
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, words in _WORDS.items():
        value = result[name]
        table.add_row(say(*words), f"{value:,}" if isinstance(value, int) else value)
    for reason, count in result["reasons"].items():
        table.add_row(f"    {reason_text(reason)}", f"{count:,}")
    common.out.print(table)
    if result["rejected"]:
        hints = [say("See them with: danbao audit rejected", "查看拒收记录：danbao audit rejected")]
        if "unknown_platform" in result["reasons"]:
            hints.append(
                say(
                    "Once a platform is registered (danbao platforms add), give the file --again.",
                    "平台登记（danbao platforms add）之后，加 --again 重新报送该文件。",
                )
            )
        common.out.print("\n".join(hints), style="dim")
