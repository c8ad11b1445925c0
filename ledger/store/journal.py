"""Posting entries. In: balanced entries of `ledger.journal` or `ledger.settlement`. Out: rows of entry, posting."""

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects.postgresql import insert

from ledger.journal import Account, Entry
from ledger.store.queries import sql
from ledger.store.tables import account


class Accounts:
    """The numbers of the accounts, made on first need; a number never changes once committed."""

    def __init__(self) -> None:
        self._numbers: dict[Account, int] = {}

    def __getitem__(self, key: Account) -> int:
        return self._numbers[key]

    def ensure(self, engine: Engine, wanted: set[Account]) -> None:
        """Make the accounts that are missing, in a transaction of its own, so that a rolled-back batch forgets none."""
        missing = wanted - self._numbers.keys()
        if not missing:
            return
        with engine.begin() as tx:
            rows = [item._asdict() for item in sorted(missing, key=str)]
            tx.execute(insert(account).values(rows).on_conflict_do_nothing())
            found = tx.execute(select(account))
            self._numbers = {Account(row.kind, row.province, row.platform_no): row.account_id for row in found}


def post(
    tx: Connection,
    entries: dict[int, Entry],
    accounts: Accounts,
    rulebook_hash: bytes,
    batch_id: int | None,
) -> None:
    """Write entries (by their reserved numbers) and their postings."""
    if not entries:
        return
    books = list(entries.values())
    kinds = {entry.kind for entry in books}
    assert len(kinds) == 1
    tx.execute(
        sql("post_entries"),
        {
            "batch_id": batch_id,
            "kind": kinds.pop(),
            "rulebook_hash": rulebook_hash,
            "entry_ids": list(entries),
            "platform_nos": [entry.platform_no for entry in books],
            "provinces": [entry.province for entry in books],
            "lines": [str(entry.line) for entry in books],
            "months": [entry.month for entry in books],
            "origin_months": [entry.origin_month for entry in books],
            "premium_bases": [entry.premium_base for entry in books],
            "float_factors": [entry.float_factor for entry in books],
            "order_counts": [entry.order_count for entry in books],
        },
    )
    rows = [
        (
            entry_id,
            number,
            accounts[posting.account],
            posting.occurred_on,
            posting.order_count,
            posting.amount,
        )
        for entry_id, entry in entries.items()
        for number, posting in enumerate(entry.postings, 1)
    ]
    names = ("entry_ids", "posting_nos", "account_ids", "days", "order_counts", "amounts")
    tx.execute(
        sql("post_postings"),
        {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)},
    )
