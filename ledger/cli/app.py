"""The command `danbao`, put together: one module per command; `common` is what they share.

In: arguments and the environment. Out: tables for people, one JSON object for machines, exit codes.
A command's module is imported when the command is asked for: with all of them every start would take twice as long.
"""

import logging
import signal
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer

from ledger.cli import common, usage
from ledger.cli.common import say

# In the order of --help. Each is a module: a group has an `app`, a command a function of its name.
COMMANDS = ("run", "ingest", "push", "settle", "balance", "windows", "explain", "simulate", "status", "chaos")
GROUPS = ("platforms", "rules", "inbox", "consume", "audit", "rejects", "kafka")


class _Commands(usage.Group):
    """All commands by name; None where one was not asked for yet."""

    def __init__(self, **terms: Any) -> None:
        super().__init__(**terms)
        self.commands: Any = dict.fromkeys(COMMANDS + GROUPS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, None where there is none."""
        if cmd_name in self.commands and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _made(cmd_name)
        return super().get_command(ctx, cmd_name)


def _made(name: str) -> Any:
    """A command as typer makes it of its module."""
    module, alone = import_module(f"ledger.cli.{name}"), typer.Typer()
    if name in GROUPS:
        alone.add_typer(module.app, name=name)
    else:
        alone.command(name, cls=usage.Command)(getattr(module, name))
    return typer.main.get_group(alone).commands[name]


app = typer.Typer(
    name="danbao",
    cls=_Commands,
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


def main() -> None:
    """The command line: what it asks for, or what was wrong with it."""
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, common.stop)
    # What it warns of, such as a connection that broke, it also raises, and we say what that means.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
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
