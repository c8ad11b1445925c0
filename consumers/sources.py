"""Where records come from. Out: batches of records in order of offset, from any offset on.

A file's topic is named after its content (and its mapping), so the same file again is the same topic,
already booked, whatever it is called; a file that a crash cut off goes on where its head stands.
The inbox is the door where there is no Kafka.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, select

from consumers.lines import READ_BYTES, plain_suffix, read_lines, refuse_other_formats, refuse_other_lines
from consumers.loop import BATCH_BYTES_MAX, EVENTS_PER_BATCH, HANDED_IN, Door
from ledger import mapping as mappings
from ledger.calendar import SCHEME_BEGAN, to_us
from ledger.errors import BadQuestion
from ledger.evidence import Record
from ledger.mapping import CsvReader, Mapping
from ledger.store import reference
from ledger.store.tables import inbox
from schemas.both import Both

INBOX_ROWS = 32  # of at most 8 MiB each
SUFFIXES = (".ndjson", ".jsonl", ".json", ".csv")


@dataclass(slots=True)
class FileSource:
    """A file of NDJSON, or of CSV with a mapping; plain, .gz or .zst."""

    path: Path
    topic: str
    arrived_us: int
    header: bytes | None
    shift_days: int
    door: Door
    on_bytes: Callable[[int], None]
    partition: int = 0
    answers_again: bool = True

    def batches(self, from_offset: int) -> Iterator[list[Record]]:
        """Lines as records; blank lines are no records."""
        records = (Record(offset, self.arrived_us, raw) for offset, raw in enumerate(self._lines()))
        return in_batches(record for record in records if record.offset >= from_offset)

    def _lines(self) -> Iterator[bytes]:
        lines = read_lines(self.path, self.on_bytes)
        if self.header is not None:
            next(lines)
        return lines


def open_file(
    path: Path,
    mapping: Mapping | None,
    first_day: date | None,
    arrived: datetime,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> FileSource:
    """A file, identified by its content. BadQuestion where its records could not be read, all of them."""
    if plain_suffix(path) == ".csv" and mapping is None:
        raise BadQuestion(
            Both(
                f"{path.name} is a CSV file, so a mapping must say what its columns mean.",
                f"{path.name} 是 CSV 文件，须由映射说明各列的含义。",
            ),
            Both(
                f"Give --map with one of: {', '.join(mappings.bundled())}, or your own YAML file.",
                f"请用 --map 指定内置映射（{'、'.join(mappings.bundled())}）或自备的 YAML 文件。",
            ),
        )
    refuse_other_formats(path)
    if mapping is None:
        if first_day:
            raise BadQuestion(
                Both(
                    f"{path.name} is read without a mapping, so its days cannot be moved.",
                    f"{path.name} 未经映射读取，不能移动日期。",
                ),
                Both("Leave --first-day out; it is for CSV files.", "请去掉 --first-day；它只用于 CSV 文件。"),
            )
        refuse_other_lines(path)
    content = _digest(path)
    if mapping is None:
        return FileSource(path, f"file:{content[:32]}", to_us(arrived), None, 0, HANDED_IN, on_bytes)
    header = next(read_lines(path), b"")
    shift = _shift(path, mapping, header, first_day)
    identity = sha256(b"\n".join((content.encode(), mapping.hash, str(shift).encode()))).hexdigest()
    reader = CsvReader(mapping, header, shift)
    _refuse_before_scheme(path, reader)
    return FileSource(path, f"file:{identity[:32]}", to_us(arrived), header, shift, Door(reader.events), on_bytes)


def keep(engine: Engine, source: FileSource, mapping: Mapping | None) -> None:
    """Record what a replay needs to read the file's lines as we do."""
    values = {
        "topic": source.topic,
        "description": os.fsencode(source.path.name).decode(errors="replace"),
        "mapping": mapping and mapping.content,
        "header": source.header,
        "shift_days": source.shift_days,
    }
    reference.keep_source(engine, values)


def deliver_again(engine: Engine, source: FileSource) -> None:
    """Take the file for a new delivery of the same records: what was rejected has another chance."""
    with engine.connect() as connection:
        before = reference.deliveries(connection, source.topic)
    source.topic = f"{source.topic}#{before + 1}" if before else source.topic


