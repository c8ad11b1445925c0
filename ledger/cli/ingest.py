"""danbao ingest: book a file, a directory of files, or what waits in the inbox."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NamedTuple

import orjson
import typer
from rich.table import Table
from rich.text import Text

from ledger.cli import common, records, rejectview, trial
from ledger.cli.common import say
from ledger.cli.eventview import reason_text
from ledger.errors import BadQuestion, DanbaoError
from ledger.money import yuan
from schemas.both import Both
from schemas.codes import Answer

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from consumers.loop import Booker, Outcome, Source, Totals
    from ledger.cli.records import Wanted


class BookedFile(NamedTuple):
    """What came of one file. `before`: how many of its records had been booked before this run."""

    name: str
    topic: str
    totals: "Totals"
    before: int


@dataclass(slots=True)
class Booked:
    """What came of a run: all together, by file, the first rejected rows, and orders of sealed months by month."""

    totals: "Totals"
    files: list[BookedFile] = field(default_factory=list)
    rejected: rejectview.First = field(default_factory=rejectview.First)
    late: Counter[tuple[date, date]] = field(default_factory=Counter)


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
            "重新报送已入账的文件，拒收的可再次尝试。",
        ),
    ),
]
_DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help=say(
            "Read, validate and rate, show the first events and rejected rows; write nothing.",
            "只校验和计费并显示结果，不写入。",
        ),
    ),
]


@common.command("入账订单事件：每单只计费一次，每条记录或入账，或拒收并附原因。\n\n退出码 1：全部被拒收，或中途停止。")
def ingest(
    path: _Path = None,
    map_name: _Map = None,
    first_day: _FirstDay = None,
    inbox: _Inbox = False,
    answers: _Answers = None,
    again: _Again = False,
    dry_run: _DryRun = False,
    as_json: common.AsJson = False,
) -> None:
    """Book order events: each order charged once, every record booked or rejected with a reason.

    Exit code 1: all of it was rejected, or it stopped on the way.

    Example: danbao ingest orders.csv.gz --map eleme --first-day 2026-02-01
    """
    from ledger.store.connect import INGEST

    _refuse_strange_options(path, inbox, {"--map": map_name, "--first-day": first_day, "--again": again})
    what = records.wanted(path, map_name, first_day) if path else records.Wanted([], None, None, inbox=True)
    if dry_run:
        _refuse_with_dry_run({"--answers": answers, "--again": again})
        trial.run(what, as_json)
        return
    what.again = again
    with ExitStack() as stack:
        if answers:
            what.answers = stack.enter_context(_answers_file(answers, what.paths))
        engine = stack.enter_context(common.database(INGEST))
        started = perf_counter()
        booked = book(engine, what)
    result = summary(booked, perf_counter() - started)
    if as_json:
        common.print_json(result)
    else:
        show(result)
    if nothing_but_rejections(result):
        raise typer.Exit(1)


def _refuse_strange_options(path: Path | None, inbox: bool, of_a_file: dict[str, Any]) -> None:
    if (path is None) == (not inbox):
        raise BadQuestion(
            Both("There is nothing to book, or two things at once.", "未指定要入账的内容，或同时指定了两项。"),
            Both("Name a file or a directory, or give --inbox.", "请给出文件或目录，或使用 --inbox。"),
        )
    names = [name for name, value in of_a_file.items() if value]
    if inbox and names:
        raise BadQuestion(
            Both(
                f"{', '.join(names)} is for files, not for --inbox.", f"{'、'.join(names)} 用于文件，不用于 --inbox。"
            ),
            Both("Leave it out, or name a file.", "请去掉该选项，或给出文件。"),
        )


def _refuse_with_dry_run(given: dict[str, Any]) -> None:
    if names := [name for name, value in given.items() if value]:
        raise BadQuestion(
            Both(f"{', '.join(names)} has no meaning with --dry-run.", f"{'、'.join(names)} 不能与 --dry-run 同用。"),
            Both("A dry run books nothing, so nothing is answered.", "试运行不入账，因此没有答复。"),
        )


def _answers_file(answers: Path, paths: list[Path]) -> BinaryIO:
    if any(answers.exists() and answers.samefile(path) for path in paths):
        raise BadQuestion(
            Both(f"{answers} is what is to be booked.", f"{answers} 正是要入账的文件。"),
            Both("Give --answers another file.", "请为 --answers 另指定文件。"),
        )
    return answers.open("wb")


def book(engine: "Engine", wanted: "Wanted") -> Booked:
    """Book everything that is wanted, with a progress bar on a terminal. An error on the way says what is booked."""
    from consumers import loop, sources
    from ledger import rulebook

    booked = Booked(loop.Totals())
    with common.progress(wanted.size) as advance:
        try:
            files = records.opened(wanted, advance)
            booker = loop.Booker(engine, rulebook.load(), loop.switch_from_environment())
            for source in files:
                if wanted.again:
                    sources.deliver_again(engine, source)
                sources.keep(engine, source, wanted.mapping)
                _run(engine, booker, source, booked, wanted.answers, source.path.name, source.header is not None)
            if wanted.inbox:
                _run(engine, booker, sources.InboxSource(engine), booked, wanted.answers)
        except DanbaoError as error:
            error.fix = _so_far(error.fix, booked.totals)
            raise
    return booked


def _so_far(fix: Both, totals: "Totals") -> Both:
    """What to do, and what a run that stopped on the way has booked."""
    if not totals.records:
        return Both(f"{fix.en} Nothing was booked.", f"{fix.zh}没有入账任何内容。")
    return Both(
        f"{fix.en} Booked before that, and there to stay: {totals.records:,} records, {totals.orders:,} new orders.",
        f"{fix.zh}此前已入账并保留：{totals.records:,} 条记录，{totals.orders:,} 笔新订单。",
    )


def _run(
    engine: "Engine",
    booker: "Booker",
    source: "Source",
    booked: Booked,
    answers: BinaryIO | None,
    file: str | None = None,
    header: bool = False,
) -> None:
    from consumers import loop

    before = booker.head(source.topic, source.partition).next_offset
    totals = loop.Totals()
    if file is not None:
        booked.files.append(BookedFile(file, source.topic, totals, before))

    def listen(outcome: "Outcome") -> None:
        booked.totals.add(outcome)
        for rejection in outcome.intake.rejections:
            booked.rejected.take(rejection, source.topic, source.partition, file, header)
        if answers:
            write_answers(answers, source.topic, outcome)

    loop.run(booker, source, totals, listen)
    booked.late.update(_late(engine, source.topic, before))
    if file is not None and not totals.records:
        common.notice(Both(f"{file} has no rows under its header.", f"{file} 表头之下没有数据行。"))


def write_answers(file: BinaryIO, topic: str, outcome: "Outcome") -> None:
    """One line for each event of a batch."""
    for offset, item, answer, reason in outcome.each():
        line = {"topic": topic, "offset": offset, "item": item, "answer": answer, "reason": reason}
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _late(engine: "Engine", topic: str, first_offset: int) -> dict[tuple[date, date], int]:
    """Orders booked in a later month than they happened in: (month of origin, month booked) → orders."""
    from ledger.store.queries import sql

    with engine.connect() as connection:
        rows = connection.execute(sql("booked_late"), {"topic": topic, "first_offset": first_offset})
        return {(row.origin_month, row.month): int(row.order_count) for row in rows}


def summary(booked: Booked, seconds: float) -> dict[str, Any]:
    """The counts that a machine reads; premium in yuan as text."""
    totals = booked.totals
    return {
        **counts(totals),
        "premium": yuan(totals.premium),
        "reasons": {str(reason): count for reason, count in sorted(totals.reasons.items())},
        "first_rejected": booked.rejected.rows,
        "files": [{"file": one.name, "booked_before": one.before > 0, **counts(one.totals)} for one in booked.files],
        "late": [
            {"origin_month": f"{origin:%Y-%m}", "month": f"{month:%Y-%m}", "order_count": count}
            for (origin, month), count in sorted(booked.late.items())
        ],
        "seconds": round(seconds, 3),
        "events_per_second": round(totals.events / seconds) if seconds else 0,
    }


def counts(totals: "Totals") -> dict[str, int]:
    """How many records and events, what was answered, and how many orders are new."""
    answers = {str(answer): totals.answers[answer] for answer in Answer}
    return {"records": totals.records, "events": totals.events, "orders": totals.orders, **answers}


def nothing_but_rejections(result: dict[str, Any]) -> bool:
    """Whether there was something, and all of it was rejected."""
    return bool(0 < result["events"] == result["rejected"])


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
_FILE_WORDS = {
    "records": ("records", "记录"),
    "new": ("new", "新增"),
    "duplicate": ("duplicate", "重复"),
    "conflict": ("conflict", "冲突"),
    "rejected": ("rejected", "拒收"),
    "orders": ("orders", "订单"),
}


def show(result: dict[str, Any]) -> None:
    """The counts for a person, by file where there are several, and what to do about what was rejected."""
    if len(result["files"]) > 1:
        _show_files(result["files"])
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, words in _WORDS.items():
        value = result[name]
        table.add_row(say(*words), f"{value:,}" if isinstance(value, int) else common.money(value))
    for reason, count in result["reasons"].items():
        table.add_row(f"    {reason_text(reason)}", f"{count:,}")
    common.out.print(table)
    for late in result["late"]:
        origin, month, orders = late["origin_month"], late["month"], common.count(late["order_count"], "order", "单")
        common.out.print(
            say(
                f"Booked in {month} as adjustments: {orders} of {origin}, which is sealed.",
                f"{origin} 已封存，其 {orders}作为调整记入 {month}。",
            )
        )
    if result["rejected"]:
        rejectview.show_first(result["first_rejected"])
        common.out.print("\n".join(_hints(result)), style="dim")


def _show_files(files: list[dict[str, Any]]) -> None:
    table = Table(box=None)
    table.add_column(say("file", "文件"), overflow="fold")
    for words in _FILE_WORDS.values():
        table.add_column(say(*words), justify="right")
    for one in files:
        table.add_row(Text(one["file"]), *(f"{one[name]:,}" for name in _FILE_WORDS))
    common.out.print(table)


def _hints(result: dict[str, Any]) -> list[str]:
    """What to do about what was rejected."""
    hints = [say("See them with: danbao rejects list", "查看拒收记录：danbao rejects list")]
    if any(one["booked_before"] and one["rejected"] for one in result["files"]):
        hints.append(
            say(
                "This file was booked before: what was rejected is answered as it was then; --again delivers it anew.",
                "该文件以前入过账：其中拒收的仍按当时的答复；--again 可重新报送。",
            )
        )
    elif "unknown_platform" in result["reasons"]:
        hints.append(
            say(
                "Once a platform is registered (danbao platforms add): danbao rejects retry --reason unknown_platform"
                " (a CSV file: give it --again).",
                "平台登记（danbao platforms add）之后：danbao rejects retry --reason unknown_platform"
                "（CSV 文件则加 --again 重新报送）。",
            )
        )
    return hints
