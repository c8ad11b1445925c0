"""The line of order events: runs 0002_order_event_line.sql, which is the thing to read."""

from ledger.store.migrations import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql(__file__)
