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

from ledger import shape_faults
from ledger.errors import DanbaoError
from schemas.both import Both
from schemas.rulebook import RULES_PER_TOPIC_MAX, TOPICS, Rule

FILE_BYTES_MAX = 1 << 20

Path = tuple[str | int, ...]


class Fault(NamedTuple):
    """What is wrong with a rule file, and where. Line 0 means the file, or the book, as a whole."""

    file: str
    line: int
    reason: Both

    @property
    def told(self) -> Both:
        """Place and reason."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return Both(f"{place}: {self.reason.en}", f"{place}: {self.reason.zh}")

    def __str__(self) -> str:
        return str(self.told)


class RuleFault(DanbaoError):
    """The rules are refused; every fault is listed."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        assert self.faults, "rules are refused only for a reason"
        super().__init__(
            Both(*("\n".join(texts) for texts in zip(*(fault.told for fault in self.faults), strict=True))),
            Both(
                "Mend the lines named, then hold the directory against `danbao rules check DIR`.",
                "请修改上述各行，再用 `danbao rules check DIR` 检查该目录。",
            ),
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

    def fault(self, field: str, reason: Both) -> Fault:
        """A fault at that field."""
        return Fault(self.file, self.line(field), reason)


def read(name: str, raw: bytes) -> tuple[list[Located], list[Fault]]:
    """One file → its good rows and its faults."""
    if len(raw) > FILE_BYTES_MAX:
        reason = Both(
            f"the file has {len(raw)} bytes, at most {FILE_BYTES_MAX} are read",
            f"文件有 {len(raw)} 字节，至多读取 {FILE_BYTES_MAX} 字节",
        )
        return [], [Fault(name, 0, reason)]
    try:
        root = yaml.compose(raw.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        reason = Both("the file is not UTF-8 text", "文件不是 UTF-8 文本")
        return [], [Fault(name, raw.count(b"\n", 0, error.start) + 1, reason)]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        return [], [Fault(name, line, _not_yaml(error.problem))]
    except (yaml.YAMLError, RecursionError) as error:
        return [], [Fault(name, 0, _not_yaml(str(error).splitlines()[0]))]
    if not isinstance(root, yaml.MappingNode):
        reason = Both(
            f"a rule file names its topics: {', '.join(TOPICS)}", f"规则文件按事项编写，事项为：{'、'.join(TOPICS)}"
        )
        return [], [Fault(name, 1, reason)]
    return _rows(_Reading(name), root)


def _not_yaml(why: object) -> Both:
    return Both(f"not YAML: {why}", f"不是 YAML：{why}")


class _Reading:
    """The state of reading one file: where each value stands, and what was wrong so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Path, int] = {}
        self.faults: list[Fault] = []
        self._seen: set[int] = set()

    def fault(self, path: Path, reason: Both) -> None:
        """Note a fault at the nearest place that is known."""
        while path not in self.lines and path:
            path = path[:-1]
        self.faults.append(Fault(self.name, self.lines.get(path, 0), reason))

    def value(self, node: yaml.Node, path: Path) -> Any:
        """A YAML node → plain lists, dictionaries, text, whole numbers."""
        self.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._seen:
            reason = Both(
                "anchors and aliases are not used in rule files: write the value out",
                "规则文件不使用锚点和别名，请写出原值",
            )
            self.fault(path, reason)
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
                twice = Both(f"{name} stands twice", f"{name} 重复出现")
                self.faults.append(Fault(self.name, key.start_mark.line + 1, twice))
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
                reason = Both(
                    f'{text} is a YAML float, which is not exact: write it in quotes, "{text}"',
                    f'{text} 是 YAML 浮点数，不精确，请加引号写成 "{text}"',
                )
                self.fault(path, Both(f"{path[-1]}: {reason.en}", f"{path[-1]}：{reason.zh}") if path else reason)
                return text
            case tag:
                self.fault(path, Both(f"the tag {tag} is not used in rule files", f"规则文件不使用标签 {tag}"))
                return text


def _rows(reading: _Reading, root: yaml.MappingNode) -> tuple[list[Located], list[Fault]]:
    located: list[Located] = []
    for topic, rows in reading.value(root, ()).items():
        if topic not in TOPICS:
            reason = Both(
                f"unknown topic {topic}; known are {', '.join(TOPICS)}",
                f"未知事项 {topic}；可用的为 {'、'.join(TOPICS)}",
            )
            reading.fault((topic,), reason)
        elif rows is not None and not isinstance(rows, list):
            reason = Both(
                f"{topic} is a list of rows, each beginning with a dash", f"{topic} 应为若干行的列表，每行以短横线开头"
            )
            reading.fault((topic,), reason)
        elif len(rows := rows or []) > RULES_PER_TOPIC_MAX:
            reason = Both(
                f"{topic} has {len(rows)} rows, at most {RULES_PER_TOPIC_MAX} are read",
                f"{topic} 有 {len(rows)} 行，至多读取 {RULES_PER_TOPIC_MAX} 行",
            )
            reading.fault((topic,), reason)
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
            reading.fault(path, Both(f"row: {error}", f"行：无法读取：{error}"))
        else:
            located.append(Located(rule, reading.name, path, reading.lines))
    return located


def reason_of(problem: Any) -> Both:
    """What pydantic found, in words for the person who wrote the file."""
    field = ".".join(part for part in problem["loc"] if isinstance(part, str))
    place, given, mandarin = (
        Both(field or "row", field or "行"),
        _shown(problem["input"]),
        shape_faults.mandarin(problem),
    )
    match problem["type"]:
        case "missing":
            return Both(f"{place.en} is missing", f"缺少 {place.zh}")
        case "extra_forbidden":
            return Both(f"unknown field {place.en}", f"未知字段 {place.zh}")
        case "value_error":
            return Both(f"{place.en}: {problem['ctx']['error']}", f"{place.zh}：{mandarin}")
        case "string_type" if problem["input"] is not None:
            return Both(
                f"{place.en}: {given.en} is no text: write it in quotes", f"{place.zh}：{given.zh} 不是文本，请加引号"
            )
        case "literal_error" | "enum":
            what = f"{given.en} is not {problem['ctx']['expected']}"
        case kind if kind.startswith("date"):
            what = f"{given.en} is not a day such as 2025-07-01"
        case _:
            what = f"{given.en}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
    return Both(f"{place.en}: {what}", f"{place.zh}：{given.zh} 无效，{mandarin}")


def _shown(given: Any) -> Both:
    if given is None:
        return Both("nothing", "空值")
    text = str(given) if len(str(given)) <= 60 else f"{str(given)[:57]}..."
    return Both(text, text)
