"""Mappings: the rows of a platform's CSV export → order events, as a small data file says.

In: a mapping (bundled, or a YAML file of the user's), the file's header line, and raw lines. Out: events
in the CloudEvents shape of `schemas.orders`, or `Unmapped` with the place and the reason. The rules of
a mapping file are explained, with a worked example, in `ledger/mappings/README.md`.

Pure but for `load`, which reads the mapping itself. A record is one line: what a quoted cell carries
over to a second line cannot be read, and is rejected.
"""

import csv
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson

from ledger import yamlfile
from ledger.errors import BadQuestion
from ledger.written_time import clock
from schemas import orders
from schemas.both import Both
from schemas.mapping import (
    COLUMN,
    AcceptedRule,
    CancelledRule,
    EventRule,
    MappingFile,
    ReassignedRule,
    bare_column,
    columns_of,
)

_PAY = re.compile(orders.PAY)

Row = list[str]
Text = Callable[[Row], str | None]  # None: a column that it needs is empty
Event = dict[str, Any]

_FOLDER = files("ledger").joinpath("mappings")
HOW_TO = Both(
    f"How to write a mapping: {_FOLDER.joinpath('README.md')}", f"映射的写法见 {_FOLDER.joinpath('README.zh.md')}"
)


class Unmapped(Exception):
    """A row that the mapping cannot read: `place` says where, `detail` why."""

    def __init__(self, place: str, detail: str) -> None:
        super().__init__(f"{place}: {detail}")
        self.place = place
        self.detail = detail


