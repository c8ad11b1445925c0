"""A small YAML file of plain text values → a validated model. Pure.

In: the file's bytes and the pydantic model of what it must hold. Out: the model; BadQuestion says
file:line: reason. Every scalar is read as text, so that 0010, no and 2026-10-01 are what they look like;
the model turns text into dates and choices.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ledger import shape_faults
from ledger.errors import BadQuestion
from schemas.both import Both

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]

FILE_BYTES_MAX = 256 * 1024
OURS = Both("Mend the file that came with danbao.", "请修复 danbao 自带的该文件。")  # what to do about a file of ours


class _Fault(Exception):
    def __init__(self, line: int, reason: Both) -> None:
        self.line, self.reason = line, reason


def parse(raw: bytes, file_name: str, model: type[Model], how_to: Both) -> Model:
    """The bytes of a YAML file → the model. `how_to` is what the error says to do."""
    lines: dict[Place, int] = {}
    try:
        root = _compose(raw)
        return model.model_validate(_plain(root, (), lines) if root else None)
    except _Fault as fault:
        line, reason = fault.line, fault.reason
    except ValidationError as error:
        place, reason = _first(error)
        line = _line_of(place, lines)
    raise BadQuestion(Both(f"{file_name}:{line}: {reason.en}", f"{file_name}:{line}: {reason.zh}"), how_to)


def _compose(raw: bytes) -> yaml.Node | None:
    if len(raw) > FILE_BYTES_MAX:
        raise _Fault(
            1,
            Both(
                f"{len(raw)} bytes; such a file has {FILE_BYTES_MAX} at most",
                f"共 {len(raw)} 字节；此类文件至多 {FILE_BYTES_MAX} 字节",
            ),
        )
    try:
        text = raw.decode("utf-8-sig")
        for token in yaml.scan(text):
            if isinstance(token, yaml.AliasToken):
                raise _Fault(
                    token.start_mark.line + 1,
                    Both(
                        f"*{token.value}: write it out; aliases are not taken",
                        f"*{token.value}：请写出原值，不接受别名",
                    ),
                )
        node: yaml.Node | None = yaml.compose(text, yaml.BaseLoader)
    except UnicodeDecodeError as error:
        raise _Fault(raw.count(b"\n", 0, error.start) + 1, Both("not UTF-8 text", "不是 UTF-8 文本")) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _Fault(line, _not_yaml(error.problem)) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise _Fault(1, _not_yaml(error)) from None
    return node


def _not_yaml(why: object) -> Both:
    return Both(f"not YAML: {why}", f"不是 YAML：{why}")


def _plain(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Any:
    """A YAML node → text, lists and dictionaries; notes the line on which each value stands."""
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*place, number), lines) for number, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return node.value
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in values:
            raise _Fault(line, Both(f"{key} stands twice", f"{key} 重复出现"))
        lines[(*place, key)] = line
        values[key] = _plain(value_node, (*place, key), lines)
    return values


def _first(error: ValidationError) -> tuple[Place, Both]:
    """The first fault: its place in the file, and what is wrong there. A misspelt name comes before its lack."""
    faults = error.errors(include_url=False)
    strange = [fault for fault in faults if fault["type"] == "extra_forbidden"]
    fault = (strange or faults)[0]
    place = _place(fault)
    named = ".".join(str(part) for part in place)
    reason = _misspelt(place, faults) if strange else _unquoted(fault) or shape_faults.both(fault)
    return place, Both(f"{named}: {reason.en}", f"{named}：{reason.zh}") if named else reason


def _place(fault: shape_faults.Problem) -> Place:
    """Where in the file. pydantic names the branch of a union in the path, which the file does not."""
    place = tuple(part for part in fault["loc"] if not str(part).startswith("order."))
    return place + shape_faults.place_within(fault)


def _misspelt(place: Place, faults: Sequence[shape_faults.Problem]) -> Both:
    """A name that there is not, and the missing one beside it that it looks like."""
    missing = [str(_place(fault)[-1]) for fault in faults if fault["type"] == "missing"]
    near = get_close_matches(str(place[-1]), missing, 1)
    if not near:
        return Both("there is no such field", "没有这一项")
    return Both(f"there is no such field; is {near[0]} meant?", f"没有这一项；是否应为 {near[0]}？")


def _unquoted(fault: shape_faults.Problem) -> Both | None:
    """A text that begins with a brace, which YAML without quotes takes for names and values."""
    given = fault["input"]
    if fault["type"] != "string_type" or not isinstance(given, dict):
        return None
    written = f'"{{{next(iter(given), "column")}}}"'
    return Both(f"a text that begins with a brace needs quotes: {written}", f"以花括号开头的文本须加引号：{written}")


def _line_of(place: Place, lines: dict[Place, int]) -> int:
    """The line of a place in the file, or of the nearest thing that holds it."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)
