"""A text for a person, in both languages; the command picks one (`ledger.cli.common.say`).

In: the English and the Chinese sentence, side by side where the fact is known. Out: a plain pair. Where
nobody picks (logs, tests, what a replay finds) it reads as English.
"""

from typing import NamedTuple


class Both(NamedTuple):
    """One text in English and in Chinese."""

    en: str
    zh: str

    def __str__(self) -> str:
        return self.en


class ShapeError(ValueError):
    """A value that is not what its place asks for; pydantic carries it to whoever names the place.

    `place`: where in the value that is looked at, when a check of the whole finds a fault of a part.
    """

    def __init__(self, en: str, zh: str, place: tuple[str | int, ...] = ()) -> None:
        super().__init__(en)
        self.both = Both(en, zh)
        self.place = place
