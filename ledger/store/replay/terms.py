"""On which terms each batch was read. In: the registers and rulebooks. Out: per batch a Reader as it was then.

That is: under the rulebook that the batch names, with the platforms registered by then, and for lines of a
CSV file with the mapping recorded for its topic.
"""

from collections.abc import Iterable

from duckdb import DuckDBPyConnection
from pydantic import ValidationError

from ledger.errors import BadQuestion
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
Key = tuple[bytes, tuple[int, ...], str | None]


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
        self._books = list(rulebooks)
        self.ratings = {key: Rating(rules) for key, rules in rulebooks.items()}
        self._races = set(races)
        self._registries: list[tuple[int, ...]] = []
        self._terms: dict[Key, Terms | Finding] = {}

    def terms(self, row: BatchRow) -> Terms | Finding:
        """The batch's terms, or why it cannot be read."""
        source = self._facts.sources.get(row.topic)
        topic = row.topic if source is not None and source.mapping is not None else None
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
        try:
            csv = self._csv(topic)
        except (ValidationError, BadQuestion, AssertionError) as error:
            return Finding(
                Code.UNREADABLE, "source", row.topic, "mapping", "a mapping that reads its header", text(error)
            )
        platforms = [row for row in self._facts.platforms if row.platform_no in known]
        names = {row.platform_no: row.platform_id for row in platforms}
        sources = registry.for_intake(platforms)
        number = self._registry(known, {source: found.platform_no for source, found in sources.items()})
        book = self._books.index(rulebook_hash)
        return Terms(number, book, names, rating, Reader(sources, rating, csv), csv is not None)

    def _csv(self, topic: str | None) -> EventReader | None:
        if topic is None:
            return None
        source = self._facts.sources[topic]
        assert source.header is not None, "the header line is missing"
        return CsvReader(Mapping.from_content(source.mapping), source.header, source.shift_days or 0).events

    def _registry(self, known: tuple[int, ...], sources: dict[str, int]) -> int:
        """The number of a set of platforms, whose names go to the desk."""
        if known not in self._registries:
            self._registries.append(known)
            number = len(self._registries) - 1
            rows = [(number, source, platform_no) for source, platform_no in sources.items()]
            put(self._desk, "platform_source", rows)
        return self._registries.index(known)
