"""Judgement of what did not match. In: the desk when all batches are replayed. Out: findings.

Most of it is no fault: repeated events are duplicates, or conflicts that are recorded as such. Whether an
event contradicts the one that stands, and in what, is said by the ledger's own `sift`.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from duckdb import DuckDBPyConnection
from sqlalchemy import Connection, Table, select

from ledger.calendar import from_us
from ledger.intake import Acceptance, Later
from ledger.rating import LINES
from ledger.replay.chain import BatchRow, check_counts
from ledger.replay.findings import Code, Finding, differences, merged, missing, text, unfounded
from ledger.sift import KnownAcceptance, KnownLater, acceptance_differs, later_differs
from ledger.store import record, tables
from ledger.store.replay.batches import Replayed
from ledger.store.replay.books import EntryKeys
from ledger.store.replay.desk import from_place, run
from ledger.store.replay.tariffs import Tariffs

FETCH_ROWS = 10_000
Named = dict[str, Any]


class Names:
    """Rows of the desk in words."""

    def __init__(self, platform_ids: dict[int, str], keys: EntryKeys) -> None:
        self._platform_ids = platform_ids
        self._keys = keys

    def platform(self, number: int) -> str:
        """The platform's id, or its number where nobody has that."""
        return self._platform_ids.get(number, f"platform {number}")

    def order(self, platform_no: int, order_id: str, slot: str | None = None) -> str:
        """An order, or one of its reassignments."""
        named = f"{self.platform(platform_no)} {order_id}"
        return f"{named} ({slot})" if slot else named

    def place(self, place: int | None) -> str:
        """Batch and ordinal."""
        if place is None:
            return "no batch"
        batch_id, ordinal = from_place(place)
        return f"batch {batch_id} ordinal {ordinal}"

    def link(self, place: int | None, key_no: int | None) -> str:
        """The entry that an order belongs to."""
        batch = "no batch" if place is None else f"batch {from_place(place)[0]}"
        return f"{batch}, {self._keys.name(key_no)}"


def rows_of(found: DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    """The rows of a result, fetched some at a time."""
    while rows := found.fetchmany(FETCH_ROWS):
        yield from rows


def named_rows(found: DuckDBPyConnection) -> Iterator[Named]:
    """The rows of a result as dictionaries."""
    columns = [column[0] for column in found.description or ()]
    return (dict(zip(columns, row, strict=True)) for row in rows_of(found))


def settle_answers(desk: DuckDBPyConnection, whole: bool) -> None:
    """Pair rows with the events that they record wrongly, and say what became of every other event."""
    for name in ("strays", "clean", "pair_claims", "answer"):
        run(desk, name)
    if whole:
        run(desk, "extra_order_events")
        run(desk, "pair_order_events")
    run(desk, "correct_places")


# ---- rows


def judge_rows(desk: DuckDBPyConnection, names: Names) -> Iterator[Finding]:
    """Charges, event keys and order events that are wrong, missing, without ground, or out of turn."""
    links: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], str] = {}
    for pair in named_rows(run(desk.cursor(), "pairs")):
        key = names.order(pair["e_platform_no"], pair["e_order_id"], pair["e_slot"])
        expected, found = _versions(pair)
        yield from differences(pair["table"], key, expected, found)
        if pair["table"] == "charge" and (link := _link(pair, names)):
            links[link] += 1
            examples.setdefault(link, key)
    for link, count in links.items():
        example = examples[link] if count == 1 else f"{examples[link]} and {count - 1} more of {link[0]}"
        yield Finding(Code.DIFFERS, "charge", example, "entry_id", link[1], f"{link[0]}: {link[2]}")
    for row in named_rows(run(desk.cursor(), "unfounded")):
        yield unfounded(row["table"], _key(row, names), f"{_row_place(row, names)}: {_facts(row)}")
    for row in named_rows(run(desk.cursor(), "missing")):
        yield missing(_table(row), _key(row, names), f"{names.place(row['place'])}: {_facts(row)}")
    for row in named_rows(desk.cursor().execute("select place from extra_order_event order by place")):
        yield unfounded("order_event", names.place(row["place"]), "a repeated event")
    for row in named_rows(run(desk.cursor(), "precedence")):
        first, stands = names.place(row["place"]), names.place(row["standing"])
        yield Finding(Code.PRECEDENCE, _table(row), _key(row, names), "row", first, stands)


def _key(row: Named, names: Names) -> str:
    return names.order(row["platform_no"], row["order_id"], row["slot"])


def _table(row: Named) -> str:
    if row["books"] == "order_event":
        return "order_event"
    return "charge" if row["kind"] == ord("A") else "event_key"


def _row_place(row: Named, names: Names) -> str:
    if row["place"] is None and row["entry_id"] is not None:
        return f"entry {row['entry_id']}, which is of no batch"
    return names.place(row["place"])


def _facts(row: Named) -> str:
    shown = f"{chr(row['kind'] % 256)} {text(_moment(row['us']))}"
    return f"{shown} {row['worker_id']}" if row["worker_id"] else shown


def _moment(us: int) -> object:
    try:
        return from_us(us)
    except OverflowError:  # infinity, or a year that no calendar has
        return f"{us} µs"


def _versions(pair: Named) -> tuple[Named, Named]:
    """What a row should be and what it is, as its columns."""
    expected = {name.removeprefix("e_"): value for name, value in pair.items() if name.startswith("e_")}
    return _columns(pair["table"], expected), _columns(pair["table"], pair)


