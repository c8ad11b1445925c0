"""The shape of a rule file: value × in force × unit × source × checked on × mark.

In: the rows of `ledger/rules/*.yaml`, as plain values. Out: frozen rows, each of which names its
source. Here is only the shape of one row; what several rows must satisfy together (no overlap, no
gap, whole 毫) is in `ledger.rulebook`. Amounts are text, exact and canonical: "0.070" becomes "0.07".
"""

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from schemas.both import ShapeError
from schemas.codes import ANY, LINE_NAMES, PLATFORM_ID, PROVINCES, Line

RULES_PER_TOPIC_MAX = 10_000
SOME_WORD = r"\S"
DAY_FROM_2000_TO_2100 = r"^(20[0-9]{2}|2100)-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
PLAIN_NUMBER = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"


class Mark(StrEnum):
    """How sure we are of a value (domain.md, head)."""

    V = "V"
    V2 = "V2"
    P = "P"
    A = "A"
    U = "U"


MARK_MEANINGS: dict[Mark, tuple[str, str]] = {
    Mark.V: (
        "verified in an official page, court report or mainstream press",
        "已由官方网页、裁判报道或主流媒体核实",
    ),
    Mark.V2: ("read in a secondary source", "见于二手资料"),
    Mark.P: ("from a research paper", "出自研究文献"),
    Mark.A: ("by analogy with ordinary work-injury insurance", "比照《工伤保险条例》"),
    Mark.U: ("unverified, a default to be confirmed by the agency", "未核实，默认值，待经办机构确认"),
}


def _exact(decimals: int, most: Decimal, least_decimals: int, zero: bool, text: str) -> str:
    if re.fullmatch(r"-[0-9.]+", text):
        raise ShapeError(f"{text} is negative", f"{text} 是负数")
    if not re.fullmatch(PLAIN_NUMBER, text):
        raise ShapeError(
            f'{text!r} is not a plain decimal number such as "0.07"', f'{text!r} 不是 "0.07" 这样的十进制数'
        )
    number = Decimal(text).normalize()
    needed = max(0, -int(number.as_tuple().exponent))
    if number == 0 and not zero:
        raise ShapeError(
            f"{text} is zero; a rule that no longer applies gets a last day instead",
            f"{text} 为零；不再适用的规则应写明最后一日",
        )
    if needed > decimals:
        raise ShapeError(
            f"{text} has {needed} decimals, at most {decimals} can be represented",
            f"{text} 有 {needed} 位小数，至多 {decimals} 位",
        )
    if number > most:
        raise ShapeError(f"{text} is more than {most}, the largest value taken here", f"{text} 超过上限 {most}")
    return f"{number:.{max(needed, least_decimals)}f}"


def _number(decimals: int, most: str, least_decimals: int, zero: bool = False) -> Callable[[str], str]:
    return partial(_exact, decimals, Decimal(most), least_decimals, zero)


def _known_line(text: str) -> str:
    if text != ANY and text not in LINE_NAMES:
        raise ShapeError(
            f"{text!r} is not a line of business: {', '.join(LINE_NAMES)} or any",
            f"{text!r} 不是已知行业：{'、'.join(LINE_NAMES)} 或 any",
        )
    return text


def _known_province(text: str) -> str:
    if text != ANY and text not in PROVINCES:
        raise ShapeError(
            f'{text!r} is not a province: two digits of GB/T 2260 in quotes, such as "31", or any',
            f'{text!r} 不是省份：应为加引号的 GB/T 2260 前两位，如 "31"，或 any',
        )
    return text


def _prose(text: str) -> str:
    if not (words := text.split()):
        raise ShapeError("is empty", "为空")
    return " ".join(words)


