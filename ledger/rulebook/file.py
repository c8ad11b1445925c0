"""Rule files as text → rows that know their place, and faults that name it.

In: the name and bytes of one YAML file. Out: `Located` rows that have the shape of
`schemas.rulebook`, and a `Fault` (file, line, reason) for everything that has not. All faults are
found, not only the first. Scalars are read as they are written: YAML's floats are refused, since
0.07 has no exact binary form, and so are anchors, aliases, tags and keys that stand twice.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
import yaml
from pydantic import ValidationError

from ledger.errors import DanbaoError
from schemas.rulebook import RULES_PER_TOPIC_MAX, TOPICS, Rule

FILE_BYTES_MAX = 1 << 20

Path = tuple[str | int, ...]


class Fault(NamedTuple):
    """What is wrong with a rule file, and where. Line 0 means the file, or the book, as a whole."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"


class RuleFault(DanbaoError):
    """The rules are refused; every fault is listed."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        assert self.faults, "rules are refused only for a reason"
        super().__init__(
            "\n".join(map(str, self.faults)),
            "Mend the lines named, then hold the directory against `danbao rules check DIR`.",
        )


class Located(NamedTuple):
    """A row and the lines it was read from."""

    rule: Rule
    file: str = ""
    path: Path = ()
    lines: dict[Path, int] = {}  # noqa: RUF012  shared by the rows of a file, never changed after reading

    def line(self, *field: str | int) -> int:
        """The line of a field's value, or of the row when the field is absent."""
        return self.lines.get((*self.path, *field), self.lines.get(self.path, 0))

    def fault(self, field: str, reason: str) -> Fault:
        """A fault at that field."""
        return Fault(self.file, self.line(field), reason)


def read(name: str, raw: bytes) -> tuple[list[Located], list[Fault]]:
    """One file → its good rows and its faults."""
    if len(raw) > FILE_BYTES_MAX:
        return [], [Fault(name, 0, f"the file has {len(raw)} bytes, at most {FILE_BYTES_MAX} are read")]
    try:
        root = yaml.compose(raw.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        return [], [Fault(name, raw.count(b"\n", 0, error.start) + 1, "the file is not UTF-8 text")]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        return [], [Fault(name, line, f"not YAML: {error.problem}")]
    except (yaml.YAMLError, RecursionError) as error:
        return [], [Fault(name, 0, f"not YAML: {str(error).splitlines()[0]}")]
    if not isinstance(root, yaml.MappingNode):
        return [], [Fault(name, 1, f"a rule file names its topics: {', '.join(TOPICS)}")]
    return _rows(_Reading(name), root)


class _Reading:
    """The state of reading one file: where each value stands, and what was wrong so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Path, int] = {}
        self.faults: list[Fault] = []
        self._seen: set[int] = set()

    def fault(self, path: Path, reason: str) -> None:
        """Note a fault at the nearest place that is known."""
        while path not in self.lines and path:
            path = path[:-1]
        self.faults.append(Fault(self.name, self.lines.get(path, 0), reason))

    def value(self, node: yaml.Node, path: Path) -> Any:
        """A YAML node → plain lists, dictionaries, text, whole numbers."""
        self.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._seen:
            self.fault(path, "anchors and aliases are not used in rule files: write the value out")
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, place)) for place, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "(no text)"
            if name in plain:
                self.faults.append(Fault(self.name, key.start_mark.line + 1, f"{name} stands twice"))
                continue
            if not isinstance(value, yaml.ScalarNode):
                self.lines[(*path, name)] = key.start_mark.line + 1
            plain[name] = self.value(value, (*path, name))
        return plain

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value)
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "str" | "timestamp":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() in ("true", "yes", "on")
            case "int":
                return int(text) if re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", text) else text
            case "float":
                reason = f'{text} is a YAML float, which is not exact: write it in quotes, "{text}"'
                self.fault(path, f"{path[-1]}: {reason}" if path else reason)
                return text
            case tag:
                self.fault(path, f"the tag {tag} is not used in rule files")
                return text


def _rows(reading: _Reading, root: yaml.MappingNode) -> tuple[list[Located], list[Fault]]:
    located: list[Located] = []
    for topic, rows in reading.value(root, ()).items():
        if topic not in TOPICS:
            reading.fault((topic,), f"unknown topic {topic}; known are {', '.join(TOPICS)}")
        elif rows is not None and not isinstance(rows, list):
            reading.fault((topic,), f"{topic} is a list of rows, each beginning with a dash")
        elif len(rows := rows or []) > RULES_PER_TOPIC_MAX:
            reading.fault((topic,), f"{topic} has {len(rows)} rows, at most {RULES_PER_TOPIC_MAX} are read")
        else:
            located += _valid(reading, topic, rows)
    return located, reading.faults


def _valid(reading: _Reading, topic: str, rows: list[Any]) -> list[Located]:
    located = []
    for place, row in enumerate(rows):
        path: Path = (topic, place)
        try:
            rule = TOPICS[topic].model_validate_json(orjson.dumps(row))
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                reading.fault((*path, *problem["loc"]), reason_of(problem))
        except orjson.JSONEncodeError as error:
            reading.fault(path, f"row: {error}")
        else:
            located.append(Located(rule, reading.name, path, reading.lines))
    return located


def reason_of(problem: Any) -> str:
    """What pydantic found, in words for the person who wrote the file."""
    field = ".".join(part for part in problem["loc"] if isinstance(part, str)) or "row"
    given = _shown(problem["input"])
    match problem["type"]:
        case "missing":
            return f"{field} is missing"
        case "extra_forbidden":
            return f"unknown field {field}"
        case "value_error":
            what = str(problem["ctx"]["error"])
        case "literal_error" | "enum":
            what = f"{given} is not {problem['ctx']['expected']}"
        case "string_type" if problem["input"] is not None:
            what = f"{given} is no text: write it in quotes"
        case kind if kind.startswith("date"):
            what = f"{given} is not a day such as 2025-07-01"
        case _:
            what = f"{given}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
    return f"{field}: {what}"


def _shown(given: Any) -> str:
    text = "nothing" if given is None else str(given)
    return text if len(text) <= 60 else f"{text[:57]}..."
