"""The rulebook: what an order costs, which rule wins, what changes when, and what the hash is over."""

import json
import re
from dataclasses import FrozenInstanceError
from datetime import date, timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from languages import speaks_both

from ledger.errors import BadQuestion
from ledger.money import hao, yuan
from ledger.rulebook import Key, Rulebook, RuleFault, key_of, load
from ledger.rulebook.check import contradictions
from ledger.rulebook.file import Located
from ledger.rulebook.index import RuleIndex
from schemas.codes import Line
from schemas.rulebook import TOPICS, PremiumBase, Rule, RuleFile

HERE = Path(__file__).parents[1] / "cases"
CASES = yaml.safe_load((HERE / "premium.yaml").read_text("utf-8"))
DAY = date(2026, 10, 3)
COMPLETE = (HERE / "complete_rules.yaml").read_text("utf-8")
ROW = yaml.safe_load((HERE / "rule_faults.yaml").read_text("utf-8"))["row"]

HAINAN = """\
order_rules:
  - province: "46"
    line: ride_hailing
    charging_event: completed
    on_cancellation: reverse
    on_reassignment: keep
    unit: one charge per order
    in_force_from: 2022-07-01
    source: a text
    checked_on: 2026-11-22
    mark: U
"""


@pytest.fixture(scope="module")
def packaged() -> Rulebook:
    return load()


def book_of(folder: Path, **texts: str) -> Rulebook:
    """Load the texts as files, beside the complete rulebook."""
    for name, text in {"complete": COMPLETE, **texts}.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return load(folder)


# What an order costs


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_an_order_costs_what_the_case_says(packaged: Rulebook, case: dict) -> None:
    order, costs = case["order"], case["costs"]
    premium = packaged.premium(order["line"], order["province"], order["platform"], order["day"])
    if costs == "none":
        assert premium is None
        return
    assert premium is not None
    assert yuan(premium.premium_base) == costs["base"]
    assert str(premium.float_factor) == costs["factor"]
    assert yuan(premium.amount) == costs["amount"]
    assert costs["source"] in premium.base_source
    assert premium.mark == costs["mark"]
    assert premium.in_force_from <= order["day"]


def test_a_premium_names_both_sources_and_the_day_since_which_both_hold(packaged: Rulebook) -> None:
    premium = packaged.premium("instant_delivery", "31", "example-delivery", DAY)
    assert premium is not None
    assert "17号" in premium.base_source
    assert "example-delivery" in premium.factor_source
    assert premium.in_force_from == date(2026, 1, 1)
    assert (premium.premium_base, premium.float_factor, premium.amount) == (700, Decimal("1.2"), 840)


# What else the rules answer


def test_every_order_is_charged_on_acceptance_and_keeps_its_charge(packaged: Rulebook) -> None:
    assert packaged.plain_orders()
    rule = packaged.order_rule("ride_hailing", "44", DAY)
    assert (rule.charging_event, rule.on_cancellation, rule.on_reassignment) == ("accepted", "keep", "keep")
    assert rule.source


def test_a_province_with_another_way_of_charging_ends_the_plain_case(tmp_path: Path) -> None:
    book = book_of(tmp_path, hainan=HAINAN)
    assert not book.plain_orders()
    assert book.order_rule("ride_hailing", "46", DAY).charging_event == "completed"
    assert book.order_rule("instant_delivery", "46", DAY).charging_event == "accepted"
    assert book.order_rule("ride_hailing", "31", DAY).on_cancellation == "keep"


def test_a_window_is_bounded_by_the_line(packaged: Rulebook) -> None:
    assert {line: packaged.longest_window(line, DAY).hours for line in Line} == {
        "ride_hailing": 24,
        "food_delivery": 12,
        "instant_delivery": 12,
        "intra_city_freight": 48,
    }
    assert packaged.longest_window("ride_hailing", DAY).seconds == 86_400


def test_a_month_is_due_in_the_month_that_follows(packaged: Rulebook) -> None:
    assert packaged.due_on("31", date(2026, 10, 1)) == date(2026, 11, 15)
    assert packaged.due_on("31", date(2026, 12, 31)) == date(2027, 1, 15)
    assert packaged.late_payment("31", DAY).late_share_per_day == "0.0005"
    assert packaged.rounding(DAY).rounding == "half_up"


def test_the_bands_run_from_nothing_upwards(packaged: Rulebook) -> None:
    bands = packaged.float_bands("31", DAY)
    assert [band.float_factor for band in bands] == ["0.5", "0.8", "1.0", "1.2", "1.5"]
    assert (bands[0].ratio_from_percent, bands[-1].ratio_below_percent) == ("0", None)


