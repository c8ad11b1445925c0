"""Where a record stands: the line of a file, or the offset of a topic. In: what the books know. Out: values, words."""

from collections.abc import Mapping
from typing import Any

from ledger.cli.common import say

FILE_TOPICS = "file:"


def where(topic: str, partition: int, offset: int, file: str | None, header: bool) -> dict[str, Any]:
    """The place of a record. `line`: of its file, blank lines not counted; a header is line 1."""
    of_file = topic.startswith(FILE_TOPICS) and file is not None
    return {
        "file": seen(file) if of_file and file else None,
        "line": offset + (2 if header else 1) if of_file else None,
        "topic": topic,
        "partition": partition,
    }


def where_text(one: Mapping[str, Any], offset: int) -> str:
    """orders.csv line 5; or the topic and the offset."""
    if one["file"] is None:
        return say(
            f"{one['topic']}[{one['partition']}] offset {offset}", f"{one['topic']}[{one['partition']}] 偏移 {offset}"
        )
    return say(f"{one['file']} line {one['line']}", f"{one['file']} 第 {one['line']} 行")


def seen(text: str) -> str:
    """A text without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
