"""Segments → the events that they yield, on the desk. In: batches, their payloads. Out: the temporary table `event`.

What is plainly an event by the query `read_pieces` alone is taken by the million; whatever is not (a list
that is no list, text with escapes, a record that was rejected, lines of a CSV file) is read by the ledger's
own Reader, which has the last word. The query may be blind to good records, never blind to bad ones.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from duckdb import DuckDBPyConnection, InvalidInputException

from ledger import evidence
from ledger.calendar import day_number
from ledger.evidence import Damage, Notes, Record
from ledger.intake import AHEAD_US_MAX, SCHEME_BEGAN_US, Intake, Reader, Rejection
from ledger.rating import LINE_CODES, Tariff
from ledger.replay.chain import BatchRow, check_segment
from ledger.replay.findings import Code, Finding
from ledger.store.replay.desk import FIRST_PLACE, ORDINALS_MAX, PLACES, place_of, put, run, statement
from ledger.store.replay.tariffs import Tariffs
from schemas.orders import EVENTS_PER_RECORD_MAX, RECORD_BYTES_MAX

_NUMBERS = pa.array(range(ORDINALS_MAX), pa.int64())
_FRAME = Struct(">qI")  # as in ledger.evidence, whose `unpack` has the last word on what is damaged
ALL = -1  # instead of the number of a record
SPACED_BYTES = 200  # whether a platform writes JSON with spaces shows at once
_ACCEPTED = ord("A")
_QUOTE, _COLON = (pa.scalar(ord(char), pa.uint8()) for char in '":')
_LIST, _OPEN, _CLOSE, _NOTHING = (pa.scalar(text) for text in (b'[{"', b'{"', b"}", b""))
_PIECE = pa.schema(
    [
        *(("place", pa.int64()), ("raw", pa.string())),
        *(("registry", pa.int32()), ("book", pa.int32()), ("latest", pa.int64()), ("printable", pa.bool_())),
    ]
)
_EVENT = pa.schema(
    [
        *((name, pa.int64()) for name in ("place", "tag", "platform_no", "kind")),
        *((name, pa.string()) for name in ("order_id", "slot", "worker_id")),
        *((name, pa.int64()) for name in ("us", "line", "city", "day", "tariff_no")),
    ]
)


class Marks(NamedTuple):
    """How often a text holds a quote, and what stands before a value that is text."""

    quotes: int
    values: int


NO_MARKS = Marks(0, 0)


@dataclass(slots=True)
class Terms:
    """What decides how a batch is read: the registry and the rulebook then, and the mapping of a CSV file."""

    registry: int
    book: int
    reader: Reader
    csv: bool


@dataclass(slots=True)
class Yield:
    """What segments yielded beside the table `event`: per batch how many events, rejected ones too, and those."""

    events: dict[int, int] = field(default_factory=dict)
    rejections: dict[int, list[Rejection]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)
    records: int = 0


@dataclass(slots=True)
class Opened:
    """A batch whose segment was unpacked: where the frame of each record begins, and the last one ends; its notes.

    `items`: the first piece of each record, and the number of pieces, where there are lists. `marks`: those of all
    its pieces of JSON. `by_reader`: nothing of it is plain.
    """

    row: BatchRow
    terms: Terms
    framed: bytes
    frames: list[int]
    notes: Notes
    items: list[int] | None = None
    pieces: int = 0
    marks: Marks = NO_MARKS
    by_reader: bool = True

    def record(self, number: int) -> Record:
        """A record by its number."""
        begin, end = self.frames[number : number + 2]
        arrived_us, _ = _FRAME.unpack_from(self.framed, begin)
        offset = self.notes.offsets[number]
        raw = self.framed[begin + _FRAME.size : end]
        return Record(offset, arrived_us, raw, self.notes.signatures.get(offset))

    def records(self) -> list[Record]:
        """All records."""
        return list(evidence.unpack(self.framed, self.row.first_offset))

    def record_of(self, piece: int) -> int:
        """Which record a piece is of."""
        return piece if self.items is None else bisect_right(self.items, piece) - 1

    def pieces_of(self, number: int) -> range:
        """The pieces of a record."""
        return range(number, number + 1) if self.items is None else range(*self.items[number : number + 2])


# ---- segments


def open_segments(batches: Iterable[tuple[BatchRow, Terms]], payloads: dict[int, bytes], result: Yield) -> list[Opened]:
    """Unpack the segments and check their hashes; those that cannot be read are named."""
    opened = []
    for row, terms in batches:
        try:
            if row.batch_id not in payloads:
                raise Damage("there is none")
            framed = evidence.decompress(payloads[row.batch_id])
            frames = _frames(framed, row.first_offset)
            notes = evidence.notes_of(framed, frames[-1], row.first_offset, len(frames) - 1)
        except Damage as damage:
            result.unreadable.append(row.batch_id)
            result.findings.append(Finding(Code.DAMAGED, "segment", row.key, "payload", "a segment", str(damage)))
            continue
        result.findings += check_segment(row, framed, notes.offsets[-1] + 1)
        result.records += len(notes.offsets)
        opened.append(Opened(row, terms, framed, frames, notes))
    return opened


def _frames(framed: bytes, first_offset: int) -> list[int]:
    """Where the frame of each record begins, and where the last one ends."""
    frames = [0]
    append, frame_at, header = frames.append, _FRAME.unpack_from, _FRAME.size
    at, last, number = 0, len(framed) - header, 0
    while at <= last:
        number, length = frame_at(framed, at)
        if number < 0:  # from here on there are notes
            break
        at += header + length
        append(at)
    if not at or (at != len(framed) and number >= 0):
        known = sum(1 for _ in evidence.unpack(framed, first_offset))
        raise Damage(f"it unpacks to {known} records")
    return frames


# ---- pieces of JSON, one for each event


def read_events(cursor: DuckDBPyConnection, tariffs: Tariffs, opened: list[Opened], result: Yield) -> None:
    """Fill the temporary table `event` with what these batches yield."""
    tables = [table for one in opened if (table := _pieces(one))]
    _read_pieces(cursor, pa.concat_tables([_PIECE.empty_table(), *tables]))
    if new := run(cursor, "unrated").fetchall():
        tariffs.work_out(cursor, new)
        run(cursor, "rate_again")
        run(cursor, "doubt_unrated")
    doubtful = _take_out_doubtful(cursor, opened)
    counted = {batch_id: rest for batch_id, *rest in run(cursor, "count_strings").fetchall()}
    read = Read()
    for one in opened:
        records = doubtful.get(one.row.batch_id, {})
        one.by_reader = one.by_reader or _doubt(one, records, *counted.get(one.row.batch_id, (0, 0)))
        if one.by_reader:
            _take_out(cursor, [place_of(one.row.batch_id, piece) for piece in range(one.pieces)])
            one.pieces, records = 0, {ALL: range(0)}
        result.rejections[one.row.batch_id], result.events[one.row.batch_id] = read.batch(tariffs, one, records)
    read.put(cursor, tariffs)


def _read_pieces(cursor: DuckDBPyConnection, pieces: pa.Table) -> None:
    cursor.register("piece", pieces)
    try:
        run(cursor, "read_pieces", scheme_began_us=SCHEME_BEGAN_US)
    except (InvalidInputException, UnicodeDecodeError):  # some piece is no JSON; the message quotes a part of it
        sound = cursor.sql(statement("sound_pieces")).to_arrow_table()
        cursor.register("piece", sound)
        run(cursor, "read_pieces", scheme_began_us=SCHEME_BEGAN_US)
    cursor.unregister("piece")


def _pieces(one: Opened) -> pa.Table | None:
    """The text of each event as it stands in its record; None where only the Reader can tell what the events are."""
    if one.terms.csv:
        return None
    buffers = [None, pa.array(one.frames, pa.int32()).buffers()[1], pa.py_buffer(one.framed)]
    frames = pa.BinaryArray.from_buffers(pa.binary(), len(one.frames) - 1, buffers)
    if len(one.framed) > RECORD_BYTES_MAX and pc.max(pc.binary_length(frames)).as_py() > RECORD_BYTES_MAX:
        return None
    listed = one.framed[_FRAME.size : _FRAME.size + 1] == b"["
    raws = None if listed else pc.binary_slice(frames, _FRAME.size, len(one.framed))  # an open end overflows
    if raws is None or b"[" in _text(raws):
        raws = _split_lists(one, frames)
    if raws is None or len(raws) > ORDINALS_MAX:
        return None
    text = _text(raws)
    printable = text.isascii() and b"\\" not in text and b"\x7f" not in text
    try:
        pieces = raws.view(pa.string()) if printable else raws.cast(pa.string())
    except pa.ArrowInvalid:  # not UTF-8
        return None
    one.pieces, one.marks, one.by_reader = len(raws), _marks(text), False
    places = pc.add(_NUMBERS.slice(0, one.pieces), place_of(one.row.batch_id, 0))
    arrived_us = int.from_bytes(pc.min(pc.binary_slice(frames, 0, 8)).as_py(), "big")
    said_of_all = one.terms.registry, one.terms.book, arrived_us + AHEAD_US_MAX, printable
    rest = (
        pa.repeat(pa.scalar(value, kind), one.pieces) for value, kind in zip(said_of_all, _PIECE.types[2:], strict=True)
    )
    return pa.table([places, pieces, *rest], schema=_PIECE)


def _text(texts: pa.BinaryArray) -> bytes:
    """All texts of a fresh array, one after the other."""
    text: bytes = texts.buffers()[2].slice(0, texts.total_values_length).to_pybytes()
    return text


def _split_lists(one: Opened, frames: pa.BinaryArray) -> pa.BinaryArray | None:
    """The items of the records that are lists, and the other records. Where each item is JSON, so is its list."""
    lines = _between_braces(frames)
    if b'": ' in one.framed[:SPACED_BYTES]:
        lines = pc.replace_substring(lines, b'}, {"', b'},{"')
    items = pc.split_pattern(lines, b'},{"')
    if pc.max(pc.list_value_length(items)).as_py() > EVENTS_PER_RECORD_MAX:
        return None
    one.items = items.offsets.to_pylist()
    return pc.binary_join_element_wise(_OPEN, items.values, _CLOSE, _NOTHING)


def _between_braces(frames: pa.BinaryArray) -> pa.BinaryArray:
    """Records from after their first `{"` to before their last `}`; nothing, which is no JSON, where they have none."""
    heads = pc.binary_slice(frames, _FRAME.size, _FRAME.size + 3)
    lists = pc.and_(pc.equal(heads, _LIST), pc.ends_with(frames, b"}]"))
    lines = pc.binary_slice(frames, _FRAME.size + 3, -2)
    if pc.all(lists).as_py():
        return lines
    alone = pc.and_(pc.starts_with(heads, b'{"'), pc.ends_with(frames, b"}"))
    return pc.if_else(lists, lines, pc.if_else(alone, pc.binary_slice(frames, _FRAME.size + 2, -1), _NOTHING))


def _marks(text: bytes) -> Marks:
    """Counted in bitmaps, since counting in Python would keep the other thread waiting for Python's lock."""
    if len(text) < len(b'":"'):
        return Marks(text.count(b'"'), 0)
    chars = pa.Array.from_buffers(pa.uint8(), len(text), [None, pa.py_buffer(text)])
    quotes, colons, places = pc.equal(chars, _QUOTE), pc.equal(chars, _COLON), len(text) - 2
    values = pc.and_(pc.and_(quotes.slice(0, places), colons.slice(1, places)), quotes.slice(2, places))
    spaced = text.count(b'": "') if b" " in text else 0
    return Marks(quotes.true_count, values.true_count + spaced)


