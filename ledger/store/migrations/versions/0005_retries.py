"""Retries: runs 0005_retries.sql, which is the thing to read."""

from ledger.store.migrations import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_sql(__file__)
