"""The shape of a mapping: how the rows of a platform's CSV export become order events.

In: the values of a mapping file (`ledger/mappings/*.yaml`; every scalar is read as text). Out: a frozen
`MappingFile`. A *template* is text in which `{column}` stands for the row's value in that column;
without braces it is a constant. What a mapping does is in `ledger.mapping`.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.fields import FieldInfo

from schemas.both import ShapeError
from schemas.codes import CITIES, PLATFORM_ID, Line, no_city
from schemas.platforms import PlatformId, PlatformRegistration, known_platform_id

Place = tuple[str | int, ...]

COLUMN = re.compile(r"\{([^{}]+)\}")
ZONE = r"^[+-](0[0-9]|1[0-4]):[0-5][0-9]$"
NAMED_TIME_FORMATS = ("iso", "unix_s", "unix_ms", "day_seconds")
LINES = [line.value for line in Line]


def columns_of(template: str) -> tuple[str, ...]:
    """The columns that a template names, in order."""
    return tuple(COLUMN.findall(template))


def bare_column(template: str) -> str | None:
    """The column when the template is nothing but that column."""
    match = COLUMN.fullmatch(template)
    return match.group(1) if match else None


def _braces(template: str) -> str:
    if "{" in COLUMN.sub("", template) or "}" in COLUMN.sub("", template):
        raise ShapeError(
            f"{template!r} has a brace without its partner; a column is written {{column}}",
            f"{template!r} 的花括号不成对；列写作 {{列名}}",
        )
    return template


def _time_format(text: str) -> str:
    if text in NAMED_TIME_FORMATS:
        return text
    if "%" not in text:
        raise ShapeError(
            f"{text!r} is neither one of {', '.join(NAMED_TIME_FORMATS)} nor a pattern like %Y-%m-%d %H:%M",
            f"{text!r} 既不是 {'、'.join(NAMED_TIME_FORMATS)} 之一，也不是 %Y-%m-%d %H:%M 这样的格式",
        )
    try:
        datetime.strptime(datetime(2000, 1, 2).strftime(text), text)  # noqa: DTZ001, DTZ007  only tries the pattern
    except ValueError as error:
        raise ShapeError(f"{text!r} is no time pattern: {error}", f"{text!r} 不是时间格式：{error}") from None
    return text


def _zone(text: str) -> str:
    if not re.fullmatch(ZONE, text):
        raise ShapeError(
            f'{text!r} is not an offset: write it like "+08:00", which is the one of all China',
            f'{text!r} 不是时差：请写成 "+08:00"（全国统一用此时差）',
        )
    return text


def _line(text: str) -> object:
    if text not in LINES:
        raise ShapeError(
            f"{text!r} is not a line of business; known: {', '.join(LINES)}",
            f"{text!r} 不是已知行业；可用的行业：{'、'.join(LINES)}",
        )
    return text


def _city(text: str) -> object:
    if text not in CITIES:
        raise ShapeError(*no_city(text))
    return text


def _constant(check: Callable[[str], object]) -> AfterValidator:
    """Checks a template that is a constant where it stands, so that the fault names its line."""

    def checked(template: str) -> str:
        if not columns_of(template):
            check(template)
        return template

    return AfterValidator(checked)


def _published(constant: str) -> FieldInfo:
    """How the published schema says it: this constant, or a template with a column in it."""
    with_column = r"[^{}]*\{[^{}]+\}([^{}]|\{[^{}]+\})*"
    field: FieldInfo = Field(json_schema_extra={"pattern": f"^({constant}|{with_column})$"})
    return field


Template = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="{column} stands for the row's value in that column",
        json_schema_extra={"pattern": r"^([^{}]|\{[^{}]+\})+$"},
    ),
    AfterValidator(_braces),
]
TimeFormat = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        description=f"{', '.join(NAMED_TIME_FORMATS)}, or a pattern such as %Y-%m-%d %H:%M",
        json_schema_extra={"pattern": f"^({'|'.join(NAMED_TIME_FORMATS)}|.*%.*)$"},
    ),
    AfterValidator(_time_format),
]
Column = Annotated[str, StringConstraints(min_length=1, max_length=100)]
CellText = Annotated[str, StringConstraints(max_length=200)]
Translation = Annotated[dict[CellText, CellText], Field(min_length=1, max_length=10_000)]

_shape = ConfigDict(frozen=True, extra="forbid")


def _check(check: Callable[[str], object], made: dict[str, Place]) -> None:
    """Check texts that a template becomes, so that the fault names the line on which the text stands."""
    for text, place in made.items():
        try:
            check(text)
        except ShapeError as error:
            raise ShapeError(*error.both, place=place) from None


class PositionRule(BaseModel):
    """WGS 84, degrees; left out of the event where either is empty."""

    model_config = _shape

    lat: Template
    lng: Template


class _EventRule(BaseModel):
    """What every event needs. `when`: column → value; the row makes this event only where all hold."""

    model_config = _shape

    id: Template
    time: Template
    when: Annotated[dict[Column, CellText], Field(max_length=8)] = Field(default_factory=dict)
    time_missing: Literal["reject", "no_event"] = "reject"
    pay: Template | None = None
    position: PositionRule | None = None


class AcceptedRule(_EventRule):
    """The row says that a worker accepted the order."""

    type: Literal["order.accepted"]
    worker_id: Template
    line: Annotated[Template, _published("|".join(LINES)), _constant(_line)]
    accepted_city: Annotated[Template, _published("[0-9]{6}"), _constant(_city)]


class ReassignedRule(_EventRule):
    """The row says that the order passed to another worker."""

    type: Literal["order.reassigned"]
    worker_id: Template


class CompletedRule(_EventRule):
    """The row says that the order was fulfilled."""

    type: Literal["order.completed"]


class CancelledRule(_EventRule):
    """The row says that the order was called off."""

    type: Literal["order.cancelled"]
    reason: Template


EventRule = Annotated[AcceptedRule | ReassignedRule | CompletedRule | CancelledRule, Field(discriminator="type")]


class MappingFile(BaseModel):
    """A whole mapping. `translate`: column → text in the file → text in the event."""

    model_config = _shape

    name: PlatformId
    about: Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    empty: Annotated[tuple[CellText, ...], Field(min_length=1, max_length=16)] = ("",)
    time_format: TimeFormat
    zone: Annotated[str, Field(json_schema_extra={"pattern": ZONE}), AfterValidator(_zone)]
    platform: Annotated[Template, _published(PLATFORM_ID[1:-1]), _constant(known_platform_id)]
    order_id: Template
    translate: Annotated[dict[Column, Translation], Field(max_length=16)] = Field(default_factory=dict)
    events: Annotated[tuple[EventRule, ...], Field(min_length=1, max_length=8)]
    platforms: Annotated[tuple[PlatformRegistration, ...], Field(max_length=100)]

    def outcomes(self, template: str, place: Place = ()) -> dict[str, Place]:
        """Every text that a constant or translated template can become, and where it stands in the file.

        ShapeError for other templates, which stand at `place`.
        """
        if not columns_of(template):
            return {template: place}
        column = bare_column(template)
        if column is None or column not in self.translate:
            raise ShapeError(
                f"{template!r} must be a constant, or one column that `translate` lists the values of",
                f"{template!r} 应为常量，或取值已在 `translate` 中列明的一列",
                place=place,
            )
        made: dict[str, Place] = {}
        for text, outcome in self.translate[column].items():
            made.setdefault(outcome, ("translate", column, text))
        return made

    @model_validator(mode="after")
    def _known_codes(self) -> Self:
        for number, rule in enumerate(self.events):
            if isinstance(rule, AcceptedRule):
                _check(_line, self.outcomes(rule.line, ("events", number, "line")))
                # An untranslated column holds codes already; they are checked row by row.
                if bare_column(rule.accepted_city) in self.translate:
                    _check(_city, self.outcomes(rule.accepted_city))
        return self

    @model_validator(mode="after")
    def _known_platforms(self) -> Self:
        made = self.outcomes(self.platform, ("platform",))
        _check(known_platform_id, made)
        listed = [registration.platform_id for registration in self.platforms]
        if listed and sorted(made) != sorted(listed):
            rows, heads = ", ".join(made), ", ".join(listed)
            raise ShapeError(
                f"the rows make events of {rows}, but `platforms` lists {heads}",
                f"各行生成 {rows} 的事件，而 `platforms` 所列为 {heads}",
                place=("platforms",),
            )
        return self
