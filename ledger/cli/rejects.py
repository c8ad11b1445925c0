"""danbao rejects: what was rejected, why, and what to do about it.

In: which records are asked for. Out: the records, the latest first, and how many for each reason.
"""

from typing import Annotated

import typer

from ledger.cli import common, rejectview, usage
from ledger.cli.common import say
from schemas.codes import Reason

app = typer.Typer(cls=usage.Group, no_args_is_help=True, help=say("Rejected records.", "拒收记录。"))

ROWS_SHOWN = 20


@app.callback()
def rejects() -> None:
    """What stands before the name of a command."""


@app.command("list", cls=usage.Command)
@common.command("列出拒收记录，后入账的在前：原因、文件和行、处理办法。")
def list_(
    reason: Annotated[Reason | None, typer.Option(help=say("Only this reason.", "仅此原因。"))] = None,
    platform: Annotated[
        str | None, typer.Option(help=say("Only of this platform, as far as known.", "仅此平台（已知来源时）。"))
    ] = None,
    topic: Annotated[str | None, typer.Option(help=say("Only from this topic.", "仅此主题。"))] = None,
    partition: Annotated[int | None, typer.Option(help=say("Only from this partition.", "仅此分区。"), min=0)] = None,
    since: common.Since = None,
    until: Annotated[
        str | None,
        typer.Option(help=say("Only what was recorded before this day.", "仅该日之前入账的。"), metavar="2026-12-01"),
    ] = None,
    limit: Annotated[int, typer.Option(help=say("At most so many.", "最多显示条数。"), min=1, max=10_000)] = ROWS_SHOWN,
    as_json: common.AsJson = False,
) -> None:
    """List rejected records, the latest first, and how many for each reason, with what to do.

    Example: danbao rejects list --reason unknown_platform --since 2026-11-01
    """
    from ledger.store import connect, registry, rejections

    recorded_since, recorded_until = common.parse_since(since), common.parse_since(until)
    with common.database(connect.AUDIT) as engine, engine.connect() as connection:
        platform_id = registry.find(connection, platform).platform_id if platform else None
        asked = rejections.Asked(reason, platform_id, topic, partition, recorded_since, recorded_until)
        rows, reasons = rejections.latest(connection, asked, limit), rejections.reasons(connection, asked)
    shown = [rejectview.plain(row) for row in rows]
    if as_json:
        told = [
            {"reason": name, "count": count, "to_do": rejectview.what_to_do(name)} for name, count in reasons.items()
        ]
        common.print_json({"rejected": shown, "reasons": told})
    else:
        rejectview.show(shown)
        rejectview.show_reasons(reasons)
