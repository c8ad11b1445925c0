"""On which terms each batch was read. In: the registers and rulebooks. Out: per batch a Reader as it was then.

That is: under the rulebook that the batch names, with the platforms registered by then, and as its topic's source
says: lines of a CSV file by their mapping, records of a stream only from whom may send them there.
"""

from collections.abc import Iterable
from typing import Any

from duckdb import DuckDBPyConnection
from pydantic import ValidationError

from ledger.errors import BadQuestion
from ledger.identity import Stream
from ledger.intake import EventReader, Reader
from ledger.mapping import CsvReader, Mapping
from ledger.rating import Rating
from ledger.replay.chain import BatchRow
from ledger.replay.findings import Code, Finding, missing, text
from ledger.rulebook import Rulebook
from ledger.store import registry
from ledger.store.replay.books import Registers
from ledger.store.replay.desk import put
from ledger.store.replay.events import Terms

FILE_TOPIC = "file:"  # as consumers.sources names them; the inbox and streams have no mapping
Key = tuple[bytes, tuple[int, ...], str | None]  # rulebook, platforms, and the topic where it decides how to read


class Reading:
    """The terms of every batch, made once for all that share them."""

    def __init__(
        self,
        desk: DuckDBPyConnection,
        facts: Registers,
        rulebooks: dict[bytes, Rulebook],
        races: Iterable[tuple[int, int]],
    ) -> None:
        """`races`: (batch, platform) where the batch was read just before the platform was registered."""
        self._desk = desk
        self._facts = facts
        self.ratings = {key: Rating(rules) for key, rules in rulebooks.items()}
        self._races = set(races)
        self._registries: list[dict[str, int]] = []
        self._terms: dict[Key, Terms | Finding] = {}

    def terms(self, row: BatchRow) -> Terms | Finding:
        """The batch's terms, or why it cannot be read."""
        source = self._facts.sources.get(row.topic)
        topic = row.topic if source is not None and (source.mapping is not None or source.stream) else None
        if source is None and row.topic.startswith(FILE_TOPIC):
            return missing("source", row.topic, "how its lines are read")
        key = row.rulebook_hash, self._known(row), topic
        if key not in self._terms:
            self._terms[key] = self._make(key, row)
        return self._terms[key]

    def _known(self, row: BatchRow) -> tuple[int, ...]:
        """The platforms that were registered when the batch was read."""
        return tuple(
            number
            for number, registered_at in self._facts.registered_at.items()
            if registered_at <= row.recorded_at and (row.batch_id, number) not in self._races
        )

    def _make(self, key: Key, row: BatchRow) -> Terms | Finding:
        rulebook_hash, known, topic = key
        rating = self.ratings.get(rulebook_hash)
        if rating is None:
            return Finding(
                Code.UNREADABLE, "batch", row.key, "rulebook_hash", "a recorded rulebook", text(rulebook_hash)
            )
        source = self._facts.sources[topic] if topic else None
        try:
            csv = _csv(source)
        except (ValidationError, BadQuestion, AssertionError) as error:
            return Finding(
                Code.UNREADABLE, "source", row.topic, "mapping", "a mapping that reads its header", text(error)
            )
        platforms = [row for row in self._facts.platforms if row.platform_no in known]
        stream = Stream(source.topic, source.platform_no) if source is not None and source.stream else None
        reader = Reader(registry.for_intake(platforms, self._facts.keys), rating, csv, stream)
        book = list(self.ratings).index(rulebook_hash)
        return Terms(self._registry(reader.vouched()), book, reader, csv is not None)

    def _registry(self, vouched: dict[str, int]) -> int:
        """The number of a set of platforms whose events the queries may take, and whose names go to the desk."""
        if vouched not in self._registries:
            self._registries.append(vouched)
            number = len(self._registries) - 1
            put(self._desk, "platform_source", [(number, name, platform_no) for name, platform_no in vouched.items()])
        return self._registries.index(vouched)


def _csv(source: Any) -> EventReader | None:
    """How the lines of a mapped file are read; None where records are events."""
    if source is None or source.mapping is None:
        return None
    assert source.header is not None, "the header line is missing"
    return CsvReader(Mapping.from_content(source.mapping), source.header, source.shift_days or 0).events