def _doubt(one: Opened, records: Iterable[int], strings: int, values: int) -> bool:
    """Whether the text of a batch, but for these records, holds other strings than its events have.

    Without escapes each string has two quotes, and each value that is text one `":"` (or `": "`) before it. Let an
    event have u values that are no text, with q quotes and t marks of values in them, and k extra keys, m of them
    with text. It has q + 2k + 2m - 2u quotes and t + m - u marks of values too many; the one less twice the other
    is q - 2t + 2k, where q >= 4t. So if both sums over a batch are right, q and k are 0 in every event, and so is u.
    """
    doubted = [_marks(one.record(number).raw) for number in records]
    quotes = one.marks.quotes - sum(marks.quotes for marks in doubted)
    marked = one.marks.values - sum(marks.values for marks in doubted)
    return quotes != 2 * strings or marked != values


def _take_out_doubtful(cursor: DuckDBPyConnection, opened: list[Opened]) -> dict[int, dict[int, range]]:
    """Records with a piece that is not plain: batch → record → its pieces. Takes them out of `event`."""
    odd: dict[int, list[int]] = {}
    for (place,) in cursor.execute("select place from event where strings is null").fetchall():
        odd.setdefault(place // PLACES, []).append(place % PLACES - FIRST_PLACE)
    doubtful = {}
    for one in opened:
        numbers = sorted({one.record_of(piece) for piece in odd.get(one.row.batch_id, ())})
        doubtful[one.row.batch_id] = {number: one.pieces_of(number) for number in numbers}
    _take_out(cursor, [place_of(key, piece) for key, of in doubtful.items() for span in of.values() for piece in span])
    return doubtful


def _take_out(cursor: DuckDBPyConnection, places: list[int]) -> None:
    if places:
        cursor.register("taken", pa.table({"place": places}))
        cursor.execute("delete from event where place in (select place from taken)")
        cursor.unregister("taken")


# ---- what the Reader reads


@dataclass(slots=True)
class Read:
    """What the Reader made of the records that are not plain. `shifts`: (first place, last place, by how much)."""

    intakes: list[tuple[int, Intake]] = field(default_factory=list)
    shifts: list[tuple[int, int, int]] = field(default_factory=list)

    def batch(self, tariffs: Tariffs, one: Opened, records: dict[int, range]) -> tuple[list[Rejection], int]:
        """Read these records of a batch. Its rejections and number of events; where a record holds more or fewer
        events than it had pieces, those after it change their places."""
        rejections: list[Rejection] = []
        shift = 0
        ends = [*(pieces.start for pieces in records.values()), one.pieces][1:]
        for (number, pieces), end in zip(records.items(), ends, strict=True):
            intake = tariffs.read(one.terms.reader, one.records() if number == ALL else [one.record(number)])
            self.intakes.append((place_of(one.row.batch_id, pieces.start + shift), intake))
            rejections += intake.rejections
            shift += intake.events - len(pieces)
            if shift and end > pieces.stop:
                span = place_of(one.row.batch_id, pieces.stop), place_of(one.row.batch_id, end - 1)
                self.shifts.append((*span, shift))
        return rejections, one.pieces + shift

    def put(self, cursor: DuckDBPyConnection, tariffs: Tariffs) -> None:
        """Shift the events that follow, and put those that were read into `event`."""
        if self.shifts:
            cursor.execute("create or replace temp table shift (first bigint, last bigint, places bigint)")
            put(cursor, "shift", self.shifts)
            run(cursor, "shift_events")
        met = {event.tariff for _, intake in self.intakes for event in intake.acceptances}
        numbers = tariffs.numbers(cursor, met)
        rows = [row for first, intake in self.intakes for row in _rows(first, intake, numbers)]
        if rows:
            columns = zip(zip(*rows, strict=True), _EVENT.types, strict=True)
            cursor.register("read", pa.table([pa.array(column, kind) for column, kind in columns], schema=_EVENT))
            run(cursor, "insert_read")
            cursor.unregister("read")


def _rows(first: int, intake: Intake, numbers: dict[Tariff, int]) -> Iterator[tuple[Any, ...]]:
    """Events that the Reader read as rows of `event`; `first`: the place of the first of them."""
    for event in intake.acceptances:
        head = _tagged(first + event.ordinal, event.platform_no, _ACCEPTED)
        facts = event.order_id, None, event.worker_id, event.occurred_us
        rest = LINE_CODES[event.line][0], event.city, day_number(event.occurred_us), numbers[event.tariff]
        yield *head, *facts, *rest
    for later in intake.later:
        head = _tagged(first + later.ordinal, later.platform_no, later.kind[0])
        told = later.order_id, later.slot, later.worker_id, later.occurred_us
        yield *head, *told, None, None, day_number(later.occurred_us), None


def _tagged(place: int, platform_no: int, kind: int) -> tuple[int, int, int, int]:
    """Place, tag, platform and kind; see tables.sql."""
    return place, (platform_no * 256 + kind) * PLACES + place % PLACES, platform_no, kind
