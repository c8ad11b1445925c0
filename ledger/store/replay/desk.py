"""The desk of a replay: DuckDB, in memory up to a limit, then spilling to files. In: the SQL files beside this module.

DuckDB and not PostgreSQL, because an auditor writes nothing there, and because columns are compared a
vector at a time: that is what replaying half a million events a second on two cores needs.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from ledger.store.machine import quarter_of_memory_mib

MEMORY_MIB_MIN = 1024
PLACES = 65_536  # of a batch; see tables.sql
FIRST_PLACE = 32_768
ORDINALS_MAX = 32_767


def place_of(batch_id: int, ordinal: int) -> int:
    """Batch and ordinal as one number."""
    return batch_id * PLACES + FIRST_PLACE + ordinal


def from_place(place: int) -> tuple[int, int]:
    """Batch and ordinal of a place."""
    batch_id, rest = divmod(place, PLACES)
    return batch_id, rest - FIRST_PLACE


@cache
def statement(name: str) -> str:
    """The statements in NAME.sql, beginning with the sentence that they answer."""
    return files("ledger.store.replay").joinpath(f"{name}.sql").read_text("utf-8")


def run(desk: DuckDBPyConnection, name: str, **values: Any) -> DuckDBPyConnection:
    """Run the named statements; parameters go to each of them that uses them."""
    return desk.execute(statement(name), values) if values else desk.execute(statement(name))


def put(desk: DuckDBPyConnection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    """Append rows, in the order of the table's columns, all at once."""
    if rows:
        columns = {str(place): list(column) for place, column in enumerate(zip(*rows, strict=True))}
        desk.from_arrow(pa.table(columns)).insert_into(table)


def open_desk(spill: Path) -> DuckDBPyConnection:
    """A desk with empty tables; what does not fit in a quarter of the memory goes to files in `spill`.

    Set for many threads that each ask about some rows, and for joins as they are written: left to itself
    DuckDB puts the larger side where it loses its order, and rows of one batch are no longer neighbours.
    """
    desk = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{quarter_of_memory_mib(MEMORY_MIB_MIN)}MiB",
            "temp_directory": str(spill),
            "threads": 1,
            "disabled_optimizers": "build_side_probe_side",
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        },
    )
    for name in ("tables", "macros"):
        run(desk, name)
    return desk


def open_questions(desk: DuckDBPyConnection, threads: int) -> None:
    """From here on one thread asks about all rows."""
    desk.execute("set disabled_optimizers = ''")
    desk.execute(f"set threads = {threads}")