@dataclass(frozen=True)
class Mapping:
    """A mapping as it is stored for replay: its canonical JSON text is its identity."""

    name: str
    content: str

    @classmethod
    def from_content(cls, content: str) -> "Mapping":
        """The mapping back from its stored text. ValidationError where it is none."""
        return cls(MappingFile.model_validate_json(content).name, content)

    @classmethod
    def of(cls, shape: MappingFile) -> "Mapping":
        """The mapping of a validated file."""
        canonical = orjson.dumps(shape.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
        return cls(shape.name, canonical.decode())

    @cached_property
    def shape(self) -> MappingFile:
        """What the text says."""
        return MappingFile.model_validate_json(self.content)

    @property
    def hash(self) -> bytes:
        """SHA-256 of the content."""
        return hashlib.sha256(self.content.encode()).digest()


def bundled() -> dict[str, Mapping]:
    """The mappings that come with danbao, by name."""
    found = sorted(_FOLDER.iterdir(), key=lambda entry: entry.name)
    mappings = (parse(entry.read_bytes(), entry.name) for entry in found if entry.name.endswith(".yaml"))
    return {mapping.name: mapping for mapping in mappings}


def parse(raw: bytes, file_name: str) -> Mapping:
    """The bytes of a mapping file → mapping. BadQuestion says file:line: reason."""
    return Mapping.of(yamlfile.parse(raw, file_name, MappingFile, HOW_TO))


def load(name_or_path: str) -> Mapping:
    """A bundled mapping by its name, or a mapping file by its path."""
    known = bundled()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        raise BadQuestion(
            Both(
                f"There is no mapping {name_or_path!r}, and no such file.",
                f"没有名为 {name_or_path!r} 的映射，也没有这个文件。",
            ),
            Both(
                f"Bundled mappings: {', '.join(known)}; or give the path of a YAML file. {HOW_TO.en}",
                f"内置映射：{'、'.join(known)}；或给出 YAML 文件的路径。{HOW_TO.zh}",
            ),
        )
    return parse(path.read_bytes(), str(path))


def platforms(mapping: Mapping) -> tuple[str, ...]:
    """The platform ids that the mapping can produce."""
    return tuple(mapping.shape.outcomes(mapping.shape.platform))


class CsvReader:
    """A mapping compiled for one file: the columns are those of its header line.

    `shift_days` moves every time by whole days; the clock time of the day stays.
    """

    def __init__(self, mapping: Mapping, header: bytes, shift_days: int) -> None:
        self._shape = mapping.shape
        columns = self._columns(header)
        self._width = len(columns)
        texts = _Texts(self._shape, columns)
        self._time = clock(self._shape.time_format, self._shape.zone, shift_days)
        self._platform = texts.needed(self._shape.platform)
        self._order_id = texts.needed(self._shape.order_id)
        self._known = texts.conditions()
        self._events = [self._event(texts, rule) for rule in self._shape.events]

    def events(self, raw: bytes) -> list[Event]:
        """One line of the file → its events. Unmapped where it cannot be read."""
        row = self._cells(raw)
        for column, cell, values in self._known:
            if row[cell] not in values:
                raise Unmapped(f"column {column}", f"{row[cell]!r} is none of {', '.join(values)}")
        source = f"/platforms/{self._platform(row)}"
        subject = self._order_id(row)
        made = [event for make in self._events if (event := make(row, source, subject))]
        if not made:
            raise Unmapped("row", "says nothing that the mapping makes an event of")
        return made

    def _columns(self, header: bytes) -> Row:
        """The header line → column names."""
        self._width = 0
        try:
            return self._cells(header.removeprefix(b"\xef\xbb\xbf"))
        except Unmapped as unmapped:
            raise BadQuestion(
                Both(f"The header line cannot be read: {unmapped.detail}", f"表头行无法读取：{unmapped.detail}"),
                Both(
                    f"Mapping {self._shape.name} expects {self._shape.encoding} with {self._shape.delimiter!r}"
                    " between the columns.",
                    f"映射 {self._shape.name} 要求编码为 {self._shape.encoding}、列间以"
                    f" {self._shape.delimiter!r} 分隔。",
                ),
            ) from None

    def _cells(self, raw: bytes) -> Row:
        """One line → its cells, as many as the header has, without space around them."""
        try:
            line = raw.decode(self._shape.encoding)
        except UnicodeDecodeError as error:
            raise Unmapped("row", f"not {self._shape.encoding} text at byte {error.start}") from None
        cells = self._quoted(line) if '"' in line else line.split(self._shape.delimiter)
        if len(cells) != self._width and self._width:
            raise Unmapped("row", f"{len(cells)} columns, the header has {self._width}")
        return list(map(str.strip, cells))

    def _quoted(self, line: str) -> Row:
        try:
            return next(csv.reader([line], delimiter=self._shape.delimiter, strict=True))
        except csv.Error as error:
            raise Unmapped("row", f"quotes cannot be read on this one line: {error}") from None

    def _event(self, texts: "_Texts", rule: EventRule) -> Callable[[Row, str, str], Event | None]:
        """One event rule → what makes its event out of a row, or None where the row has none."""
        event_id, read_time = texts.needed(rule.id), texts.text(rule.time)
        when = [(texts.cell(column), value) for column, value in rule.when.items()]
        data_of = _data(texts, rule)
        time_place = _place(rule.time)
        optional = rule.time_missing == "no_event"

        def make(row: Row, source: str, subject: str) -> Event | None:
            for cell, value in when:
                if row[cell] != value:
                    return None
            written = read_time(row)
            if written is None:
                if optional:
                    return None
                raise Unmapped(time_place, "the time is empty")
            try:
                time = self._time(written)
            except (ValueError, OverflowError):
                detail = f"{written!r} is no time in the format {self._shape.time_format}"
                raise Unmapped(time_place, detail) from None
            return {
                "specversion": "1.0",
                "id": event_id(row),
                "source": source,
                "type": rule.type,
                "subject": subject,
                "time": time,
                "data": data_of(row),
            }

        return make


def _data(texts: "_Texts", rule: EventRule) -> Callable[[Row], dict[str, Any]]:
    """One event rule → what makes the event's `data` out of a row."""
    needed: list[tuple[str, Callable[[Row], str]]] = []
    if isinstance(rule, AcceptedRule | ReassignedRule):
        needed.append(("worker_id", texts.needed(rule.worker_id)))
    if isinstance(rule, AcceptedRule):
        needed += [("line", texts.needed(rule.line)), ("accepted_city", texts.needed(rule.accepted_city))]
    if isinstance(rule, CancelledRule):
        needed.append(("reason", texts.needed(rule.reason)))
    pay, pay_place = (texts.text(rule.pay), _place(rule.pay)) if rule.pay else (None, "")
    position = rule.position
    degrees = position and (texts.text(position.lat), texts.text(position.lng))

    def data_of(row: Row) -> dict[str, Any]:
        data: dict[str, Any] = {name: read(row) for name, read in needed}
        if pay and (amount := pay(row)):
            if not _PAY.fullmatch(amount):
                raise Unmapped(pay_place, f"{amount!r} is not yuan, such as 6.50")
            data["pay"] = amount
        if degrees:
            lat, lng = degrees[0](row), degrees[1](row)
            if lat and lng:
                data["position"] = _position(lat, lng)
        return data

    return data_of


def _position(lat: str, lng: str) -> dict[str, float]:
    try:
        return {"lat": float(lat), "lng": float(lng)}
    except ValueError:
        raise Unmapped("position", f"{lat!r}, {lng!r} are not degrees") from None


class _Texts:
    """Templates compiled against the columns of one file."""

    def __init__(self, shape: MappingFile, columns: Row) -> None:
        self._shape = shape
        self._columns = columns
        self._empty = frozenset(shape.empty) | {""}
        for column in shape.translate:
            self.cell(column)

    def cell(self, column: str) -> int:
        """Where in the row the column stands."""
        if self._columns.count(column) != 1:
            many = Both("twice", "有两个") if column in self._columns else Both("not", "没有")
            raise BadQuestion(
                Both(
                    f"Mapping {self._shape.name} reads column {column!r}, which the file's header has {many.en}.",
                    f"映射 {self._shape.name} 要读取列 {column!r}，而文件表头中{many.zh}该列。",
                ),
                Both(
                    f"The header has: {', '.join(self._columns)[:2_000]}",
                    f"表头各列：{'、'.join(self._columns)[:2_000]}",
                ),
            )
        return self._columns.index(column)

    def conditions(self) -> list[tuple[str, int, list[str]]]:
        """Columns that decide which events a row makes: name, cell, and the values that the mapping knows."""
        known: dict[str, list[str]] = {}
        for rule in self._shape.events:
            for column, value in rule.when.items():
                known.setdefault(column, []).append(value)
        return [(column, self.cell(column), values) for column, values in known.items()]

    def text(self, template: str) -> Text:
        """A template → what reads it from a row; None where one of its columns is empty."""
        if column := bare_column(template):
            return self._one(column)
        names = columns_of(template)
        if not names:
            return lambda row: template
        parts = [self._one(name) for name in names]
        pattern = COLUMN.sub("%s", template.replace("%", "%%"))

        def joined(row: Row) -> str | None:
            values = tuple([part(row) for part in parts])
            return None if None in values else pattern % values

        return joined

    def needed(self, template: str) -> Callable[[Row], str]:
        """The same, but an empty column makes the row Unmapped."""
        read, place = self.text(template), _place(template)

        def present(row: Row) -> str:
            value = read(row)
            if value is None:
                raise Unmapped(place, "empty")
            return value

        return present

    def _one(self, column: str) -> Text:
        cell, empty = self.cell(column), self._empty

        def plain(row: Row) -> str | None:
            value = row[cell]
            return None if value in empty else value

        table = self._shape.translate.get(column)
        return _translated(column, plain, table) if table else plain


def _translated(column: str, plain: Text, table: dict[str, str]) -> Text:
    def translated(row: Row) -> str | None:
        value = plain(row)
        if value is not None and value not in table:
            raise Unmapped(f"column {column}", f"{value!r} is not in the mapping's translation")
        return value and table[value]

    return translated


def _place(template: str) -> str:
    """How to name the columns of a template to a reader; a template without columns by what it says."""
    return f"column {', '.join(columns_of(template))}" if columns_of(template) else f"{template!r}"


def first_day(mapping: Mapping, header: bytes, rows: Iterable[bytes]) -> date:
    """The earliest local day of acceptance, in the file's own calendar. Unreadable rows do not count."""
    reader = CsvReader(mapping, header, 0)
    earliest = min((event["time"][:10] for raw in rows for event in _readable(reader, raw)), default=None)
    if earliest is None:
        raise BadQuestion(
            Both(
                f"Mapping {mapping.name} reads no row as an acceptance, so the file has no first day.",
                f"映射 {mapping.name} 未能从任何一行读出接单，无法确定文件的首日。",
            ),
            Both(
                "Is it the right mapping for this file? Without --first-day each row's fault is listed.",
                "请确认映射与文件相符；不加 --first-day 则会列出每一行的错误。",
            ),
        )
    return date.fromisoformat(earliest)


def first_day_of_all_before(reader: CsvReader, rows: Iterable[bytes], day: date) -> date | None:
    """The earliest local day of acceptance where all are before a day; None where one is not, or none can be read."""
    earliest = bound = day.isoformat()
    for raw in rows:
        for event in _readable(reader, raw):
            if event["time"][:10] >= bound:
                return None
            earliest = min(earliest, event["time"][:10])
    return None if earliest == bound else date.fromisoformat(earliest)


def _readable(reader: CsvReader, raw: bytes) -> list[Event]:
    try:
        return [event for event in reader.events(raw) if event["type"] == "order.accepted"]
    except Unmapped:
        return []