def _columns(table: str, row: Named) -> Named:
    """A row of the desk as columns of its table."""
    columns = {name: row[name] for name in ("platform_no", "order_id", "worker_id", "ordinal")}
    if table == "charge":
        rest = {"accepted_at": _moment(row["us"]), "city": row["city"], "amount": row["amount"]}
        return columns | rest | {"line": _letter(row["line"])}
    columns |= {"occurred_at": _moment(row["us"]), "kind": _letter(row["kind"]), "batch_id": _batch_id(row)}
    return columns | ({"slot": row["slot"]} if table == "event_key" else {"line": _letter(row["line"])})


def _letter(code: int | None) -> str | None:
    return None if code is None else chr(code % 256)


def _batch_id(row: Named) -> int | None:
    return None if row["place"] is None else from_place(row["place"])[0]


def _link(pair: Named, names: Names) -> tuple[str, str, str] | None:
    """Entry, expected link and found link of a charge that leads to another entry than it should."""
    expected = (_batch_id(pair | {"place": pair["e_place"]}), pair["e_key_no"]) if pair["charged"] else (None, None)
    found = _batch_id(pair), pair["key_no"]
    if expected == found and (expected != (None, None) or pair["entry_id"] is None):
        return None
    return f"entry {text(pair['entry_id'])}", names.link(*expected), names.link(*found)


# ---- conflicts and rejections


def judge_conflicts(
    desk: DuckDBPyConnection, connection: Connection, tariffs: Tariffs, unreadable: set[int]
) -> Iterator[Finding]:
    """Every event that contradicts the one that stands is recorded as a conflict, as it came."""
    expected = (_conflict(row, tariffs) for row in named_rows(run(desk.cursor(), "conflicts")))
    recorded = _recorded(connection, tables.conflict, ("batch_id", "ordinal"), unreadable)
    yield from _compared("conflict", expected, recorded, ("batch_id", "ordinal"))


def _conflict(row: Named, tariffs: Tariffs) -> Named:
    batch_id, ordinal = from_place(row["place"])
    event: Acceptance | Later
    if row["kind"] == ord("A"):
        facts = row["worker_id"], row["city"], LINES[chr(row["line"])], ordinal, tariffs.by_number[row["tariff_no"]]
        event = Acceptance(row["platform_no"], row["order_id"], row["us"], *facts)
        line = LINES[chr(row["standing_line"])]
        known = KnownAcceptance(row["standing_us"], row["standing_worker_id"], row["standing_city"], line)
        differs = acceptance_differs(known, event)
    else:
        kind, standing_kind = bytes([row["kind"]]), bytes([row["standing_kind"]])
        event = Later(*(row["platform_no"], row["order_id"], row["slot"]), row["us"], kind, row["worker_id"], ordinal)
        differs = later_differs(KnownLater(row["standing_us"], standing_kind, row["standing_worker_id"]), event)
    assert differs, "the query and sift agree on what contradicts"
    told = {"platform_no": row["platform_no"], "order_id": row["order_id"], "differs": list(differs)}
    return {"batch_id": batch_id, "ordinal": ordinal, **told, "event": record._facts(event)}


def judge_rejections(desk: DuckDBPyConnection, connection: Connection, unreadable: set[int]) -> Iterator[Finding]:
    """Every record that cannot be booked is kept, whole, with reason and place; no other is."""
    key = ("batch_id", "record_offset", "item")
    expected = named_rows(desk.cursor().execute(f"from rejection order by {', '.join(key)}"))
    yield from _compared(
        "rejected_record", expected, _recorded(connection, tables.rejected_record, key, unreadable), key
    )


def _recorded(connection: Connection, table: Table, key: tuple[str, ...], unreadable: set[int]) -> Iterator[Named]:
    """The rows of a table in order of their key, but for those whose segment cannot be read."""
    wanted = select(table).order_by(*(table.c[name] for name in key)).execution_options(yield_per=FETCH_ROWS)
    return (dict(row) for row in connection.execute(wanted).mappings() if row["batch_id"] not in unreadable)


def _compared(
    table: str, expected: Iterator[Named], recorded: Iterator[Named], key: tuple[str, ...]
) -> Iterator[Finding]:
    def of(row: Named) -> tuple[Any, ...]:
        return tuple(row[name] for name in key)

    for one, other in merged(expected, recorded, of, of):
        name = " ".join(f"{part} {value}" for part, value in zip(key, of(one or other or {}), strict=True))
        if other is None:
            yield missing(table, name, one)
        elif one is None:
            yield unfounded(table, name, other)
        else:
            yield from differences(table, name, one, other)


# ---- counts


def judge_counts(desk: DuckDBPyConnection, rows: list[BatchRow], replayed: Replayed) -> Iterator[Finding]:
    """What each batch row counts is what its segment yields."""
    answers: Counter[tuple[int, str]] = Counter()
    for batch_id, answer, count in run(desk, "count_answers").fetchall():
        answers[batch_id, answer] = count
    for row in rows:
        if row.batch_id in replayed.events:
            counted = {
                "events": replayed.events[row.batch_id],
                "duplicate": answers[row.batch_id, "duplicate"],
                "conflict": answers[row.batch_id, "conflict"],
                "rejected": replayed.rejected.get(row.batch_id, 0),
            }
            new = counted["events"] - counted["duplicate"] - counted["conflict"] - counted["rejected"]
            yield from check_counts(row, counted | {"new": new})
