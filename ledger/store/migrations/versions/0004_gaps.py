"""Gaps: runs 0004_gaps.sql, which is the thing to read."""

from ledger.store.migrations import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql(__file__)
