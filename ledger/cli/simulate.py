"""danbao simulate: order streams shaped like real ones, and what an ingest of them must answer."""

import gzip
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Protocol

import typer

from ledger.cli import common
from ledger.cli.common import say
from ledger.errors import BadQuestion
from schemas.both import Both

if TYPE_CHECKING:
    from ledger.simulate import Plan
    from schemas.platforms import PlatformRegistration

STDOUT = "-"
GZIP_LEVEL = 5
ZSTD_LEVEL = 3


_Orders = Annotated[int, typer.Option(help=say("How many orders.", "订单数。"))]
_Seed = Annotated[int, typer.Option(help=say("Same seed, same bytes.", "种子相同，则字节相同。"))]
_Out = Annotated[
    str,
    typer.Option(
        help=say(
            "File (.gz and .zst are compressed), or - for stdout.",
            "文件（.gz、.zst 自动压缩），- 为标准输出。",
        )
    ),
]
_Provinces = Annotated[
    str | None,
    typer.Option(help=say("Only these, such as 31,21.", "仅限这些省份，如 31,21。"), metavar="31,21"),
]
_Platforms = Annotated[
    str | None,
    typer.Option(
        help=say("Only these example platforms.", "仅限这些示例平台。"),
        metavar="example-delivery,example-rides",
    ),
]
_Days = Annotated[int, typer.Option(help=say("On how many days.", "天数。"))]
_FirstDay = Annotated[str, typer.Option(help=say("The first of them.", "首日。"), metavar="2026-10-01")]
_Ids = Annotated[
    str,
    typer.Option(
        help=say("Order ids grow with time, or are random.", "订单号随时间递增，或随机。"),
        metavar="time|random",
    ),
]
_Faults = Annotated[
    str,
    typer.Option(
        help=say(
            "Duplicates, conflicts, late and bad events: some 1 %, all 5 %, every kind.",
            "重复、冲突、迟到与错误事件：some 约 1%，all 约 5%，种类齐全。",
        ),
        metavar="none|some|all",
    ),
]
_PerRecord = Annotated[int, typer.Option(help=say("Events per record.", "每条记录的事件数。"))]


@common.command("模拟平台企业发送的订单事件：NDJSON，按到达先后排列。")
def simulate(
    orders: _Orders,
    seed: _Seed = 1,
    out: _Out = STDOUT,
    provinces: _Provinces = None,
    platforms: _Platforms = None,
    days: _Days = 3,
    first_day: _FirstDay = "2026-10-01",
    ids: _Ids = "time",
    faults: _Faults = "none",
    per_record: _PerRecord = 1,
    as_json: common.AsJson = False,
) -> None:
    """Simulate order events as platforms send them: NDJSON in order of arrival.

    Example: danbao simulate --orders 60000 --seed 7 --faults some --out orders.ndjson.zst
    """
    from ledger.simulate import Plan

    if as_json and out == STDOUT:
        raise BadQuestion(
            Both("--json and the orders cannot both go to stdout.", "--json 与订单不能同时写到标准输出。"),
            Both("Give --out FILE.", "请用 --out 指定文件。"),
        )
    plan = Plan(
        orders=orders,
        seed=seed,
        platforms=_platforms(platforms),
        provinces=_provinces(provinces),
        first_day=common.parse_day(first_day),
        days=days,
        ids=ids,
        faults=faults,
        per_record=per_record,
    )
    manifest = write(plan, out)
    if as_json:
        common.print_json(manifest)
    else:
        _show(manifest)


def write(plan: "Plan", out: str) -> dict[str, Any]:
    """Write the plan's stream, with a progress bar on a terminal; returns the manifest."""
    from ledger.simulate import Simulation

    simulation = Simulation(plan)
    content, sink = hashlib.sha256(), _Sink()
    with ExitStack() as stack:
        file = stack.enter_context(_opened(out, sink))
        advance = stack.enter_context(common.progress(plan.orders))
        shown = 0
        for chunk in simulation.chunks():
            content.update(chunk)
            file.write(chunk)
            advance(simulation.tally.orders - shown)
            shown = simulation.tally.orders
    tally = simulation.tally
    return {
        "file": out,
        "bytes": sink.size,
        "sha256": sink.hash.hexdigest(),
        "content_sha256": content.hexdigest(),
        "orders": tally.orders,
        "records": tally.records,
        "events": tally.events,
        "new": tally.new,
        "duplicate": tally.duplicate,
        "conflict": tally.conflict,
        "rejected": tally.rejected,
        "new_by_type": {str(event): count for event, count in sorted(tally.new_by_type.items())},
        "rejected_by_reason": {str(why): count for why, count in sorted(tally.rejected_by_reason.items())},
        "faults": dict(sorted(tally.faults.items())),
        "seed": plan.seed,
        "ids": plan.ids,
        "per_record": plan.per_record,
        "first_day": plan.first_day.isoformat(),
        "days": plan.days,
        "platforms": [platform.platform_id for platform in plan.platforms],
        "provinces": list(plan.provinces),
    }