def _shift(path: Path, mapping: Mapping, header: bytes, first_day: date | None) -> int:
    """By how many days the file's dates move so that its first day is `first_day`."""
    if first_day is None:
        return 0
    lines = read_lines(path)
    next(lines, None)
    return (first_day - mappings.first_day(mapping, header, lines)).days


def _refuse_before_scheme(path: Path, reader: CsvReader) -> None:
    """A file of nothing but orders from before the scheme. In other files the first row or so settles it."""
    lines = read_lines(path)
    next(lines, None)
    if first := mappings.first_day_of_all_before(reader, lines, SCHEME_BEGAN):
        raise BadQuestion(
            Both(
                f"All orders of {path.name} are from before the scheme began on {SCHEME_BEGAN}: the first on {first}.",
                f"{path.name} 中的订单全部早于制度施行日 {SCHEME_BEGAN}；最早的在 {first}。",
            ),
            Both(
                "For an example, move the file: --first-day 2026-02-01 makes that its first day.",
                "如用作示例，可移动该文件：--first-day 2026-02-01 使该日成为首日。",
            ),
        )


def files(path: Path) -> list[Path]:
    """The file itself, or the files of a directory that can hold records, by name."""
    if str(path) == "-" or (path.exists() and not (path.is_file() or path.is_dir())):
        raise BadQuestion(
            Both(f"{path} is no file: it can be read only once.", f"{path} 不是文件，只能读取一次。"),
            Both(
                "A file is known by its content, which is read before it is booked. Write it to a file first.",
                "文件以内容为标识，入账前须先通读。请先写入文件。",
            ),
        )
    if not path.exists():
        raise BadQuestion(
            Both(f"{path} does not exist.", f"{path} 不存在。"),
            Both("Give a file or a directory of files.", "请给出文件，或存放文件的目录。"),
        )
    if path.is_file():
        return [path]
    found = sorted(child for child in path.iterdir() if child.is_file() and plain_suffix(child) in SUFFIXES)
    if not found:
        raise BadQuestion(
            Both(f"{path} holds no file of records.", f"{path} 中没有记录文件。"),
            Both(
                f"Records are in files named *{', *'.join(SUFFIXES)}.",
                f"记录文件的名称为 *{'、*'.join(SUFFIXES)}。",
            ),
        )
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        for block in iter(partial(file.read, READ_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


@dataclass(slots=True)
class InboxSource:
    """The inbox table, up to what it holds now."""

    engine: Engine
    topic: str = "inbox"
    partition: int = 0
    door: Door = HANDED_IN
    answers_again: bool = False

    def batches(self, from_offset: int) -> Iterator[list[Record]]:
        """Records in order of arrival; offsets have no gaps (see inbox_put)."""
        return in_batches(self._records(from_offset))

    def _records(self, from_offset: int) -> Iterator[Record]:
        while rows := self._rows(from_offset):
            for row in rows:
                yield Record(row.record_offset, to_us(row.arrived_at), bytes(row.record))
            from_offset += len(rows)

    def _rows(self, from_offset: int) -> Sequence[Row[Any]]:
        wanted = select(inbox).where(inbox.c.record_offset >= from_offset).order_by(inbox.c.record_offset)
        with self.engine.connect() as connection:
            return connection.execute(wanted.limit(INBOX_ROWS)).all()


def about(raw: bytes) -> int:
    """About how many events a record holds. An event has some nine commas; a list of rubbish has them too."""
    return max(raw.count(b'"specversion"'), raw.count(b",") // 9, 1) if raw[:1] == b"[" else 1


def in_batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records in order → batches of about EVENTS_PER_BATCH events and BATCH_BYTES_MAX bytes."""
    batch: list[Record] = []
    size = events = 0
    for record in records:
        batch.append(record)
        size += len(record.raw)
        events += about(record.raw)
        if events >= EVENTS_PER_BATCH or size >= BATCH_BYTES_MAX:
            yield batch
            batch, size, events = [], 0, 0
    if batch:
        yield batch
