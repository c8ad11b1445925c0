"""Tariffs on the desk. In: the ledger's own Rating and Reader. Out: numbered rows that the queries join with.

One thread at a time rates and reads: a tariff is the same when it is the same object, so none may be made twice.
"""

from collections.abc import Iterable, Sequence
from threading import RLock

from duckdb import DuckDBPyConnection

from ledger.evidence import Record
from ledger.intake import CITY_NUMBERS, Intake, Reader
from ledger.journal import entry_key
from ledger.rating import LINE_CODES, Rating, Tariff
from ledger.store.replay.books import EntryKeys
from ledger.store.replay.desk import put
from schemas.codes import LINE_NAMES, Line

Words = tuple[int, int, str, str, int]  # rulebook, platform, and as the event says it: line, city, local day


class Tariffs:
    """Every tariff that some event met or may meet next, by its number."""

    def __init__(self, keys: EntryKeys, ratings: Sequence[Rating], platform_ids: dict[int, str]) -> None:
        self.by_number: list[Tariff] = []
        self._ratings = ratings
        self._platform_ids = platform_ids
        self._keys = keys
        self._numbers: dict[Tariff, int] = {}
        self._rated: set[Words] = set()
        self._one_at_a_time = RLock()

    def numbers(self, cursor: DuckDBPyConnection, wanted: set[Tariff]) -> dict[Tariff, int]:
        """The number of each tariff; on first need it is put on the desk."""
        with self._one_at_a_time:
            rows = []
            for tariff in wanted - self._numbers.keys():
                number = self._numbers[tariff] = len(self.by_number)
                self.by_number.append(tariff)
                key_no = self._keys.number(entry_key(tariff))
                rows.append((number, key_no, tariff.amount, tariff.charged_when_accepted))
            put(cursor, "tariff", rows)
            return {tariff: self._numbers[tariff] for tariff in wanted}

    def work_out(self, cursor: DuckDBPyConnection, met: Iterable[Words]) -> None:
        """Put the tariffs of acceptances that say these words on the desk, as far as there are any.

        Those of the day after, too: events come day after day, and to be rated again costs them more than all this.
        """
        found: dict[Words, Tariff] = {}
        with self._one_at_a_time:
            today = set(met)
            tomorrow = {(book, platform, line, city, day + 1) for book, platform, line, city, day in today}
            for words in today | tomorrow:
                book, platform_no, line_name, city_name, day = words
                city = CITY_NUMBERS.get(city_name)
                if city is None or line_name not in LINE_NAMES or words in self._rated:
                    continue
                platform_id, rating = self._platform_ids[platform_no], self._ratings[book]
                if tariff := rating.tariff(platform_no, platform_id, city, Line(line_name), day):
                    found[words] = tariff
            numbers = self.numbers(cursor, set(found.values()))
            rows = [
                (*words, numbers[tariff], LINE_CODES[tariff.line][0], CITY_NUMBERS[words[3]])
                for words, tariff in found.items()
            ]
            put(cursor, "rated", rows)
            self._rated.update(found)

    def read(self, reader: Reader, records: list[Record]) -> Intake:
        """What the ledger's Reader makes of these records."""
        with self._one_at_a_time:
            return reader.read(records)
