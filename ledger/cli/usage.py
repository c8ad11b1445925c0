"""What typer says by itself, in the reader's language: the frame of --help, and mistakes in a command line.

In: typer's commands and exceptions, which speak English only. Out: classes whose --help is Chinese for a
Chinese reader, and a BadQuestion for each mistake, so that it is shown as every other error is.
"""

import re
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperCommand, TyperGroup

from ledger import shape_faults
from ledger.cli.common import Out, chinese, say
from ledger.errors import BadQuestion
from schemas.both import Both

USAGE = {"Usage: ": "用法：", "[OPTIONS]": "[选项]", "COMMAND [ARGS]...": "命令 [参数]..."}
MISTAKES = (
    (r"Missing command\.", "缺少命令。"),
    (r"Missing option (.+?)\. Choose from:\n\t(.+)", "缺少选项 {0}，可选：{1}。"),
    (r"Missing option (.+)\.", "缺少选项 {0}。"),
    (r"Missing argument (.+)\.", "缺少参数 {0}。"),
    (r"No such command (.+)\. Did you mean (.+)\?", "没有命令 {0}，相近的有：{1}。"),
    (r"No such command (.+)\.", "没有命令 {0}。"),
    (r"No such option: (.+) \(Possible options: (.+)\)", "没有选项 {0}，相近的有：{1}。"),
    (r"No such option: (.+)", "没有选项 {0}。"),
    (r"Option (.+) requires an argument\.", "选项 {0} 缺少取值。"),
    (r"Option (.+) does not take a value\.", "选项 {0} 不带取值。"),
    (r"Got unexpected extra argument\(s\) \((.+)\)", "多余的参数：{0}。"),
    (r"Invalid value for (.+?): (?:Value error, )?(.+) is not one of (.+)\.", "{0} 的取值 {1} 无效，可选：{2}。"),
)


class _InTheReadersLanguage:
    """What a command and a group of commands have in common of --help."""

    def get_usage(self, ctx: Any) -> str:
        """The line of usage."""
        usage: str = super().get_usage(ctx)  # type: ignore[misc]
        for english, mandarin in USAGE.items():
            usage = usage.replace(english, say(english, mandarin), 1)
        return usage

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        option.help = say("Show this message and exit.", "显示本帮助并退出。")
        return option

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The whole of --help."""
        from typer import rich_utils as frame

        frame.Console = Out  # type: ignore[attr-defined]  # where a reader may leave early
        if chinese():
            frame.ARGUMENTS_PANEL_TITLE = "参数"
            frame.OPTIONS_PANEL_TITLE = "选项"
            frame.COMMANDS_PANEL_TITLE = "命令"
            frame.DEFAULT_STRING = "[默认：{}]"
            frame.REQUIRED_LONG_STRING = "[必填]"
        super().format_help(ctx, formatter)  # type: ignore[misc]


class Command(_InTheReadersLanguage, TyperCommand):
    """A command."""


class Group(_InTheReadersLanguage, TyperGroup):
    """A group of commands."""


def mistake(error: typer.TyperException) -> BadQuestion:
    """A command line that typer cannot read, as an error of ours."""
    english, context = error.format_message(), getattr(error, "ctx", None)
    command = context.command_path if context else "danbao"
    mandarin = _chinese(english, error.__cause__)
    english = english.replace("Value error, ", "")  # pydantic's word, which tells the reader nothing
    return BadQuestion(Both(english, mandarin), Both(f"See: {command} --help", f"请查看 {command} --help"))


def _chinese(english: str, cause: BaseException | None) -> str:
    for pattern, mandarin in MISTAKES:
        if found := re.fullmatch(pattern, english, re.DOTALL):
            return mandarin.format(*(re.sub(r",\s+", "、", part) for part in found.groups()))
    if isinstance(cause, ValidationError):
        option = english.partition(": ")[0].removeprefix("Invalid value for ")
        return f"{option} 的取值无效：{shape_faults.mandarin(cause.errors()[0])}。"
    return f"命令用法有误：{english}"
