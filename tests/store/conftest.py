"""The fixtures of tests/support.py, for the tests of the store."""

from support import engine, ledger_url, session_ledger

__all__ = ["engine", "ledger_url", "session_ledger"]
