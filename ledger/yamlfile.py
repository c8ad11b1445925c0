"""A small YAML file of plain text values → a validated model. Pure.

In: the file's bytes and the pydantic model of what it must hold. Out: the model; BadQuestion says
file:line: reason. Every scalar is read as text, so that 0010, no and 2026-10-01 are what they look like;
the model turns text into dates and choices.
"""

from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ledger.errors import BadQuestion

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]

FILE_BYTES_MAX = 256 * 1024


class _Fault(Exception):
    def __init__(self, line: int, reason: str) -> None:
        self.line, self.reason = line, reason


def parse(raw: bytes, file_name: str, model: type[Model], how_to: str) -> Model:
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
    raise BadQuestion(f"{file_name}:{line}: {reason}", how_to[:1].upper() + how_to[1:] + ".")


def _compose(raw: bytes) -> yaml.Node | None:
    if len(raw) > FILE_BYTES_MAX:
        raise _Fault(1, f"{len(raw)} bytes; such a file has {FILE_BYTES_MAX} at most")
    try:
        text = raw.decode("utf-8-sig")
        for token in yaml.scan(text):
            if isinstance(token, yaml.AliasToken):
                raise _Fault(token.start_mark.line + 1, f"*{token.value}: write it out; aliases are not taken")
        node: yaml.Node | None = yaml.compose(text, yaml.BaseLoader)
    except UnicodeDecodeError as error:
        raise _Fault(raw.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _Fault(line, f"not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise _Fault(1, f"not YAML: {error}") from None
    return node


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
            raise _Fault(line, f"{key} stands twice")
        lines[(*place, key)] = line
        values[key] = _plain(value_node, (*place, key), lines)
    return values


def _first(error: ValidationError) -> tuple[Place, str]:
    """The first fault: its place in the file, and what is wrong there."""
    fault = error.errors(include_url=False, include_context=False)[0]
    # pydantic names the branch of a union in the path, which the file does not.
    place = tuple(part for part in fault["loc"] if not str(part).startswith("order."))
    named = ".".join(str(part) for part in place)
    reason = fault["msg"].removeprefix("Value error, ")
    return place, f"{named}: {reason}" if named else reason


def _line_of(place: Place, lines: dict[Place, int]) -> int:
    """The line of a place in the file, or of the nearest thing that holds it."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)
