"""danbao kafka acls: make the rights in a Kafka what a file says.

In: a rights file (default: `deploy/kafka/acls.yaml`), the Kafka of `DANBAO_KAFKA_BOOTSTRAP`, as a user who may alter
it. Out: a table of differences, and after a yes the changes. Exit code 0 when nothing differs any more, else 1.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ledger.cli import common, usage
from ledger.cli.common import say
from schemas.both import Both
from schemas.rights import RightsFile

if TYPE_CHECKING:
    from consumers.kafka.rights import Right

RIGHTS_FILE = Path(__file__).parents[2] / "deploy" / "kafka" / "acls.yaml"
HOW_TO = Both("See deploy/kafka/acls.yaml for a file as it should be.", "写法可参照 deploy/kafka/acls.yaml。")

app = typer.Typer(
    cls=usage.Group, no_args_is_help=True, help=say("Who may do what: apply a file.", "权限：按文件应用。")
)


@app.command(cls=usage.Command)
@common.command(
    "显示权限与文件的差异，询问后按文件授予和收回；重复执行不再有更改。\n\n"
    "文件未涉及的主题与用户不受影响；禁止类规则保持不变。"
)
def apply(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help=say("Rights file; default: deploy/kafka/acls.yaml.", "权限文件；默认为 deploy/kafka/acls.yaml。"),
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help=say("Do not ask.", "不再询问。"))] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=say("Only show.", "仅显示差异。"))] = False,
    as_json: common.AsJson = False,
) -> None:
    """Show how rights differ from the file, ask, then give what is missing and take what is too many.

    Topics and users that the file does not speak of are left alone, and so is what forbids something.

    Example: danbao kafka acls apply --dry-run
    """
    from consumers.kafka import grants, rights, topics

    wanted = rights.granted(_read(file or RIGHTS_FILE))
    with topics.connect(common.kafka_access()) as admin:
        found = grants.look(admin)
        missing, too_many = left = rights.missing(wanted, found), rights.too_many(wanted, found)
        if not as_json:
            _print(missing, too_many)
        if (missing or too_many) and not dry_run and (yes or common.confirmed()):
            left = grants.apply(admin, wanted, missing, too_many)
            if not as_json:
                common.out.print(_outcome(sum(map(len, left))))
    if as_json:
        common.print_json({"differences": _as_values(missing, too_many), "left": _as_values(*left)})
    if any(left):
        raise typer.Exit(1)


def _read(path: Path) -> RightsFile:
    from ledger import yamlfile

    return yamlfile.parse(common.read_file(path, HOW_TO), path.name, RightsFile, HOW_TO)


def _outcome(left: int) -> str:
    return say(f"{left} difference(s) left.", f"尚余 {left} 处差异。") if left else say("Applied.", "已应用。")


def _as_values(missing: "Sequence[Right]", too_many: "Sequence[Right]") -> list[dict[str, Any]]:
    kinds = (("missing", missing), ("too_many", too_many))
    return [{"kind": kind, **asdict(right)} for kind, group in kinds for right in group]


def _print(missing: "Sequence[Right]", too_many: "Sequence[Right]") -> None:
    if not (missing or too_many):
        common.out.print(say("The rights are as the file says.", "权限与文件一致。"))
        return
    table = Table(box=None)
    for heading in ("", say("who", "用户"), say("may", "权限"), say("on", "对象"), say("from", "来自")):
        table.add_column(heading)
    for word, group in ((say("give", "授予"), missing), (say("take", "收回"), too_many)):
        for right in group:
            name = f"{right.name}…" if right.match == "prefix" else right.name
            table.add_row(word, Text(right.principal), right.may, Text(f"{right.on} {name}"), right.host)
    common.out.print(table)
