"""The ledger: runs 0001_ledger.sql, which is the thing to read."""

from ledger.store.migrations import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_sql(__file__)
