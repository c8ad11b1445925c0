"""What people read fits their screen: nothing is cut off, nothing is wider, sums and states are said once.

In: settlements and balances as values, a narrow screen. Out: lines that fit, with every name whole.
"""

from datetime import date, datetime
from decimal import Decimal

import pytest

from ledger.calendar import SHANGHAI
from ledger.cli import balance, common, settleview
from ledger.errors import BadQuestion
from ledger.settlement import Declaration, MonthLine
from ledger.store.settle import Settled
from schemas.both import Both
from schemas.codes import Line

OCTOBER, SEPTEMBER = date(2026, 10, 1), date(2026, 9, 1)
SEALED = datetime(2026, 11, 3, 9, 0, tzinfo=SHANGHAI)
NAMES = {1: "example-delivery", 2: "a-platform-with-the-longest-name"}


@pytest.fixture(autouse=True)
def in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANBAO_LANG", "en")


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What was written on a screen of so many columns."""

    def width(columns: int) -> None:
        monkeypatch.setattr(common.out, "width", columns)
        monkeypatch.setattr(common.err, "width", columns)

    def lines() -> list[str]:
        read = capsys.readouterr()
        return (read.out + read.err).splitlines()

    return width, lines


def line(platform: int, orders: int, origin: date = OCTOBER, fen: int | None = None) -> Declaration:
    amount = orders * 700
    of = MonthLine(platform, Line.INTRA_CITY_FREIGHT, origin, 700, Decimal(1), orders, amount)
    return Declaration(of, amount // 100 if fen is None else fen)


def settled(province: str, *lines: Declaration, sealed: datetime | None = SEALED, changed: bool = False) -> Settled:
    return Settled(province, OCTOBER, list(lines), date(2026, 11, 15), sealed, changed)


def test_a_province_at_80_columns_has_every_name_and_figure_whole(screen) -> None:
    width, lines = screen
    width(80)
    one = settled("31", line(1, 1_234_567), line(2, 21, SEPTEMBER))
    settleview.show_lines(one, NAMES, date(2026, 11, 27))
    shown = lines()
    assert max(map(len, shown)) <= 80
    text = "\n".join(shown)
    assert "…" not in text
    assert "1,234,567" in text
    assert "86,419.69" in text
    assert "86,421.16" in text, "the total"
    assert "(2026-09): orders of that month, booked late as adjustments." in text
    assert " ".join(shown[-2:]).endswith("2026-11-15, 12 d ago")
    folded = "".join(row[: shown[1].index("line")].strip() for row in shown[2:6])
    assert "a-platform-with-the-longest-name" in folded
    assert "Shanghai" not in "\n".join(shown[1:6]), "it stands in the title"


def test_provinces_are_listed_by_code_with_a_total_and_each_state_on_one_line(screen) -> None:
    width, lines = screen
    width(80)
    results = [
        settled("44", line(1, 100_000), changed=True),
        settled("31", line(1, 200_000)),
        settled("11", line(1, 1), sealed=None),
        settled("65", line(1, 3)),
    ]
    settleview.show_provinces(results, OCTOBER, date(2026, 11, 10))
    shown = lines()
    text = "\n".join(shown)
    assert max(map(len, shown)) <= 80
    assert [row.split()[0] for row in shown[1:5]] == ["11", "31", "44", "65"]
    assert shown[5].split() == ["total", "300,004", "21,000.28"]
    assert "Sealed now, for ever: 1 province, 7,000.00 yuan." in text
    assert "Sealed before, unchanged: 2 provinces, 14,000.21 yuan." in text
    assert "Would be declared (dry run): 1 province, 0.07 yuan. To seal:" in text
    assert "ago" not in text
    assert text.count("2026-11-15") == 4


def test_a_province_without_orders_has_no_bare_header(screen) -> None:
    width, lines = screen
    width(80)
    settleview.show_lines(settled("31"), NAMES, date(2026, 11, 10))
    assert lines()[1] == "No orders: nothing to declare."


def test_a_balance_at_60_columns_has_every_name_and_figure_whole(screen) -> None:
    width, lines = screen
    width(60)
    rows = [
        {"account": "premium_receivable", "platform": NAMES[2], "order_count": 1_234_567, "amount_hao": 864_196_900},
        {"account": "premium_income", "platform": NAMES[2], "order_count": None, "amount_hao": -864_196_900},
    ]
    balance.show("31", rows, None, None)
    shown = lines()
    assert max(map(len, shown)) <= 60
    assert "…" not in "\n".join(shown)
    assert sum("86,419.69" in row for row in shown) == 3
    assert "1,234,567" in "\n".join(shown)


def test_a_message_is_as_wide_as_the_screen_and_no_wider(screen) -> None:
    width, lines = screen
    width(40)
    common.tell(BadQuestion(Both("word " * 30, "字"), Both("other " * 30, "字")))
    shown = lines()
    assert shown[0].startswith("error: word")
    assert max(len(row.rstrip()) for row in shown) <= 40


@pytest.mark.parametrize(
    ("yuan", "shown"), [("1835.19", "1,835.19"), ("-0.07", "-0.07"), ("0.00", "0.00"), ("1234567.005", "1,234,567.005")]
)
def test_thousands_of_yuan_are_kept_apart(yuan: str, shown: str) -> None:
    assert common.money(yuan) == shown


def test_one_of_a_thing_is_not_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [common.count(number, "order", "单") for number in (1, 2, 2_000)] == ["1 order", "2 orders", "2,000 orders"]
    monkeypatch.setenv("DANBAO_LANG", "zh")
    assert common.count(2_000, "order", "单") == "2,000 单"
