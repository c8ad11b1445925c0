"""Streams: runs 0003_streams.sql, which is the thing to read."""

from ledger.store.migrations import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql(__file__)
