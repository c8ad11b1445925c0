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
from schemas.both import Both

if TYPE_CHECKING:
    from alembic.config import Config

REGISTRAR = "danbao_registrar"
INGEST = "danbao_ingest"
SETTLE = "danbao_settle"
AUDIT = "danbao_audit"

HEAD = "0005"
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
            Both(f"The database does not answer: {_first_line(error)}", f"数据库没有应答：{_first_line(error)}"),
            Both(
                "Check DANBAO_DATABASE_URL and that PostgreSQL 18 runs there.",
                "请检查 DANBAO_DATABASE_URL，并确认该处运行着 PostgreSQL 18。",
            ),
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
            Both(f"The database stopped working: {_first_line(error)}", f"数据库中途停止工作：{_first_line(error)}"),
            Both(
                "What was answered is safe, what was under way is not booked: run the command again.",
                "已答复的均已保存，处理中的没有入账；请重新执行该命令。",
            ),
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
                Both(
                    f"The schema could not be made: {_first_line(error)}",
                    f"无法建立数据库结构：{_first_line(error)}",
                ),
                Both(
                    "The database user must own the database and may create roles; see deploy/README.md.",
                    "数据库用户须为该库的所有者，并可创建角色；见 deploy/README.md。",
                ),
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
            Both(
                f"The server at DANBAO_DATABASE_URL is PostgreSQL {major}.",
                f"DANBAO_DATABASE_URL 所指的服务器为 PostgreSQL {major}。",
            ),
            Both(
                f"The ledger needs PostgreSQL {SERVER_VERSION_MIN}; unset the variable and it brings its own.",
                f"账簿需要 PostgreSQL {SERVER_VERSION_MIN}；取消该变量即使用自带的数据库。",
            ),
        )


def _engine(url: str) -> Engine:
    fix = Both(
        "DANBAO_DATABASE_URL must name a PostgreSQL 18: postgresql://user@host/danbao",
        "DANBAO_DATABASE_URL 须指向 PostgreSQL 18：postgresql://user@host/danbao",
    )
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        what = Both("DANBAO_DATABASE_URL holds no database URL.", "DANBAO_DATABASE_URL 不是数据库地址。")
        raise DanbaoError(what, fix) from None
    backend = parsed.get_backend_name()
    if backend not in ("postgresql", "postgres"):
        what = Both(f"{backend} is not a database that the ledger runs on.", f"账簿不能运行在 {backend} 上。")
        raise DanbaoError(what, fix)
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
