"""Alembic's entry: migrates on the connection that `ledger.store.connect` hands over; nothing offline."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
