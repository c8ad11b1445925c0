"""danbao ingest --dry-run: read, validate and rate as an ingest would, and write nothing.

In: what would be booked. Out: how many records, events and orders there are, the first events as the wire has
them, and the first rejected rows. The database is asked for the registered platforms, in a role that cannot write;
whether an order is booked already is not asked. A platform that the mapping names and nobody registered is taken
as registered, and named, so that the rest can be seen before anything is registered for ever.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import typer
from pydantic import ValidationError
from rich.table import Table

from ledger import mapping as mappings
from ledger.cli import common, records, rejectview
from ledger.cli.common import say
from ledger.cli.eventview import reason_text
from ledger.cli.records import Wanted
from ledger.identity import Registered
from ledger.intake import Intake, Reader
from ledger.money import yuan
from schemas.orders import SOURCE_BEGINS

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from consumers.loop import Source
    from consumers.sources import FileSource

EVENTS_SHOWN = 5


@dataclass(slots=True)
class Tried:
    """What an ingest would find. `premium` in 毫."""

    records: int = 0
    events: int = 0
    orders: int = 0
    premium: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: list[dict[str, Any]] = field(default_factory=list)
    rejected: rejectview.First = field(default_factory=rejectview.First)
    not_registered: list[str] = field(default_factory=list)


def run(wanted: Wanted, as_json: bool) -> None:
    """Try what is wanted, and show what came of it. Exit code 1: all of it would be rejected."""
    from ledger.store.connect import AUDIT

    with common.database(AUDIT) as engine, common.progress(wanted.size) as advance:
        files = records.opened(wanted, advance)
        tried = _try(engine, wanted, files)
    result = plain(tried)
    if as_json:
        common.print_json(result)
    else:
        show(result)
    if 0 < tried.events == tried.reasons.total():
        raise typer.Exit(1)


def _try(engine: "Engine", wanted: Wanted, files: "list[FileSource]") -> Tried:
    from consumers.sources import InboxSource
    from ledger import rulebook
    from ledger.rating import Rating
    from ledger.store import heads, registry

    tried, inbox = Tried(), InboxSource(engine)
    with engine.connect() as connection:
        platforms = registry.for_intake(*registry.known(connection))
        head = heads.read(connection, inbox.topic, inbox.partition)
    named = mappings.platforms(wanted.mapping) if wanted.mapping else ()
    tried.not_registered = [name for name in named if SOURCE_BEGINS + name not in platforms]
    for number, name in enumerate(tried.not_registered, 1):
        platforms[SOURCE_BEGINS + name] = Registered(-number, name)
    rating = Rating(rulebook.load())
    for source in files:
        reader = Reader(platforms, rating, *source.door)
        for intake in _intakes(reader, source, 0):
            _add(tried, reader, intake, source.topic, source.path.name, source.header is not None)
    if wanted.inbox:
        reader = Reader(platforms, rating)
        for intake in _intakes(reader, inbox, head.next_offset):
            _add(tried, reader, intake, inbox.topic, None, False)
    return tried


def _intakes(reader: Reader, source: "Source", first_offset: int) -> Iterator[Intake]:
    return map(reader.read, source.batches(first_offset))


def _add(tried: Tried, reader: Reader, intake: Intake, topic: str, file: str | None, header: bool) -> None:
    tried.records += len(intake.records)
    tried.events += intake.events
    tried.orders += len(intake.acceptances)
    tried.premium += sum(one.tariff.amount for one in intake.acceptances if one.tariff.charged_when_accepted)
    tried.reasons.update(str(one.reason) for one in intake.rejections)
    for one in intake.rejections:
        tried.rejected.take(one, topic, 0, file, header)
    if len(tried.first) < EVENTS_SHOWN:
        tried.first += _events(reader, intake)[: EVENTS_SHOWN - len(tried.first)]


def _events(reader: Reader, intake: Intake) -> list[dict[str, Any]]:
    """The first events that hold, of the first records that hold."""
    rejected = {one.ordinal for one in intake.rejections}
    found: list[dict[str, Any]] = []
    for record, first in zip(intake.records, intake.first_ordinals, strict=True):
        if len(found) >= EVENTS_SHOWN:
            break
        if first in rejected:
            continue
        try:
            decoded = reader.decode(record.raw)
        except ValidationError:  # a list with a misshapen item
            continue
        events = decoded if isinstance(decoded, list) else [decoded]
        found += [event for place, event in enumerate(events) if first + place not in rejected]
    return found


def plain(tried: Tried) -> dict[str, Any]:
    """The same for machines; premium in yuan as text."""
    return {
        "dry_run": True,
        "records": tried.records,
        "events": tried.events,
        "orders": tried.orders,
        "rejected": tried.reasons.total(),
        "premium": yuan(tried.premium),
        "reasons": dict(sorted(tried.reasons.items())),
        "not_registered": tried.not_registered,
        "first_events": tried.first,
        "first_rejected": tried.rejected.rows,
    }


_WORDS = {
    "records": ("records read", "读取记录"),
    "events": ("events", "事件"),
    "orders": ("  acceptances of orders", "  接单"),
    "rejected": ("  rejected, with a reason", "  拒收（附原因）"),
    "premium": ("premium, if all are new, yuan", "保障费（均为新订单时，元）"),
}


def show(result: dict[str, Any]) -> None:
    """The counts, then the first events and the first rejected rows."""
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, words in _WORDS.items():
        value = result[name]
        table.add_row(say(*words), f"{value:,}" if isinstance(value, int) else common.money(value))
    for reason, count in result["reasons"].items():
        table.add_row(f"    {reason_text(reason)}", f"{count:,}")
    common.out.print(table)
    if result["first_events"]:
        common.out.print(say("The first events:", "最前面的事件："))
    for event in result["first_events"]:
        common.out.print(orjson.dumps(event).decode(), markup=False, soft_wrap=True)
    rejectview.show_first(result["first_rejected"])
    for name in result["not_registered"]:
        common.out.print(
            say(
                f"{name} is not registered; until it is, all its events are rejected: danbao platforms add {name} …",
                f"{name} 尚未登记，登记前其事件全部拒收：danbao platforms add {name} …",
            ),
            style="yellow",
        )
    common.out.print(say("Dry run: nothing was written.", "试运行：未写入任何内容。"), style="bold")
