"""danbao platforms: register platform enterprises, list them, show one; their keys are in `keys`."""

from datetime import date
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection, select

from ledger import shape_faults
from ledger.cli import common, keys, usage
from ledger.cli.common import say
from ledger.errors import BadQuestion
from ledger.store import connect, registry
from ledger.store.tables import platform_line, platform_province
from schemas.both import Both
from schemas.codes import LINE_NAMES, PROVINCES, Line
from schemas.platforms import PlatformRegistration

app = typer.Typer(cls=usage.Group, no_args_is_help=True, help=say("Platform enterprises.", "平台企业。"))
app.add_typer(keys.app, name="key")


@app.command(cls=usage.Command)
@common.command("登记平台企业，或为其增加行业和省份。已有的登记不可更改。")
def add(
    platform_id: Annotated[str, typer.Argument(help=say("Short id: a-z, 0-9, - and _.", "短标识：a-z、0-9、- 和 _。"))],
    name: Annotated[str, typer.Option(help=say("Name in English.", "英文名称。"))],
    name_zh: Annotated[str, typer.Option(help=say("Name in Chinese.", "中文名称。"))],
    uscc: Annotated[
        str,
        typer.Option(help=say("Unified social credit code (GB 32100).", "统一社会信用代码（GB 32100）。")),
    ],
    line: Annotated[list[Line], typer.Option(help=say("Line of business; repeat for several.", "行业，可重复。"))],
    province: Annotated[
        list[str],
        typer.Option(
            help=say(
                "PROVINCE=FIRST-DAY; 'all' for every province; repeat.",
                "省份=首日；all 表示所有省份；可重复。",
            ),
            metavar="31=2026-07-01",
        ),
    ],
    alias: Annotated[
        list[str] | None, typer.Option(help=say("Another id it goes by; repeat.", "别名，可重复。"))
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Register a platform, or add lines and provinces to one. A registration that stands is never changed.

    Example: danbao platforms add kuaisong --name Kuaisong --name-zh 快送 --uscc 91310000MA1FL4Q87R
    --line instant_delivery --province 31=2026-07-01
    """
    wanted = _registration(
        {
            "platform_id": platform_id,
            "name": name,
            "name_zh": name_zh,
            "aliases": alias or [],
            "uscc": uscc,
            "lines": line,
            "provinces": dict(_province(text) for text in province),
        }
    )
    with common.database(connect.REGISTRAR) as engine, engine.begin() as tx:
        before = [describe(tx, row) for row in registry.all_platforms(tx) if row.platform_id == platform_id]
        fresh = registry.register(tx, wanted)
        shown = describe(tx, registry.find(tx, platform_id))
    added = _added(before[0] if before else {"lines": [], "provinces": {}}, shown)
    if as_json:
        common.print_json(shown | {"changed": fresh, "added": added})
    else:
        common.out.print(_what_is_new(added, bool(before)))
        _print(shown)


def _added(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {
        "lines": [line for line in after["lines"] if line not in before["lines"]],
        "provinces": {code: day for code, day in after["provinces"].items() if code not in before["provinces"]},
    }


def _what_is_new(added: dict[str, Any], known: bool) -> str:
    """What stands from now on for ever."""
    if not known:
        return say("Registered.", "已登记。")
    parts = [say(*LINE_NAMES[Line(line)]) for line in added["lines"]]
    if added["provinces"]:
        parts.append(f"{common.count(len(added['provinces']), 'province', '个省份')} ({_days(added['provinces'])})")
    if not parts:
        return say("Nothing new.", "无新增内容。")
    return say("Added, for ever: ", "已增加，不可撤销：") + say(", ", "、").join(parts)


@app.command("list", cls=usage.Command)
@common.command("列出已登记的平台企业。")
def list_(as_json: common.AsJson = False) -> None:
    """List the registered platforms.

    Example: danbao platforms list
    """
    with common.database(connect.AUDIT) as engine, engine.connect() as connection:
        rows = [describe(connection, row) for row in registry.all_platforms(connection)]
    if as_json:
        common.print_json({"platforms": rows})
        return
    table = Table(box=None)
    for heading in (
        say("id", "标识"),
        say("name", "名称"),
        say("lines", "行业"),
        say("provinces", "省份数"),
        "",
    ):
        table.add_column(heading)
    for row in rows:
        mark = say("example", "示例") if row["example"] else ""
        lines = ", ".join(say(*LINE_NAMES[Line(line)]) for line in row["lines"])
        table.add_row(row["platform_id"], say(row["name"], row["name_zh"]), lines, str(len(row["provinces"])), mark)
    common.out.print(table)


@app.command(cls=usage.Command)
@common.command("显示一家平台企业。")
def show(
    platform: Annotated[str, typer.Argument(help=say("Id, alias, name or code.", "标识、别名、名称或代码。"))],
    as_json: common.AsJson = False,
) -> None:
    """Show one platform.

    Example: danbao platforms show example-delivery
    """
    with common.database(connect.AUDIT) as engine, engine.connect() as connection:
        shown = describe(connection, registry.find(connection, platform))
    if as_json:
        common.print_json(shown)
    else:
        _print(shown)


def describe(tx: Connection, row: registry.PlatformRow) -> dict[str, Any]:
    """A platform with its lines and the first day in each province."""
    lines = select(platform_line.c.line).where(platform_line.c.platform_no == row.platform_no)
    there = platform_province
    days = select(there.c.province, there.c.first_day).where(there.c.platform_no == row.platform_no)
    return {
        **row._asdict(),
        "lines": sorted(tx.scalars(lines)),
        "provinces": {province: day.isoformat() for province, day in sorted(tx.execute(days).tuples())},
    }


def _print(shown: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False)
    for label, value in (
        (say("id", "标识"), shown["platform_id"]),
        (say("name", "名称"), f"{shown['name']} · {shown['name_zh']}"),
        (say("aliases", "别名"), ", ".join(shown["aliases"]) or "–"),
        (say("credit code", "统一社会信用代码"), shown["uscc"]),
        (say("lines", "行业"), ", ".join(say(*LINE_NAMES[Line(line)]) for line in shown["lines"])),
        (say("since", "起始日"), _days(shown["provinces"])),
        (say("example", "示例"), say("yes", "是") if shown["example"] else say("no", "否")),
    ):
        table.add_row(label, Text(value))
    common.out.print(table)


def _days(provinces: dict[str, str]) -> str:
    by_day: dict[str, list[str]] = {}
    for code, day in provinces.items():
        by_day.setdefault(day, []).append(say(PROVINCES[code].name_en, PROVINCES[code].name))
    return "; ".join(f"{day}: {', '.join(names)}" for day, names in sorted(by_day.items()))


def _province(text: str) -> tuple[str, date]:
    name, found, day = text.partition("=")
    if not found:
        raise BadQuestion(
            Both(f"{text!r} lacks the first day.", f"{text!r} 缺少首日。"),
            Both("Write --province 31=2026-07-01.", "请写 --province 31=2026-07-01。"),
        )
    return ("all" if name == "all" else common.parse_province(name)), common.parse_day(day)


def _registration(values: dict[str, Any]) -> PlatformRegistration:
    try:
        return PlatformRegistration.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        wrong = shape_faults.both(fault)
        raise BadQuestion(
            Both(f"{place}: {wrong.en}", f"{place}：{wrong.zh}"),
            Both("See: danbao platforms add --help", "请查看 danbao platforms add --help"),
        ) from None
