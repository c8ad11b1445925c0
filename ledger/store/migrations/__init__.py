"""Alembic migrations that run visible SQL: each version is a .sql file and three lines of Python beside it."""

from pathlib import Path

from alembic import op


def run_sql(version_file: str) -> None:
    """Run the .sql file beside a version, as it stands, in the migration's transaction."""
    script = Path(version_file).with_suffix(".sql").read_text("utf-8")
    cursor = op.get_bind().connection.cursor()
    cursor.execute(script)
    cursor.close()
