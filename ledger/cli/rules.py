"""`danbao rules check | show | diff`: the rulebook as a person reads it.

In: the packaged rules, or a directory of rule files; days, a province, a line, a platform. Out:
tables with numbered sources, or one JSON object. Exit codes: 0 answered, 1 the rules have faults,
2 the question was bad. Rules are data (style.md, principle 4): nothing here decides an amount.
"""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.cli import usage
from ledger.cli.common import (
    AsJson,
    command,
    database,
    has_ledger,
    notice,
    out,
    parse_day,
    parse_province,
    print_json,
    say,
    today,
)
from ledger.errors import BadQuestion
from schemas.both import Both

if TYPE_CHECKING:
    from ledger.rulebook import Rulebook

Dir = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]",
        help=say("A directory of rule files; default: the packaged rules.", "规则文件目录；默认为自带规则。"),
    ),
]
At = Annotated[str | None, typer.Option(metavar="DAY", help=say("The day; default: today.", "日期；默认今天。"))]
Province = Annotated[
    str | None,
    typer.Option(help=say("Where the order is accepted: 31 or Shanghai.", "接单地：31 或 上海市。")),
]
LineOfBusiness = Annotated[
    str | None,
    typer.Option(help=say("Line of business: instant_delivery.", "行业：instant_delivery 或 即时配送。")),
]
Platform = Annotated[
    str | None, typer.Option(help=say("Platform: id, alias, name or code.", "平台：标识、别名、名称或代码。"))
]
From = Annotated[str, typer.Argument(metavar="FROM", help=say("A day.", "日期。"))]
To = Annotated[str, typer.Argument(metavar="TO", help=say("A later day.", "较晚的日期。"))]

app = typer.Typer(
    cls=usage.Group,
    no_args_is_help=True,
    help=say("The rules: check, show, diff of two days.", "规则：检查、查询、比较两日。"),
)


@app.command(cls=usage.Command)
@command("检查规则文件：列出每处错误的文件、行号和原因。")
def check(directory: Dir = None, as_json: AsJson = False) -> None:
    """Check rule files: every fault with file, line and reason.

    Example: danbao rules check ./our-rules
    """
    from ledger.cli import ruleview
    from ledger.rulebook import RuleFault, load

    place = str(directory or files("ledger").joinpath("rules"))
    try:
        book = load(_directory(directory) if directory else None)
    except RuleFault as refused:
        if as_json:
            print_json(ruleview.refused_json(place, refused))
        else:
            ruleview.print_refused(place, refused)
        raise typer.Exit(1) from None
    if as_json:
        print_json(ruleview.book_json(place, book))
    else:
        ruleview.print_book(place, book)


@app.command(cls=usage.Command)
@command("查询某日适用的规则及其依据；未限定的条件全部列出。")
def show(
    at: At = None,
    province: Province = None,
    line: LineOfBusiness = None,
    platform: Platform = None,
    as_json: AsJson = False,
) -> None:
    """Show what applies on a day, with its source; what is not asked for is shown for all.

    Example: danbao rules show --at 2025-07-01 --province 31 --line instant_delivery
    """
    from ledger.cli import ruleview
    from ledger.rulebook import Key, load
    from schemas.codes import ANY

    book = load()
    on = parse_day(at) if at else today()
    place = parse_province(province) if province else ANY
    asked = Key(_line(line) if line else ANY, place, _platform(book, platform) if platform else ANY)
    answer = ruleview.answer(book, on, asked)
    if as_json:
        print_json(ruleview.answer_json(answer))
    else:
        ruleview.print_answer(answer)


@app.command(cls=usage.Command)
@command("比较两日：FROM 之后至 TO 为止生效或失效的规则。")
def diff(first: From, last: To, as_json: AsJson = False) -> None:
    """Show what comes into force or ends after FROM, up to TO.

    Example: danbao rules diff 2025-06-30 2025-07-01
    """
    from ledger.cli import ruleview
    from ledger.rulebook import load

    since, until = parse_day(first), parse_day(last)
    if until < since:
        raise BadQuestion(
            Both(f"{until} is before {since}.", f"{until} 早于 {since}。"),
            Both("Give the earlier day first.", "请先写较早的日期。"),
        )
    book = load()
    changes = book.changes(since, until)
    if as_json:
        found = [ruleview.change_json(change) for change in changes]
        print_json({"from": since, "to": until, "rulebook": book.hash.hex(), "changes": found})
    elif changes:
        ruleview.print_changes(changes)
    else:
        out.print(say(f"Nothing changes after {since} up to {until}.", f"{since} 之后至 {until} 规则没有变化。"))


def _directory(directory: Path) -> Path:
    if directory.is_dir() and any(directory.glob("*.y*ml")):
        return directory
    raise BadQuestion(
        Both(f"{directory} is not a directory with rule files.", f"{directory} 不是含有规则文件的目录。"),
        Both("Name a directory that holds *.yaml files.", "请给出含有 *.yaml 文件的目录。"),
    )


def _platform(book: "Rulebook", name: str) -> str:
    """A platform that some rule names, else one that is registered; a name that nobody knows is said aloud."""
    from ledger.rulebook import key_of
    from ledger.store import connect, registry

    if name in {key_of(rule).platform for rule in book.rules}:
        return name
    if has_ledger():
        with database(connect.AUDIT) as engine, engine.connect() as connection:
            return registry.find(connection, name).platform_id
    notice(
        Both(
            f"{name} is not among the platforms that the rules name; the general rule is shown.",
            f"规则未单独提到平台 {name}，以下为一般规则。",
        )
    )
    return name


def _line(text: str) -> str:
    """A line's code, its Chinese or its English name → the code."""
    from schemas.codes import LINE_NAMES

    for line, names in LINE_NAMES.items():
        if text.lower() in (line, *names):
            return line
    english = ", ".join(f"{line} {name}" for line, (name, _) in LINE_NAMES.items())
    mandarin = "、".join(f"{line} {name}" for line, (_, name) in LINE_NAMES.items())
    raise BadQuestion(
        Both(f"{text!r} is not a line of business.", f"{text!r} 不是已知行业。"),
        Both(f"Known lines: {english}", f"可用的行业：{mandarin}"),
    )