class _Writer(Protocol):
    """What the orders are written to."""

    def write(self, chunk: bytes, /) -> Any:
        """Take some bytes."""


class _Sink:
    """The file as it comes to lie there: passes bytes on, counts and hashes them."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.size = 0
        self.file: BinaryIO = sys.stdout.buffer

    def write(self, chunk: bytes, /) -> int:
        """Pass bytes on."""
        self.hash.update(chunk)
        written = self.file.write(chunk)
        self.size += written
        return written

    def flush(self) -> None:
        """Pass the wish on."""
        self.file.flush()


@contextmanager
def _opened(out: str, sink: _Sink) -> Iterator[_Writer]:
    """The place to write to, compressed by its suffix. A file gets its name only when it is whole."""
    if out == STDOUT:
        try:
            yield sink
            sink.flush()
        except BrokenPipeError:  # the reader had enough, as `head` has
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        return
    path = Path(out)
    special = path.exists() and not path.is_file()  # a device or a pipe keeps its place
    part = path if special else Path(f"{out}.part")
    try:
        with part.open("wb") as file:
            sink.file = file
            with _compressed(out, sink) as writer:
                yield writer
        if not special:
            part.replace(path)
    except OSError as error:
        raise BadQuestion(
            Both(f"Cannot write {out}: {error.strerror}.", f"无法写入 {out}：{error.strerror}。"),
            Both("Give a file in a directory that can be written.", "请指定可写目录中的文件。"),
        ) from None
    finally:
        if not special:
            part.unlink(missing_ok=True)


@contextmanager
def _compressed(out: str, sink: _Sink) -> Iterator[_Writer]:
    file: Any = sink  # both libraries ask for less than the file type they name
    if out.endswith(".gz"):
        # No name and no time in the head, so that the same orders give the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0) as packed:
            yield packed
    elif out.endswith(".zst"):
        import zstandard

        with zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(file, closefd=False) as packed:
            yield packed
    else:
        yield sink


def _platforms(wanted: str | None) -> "tuple[PlatformRegistration, ...]":
    from ledger.examples import simulated

    known = {platform.platform_id: platform for platform in simulated()}
    names = _listed(wanted) or list(known)
    for name in names:
        if name not in known:
            raise BadQuestion(
                Both(f"{name!r} is not an example platform.", f"{name!r} 不是示例平台。"),
                Both(f"Example platforms: {', '.join(known)}", f"示例平台：{', '.join(known)}"),
            )
    return tuple(known[name] for name in names)


def _provinces(wanted: str | None) -> tuple[str, ...]:
    from schemas.codes import PROVINCES

    return tuple(dict.fromkeys(map(common.parse_province, _listed(wanted)))) or tuple(PROVINCES)


def _listed(text: str | None) -> list[str]:
    return list(dict.fromkeys(part for piece in (text or "").split(",") if (part := piece.strip())))


def _show(manifest: dict[str, Any]) -> None:
    """The counts, for a person; on stderr, since stdout may hold the orders."""
    orders, events, records = manifest["orders"], manifest["events"], manifest["records"]
    common.err.print(
        say(
            f"{orders:,} orders, {events:,} events in {records:,} records → {manifest['file']}",
            f"{orders:,} 笔订单，{events:,} 个事件，{records:,} 条记录 → {manifest['file']}",
        ),
        markup=False,
    )
    common.err.print(
        say(
            "An ingest into an empty ledger must answer: new {new:,}, duplicate {duplicate:,},"
            " conflict {conflict:,}, rejected {rejected:,}",
            "入账到空账簿时应得：新增 {new:,}，重复 {duplicate:,}，冲突 {conflict:,}，拒收 {rejected:,}",
        ).format(**manifest),
        markup=False,
    )
