"""danbao explain: from an order to its charge, rate and source, entry, settlement, and the raw bytes behind it.

Raw records are given as text in which nothing can steer a terminal.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.calendar import from_us
from ledger.cli import common
from ledger.cli.common import say
from ledger.cli.eventview import local_time, plain_event, plain_version
from ledger.cli.places import where
from ledger.errors import BadQuestion
from ledger.money import HAO_PER_FEN, yuan
from schemas.both import Both
from schemas.orders import TEXT_CHARS_MAX

if TYPE_CHECKING:
    from ledger.locate import Evidence
    from ledger.store.explain import Booked, Explanation, Unheard
    from ledger.windows import OtherVersion, RecordedEvent

RAW_BYTES_MAX = 4 * 1024


@common.command("追溯一笔订单，从计费明细直到原始记录。\n\n退出码 1：无此订单，或证据不成立。")
def explain(
    order: Annotated[str, typer.Argument(help=say("The platform's order id.", "平台的订单号。"))],
    platform: Annotated[
        str, typer.Option(help=say("Platform: id, alias, name or code.", "平台：标识、别名、名称或代码。"))
    ],
    as_json: common.AsJson = False,
) -> None:
    """Explain an order, from its charge down to the raw record. Exit 1: unknown, or the evidence does not hold.

    Example: danbao explain 2026100312000017 --platform example-delivery
    """
    from ledger.cli import explainview
    from ledger.store import connect, registry
    from ledger.store import explain as store

    if not (1 <= len(order) <= TEXT_CHARS_MAX and order.isprintable()):
        raise BadQuestion(
            Both("That is no order id.", "订单号无效。"),
            Both(f"It has 1 to {TEXT_CHARS_MAX} printable characters.", f"应为 1 至 {TEXT_CHARS_MAX} 个可见字符。"),
        )
    with common.database(connect.AUDIT) as engine, engine.connect() as connection:
        row = registry.find(connection, platform)
        found = store.explain(connection, row, order)
        names = {one.platform_no: one.platform_id for one in registry.all_platforms(connection)}
    if isinstance(found, store.Unheard):
        answer = plain_unheard(found, order)
        view = explainview.show_unheard
    else:
        answer = plain(found, names)
        view = explainview.show
    if as_json:
        common.print_json(answer)
    else:
        view(answer)
    if not answer["sound"]:
        raise typer.Exit(1)


# ---- plain values


def plain(found: "Explanation", platforms: dict[int, str]) -> dict[str, Any]:
    """The whole chain for machines; times local, money yuan as text."""
    order = found.order
    return {
        "platform": found.platform.platform_id,
        "order": order.order_id,
        "found": True,
        "sound": not found.findings,
        "line": order.line and str(order.line),
        "city": order.city,
        "premium": None if order.premium is None else yuan(order.premium),
        "charge": _charge(found),
        "rate": _rate(found),
        "adjustments": [
            {"kind": change.kind, "amount": yuan(change.amount), "entry": change.entry_id} for change in found.changes
        ],
        "entries": [_entry(booked, platforms) for booked in found.entries.values()],
        "events": [plain_event(event) | {"record": _record(found, event)} for event in order.events],
        "conflicts": [plain_version(version) | {"record": _record(found, version)} for version in order.conflicts],
        "batches": [_batch(one) for one in found.evidence.values()],
        "rejected": [one._asdict() for one in found.rejected],
        "findings": [finding._asdict() for finding in found.findings],
    }


def plain_unheard(found: "Unheard", order_id: str) -> dict[str, Any]:
    """That nothing is recorded, and where else the id turns up."""
    return {
        "platform": found.platform.platform_id,
        "order": order_id,
        "found": False,
        "sound": False,
        "rejected": [one._asdict() for one in found.rejected],
        "elsewhere": found.elsewhere,
    }


def _charge(found: "Explanation") -> dict[str, Any] | None:
    if found.charge is None:
        return None
    return {
        "accepted_at": local_time(found.charge.accepted_at),
        "worker": found.charge.worker_id,
        "amount": yuan(found.charge.amount),
        "entry": found.charge.entry_id,
    }


def _rate(found: "Explanation") -> dict[str, Any] | None:
    premium, rulebook_hash = found.premium, found.rulebook_hash
    if premium is None or rulebook_hash is None:
        return None
    return {
        "premium_base": yuan(premium.premium_base),
        "float_factor": f"{premium.float_factor.normalize():f}",
        "amount": yuan(premium.amount),
        "base_source": premium.base_source,
        "factor_source": premium.factor_source,
        "mark": str(premium.mark),
        "in_force_from": premium.in_force_from.isoformat(),
        "rulebook": rulebook_hash.hex(),
    }


def _entry(booked: "Booked", platforms: dict[int, str]) -> dict[str, Any]:
    row = booked.entry
    return {
        "entry": row.entry_id,
        "kind": row.kind,
        "batch": row.batch_id,
        "province": row.province,
        "line": row.line,
        "month": f"{row.month:%Y-%m}",
        "origin_month": f"{row.origin_month:%Y-%m}",
        "premium_base": yuan(row.premium_base),
        "float_factor": f"{row.float_factor.normalize():f}",
        "order_count": row.order_count,
        "recorded_at": local_time(row.recorded_at),
        "rulebook": bytes(row.rulebook_hash).hex(),
        "postings": [
            {
                "account": line.kind,
                "province": line.province,
                "platform": None if line.platform_no is None else platforms[line.platform_no],
                "occurred_on": line.occurred_on.isoformat(),
                "order_count": line.order_count,
                "amount": yuan(line.amount),
            }
            for line in booked.postings
        ],
        "settlement": _settlement(booked),
    }


def _settlement(booked: "Booked") -> dict[str, Any] | None:
    sealed, declared = booked.settlement, booked.declaration
    if sealed is None:
        return None
    return {
        "sealed_at": local_time(sealed.sealed_at),
        "declared": yuan(sealed.declared_fen * HAO_PER_FEN),
        "due_on": sealed.due_on.isoformat(),
        "declaration": declared
        and {
            "declaration_no": declared.declaration_no,
            "order_count": declared.order_count,
            "amount": yuan(declared.amount),
            "declared": yuan(declared.declared_fen * HAO_PER_FEN),
            "rounding_entry": declared.entry_id,
        },
    }


def _record(found: "Explanation", fact: "RecordedEvent | OtherVersion") -> dict[str, Any] | None:
    """The raw record behind an event; None where its segment cannot be read."""
    evidence = found.evidence.get(fact.batch_id)
    located = evidence.located.get(fact.ordinal) if evidence else None
    if evidence is None or located is None:
        return None
    origin = found.origins[fact.batch_id]
    return {
        **where(evidence.batch.topic, evidence.batch.partition, located.offset, origin.file, origin.header),
        "offset": located.offset,
        "arrived_at": local_time(from_us(located.arrived_us)),
        "item": located.item,
        "items": located.items,
        "record_bytes": located.record_bytes,
        "raw": readable(located.raw[:RAW_BYTES_MAX], origin.encoding),
        "raw_bytes": len(located.raw),
        "cut_off": len(located.raw) > RAW_BYTES_MAX,
    }


def _batch(evidence: "Evidence") -> dict[str, Any]:
    row = evidence.batch._asdict()
    shown = {name: bytes(value).hex() if isinstance(value, bytes) else value for name, value in row.items()}
    return shown | {"recorded_at": local_time(evidence.batch.recorded_at), "verified": not evidence.findings}


def readable(raw: bytes, encoding: str = "utf-8") -> str:
    """Bytes as text: what is not text, or not visible, stands there as an escape."""
    written = raw.decode(encoding, "backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in written
    )
