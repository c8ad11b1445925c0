"""The shape of a platform's registration: who it is, what it does, and since when in which province.

In: plain values, from `danbao platforms add`, from a mapping file or from `ledger/example_platforms.yaml`.
Out: a frozen registration whose unified social credit code (GB 32100) has the right check digit.
"""

import re
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from stdnum.cn import uscc as gb_32100
from stdnum.exceptions import InvalidChecksum, ValidationError

from schemas.both import ShapeError
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
        raise ShapeError(
            f"{text} does not have the check digit that GB 32100 asks for", f"{text} 的校验码不符合 GB 32100"
        ) from None
    except ValidationError:
        raise ShapeError(
            f"{text!r} is not a unified social credit code (GB 32100): 18 characters",
            f"{text!r} 不是统一社会信用代码（GB 32100）：应为 18 位",
        ) from None
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
            raise ShapeError(
                f"{province!r} is not a province; write the first two digits of GB/T 2260, such as 31",
                f"{province!r} 不是省份；请写 GB/T 2260 前两位，如 31",
            )
        if day < SCHEME_BEGAN:
            raise ShapeError(
                f"{day} in province {province} is before the scheme began on {SCHEME_BEGAN}",
                f"省份 {province} 的 {day} 早于制度施行日 {SCHEME_BEGAN}",
            )
    return days


def known_platform_id(text: str) -> str:
    """The text itself; ShapeError where no platform can be called that."""
    if not re.fullmatch(PLATFORM_ID, text):
        raise ShapeError(
            f"{text!r} is not a platform id: 1 to 32 of a-z, 0-9, - and _",
            f"{text!r} 不是平台标识：应为 1 至 32 个 a-z、0-9、- 或 _",
        )
    if text == ANY:
        raise ShapeError(
            f"{ANY!r} stands for every platform in a rule; choose another id",
            f"{ANY!r} 在规则中代表所有平台，请另选标识",
        )
    return text


PlatformId = Annotated[
    str,
    Field(json_schema_extra={"pattern": PLATFORM_ID, "not": {"const": ANY}}),
    AfterValidator(known_platform_id),
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