@pytest.mark.parametrize(
    "ask",
    [
        lambda book, day: book.order_rule("ride_hailing", "31", day),
        lambda book, day: book.longest_window("ride_hailing", day),
        lambda book, day: book.rounding(day),
        lambda book, day: book.float_bands("31", day),
        lambda book, day: book.due_on("31", day),
        lambda book, day: book.late_payment("31", day),
    ],
)
def test_a_day_before_the_scheme_is_a_bad_question(packaged: Rulebook, ask) -> None:
    with pytest.raises(BadQuestion, match="2022-06"):
        ask(packaged, date(2022, 6, 30))


def test_rates_for_the_database_are_the_bases_with_their_last_day(packaged: Rulebook) -> None:
    rates = packaged.rates()
    assert len(rates) == sum(isinstance(rule, PremiumBase) for rule in packaged.rules)
    eats = next(rate for rate in rates if rate.platform_id == "example-eats" and rate.province == "50")
    assert eats[:6] == (
        "instant_delivery",
        "50",
        "example-eats",
        date(2025, 7, 1),
        date(2026, 12, 31),
        2_500,
    )
    assert eats.mark == "U"
    assert "example" in eats.source


def test_changes_are_found_on_the_day_from_which_they_hold(packaged: Rulebook) -> None:
    assert packaged.changes(date(2025, 7, 1), date(2025, 12, 31)) == ()
    changes = {change.key: change for change in packaged.changes(date(2025, 6, 30), date(2025, 7, 1))}
    assert changes[Key("food_delivery")].after is None
    freight = changes[Key("intra_city_freight")]
    assert isinstance(freight.before, PremiumBase)
    assert isinstance(freight.after, PremiumBase)
    assert (freight.before.premium_base, freight.after.premium_base) == ("0.20", "0.18")
    assert all(change.on == date(2025, 7, 1) for change in changes.values())
    ended = [change for change in packaged.changes(DAY, date(2027, 1, 1)) if change.key.province == "50"]
    assert [(change.on, change.after and key_of(change.after)) for change in ended] == [
        (date(2027, 1, 1), Key("instant_delivery", "50")),
    ]


def test_what_applies_leaves_out_what_is_outranked(packaged: Rulebook) -> None:
    keys = packaged.premium_keys(DAY, Key("instant_delivery", "31"))
    assert [key.platform for key in keys] == ["any", "example-delivery", "example-eats"]
    applying = packaged.applying(DAY, Key("instant_delivery", "31", "example-eats"))
    assert [key_of(rule) for rule in applying if isinstance(rule, PremiumBase)] == [
        Key("instant_delivery", "31", "example-eats")
    ]
    assert packaged.premium_keys(DAY, Key("food_delivery")) == []


# The packaged rules


def test_the_packaged_rules_name_no_real_platform(packaged: Rulebook) -> None:
    named = {key_of(rule).platform for rule in packaged.rules} - {"any"}
    assert named == {"example-eats", "example-delivery"}
    for rule in packaged.rules:
        if key_of(rule).platform != "any":
            assert rule.mark == "U"
            assert "example" in rule.source


def test_the_published_schema_takes_the_packaged_files() -> None:
    schema = RuleFile.model_json_schema()
    for file in files("ledger").joinpath("rules").iterdir():
        plain = json.loads(json.dumps(yaml.safe_load(file.read_text("utf-8")), default=str))
        jsonschema.validate(plain, schema)


def test_every_topic_of_the_file_has_its_kind_of_row() -> None:
    assert list(TOPICS) == list(RuleFile.model_fields)


# Hash and content


def test_layout_comments_order_and_files_do_not_change_the_hash(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    first = book_of(one, shanghai=ROW + HAINAN)
    topics = yaml.safe_load(COMPLETE)
    shuffled = {topic: list(reversed(rows)) for topic, rows in reversed(topics.items())}
    row = ROW.replace('"0.07"', "'0.0700'").replace("a text", ">-\n      a\n      text")
    (two / "z.yaml").write_text("# a comment\n" + yaml.safe_dump(shuffled), "utf-8")
    (two / "a.yml").write_text(HAINAN, "utf-8")
    (two / "b.yaml").write_bytes(b"\xef\xbb\xbf" + row.replace("    province", "\n    province").encode())
    second = load(two)
    assert first.content == second.content
    assert first.hash == second.hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"0.07"', '"0.08"'),
        ("a text", "b text"),
        ("mark: U", "mark: P"),
        ("2025-12-31", "2026-01-31"),
        ("checked_on: 2026-11-22", "checked_on: 2026-11-23"),
        ("mark: U", "mark: U\n    note: hear, hear"),
    ],
)
def test_every_part_of_a_row_is_in_the_hash(tmp_path: Path, old: str, new: str) -> None:
    before = book_of(tmp_path, row=ROW)
    after = book_of(tmp_path, row=ROW.replace(old, new))
    assert before.hash != after.hash


def test_the_hash_of_a_known_rulebook_never_changes(tmp_path: Path) -> None:
    book = book_of(tmp_path)
    assert book.hash.hex() == "a4a88cda103bc3980312c78a69794f27920ab034a4e952a74a7a9444a55e1cfb"


