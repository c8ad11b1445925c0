"""The tables as SQLAlchemy Core, for queries in Python. The law is the migration; a test holds the two together."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, CHAR, DATERANGE, JSONB
from sqlalchemy.types import UserDefinedType

metadata = MetaData()


class Xid8(UserDefinedType[str]):
    """A 64-bit transaction number."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


def _at(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False)


def _required(name: str, kind: object) -> Column[object]:
    return Column(name, kind, nullable=False)  # type: ignore[arg-type]


def _key(name: str, kind: object) -> Column[object]:
    return Column(name, kind, primary_key=True)  # type: ignore[arg-type]


platform = Table(
    "platform",
    metadata,
    _key("platform_no", SmallInteger),
    _required("platform_id", Text),
    _required("name", Text),
    _required("name_zh", Text),
    _required("aliases", ARRAY(Text)),
    _required("uscc", Text),
    _required("example", Boolean),
    _at("registered_at"),
)
platform_line = Table(
    "platform_line", metadata, _key("platform_no", SmallInteger), _key("line", Text), _at("registered_at")
)
platform_province = Table(
    "platform_province",
    metadata,
    _key("platform_no", SmallInteger),
    _key("province", Text),
    _required("first_day", Date),
    _at("registered_at"),
)
platform_key = Table(
    "platform_key",
    metadata,
    _key("platform_no", SmallInteger),
    _key("public_key", LargeBinary),
    _at("in_force_from"),
    _at("registered_at"),
)
platform_key_end = Table(
    "platform_key_end",
    metadata,
    _key("platform_no", SmallInteger),
    _key("public_key", LargeBinary),
    _at("in_force_until"),
    _at("registered_at"),
)
rulebook = Table(
    "rulebook", metadata, _key("rulebook_hash", LargeBinary), _required("content", Text), _at("recorded_at")
)
rate = Table(
    "rate",
    metadata,
    _key("rulebook_hash", LargeBinary),
    _key("line", Text),
    _key("province", Text),
    _key("platform_id", Text),
    _key("in_force", DATERANGE),
    _required("premium_base", Integer),
    _required("mark", Text),
    _required("source", Text),
)
source = Table(
    "source",
    metadata,
    _key("topic", Text),
    _required("description", Text),
    Column("mapping", Text),
    Column("header", LargeBinary),
    Column("shift_days", Integer),
    _at("registered_at"),
    _required("stream", Boolean),
    Column("platform_no", SmallInteger),
)
partition_head = Table(
    "partition_head",
    metadata,
    _key("topic", Text),
    _key("partition", Integer),
    _required("next_offset", BigInteger),
    _required("chain_hash", LargeBinary),
)
rejections_told = Table(
    "rejections_told", metadata, _key("topic", Text), _key("partition", Integer), _required("next_offset", BigInteger)
)
gap = Table(
    "gap",
    metadata,
    _key("topic", Text),
    _key("partition", Integer),
    _key("first_offset", BigInteger),
    _key("next_offset", BigInteger),
    _required("why", Text),
    _required("accepted_by", Text),
    _at("accepted_at"),
)
batch = Table(
    "batch",
    metadata,
    _key("batch_id", BigInteger),
    _required("topic", Text),
    _required("partition", Integer),
    _required("first_offset", BigInteger),
    _required("next_offset", BigInteger),
    _required("rulebook_hash", LargeBinary),
    _at("recorded_at"),
    _required("events", Integer),
    _required("new", Integer),
    _required("duplicate", Integer),
    _required("conflict", Integer),
    _required("rejected", Integer),
    _required("raw_bytes", BigInteger),
    _required("raw_sha256", LargeBinary),
    _required("chain_before", LargeBinary),
    _required("chain_after", LargeBinary),
)
segment = Table("segment", metadata, _key("batch_id", BigInteger), _required("payload", LargeBinary))
order_event = Table(
    "order_event",
    metadata,
    _at("occurred_at"),
    _required("batch_id", BigInteger),
    _required("platform_no", SmallInteger),
    _required("ordinal", SmallInteger),
    _required("kind", CHAR),
    _required("order_id", Text),
    Column("worker_id", Text),
    Column("line", CHAR),
)
account = Table(
    "account",
    metadata,
    _key("account_id", Integer),
    _required("kind", Text),
    _required("province", Text),
    Column("platform_no", SmallInteger),
)
entry = Table(
    "entry",
    metadata,
    _key("entry_id", BigInteger),
    Column("batch_id", BigInteger),
    _required("kind", Text),
    _required("platform_no", SmallInteger),
    _required("province", Text),
    _required("line", Text),
    _required("month", Date),
    _required("origin_month", Date),
    _required("premium_base", Integer),
    _required("float_factor", Numeric(6, 4)),
    _required("order_count", Integer),
    _required("rulebook_hash", LargeBinary),
    _at("recorded_at"),
    _required("recorded_in", Xid8()),
)
posting = Table(
    "posting",
    metadata,
    _key("entry_id", BigInteger),
    _key("posting_no", SmallInteger),
    _required("account_id", Integer),
    _required("occurred_on", Date),
    _required("order_count", Integer),
    _required("amount", BigInteger),
)
charge = Table(
    "charge",
    metadata,
    Column("entry_id", BigInteger),
    _at("accepted_at"),
    _required("city", Integer),
    _required("amount", Integer),
    _key("platform_no", SmallInteger),
    _required("ordinal", SmallInteger),
    _required("line", CHAR),
    _key("order_id", Text),
    _required("worker_id", Text),
)
charge_change = Table(
    "charge_change",
    metadata,
    _key("platform_no", SmallInteger),
    _key("order_id", Text),
    _key("kind", Text),
    _required("entry_id", BigInteger),
    _required("amount", Integer),
)
event_key = Table(
    "event_key",
    metadata,
    _at("occurred_at"),
    _required("batch_id", BigInteger),
    _key("platform_no", SmallInteger),
    _required("ordinal", SmallInteger),
    _required("kind", CHAR),
    _key("order_id", Text),
    _key("slot", Text),
    Column("worker_id", Text),
)
conflict = Table(
    "conflict",
    metadata,
    _key("batch_id", BigInteger),
    _key("ordinal", SmallInteger),
    _required("platform_no", SmallInteger),
    _required("order_id", Text),
    _required("differs", ARRAY(Text)),
    _required("event", JSONB),
)
rejected_record = Table(
    "rejected_record",
    metadata,
    _key("batch_id", BigInteger),
    _key("record_offset", BigInteger),
    _key("item", Integer),
    Column("platform_id", Text),
    _required("reason", Text),
    _required("place", Text),
    _required("detail", Text),
    _required("raw", LargeBinary),
)
retry = Table(
    "retry",
    metadata,
    _key("batch_id", BigInteger),
    _key("record_offset", BigInteger),
    _key("item", Integer),
    _required("inbox_offset", BigInteger),
    _required("retried_by", Text),
    _at("retried_at"),
)
settlement = Table(
    "settlement",
    metadata,
    _key("province", Text),
    _key("month", Date),
    _required("order_count", BigInteger),
    _required("amount", BigInteger),
    _required("declared_fen", BigInteger),
    _required("due_on", Date),
    _required("rulebook_hash", LargeBinary),
    _at("sealed_at"),
)
declaration = Table(
    "declaration",
    metadata,
    _key("province", Text),
    _key("month", Date),
    _key("declaration_no", Integer),
    _required("platform_no", SmallInteger),
    _required("line", Text),
    _required("origin_month", Date),
    _required("premium_base", Integer),
    _required("float_factor", Numeric(6, 4)),
    _required("order_count", BigInteger),
    _required("amount", BigInteger),
    _required("declared_fen", BigInteger),
    Column("entry_id", BigInteger),
)
inbox = Table(
    "inbox",
    metadata,
    _key("record_offset", BigInteger),
    _at("arrived_at"),
    _required("record", LargeBinary),
)
