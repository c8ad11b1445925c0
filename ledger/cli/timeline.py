"""A time axis drawn with characters: bars for windows, a mark for the instant asked about. Pure.

In: bars with their times, the instant, a width in cells. Out: lines of text, all times local. It never
lies about the one thing that matters: a bar crosses the mark (┃) exactly when it covers the instant,
however coarse the scale; one that only comes near stops short of it.

    █ between recorded times    ░ up to where only the rule bounds it    ◀ ▶ goes on beyond the axis
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.cells import cell_len, set_cell_size

from ledger.calendar import SHANGHAI

LABEL_CELLS_MAX = 22
AXIS_CELLS_MIN = 44  # the instant in words finds room on one side of the mark
TICK_CELLS_MIN = 9  # a label and room beside it
EDGE_SHARE = 16  # one part in sixteen of the span stays free on either side
EDGE_LEAST = timedelta(minutes=2)
LEAST_REACH = timedelta(minutes=30)
STEPS = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, *(1440 * days for days in (1, 2, 5, 10, 30)))
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One window. `firm`: its end is recorded; else only the rule bounds it, and it may leave the axis."""

    label: str
    start: datetime
    end: datetime
    firm: bool


@dataclass(frozen=True, slots=True)
class _Scale:
    first: datetime
    last: datetime
    cells: int

    def cell(self, moment: datetime) -> int:
        """The cell of a moment; outside 0 … cells-1 where it lies beyond the axis."""
        return (moment - self.first) * self.cells // (self.last - self.first)


def draw(bars: Sequence[Bar], at: datetime, width: int) -> list[str]:
    """Tick labels, the axis, one line per bar, and the mark with the instant below."""
    label_cells = min(LABEL_CELLS_MAX, max((cell_len(bar.label) for bar in bars), default=0))
    scale = _scale(bars, at, max(AXIS_CELLS_MIN, width - label_cells - 2))
    indent = " " * (label_cells + 2)
    mark = scale.cell(at)
    lines = [indent + line for line in _axis(scale)]
    lines += [f"{_fit(bar.label, label_cells)}  {_bar(bar, at, mark, scale)}" for bar in bars]
    lines.append(indent + _below(mark, at, scale.cells))
    return [line.rstrip() for line in lines]


def _scale(bars: Sequence[Bar], at: datetime, cells: int) -> _Scale:
    """Over all recorded times and the instant, with a margin; bars that only the rule bounds may leave it."""
    firm = [moment for bar in bars if bar.firm for moment in (bar.start, bar.end)]
    moments = [at, *firm]
    reach = 2 * max(max(moments) - min(moments), LEAST_REACH)
    loose = [bar for bar in bars if not bar.firm and (not firm or bar.start >= min(moments) - reach)]
    moments += [bar.start for bar in loose] + [bar.end for bar in loose if bar.end <= at]
    margin = max((max(moments) - min(moments)) / EDGE_SHARE, EDGE_LEAST)
    return _Scale(min(moments) - margin, max(moments) + margin, cells)


def _axis(scale: _Scale) -> list[str]:
    """Labels over a ruled line."""
    step = _step(scale)
    midnight = scale.first.astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)
    tick = midnight + -(-(scale.first - midnight) // step) * step
    labels, ruler = [" "] * scale.cells, ["─"] * scale.cells
    while tick < scale.last:
        cell, text = scale.cell(tick), _tick_text(tick, step)
        ruler[cell] = "┬"
        from_ = min(max(cell - len(text) // 2, 0), scale.cells - len(text))
        if all(character == " " for character in labels[max(from_ - 1, 0) : from_ + len(text)]):
            labels[from_ : from_ + len(text)] = text
        tick += step
    return ["".join(labels), "".join(ruler)]


def _step(scale: _Scale) -> timedelta:
    """The smallest round step whose labels have room."""
    span = scale.last - scale.first
    return next((step for step in STEPS if scale.cells * step >= TICK_CELLS_MIN * span), STEPS[-1])


def _tick_text(tick: datetime, step: timedelta) -> str:
    at_midnight = tick.hour == tick.minute == 0
    return f"{tick:%m-%d}" if at_midnight or step >= timedelta(days=1) else f"{tick:%H:%M}"


def _bar(bar: Bar, at: datetime, mark: int, scale: _Scale) -> str:
    covers = bar.start <= at < bar.end
    first, after = scale.cell(bar.start), scale.cell(bar.end)
    after = max(after, first + 1)
    if bar.end <= at:
        after = min(after, mark)
        first = min(first, after - 1)
    elif bar.start > at:
        first = max(first, mark + 1)
        after = max(after, first + 1)
    cells = [" "] * scale.cells
    for cell in range(max(first, 0), min(after, scale.cells)):
        cells[cell] = "█" if bar.firm else "░"
    if first < 0:
        cells[0] = "◀"
    if after > scale.cells:
        cells[-1] = "▶"
    cells[mark] = "┃" if covers else "│"
    return "".join(cells)


def _below(mark: int, at: datetime, cells: int) -> str:
    text = f"{at.astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S}"
    if mark + 2 + len(text) <= cells:
        return " " * mark + "▲ " + text
    return " " * max(0, mark - len(text) - 1) + text + " ▲"


def _fit(label: str, cells: int) -> str:
    """Exactly so many cells; what is cut off shows as …"""
    return (
        label + " " * (cells - cell_len(label)) if cell_len(label) <= cells else set_cell_size(label, cells - 1) + "…"
    )
