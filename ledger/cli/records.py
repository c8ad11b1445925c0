"""What to ingest and how to read it. In: arguments. Out: files opened, each of them fit to be booked, or the inbox."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ledger.cli import common
from schemas.both import Both

if TYPE_CHECKING:
    from consumers.sources import FileSource
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

    @property
    def size(self) -> int:
        """Stored bytes of all files."""
        return sum(path.stat().st_size for path in self.paths)


def wanted(path: Path, map_name: str | None, first_day: str | None) -> Wanted:
    """The files of a path, and how to read them; BadQuestion where that cannot be."""
    from consumers.sources import files
    from ledger import mapping as mappings

    mapping = mappings.load(map_name) if map_name else None
    return Wanted(files(path), mapping, common.parse_day(first_day) if first_day else None)


def opened(wanted: Wanted, on_bytes: Callable[[int], None]) -> "list[FileSource]":
    """All files, checked before the first one is booked; one that holds nothing is named and left out."""
    from consumers import lines, sources

    found = []
    for path in wanted.paths:
        if lines.is_empty(path):
            common.notice(Both(f"{path.name} is empty.", f"{path.name} 是空文件。"))
        else:
            found.append(sources.open_file(path, wanted.mapping, wanted.first_day, common.now(), on_bytes))
    return found
