"""Pushing a file: its records as events of one platform. In: a file source. Out: events in order, each with its line.

A line of NDJSON is one event, which is sent byte for byte, or a list of them, which is unpacked so that each can go to
the partition of its order; a line of CSV is what its mapping makes of it.
"""

from collections.abc import Iterable, Iterator

import orjson

from consumers.lines import every_line
from consumers.push import Event, read_event
from consumers.sources import FileSource
from ledger.errors import BadQuestion
from ledger.mapping import Unmapped
from schemas.both import Both


def events(source: FileSource) -> Iterator[tuple[int, Event | bytes]]:
    """Every event with the number of its line. BadQuestion where a line is no record."""
    filled = ((number, line) for number, line in enumerate(every_line(source.path, source.on_bytes), 1) if line)
    if source.header is not None:
        next(filled, None)
    for number, line in filled:
        for event in _unpacked(source, number, line):
            yield number, event


def check(source: FileSource, platform: str) -> None:
    """Look at every event before the first is sent. BadQuestion names the line of one that cannot be."""
    for number, event in events(source):
        try:
            read_event(event, platform)
        except BadQuestion as error:
            raise _at(source, number, error.what, error.fix) from None


def _unpacked(source: FileSource, number: int, line: bytes) -> Iterable[Event | bytes]:
    try:
        if source.door.csv:
            return source.door.csv(line)
        if line.lstrip()[:1] != b"[":
            return (line,)
        items: list[Event] = orjson.loads(line)
    except Unmapped as unmapped:
        why = Both(f"the mapping cannot read it: {unmapped}.", f"映射无法读取：{unmapped}。")
        raise _at(source, number, why, Both("Mend the row or the mapping.", "请修正该行或映射。")) from None
    except orjson.JSONDecodeError as error:
        why = Both(f"it is no JSON ({error}).", f"不是 JSON（{error}）。")
        raise _at(source, number, why, Both("A line holds one record.", "每行一条记录。")) from None
    return items


def _at(source: FileSource, number: int, why: Both, fix: Both) -> BadQuestion:
    name = source.path.name
    return BadQuestion(
        Both(
            f"{name}, line {number}: {why.en} Nothing was sent.", f"{name} 第 {number} 行：{why.zh}没有发送任何内容。"
        ),
        fix,
    )