def test_a_rulebook_is_rebuilt_from_its_content(packaged: Rulebook) -> None:
    again = Rulebook.from_content(packaged.content)
    assert (again.hash, again.content, again.rules) == (packaged.hash, packaged.content, packaged.rules)
    assert len(packaged.hash) == 32
    with pytest.raises(FrozenInstanceError):
        again.content = ""  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"format":1', '"format":2', "format: 2 is not 1"),
        ('"0.25"', '"-0.25"', "premium_bases.premium_base: -0.25 is negative"),
        ('"mark":"V",', "", "float_factors.mark is missing"),
        ("{", "", "row: "),
    ],
)
def test_content_that_is_none_is_refused(packaged: Rulebook, old: str, new: str, reason: str) -> None:
    with pytest.raises(RuleFault, match=re.escape(reason)) as refused:
        Rulebook.from_content(packaged.content.replace(old, new, 1))
    assert all(speaks_both(fault.reason) for fault in refused.value.faults)


def test_content_that_overlaps_itself_is_refused(packaged: Rulebook) -> None:
    plain = json.loads(packaged.content)
    plain["premium_bases"].append(plain["premium_bases"][0] | {"source": "another"})
    with pytest.raises(RuleFault, match="overlaps"):
        Rulebook.from_content(json.dumps(plain))


# For all rulebooks


def base_rule(line: str, province: str, platform: str, first: int, days: int | None, amount: int) -> PremiumBase:
    start = date(2025, 1, 1) + timedelta(days=first)
    row = {
        "line": line,
        "province": province,
        "platform": platform,
        "premium_base": yuan(amount),
        "unit": "yuan per order",
        "in_force_from": str(start),
        "in_force_until": None if days is None else str(start + timedelta(days=days)),
        "source": "a text",
        "checked_on": "2026-11-22",
        "mark": "U",
    }
    return PremiumBase.model_validate_json(json.dumps(row))


RULES = st.lists(
    st.builds(
        base_rule,
        line=st.sampled_from(["ride_hailing", "instant_delivery"]),
        province=st.sampled_from(["any", "31", "50"]),
        platform=st.sampled_from(["any", "one", "two"]),
        first=st.integers(0, 12),
        days=st.none() | st.integers(0, 12),
        amount=st.integers(1, 9_999),
    ),
    max_size=12,
)
DAYS = [date(2025, 1, 1) + timedelta(days=day) for day in range(-1, 30)]


def clash(rules: list[PremiumBase]) -> bool:
    """Whether two rules of one key hold on one day, by looking at every day."""
    held = [(key_of(rule), day) for rule in rules for day in [*DAYS, date(2026, 1, 1)] if rule.holds_on(day)]
    return len(held) != len(set(held))


def most_special(rules: list[PremiumBase], key: Key, on: date) -> PremiumBase | None:
    """The rule in force that names most: province before platform."""
    fits = [
        rule
        for rule in rules
        if rule.holds_on(on)
        and rule.line == key.line
        and rule.province in ("any", key.province)
        and rule.platform in ("any", key.platform)
    ]

    def named(rule: PremiumBase) -> tuple[int, bool]:
        both = rule.province != "any" and rule.platform != "any"
        return 3 * both + 2 * (rule.province != "any"), rule.platform != "any"

    return max(fits, key=named, default=None)


@settings(max_examples=100, deadline=None)
@given(RULES)
def test_rules_are_refused_exactly_when_two_share_key_and_day(rules: list[PremiumBase]) -> None:
    rows: list[Located] = [Located(rule, "all.yaml") for rule in rules]
    assert bool(contradictions(rows)) == clash(rules)


@settings(max_examples=100, deadline=None)
@given(RULES, st.sampled_from(["31", "50", "44"]), st.sampled_from(["one", "two", "three"]))
def test_the_most_special_rule_wins_on_every_day(rules: list[PremiumBase], province: str, platform: str) -> None:
    alone: list[PremiumBase] = []
    for rule in rules:
        if not clash([*alone, rule]):
            alone.append(rule)
    index = RuleIndex(alone)
    key = Key("instant_delivery", province, platform)
    for day in DAYS:
        assert index.find(PremiumBase, key, day) == most_special(alone, key, day)


@settings(max_examples=100, deadline=None)
@given(RULES, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_never_matters(rules: list[Rule], random) -> None:
    shuffled = list(rules)
    random.shuffle(shuffled)
    key = Key("instant_delivery", "31", "one")
    if not clash(rules):  # type: ignore[arg-type]
        assert RuleIndex(rules).rules == RuleIndex(shuffled).rules
        assert [RuleIndex(shuffled).find(PremiumBase, key, day) for day in DAYS] == [
            RuleIndex(rules).find(PremiumBase, key, day) for day in DAYS
        ]


@given(st.integers(1, 100_000_000))
def test_an_amount_is_kept_exactly(amount: int) -> None:
    assert hao(base_rule("ride_hailing", "any", "any", 0, None, amount).premium_base) == amount
