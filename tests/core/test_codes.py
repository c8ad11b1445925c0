"""Code lists: the areas of GB/T 2260 hang together, and every code has its words."""

from collections import Counter
from datetime import date
from importlib.resources import files

import pytest

from ledger.cli.common import parse_province
from ledger.errors import BadQuestion
from ledger.intake import CITY_NUMBERS
from ledger.rating import LINE_CODES
from schemas.codes import CITIES, LINE_NAMES, PROVINCES, Answer, Doubt, EventType, Line, Reason, short_name


def test_there_are_thirty_one_provinces_with_a_name_in_both_languages():
    assert len(PROVINCES) == 31
    assert all(area.name and area.name_en for area in PROVINCES.values())
    assert (PROVINCES["31"].name, PROVINCES["31"].name_en) == ("上海市", "Shanghai")


def test_every_city_is_six_digits_of_a_known_province():
    assert all(code.isascii() and code.isdigit() and len(code) == 6 for code in CITIES)
    assert {code[:2] for code in CITIES} == PROVINCES.keys()
    assert all(area.name for area in CITIES.values())


def test_a_province_is_known_by_the_name_that_people_use():
    known = {"上海": "31", "内蒙古": "15", "广西": "45", "宁夏": "64", "新疆": "65", "西藏": "54", "黑龙江": "23"}
    for name, code in known.items():
        assert short_name(PROVINCES[code]) == name
        assert parse_province(name) == code
    assert len({short_name(area) for area in PROVINCES.values()}) == 31
    with pytest.raises(BadQuestion):
        parse_province("江")


def test_no_code_stands_twice_in_the_list():
    lines = files("schemas").joinpath("gb2260.tsv").read_text("utf-8").splitlines()
    codes = Counter(line.split("\t")[0] for line in lines if line[:1].isdigit())
    assert [code for code, count in codes.items() if count > 1] == []
    assert len(codes) == len(PROVINCES) + len(CITIES)


def test_a_code_in_force_for_a_time_begins_before_it_ends():
    for area in (*PROVINCES.values(), *CITIES.values()):
        assert (area.since or date.min) < (area.until or date.max)


def test_cities_of_real_orders_and_of_the_corps_are_known():
    assert CITIES["210200"].name == "大连市"
    assert CITIES["659001"].name == "石河子市"
    assert CITIES["659012"].since == date(2023, 1, 20)


def test_a_city_as_a_number_keeps_its_province():
    assert all(str(number)[:2] == code[:2] for code, number in CITY_NUMBERS.items())


def test_every_line_has_its_words_and_a_letter_of_its_own():
    assert LINE_NAMES.keys() == LINE_CODES.keys() == set(Line)
    assert len(set(LINE_CODES.values())) == len(Line)
    assert all(len(letter) == 1 for letter in LINE_CODES.values())


def test_codes_are_spelled_alike_everywhere():
    for codes in (Line, Answer, Reason, Doubt):
        assert all(code.name.lower() == code.value for code in codes)
    assert all(kind.value == f"order.{kind.name.lower()}" for kind in EventType)