def _published(unit: str, decimals: int, most: str, zero: bool = False) -> Any:
    """How the published schema says what `_number` of the same limits takes."""
    pattern = rf"^[0-9]{{1,9}}(\.[0-9]{{1,{decimals}}}0*)?$"
    return Field(
        description=f"{unit}; at most {decimals} decimals, at most {most}",
        json_schema_extra={"pattern": pattern if zero else f"^(?=.*[1-9]){pattern[1:]}"},
    )


def _choices(*values: str) -> dict[str, list[str]]:
    return {"enum": list(values)}


LineOrAny = Annotated[
    str,
    Field(max_length=32, json_schema_extra={**_choices(*LINE_NAMES, ANY)}),
    AfterValidator(_known_line),
]
ProvinceOrAny = Annotated[
    str,
    Field(max_length=3, description="GB/T 2260", json_schema_extra={**_choices(*PROVINCES, ANY)}),
    AfterValidator(_known_province),
]
PlatformOrAny = Annotated[str, Field(pattern=PLATFORM_ID, description="platform id, or any")]
Yuan = Annotated[str, _published("yuan", 4, "10000"), AfterValidator(_number(4, "10000", 2))]
Factor = Annotated[str, _published("multiple of the base", 4, "10"), AfterValidator(_number(4, "10", 1))]
Percent = Annotated[
    str, _published("per cent", 2, "100000", zero=True), AfterValidator(_number(2, "100000", 0, zero=True))
]
Share = Annotated[str, _published("share of one", 8, "1"), AfterValidator(_number(8, "1", 2))]
Day = Annotated[
    date, Field(ge=date(2000, 1, 1), le=date(2100, 12, 31), json_schema_extra={"pattern": DAY_FROM_2000_TO_2100})
]
Source = Annotated[str, Field(max_length=500, json_schema_extra={"pattern": SOME_WORD}), AfterValidator(_prose)]
Note = Annotated[str, Field(max_length=1_000, json_schema_extra={"pattern": SOME_WORD}), AfterValidator(_prose)]


class Rule(BaseModel):
    """What every rule value carries: since when, until when, where it is written, and how sure we are."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    in_force_from: Day = Field(description="first day")
    in_force_until: Day | None = Field(None, description="last day, itself included; absent: still in force")
    source: Source = Field(description="the text that says so, with its article when known")
    checked_on: Day = Field(description="when the value was last held against its source")
    mark: Mark = Field(description="; ".join(f"{mark}: {words[0]}" for mark, words in MARK_MEANINGS.items()))
    note: Note | None = None

    @field_validator("in_force_until")
    @classmethod
    def _not_before_it_begins(cls, until: date | None, info: ValidationInfo) -> date | None:
        first = info.data.get("in_force_from")
        if until and first and until < first:
            raise ShapeError(
                f"the last day {until} is before the first day {first}", f"最后一日 {until} 早于第一日 {first}"
            )
        return until

    def holds_on(self, day: date) -> bool:
        """Whether the rule is in force on that day."""
        return self.in_force_from <= day and (self.in_force_until is None or day <= self.in_force_until)


class PremiumBase(Rule):
    """Base amount per order 缴费基准额, by line, place of acceptance and platform."""

    line: Line
    province: ProvinceOrAny = ANY
    platform: PlatformOrAny = ANY
    premium_base: Yuan
    unit: Literal["yuan per order"]


class FloatFactor(Rule):
    """Float factor 浮动系数 that an agency has set; premium = base × factor."""

    line: LineOrAny = ANY
    province: ProvinceOrAny = ANY
    platform: PlatformOrAny = ANY
    float_factor: Factor
    unit: Literal["multiple of the base"]


class FloatBand(BaseModel):
    """From this payout ratio 支缴率 to under that one, the factor to set for the following year."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ratio_from_percent: Percent
    ratio_below_percent: Percent | None = Field(None, description="absent: no upper limit")
    float_factor: Factor


