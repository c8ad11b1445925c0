"""Named queries: one SQL file each, beginning with the sentence it answers. In: a name. Out: the statement."""

from functools import cache
from importlib.resources import files

from sqlalchemy import TextClause, text


@cache
def sql(name: str) -> TextClause:
    """The statement in queries/NAME.sql; parameters are bound by name."""
    return text(files("ledger.store.queries").joinpath(f"{name}.sql").read_text("utf-8"))
