"""`danbao rules check | show | diff`: the rulebook as a person reads it.

In: the packaged rules, or a directory of rule files; days, a province, a line, a platform. Out:
tables with numbered sources, or one JSON object. Exit codes: 0 answered, 1 the rules have faults,
2 the question was bad. Rules are data (style.md, principle 4): nothing here decides an amount.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from ledger.cli.common import command, now, out, parse_day, parse_province, print_json, say
from ledger.errors import BadQuestion

AsJson = Annotated[
    bool, typer.Option("--json", help=say("One JSON object on stdout.", "在标准输出给出一个 JSON 对象。"))
]
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
Platform = Annotated[str | None, typer.Option(help=say("Platform id.", "平台编号。"))]
From = Annotated[str, typer.Argument(metavar="FROM", help=say("A day.", "日期。"))]
To = Annotated[str, typer.Argument(metavar="TO", help=say("A later day.", "较晚的日期。"))]

app = typer.Typer(
    no_args_is_help=True,
    help=say("The rules: check, show, compare two days.", "规则：检查、查询、比较两日。"),
)


@app.command(
    help=say(
        "Check rule files: every fault with file, line and reason.",
        "检查规则文件：列出错误的文件、行号和原因。",
    ),
    epilog=say("Example: danbao rules check ./our-rules", "示例：danbao rules check ./our-rules"),
)
@command
def check(directory: Dir = None, as_json: AsJson = False) -> None:
    """Read a whole rulebook and say whether it can be used."""
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


@app.command(
    help=say("What applies on a day, with its source.", "某日适用的规则及其依据。"),
    epilog=say(
        "Example: danbao rules show --at 2025-07-01 --province 31 --line instant_delivery",
        "示例：danbao rules show --at 2025-07-01 --province 31 --line instant_delivery",
    ),
)
@command
def show(
    at: At = None,
    province: Province = None,
    line: LineOfBusiness = None,
    platform: Platform = None,
    as_json: AsJson = False,
) -> None:
    """The rules in force for an order accepted on that day; what is not asked for is shown for all."""
    from ledger.calendar import SHANGHAI
    from ledger.cli import ruleview
    from ledger.rulebook import Key, load
    from schemas.codes import ANY

    on = parse_day(at) if at else now().astimezone(SHANGHAI).date()
    place = parse_province(province) if province else ANY
    asked = Key(_line(line) if line else ANY, place, platform or ANY)
    answer = ruleview.answer(load(), on, asked)
    if as_json:
        print_json(ruleview.answer_json(answer))
    else:
        ruleview.print_answer(answer)


@app.command(
    help=say("What comes into force or ends after FROM, up to TO.", "FROM 之后至 TO 为止生效或失效的规则。"),
    epilog=say("Example: danbao rules diff 2025-06-30 2025-07-01", "示例：danbao rules diff 2025-06-30 2025-07-01"),
)
@command
def diff(first: From, last: To, as_json: AsJson = False) -> None:
    """Every change in force between two days, with the day from which it holds."""
    from ledger.cli import ruleview
    from ledger.rulebook import load

    since, until = parse_day(first), parse_day(last)
    if until < since:
        raise BadQuestion(
            say(f"{until} is before {since}.", f"{until} 早于 {since}。"),
            say("Give the earlier day first.", "请先写较早的日期。"),
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
        say(f"{directory} is not a directory with rule files.", f"{directory} 不是含有规则文件的目录。"),
        say("Name a directory that holds *.yaml files.", "请给出含有 *.yaml 文件的目录。"),
    )


def _line(text: str) -> str:
    """A line's code, its Chinese or its English name → the code."""
    from schemas.codes import LINE_NAMES

    for line, names in LINE_NAMES.items():
        if text.lower() in (line, *names):
            return line
    known = ", ".join(f"{line} {say(*names)}" for line, names in LINE_NAMES.items())
    raise BadQuestion(
        say(f"{text!r} is not a line of business.", f"{text!r} 不是已知行业。"),
        say(f"Known lines: {known}", f"可用的行业：{known}"),
    )
