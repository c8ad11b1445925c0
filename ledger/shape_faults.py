"""What pydantic found wrong with a value, in both languages, for the person who wrote the value. Pure.

In: one of the problems that a ValidationError lists. Out: Both. Our own checks bring both languages along
(`ShapeError`); pydantic's own words are English and meant for programmers: `ENGLISH` and `CHINESE` have what our
shapes can meet of them.
"""

from collections.abc import Mapping
from typing import Any

from schemas.both import Both, ShapeError

Problem = Mapping[str, Any]

ENGLISH = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field",
    "literal_error": "must be {expected}",
    "string_type": "must be text",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have {max_length} or fewer characters",
    "too_short": "must have {min_length} or more items",
    "too_long": "must have {max_length} or fewer items",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be names and values, each written as name: value",
    "model_type": "must be names and values, each written as name: value",
    "model_attributes_type": "must be names and values, each written as name: value",
    "union_tag_invalid": "{discriminator} must be one of {expected_tags}",
    "union_tag_not_found": "{discriminator} is missing",
}
CHINESE = {
    "missing": "缺少此项",
    "extra_forbidden": "没有这一项",
    "literal_error": "应为 {expected}",
    "enum": "应为 {expected}",
    "string_type": "应为文本",
    "string_pattern_mismatch": "不符合格式 {pattern}",
    "string_too_short": "至少 {min_length} 个字符",
    "string_too_long": "至多 {max_length} 个字符",
    "too_short": "至少 {min_length} 项",
    "too_long": "至多 {max_length} 项",
    "int_type": "应为整数",
    "int_parsing": "应为整数",
    "greater_than_equal": "不得小于 {ge}",
    "less_than_equal": "不得大于 {le}",
    "list_type": "应为列表",
    "tuple_type": "应为列表",
    "dict_type": "应为逐项写明的“名称: 值”",
    "model_type": "应为逐项写明的“名称: 值”",
    "model_attributes_type": "应为逐项写明的“名称: 值”",
    "union_tag_invalid": "{discriminator} 应为 {expected_tags}",
    "union_tag_not_found": "缺少 {discriminator}",
    "json_invalid": "不是 JSON：{error}",
}
A_DAY = "应为 2025-07-01 形式的日期"


def both(problem: Problem) -> Both:
    """What is wrong, without the place."""
    if ours := _ours(problem):
        return ours
    english = ENGLISH.get(problem["type"])
    said = english.format(**problem.get("ctx", {})) if english else problem["msg"]
    return Both(said, mandarin(problem))


def mandarin(problem: Problem) -> str:
    """The Chinese half; where pydantic says what we do not know, its own words after a Chinese head."""
    if ours := _ours(problem):
        return ours.zh
    kind = problem["type"]
    if kind.startswith("date"):
        return A_DAY
    if kind not in CHINESE:
        return f"不符合要求：{problem['msg']}"
    context = {
        name: str(value).replace(" or ", " 或 ").replace("', '", "'、'")
        for name, value in problem.get("ctx", {}).items()
    }
    return CHINESE[kind].format(**context)


def place_within(problem: Problem) -> tuple[str | int, ...]:
    """Where in the value that pydantic names, as far as our own check knows it better."""
    error = problem.get("ctx", {}).get("error")
    return error.place if isinstance(error, ShapeError) else ()


def _ours(problem: Problem) -> Both | None:
    error = problem.get("ctx", {}).get("error")
    return error.both if isinstance(error, ShapeError) else None