class FloatBands(Rule):
    """A province's bands, from a payout ratio of nothing upwards without a hole."""

    province: ProvinceOrAny = ANY
    bands: Annotated[tuple[FloatBand, ...], Field(min_length=1, max_length=50)]
    unit: Literal["float factor by payout ratio in per cent"]

    @field_validator("bands")
    @classmethod
    def _joined(cls, bands: tuple[FloatBand, ...]) -> tuple[FloatBand, ...]:
        edge: str | None = "0"
        for band in bands:
            if band.ratio_from_percent != edge:
                raise ShapeError(
                    f"a band begins at {band.ratio_from_percent} %, {edge or 'no further one'} was expected",
                    f"有一档从 {band.ratio_from_percent}% 起，此处应{f'从 {edge}% 起' if edge else '不再有下一档'}",
                )
            edge = band.ratio_below_percent
            if edge is not None and Decimal(edge) <= Decimal(band.ratio_from_percent):
                raise ShapeError(
                    f"a band from {band.ratio_from_percent} % to under {edge} % is empty",
                    f"从 {band.ratio_from_percent}% 起、不足 {edge}% 的一档为空",
                )
        if edge is not None:
            raise ShapeError(f"no band says what holds from {edge} % upwards", f"{edge}% 及以上没有对应的档次")
        return bands


class OrderRule(Rule):
    """What makes an order cost its premium, and what a cancellation or reassignment does to it."""

    line: LineOrAny = ANY
    province: ProvinceOrAny = ANY
    charging_event: Literal["accepted", "completed"]
    on_cancellation: Literal["keep", "reverse"]
    on_reassignment: Literal["keep"] = Field(description="an order is charged once, for ever")
    unit: Literal["one charge per order"]


class LongestWindow(Rule):
    """How long an order window may stay open before it is bounded by rule and the doubt stated."""

    line: Line
    hours: Annotated[int, Field(ge=1, le=720)]
    unit: Literal["hours"]

    @property
    def seconds(self) -> int:
        """The same length in seconds."""
        return self.hours * 3_600


class DueDay(Rule):
    """The day of the following month by which a declared month is due."""

    province: ProvinceOrAny = ANY
    due_day: Annotated[int, Field(ge=1, le=28)]
    unit: Literal["day of the following month"]


class LatePayment(Rule):
    """What an overdue premium costs."""

    province: ProvinceOrAny = ANY
    late_share_per_day: Share
    unit: Literal["share of the overdue amount per day"]


class Rounding(Rule):
    """How a declared line becomes payable money. The ledger can do only what the choices here say."""

    rounding: Literal["half_up"]
    per: Literal["declared_line"]
    unit: Literal["fen"]


_Rows = Field(default=(), max_length=RULES_PER_TOPIC_MAX)


class RuleFile(BaseModel):
    """A rule file: rows under one or more topics. Rows of a topic may be spread over several files."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    premium_bases: tuple[PremiumBase, ...] = _Rows
    float_factors: tuple[FloatFactor, ...] = _Rows
    float_bands: tuple[FloatBands, ...] = _Rows
    order_rules: tuple[OrderRule, ...] = _Rows
    longest_windows: tuple[LongestWindow, ...] = _Rows
    due_days: tuple[DueDay, ...] = _Rows
    late_payments: tuple[LatePayment, ...] = _Rows
    rounding: tuple[Rounding, ...] = _Rows

    def rules(self) -> tuple[Rule, ...]:
        """All rows of all topics."""
        return tuple(rule for topic in TOPICS for rule in getattr(self, topic))


TOPICS: dict[str, type[Rule]] = {
    "premium_bases": PremiumBase,
    "float_factors": FloatFactor,
    "float_bands": FloatBands,
    "order_rules": OrderRule,
    "longest_windows": LongestWindow,
    "due_days": DueDay,
    "late_payments": LatePayment,
    "rounding": Rounding,
}


class Content(RuleFile):
    """A whole rulebook as the database keeps it: every row of every file, and the format's number."""

    format: Literal[1]
