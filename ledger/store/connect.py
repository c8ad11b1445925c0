"""A way into the ledger. In: a database URL and a role. Out: a SQLAlchemy Engine, the schema up to date.

Every connection takes on one of the roles of the schema (least privilege: an auditor's connection
cannot write, whatever the code above it does).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import Error as DriverError
from psycopg import OperationalError as DriverOperationalError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from ledger.errors import DanbaoError

if TYPE_CHECKING:
    from alembic.config import Config

REGISTRAR = "danbao_registrar"
INGEST = "danbao_ingest"
SETTLE = "danbao_settle"
AUDIT = "danbao_audit"

HEAD = "0002"
SERVER_VERSION_MIN = 18  # temporal keys
_MIGRATION_LOCK = 2022_07_01_00


@contextmanager
def ledger(url: str, role: str) -> Iterator[Engine]:
    """An engine whose connections act in `role`; migrates first where the schema is behind."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            _refuse_older(connection)
            if _version(connection) != HEAD:
                migrate(engine)
    except OperationalError as error:
        raise DanbaoError(
            f"The database does not answer: {_first_line(error)}",
            "Check DANBAO_DATABASE_URL and that PostgreSQL 18 runs there.",
        ) from None
    finally:
        engine.dispose()
    acting = _engine(url)

    @event.listens_for(acting, "connect")
    def act_as(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"set role {role}")  # a constant of this module, never input
        connection.commit()

    try:
        yield acting
    except (OperationalError, DriverOperationalError) as error:
        raise DanbaoError(
            f"The database stopped working: {_first_line(error)}",
            "What was answered is safe, what was under way is not booked: run the command again.",
        ) from error
    finally:
        acting.dispose()


def migrate(engine: Engine) -> None:
    """Bring the schema to HEAD; two commands at once take turns."""
    from alembic import command  # noqa: PLC0415  slow to import and seldom needed

    from ledger import examples  # noqa: PLC0415
    from ledger.store import registry  # noqa: PLC0415

    with engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        found = _version(connection)
        if found == HEAD:
            return
        try:
            command.upgrade(migrations(connection), HEAD)
            for registration in examples.registrations() if found is None else ():
                registry.register(connection, registration, example=True)
        except (DBAPIError, DriverError) as error:
            raise DanbaoError(
                f"The schema could not be made: {_first_line(error)}",
                "The database user must own the database and may create roles; see deploy/README.md.",
            ) from None


def migrations(connection: Connection) -> "Config":
    """Alembic's configuration: the versions beside this module, run on this connection."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _refuse_older(connection: Connection) -> None:
    major, *_ = connection.dialect.server_version_info or (0,)
    if int(major) < SERVER_VERSION_MIN:
        raise DanbaoError(
            f"The server at DANBAO_DATABASE_URL is PostgreSQL {major}.",
            f"The ledger needs PostgreSQL {SERVER_VERSION_MIN}; unset the variable and it brings its own.",
        )


def _engine(url: str) -> Engine:
    fix = "DANBAO_DATABASE_URL must name a PostgreSQL 18: postgresql://user@host/danbao"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DanbaoError("DANBAO_DATABASE_URL holds no database URL.", fix) from None
    backend = parsed.get_backend_name()
    if backend not in ("postgresql", "postgres"):
        raise DanbaoError(f"{backend} is not a database that the ledger runs on.", fix)
    address = parsed.set(drivername="postgresql+psycopg")
    # What is looked at under a lock must be as new as the lock, whatever the server's own setting is.
    return create_engine(address, isolation_level="READ COMMITTED", pool_size=2, max_overflow=2)


def _version(connection: Connection) -> str | None:
    if not connection.scalar(text("select to_regclass('alembic_version') is not null")):
        return None
    version: str | None = connection.scalar(text("select version_num from alembic_version"))
    return version


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]
