"""The time axis in the terminal: what is drawn, and that it never lies about the instant."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ledger.cli.timeline import AXIS_CELLS_MIN, Bar, draw

NOON = datetime.fromisoformat("2026-10-03T12:00+08:00")


def local(text: str) -> datetime:
    """ "12:10" on 3 October, or "10-04 00:05"."""
    day, _, clock = text.rpartition(" ")
    return datetime.fromisoformat(f"2026-{day or '10-03'}T{clock}+08:00")


def bar(label: str, start: str, end: str, firm: bool = True) -> Bar:
    return Bar(label, local(start), local(end), firm)


def drawn(bars: list[Bar], at: str, width: int = 72) -> str:
    return "\n" + "\n".join(draw(bars, local(at), width)) + "\n"


def test_orders_at_once_stand_below_each_other_and_the_mark_runs_through_all():
    bars = [
        bar("8801", "11:58:12", "12:25:44"),
        bar("8802 即时配送", "12:05", "12:40"),
        bar("2026100300000000123456", "12:08", "10-04 00:08", firm=False),
    ]
    assert (
        drawn(bars, "12:10")
        == """
                          12:00     12:10     12:20      12:30     12:40
                        ────┬─────────┬─────────┬──────────┬─────────┬──
8801                      ████████████┃███████████████
8802 即时配送                    █████┃██████████████████████████████
2026100300000000123456              ░░┃░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░▶
                                      ▲ 2026-10-03 12:10:00
"""
    )


def test_near_misses_stop_short_of_the_mark():
    bars = [bar("A", "11:20", "11:45"), bar("B", "12:20", "12:50")]
    assert (
        drawn(bars, "12:00", 60)
        == """
         11:30            12:00            12:30
   ────────┬────────────────┬────────────────┬──────────────
A     ██████████████        │
B                           │          █████████████████
                            ▲ 2026-10-03 12:00:00
"""
    )


def test_nothing_to_draw_still_shows_the_instant():
    assert (
        drawn([], "12:10", 46)
        == """
  12:08    12:09      12:10      12:11
  ┬──────────┬──────────┬──────────┬──────────
                        ▲ 2026-10-03 12:10:00
"""
    )


def test_a_window_over_midnight_names_the_new_day():
    assert "10-04" in drawn([bar("A", "23:00", "10-04 01:00")], "23:30")


def test_a_long_order_id_is_cut_to_its_column():
    [_, _, line, _] = draw([bar("订单" * 20, "12:00", "12:30")], local("12:10"), 72)
    assert line.startswith("订单订单订单订单订单 …  ")


def test_an_open_order_of_yesterday_does_not_press_todays_orders_flat():
    lines = drawn([bar("A", "12:00", "12:30"), bar("B", "10-02 14:00", "10-04 14:00", firm=False)], "12:10")
    assert "◀░" in lines
    assert "░▶" in lines
    assert lines.count("█") > 20


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_no_line_is_wider_than_the_screen_unless_the_screen_is_too_small_to_draw_on(width: int):
    lines = draw(
        [bar("8801", "11:58", "12:25"), bar("8802", "12:05", "10-04 00:05", firm=False)], local("12:10"), width
    )
    assert max(map(cell_len, lines)) <= max(width, AXIS_CELLS_MIN + 6)


SECONDS = st.integers(-200_000, 200_000)


@given(st.lists(st.tuples(SECONDS, st.integers(0, 100_000), st.booleans()), max_size=6), SECONDS, st.integers(20, 160))
def test_a_bar_crosses_the_mark_exactly_when_it_covers_the_instant(
    spans: list[tuple[int, int, bool]], at_s: int, width: int
):
    at = NOON + timedelta(seconds=at_s)
    bars = [
        Bar(f"{number}", NOON + timedelta(seconds=start), NOON + timedelta(seconds=start + length), firm)
        for number, (start, length, firm) in enumerate(spans)
    ]
    _, _, *lines, below = draw(bars, at, width)
    assert len(lines) == len(bars)
    for line, one in zip(lines, bars, strict=True):
        covers = one.start <= at < one.end
        assert ("┃" in line) == covers
        assert ("│" in line) != ("┃" in line)
        mark = line.find("┃") if "┃" in line else line.find("│")
        assert below.find("▲") == mark
        body = line[1:].translate(str.maketrans("┃│", "  ")).strip()
        assert body or covers, "every window leaves a trace"


def test_the_axis_is_local_whatever_zone_the_question_came_in():
    utc = [Bar("A", local("12:00").astimezone(tz=None), local("12:30"), True)]
    assert draw(utc, datetime.fromisoformat("2026-10-03T04:10Z"), 72) == draw(
        [bar("A", "12:00", "12:30")], local("12:10"), 72
    )
