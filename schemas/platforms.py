"""The shape of a platform's registration: who it is, what it does, and since when in which province.

In: plain values, from `danbao platforms add`, from a mapping file or from `ledger/example_platforms.yaml`.
Out: a frozen registration whose unified social credit code (GB 32100) has the right check digit.
"""

from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from stdnum.cn import uscc as gb_32100
from stdnum.exceptions import InvalidChecksum, ValidationError

from schemas.codes import ANY, PLATFORM_ID, PROVINCES, Line

NAME_CHARS_MAX = 100
ALIASES_MAX = 16
SCHEME_BEGAN = date(2022, 7, 1)
EVERY_PROVINCE = "all"
CREDIT_CODE = r"^[0-9A-HJ-NPQRTUWXY]{2}[0-9]{6}[0-9A-HJ-NPQRTUWXY]{10}$"


def _credit_code(text: str) -> str:
    try:
        valid: str = gb_32100.validate(text)
    except InvalidChecksum:
        raise ValueError(f"{text} does not have the check digit that GB 32100 asks for") from None
    except ValidationError:
        raise ValueError(f"{text!r} is not a unified social credit code (GB 32100): 18 characters") from None
    return valid


def _each_province(days: Any) -> Any:
    """`all: DAY` stands for every province not named beside it."""
    if not isinstance(days, dict) or EVERY_PROVINCE not in days:
        return days
    named = {province: day for province, day in days.items() if province != EVERY_PROVINCE}
    return dict.fromkeys(PROVINCES, days[EVERY_PROVINCE]) | named


def _known_provinces(days: dict[str, date]) -> dict[str, date]:
    for province, day in days.items():
        if province not in PROVINCES:
            raise ValueError(f"{province!r} is not a province; write the first two digits of GB/T 2260, such as 31")
        if day < SCHEME_BEGAN:
            raise ValueError(f"{day} in province {province} is before the scheme began on {SCHEME_BEGAN}")
    return days


def _not_any(text: str) -> str:
    if text == ANY:
        raise ValueError(f"{ANY!r} stands for every platform in a rule; choose another id")
    return text


PlatformId = Annotated[
    str,
    Field(pattern=PLATFORM_ID, json_schema_extra={"not": {"const": ANY}}),
    AfterValidator(_not_any),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARS_MAX)]
CreditCode = Annotated[
    str,
    AfterValidator(_credit_code),
    Field(
        description="unified social credit code 统一社会信用代码 of GB 32100, check digit included",
        json_schema_extra={"pattern": CREDIT_CODE},
    ),
]
FirstDays = Annotated[
    dict[str, date],
    Field(
        min_length=1,
        max_length=len(PROVINCES),
        description=f"province → first day, from {SCHEME_BEGAN} on; {EVERY_PROVINCE}: every one not named",
        json_schema_extra={"propertyNames": {"enum": [*PROVINCES, EVERY_PROVINCE]}},
    ),
    BeforeValidator(_each_province),
    AfterValidator(_known_provinces),
]


class PlatformRegistration(BaseModel):
    """A platform enterprise 平台企业. `provinces`: province → the first day on which it works there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    platform_id: PlatformId
    name: Name
    name_zh: Name
    aliases: Annotated[tuple[PlatformId, ...], Field(max_length=ALIASES_MAX)] = ()
    uscc: CreditCode
    lines: Annotated[tuple[Line, ...], Field(min_length=1, max_length=len(Line))]
    provinces: FirstDays


class PlatformFile(BaseModel):
    """A file of registrations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    platforms: Annotated[tuple[PlatformRegistration, ...], Field(min_length=1, max_length=1_000)]
