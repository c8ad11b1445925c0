"""How long the steps of a batch take. In: the loop's switch, called after every step. Out: laps of the monotonic clock.

Some ten looks at the clock a batch, whatever it holds.
"""

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

# What the loop's switch says when a step is done → the step.
STEPS = {
    "read": "read",
    "prepared": "prepare",
    "begun": "begin",
    "claimed": "claim",
    "posted": "post",
    "kept": "keep",
    "advanced": "advance",
    "committed": "commit",
}


class Lap(NamedTuple):
    """One step, and when it began and ended, by the monotonic clock."""

    step: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Steps:
    """Laps of the batch that is being booked. Reading is done by another thread, ahead of it, and handed over."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._laps: list[Lap] = []
        self._since = 0.0

    def begin(self, read: tuple[float, float]) -> None:
        """A batch is taken up that was read then."""
        self._laps = [Lap("read", *read)]
        self._since = self._clock()

    def reached(self, step: str) -> None:
        """Called by the loop: the step is done. One that had to be taken again counts again."""
        if step != "read":
            began, self._since = self._since, self._clock()
            self._laps.append(Lap(STEPS[step], began, self._since))

    def take(self) -> list[Lap]:
        """The laps since the last look; what follows belongs to the next part of the batch."""
        laps, self._laps = self._laps, []
        return laps
