"""danbao inbox: put records into the inbox table, the door where there is no Kafka."""

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import func, select

from ledger.cli import common, usage
from ledger.cli.common import say
from ledger.errors import BadQuestion
from ledger.store import connect
from ledger.store.tables import inbox
from schemas.both import Both
from schemas.orders import RECORD_BYTES_MAX

app = typer.Typer(
    cls=usage.Group,
    no_args_is_help=True,
    help=say("The inbox table: records without Kafka.", "收件表：不经 Kafka 的记录。"),
)


@app.command(cls=usage.Command)
@common.command("把文件中的记录放入收件表，由 `danbao ingest --inbox` 入账。")
def put(
    path: Annotated[
        Path,
        typer.Argument(help=say("NDJSON file, one record a line (.gz, .zst).", "NDJSON 文件，每行一条记录。")),
    ],
    as_json: common.AsJson = False,
) -> None:
    """Put the records of a file into the inbox; `danbao ingest --inbox` books them.

    Example: danbao inbox put today.ndjson && danbao ingest --inbox
    """
    from consumers.lines import plain_suffix, read_lines, refuse_other_formats, refuse_other_lines
    from ledger.store import heads

    if not path.is_file():
        raise BadQuestion(
            Both(f"{path} is not a file.", f"{path} 不是文件。"),
            Both("Give an NDJSON file, one record a line.", "请给出 NDJSON 文件，每行一条记录。"),
        )
    if plain_suffix(path) == ".csv":
        raise BadQuestion(
            Both(f"{path.name} is a CSV file; the inbox takes records.", f"{path.name} 是 CSV 文件；收件表只收记录。"),
            Both("Book it with: danbao ingest FILE --map MAPPING", "请用 danbao ingest 文件 --map 映射 入账。"),
        )
    refuse_other_formats(path)
    refuse_other_lines(path)
    count = 0
    with common.database(connect.INGEST) as engine, engine.begin() as tx:
        for raw in read_lines(path):
            if len(raw) > RECORD_BYTES_MAX:
                raise BadQuestion(
                    Both(f"Record {count} holds {len(raw)} bytes.", f"第 {count} 条记录有 {len(raw)} 字节。"),
                    Both(f"The inbox takes {RECORD_BYTES_MAX} at most.", f"上限为 {RECORD_BYTES_MAX}。"),
                )
            tx.execute(select(func.inbox_put(raw)))
            count += 1
        head = heads.read(tx, "inbox", 0)
        waiting = tx.scalar(select(func.count()).where(inbox.c.record_offset >= head.next_offset)) or 0
    if as_json:
        common.print_json({"records": count, "waiting": waiting})
    else:
        text = say(f"{count:,} records put; {waiting:,} wait.", f"已放入 {count:,} 条记录；共 {waiting:,} 条待入账。")
        common.out.print(text)
