"""Rows in PostgreSQL's COPY BINARY format. In: what a batch claims. Out: bytes for `COPY … (FORMAT BINARY)`.

Generic row writers cost more than all the rest of the loop; here each table's row is one `struct`
for the fixed columns and a length before each text. The column order is the one in COPY_COLUMNS.
Format: PostgreSQL manual, COPY, "Binary Format": a header, then for each row the number of fields
and for each field its length in bytes (-1: null) and its bytes; -1 ends the file.
"""

from collections.abc import Iterable, Mapping
from struct import Struct

from ledger.calendar import US_PER_DAY
from ledger.intake import Acceptance, Later
from ledger.rating import LINE_CODES, Tariff

COPY_COLUMNS = {
    "charge": "entry_id, accepted_at, city, amount, platform_no, ordinal, line, order_id, worker_id",
    "event_key": "occurred_at, batch_id, platform_no, ordinal, kind, order_id, slot, worker_id",
    "order_event": "occurred_at, batch_id, platform_no, ordinal, kind, order_id, worker_id, line",
}
LINE_NOT_SAID = b"*"  # a reassignment does not say its order's line
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
POSTGRES_EPOCH_US = 10_957 * US_PER_DAY  # 2000-01-01, in microseconds since 1970

# Texts are at most 64 characters, so 256 bytes; each has its length before it.
_LENGTH = [length.to_bytes(4, "big") for length in range(257)]
_CHARGE = Struct(">hiqiqiiiiihihic")
_UNCHARGED = Struct(">hiiqiiiiihihic")
_EVENT_KEY = Struct(">hiqiqihihic")
_ORDER_EVENT = Struct(">hiqiqihihic")


def _text(value: str) -> bytes:
    data = value.encode()
    return _LENGTH[len(data)] + data


def charge_rows(acceptances: Iterable[Acceptance], entry_ids: Mapping[Tariff, int]) -> bytes:
    """One row per order; where the rule charges nothing at acceptance, no entry and amount 0."""
    parts = [HEADER]
    charged, uncharged = _CHARGE.pack, _UNCHARGED.pack
    for platform_no, order_id, occurred_us, worker_id, city, line, ordinal, tariff in acceptances:
        at = occurred_us - POSTGRES_EPOCH_US
        code = LINE_CODES[line]
        entry_id = entry_ids.get(tariff)
        if entry_id is None:
            fixed = uncharged(9, -1, 8, at, 4, city, 4, 0, 2, platform_no, 2, ordinal, 1, code)
        else:
            fixed = charged(9, 8, entry_id, 8, at, 4, city, 4, tariff.amount, 2, platform_no, 2, ordinal, 1, code)
        parts.append(fixed + _text(order_id) + _text(worker_id))
    parts.append(TRAILER)
    return b"".join(parts)


def event_key_rows(later: Iterable[Later], batch_id: int) -> bytes:
    """One row per later event."""
    parts = [HEADER]
    pack = _EVENT_KEY.pack
    for platform_no, order_id, slot, occurred_us, kind, worker_id, ordinal in later:
        fixed = pack(8, 8, occurred_us - POSTGRES_EPOCH_US, 8, batch_id, 2, platform_no, 2, ordinal, 1, kind)
        worker = NULL if worker_id is None else _text(worker_id)
        parts.append(fixed + _text(order_id) + _text(slot) + worker)
    parts.append(TRAILER)
    return b"".join(parts)


def order_event_rows(acceptances: Iterable[Acceptance], later: Iterable[Later], batch_id: int) -> bytes:
    """One row per event of either sort; who has the order from then on, and its line, where the event says so."""
    parts = [HEADER]
    pack = _ORDER_EVENT.pack
    codes = {line: _LENGTH[1] + code for line, code in LINE_CODES.items()}
    not_said = _LENGTH[1] + LINE_NOT_SAID
    for platform_no, order_id, occurred_us, worker_id, _, line, ordinal, _ in acceptances:
        fixed = pack(8, 8, occurred_us - POSTGRES_EPOCH_US, 8, batch_id, 2, platform_no, 2, ordinal, 1, b"A")
        parts.append(fixed + _text(order_id) + _text(worker_id) + codes[line])
    for platform_no, order_id, _, occurred_us, kind, new_worker, ordinal in later:
        fixed = pack(8, 8, occurred_us - POSTGRES_EPOCH_US, 8, batch_id, 2, platform_no, 2, ordinal, 1, kind)
        holder = NULL + NULL if new_worker is None else _text(new_worker) + not_said
        parts.append(fixed + _text(order_id) + holder)
    parts.append(TRAILER)
    return b"".join(parts)
