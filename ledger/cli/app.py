"""The command `danbao`, put together: one module per command; `common` is what they share.

In: arguments and the environment. Out: tables for people, one JSON object for machines, exit codes.
"""

import signal
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from ledger.cli import (
    audit,
    balance,
    chaos,
    common,
    consume,
    explain,
    inbox,
    ingest,
    kafka,
    platforms,
    push,
    rejects,
    rules,
    run,
    settle,
    simulate,
    status,
    usage,
    windows,
)
from ledger.cli.common import say

app = typer.Typer(
    name="danbao",
    cls=usage.Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=say(
        "单保 danbao: a ledger for occupational injury insurance of platform workers, paid per order.",
        "单保：新就业形态人员职业伤害保障的按单账簿。",
    ),
)


def _version(asked: bool) -> None:
    if asked:
        common.out.print(f"danbao {version('danbao')}")
        raise typer.Exit


@app.callback()
def danbao(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help=say("Show the version.", "显示版本号。")),
    ] = False,
) -> None:
    """What stands before the name of a command."""


_COMMANDS = (
    ("run", run.run),
    ("ingest", ingest.ingest),
    ("push", push.push),
    ("settle", settle.settle),
    ("balance", balance.balance),
    ("windows", windows.windows),
    ("explain", explain.explain),
    ("simulate", simulate.simulate),
    ("status", status.status),
    ("chaos", chaos.chaos),
)
for _name, _function in _COMMANDS:
    app.command(_name, cls=usage.Command)(_function)
for _name, _group in (
    ("platforms", platforms.app),
    ("rules", rules.app),
    ("inbox", inbox.app),
    ("consume", consume.app),
    ("audit", audit.app),
    ("rejects", rejects.app),
    ("kafka", kafka.app),
):
    app.add_typer(_group, name=_name)


def main() -> None:
    """The command line: what it asks for, or what was wrong with it."""
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, common.stop)
    as_json = "--json" in sys.argv
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        if not error.format_message():  # the help that was asked for by naming no command
            sys.exit(error.exit_code)
        mistake = usage.mistake(error)
        common.tell(mistake, as_json)
        code = mistake.exit_code
    except BaseException as error:  # before or after a command: each tells its own
        known = common.told_as(error)
        if known is None:
            raise
        common.tell(known, as_json)
        code = known.exit_code
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        common.close_stdout()
    sys.exit(code)


if __name__ == "__main__":
    main()
