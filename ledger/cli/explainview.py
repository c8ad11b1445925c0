"""All that leads to an order, as a chain to be read from the top.

In: the answer of `danbao explain` as plain values. Out: a tree on the terminal.
"""

from datetime import datetime
from typing import Any

from rich.text import Text
from rich.tree import Tree

from ledger.cli.common import err, out, say
from ledger.cli.eventview import (
    EVENTS,
    city_name,
    clock,
    event_text,
    line_name,
    premium_text,
    reason_text,
    version_text,
)
from ledger.cli.places import where_text
from ledger.journal import ACCOUNT_KINDS
from ledger.replay.findings import CODE_NAMES
from schemas.codes import PROVINCES, EventType
from schemas.rulebook import MARK_MEANINGS, Mark

POSTINGS_SHOWN_MAX = 12
HASH_CHARS_SHOWN = 16
_ONE_RECORD = ("topic", "partition", "offset", "raw")  # in which a record, or an item of one, is the same
CHANGES = {"charge": ("charged when completed", "完成时计费"), "reverse": ("reversed when cancelled", "取消时冲回")}


def show(answer: dict[str, Any]) -> None:
    """The chain as a tree: charge, rate, entry, settlement, events; then the raw records, to be copied as they are."""
    raws: list[dict[str, Any]] = []
    out.print(tree(answer, raws))
    _show_raws(raws)
    for finding in answer["findings"]:
        place = f"{finding['table']} · {finding['key']} · {finding['detail']}"
        told = say(
            f"expected {finding['expected']}, found {finding['found']}",
            f"应为 {finding['expected']}，实为 {finding['found']}",
        )
        name = f"{finding['code']} {say(*CODE_NAMES[finding['code']])}"
        out.print(Text(f"{say('finding', '审计发现')} {name}: {place}: {told}", style="bold red"))
    if answer["sound"]:
        sound = say("Books, rules and raw records agree on this order.", "该订单的账簿、规则与原始记录一致。")
        out.print(Text(sound, style="green"))


def _show_raws(raws: list[dict[str, Any]]) -> None:
    """Each record on a line of its own, however long."""
    if raws:
        out.print(_head(say("raw records", "原始记录")))
    for number, record in enumerate(raws, 1):
        out.print(Text(f"[{number}]", style="cyan"))
        out.print(Text(record["raw"]), soft_wrap=True)
        if record["cut_off"]:
            rest = say(f"… of {record['raw_bytes']:,} bytes", f"……共 {record['raw_bytes']:,} 字节")
            out.print(Text(rest, style="dim"))


def tree(answer: dict[str, Any], raws: list[dict[str, Any]]) -> Tree:
    """The chain, from the top. `raws`: takes the raw records, which the tree names by their number."""
    title = f"{say('order', '订单')} {answer['order']} · {answer['platform']}"
    root = Tree(Text(title, style="bold"), guide_style="dim")
    _add_charge(root, answer)
    events = root.add(_head(say("events", "事件")))
    for event in answer["events"]:
        node = events.add(_line(say(*EVENTS[EventType(event["type"])]), event_text(event)))
        _add_record(node, event["record"], raws)
    if answer["conflicts"]:
        conflicts = root.add(_head(say("conflicting versions, kept and not booked", "冲突版本（留存，未入账）")))
        for version in answer["conflicts"]:
            _add_record(conflicts.add(Text(version_text(version))), version["record"], raws)
    if answer["rejected"]:
        _add_rejected(root.add(_head(say("rejected records that mention it", "提及该订单的拒收记录"))), answer)
    evidence = root.add(_head(say("evidence", "证据")))
    for batch in answer["batches"]:
        _add_batch(evidence, batch)
    return root


def _head(text: str) -> Text:
    return Text(text, style="bold cyan")


def _line(label: str, text: str) -> Text:
    return Text(f"{label}  ", style="cyan") + Text(text, style="default")


def _add_charge(root: Tree, answer: dict[str, Any]) -> None:
    charge = answer["charge"]
    if charge is None:
        missing = say("never accepted, as far as recorded: nothing was charged", "没有接单记录，因此未计费")
        root.add(Text(missing, style="yellow"))
        return
    branch = root.add(_line(say("charge", "计费"), premium_text(answer["premium"])))
    accepted = clock(datetime.fromisoformat(charge["accepted_at"]))
    branch.add(
        Text(
            say(
                f"accepted {accepted} by worker {charge['worker']}",
                f"{accepted} 由人员 {charge['worker']} 接单",
            )
            + f" · {line_name(answer['line'])} · {city_name(answer['city'])}"
        )
    )
    if answer["rate"]:
        _add_rate(branch, answer["rate"])
    for change in answer["adjustments"]:
        text = f"{change['amount']} · {say(*CHANGES[change['kind']])} · {say('entry', '分录')} {change['entry']}"
        branch.add(_line(say("adjustment", "调整"), text))
    for entry in answer["entries"]:
        _add_entry(branch, entry)


def _add_rate(branch: Tree, rate: dict[str, Any]) -> None:
    formula = f"{rate['premium_base']} × {rate['float_factor']} = {rate['amount']}"
    since = rate["in_force_from"]
    text = say(f"{formula} yuan, in force from {since}", f"{formula} 元，{since} 起生效")
    node = branch.add(_line(say("rate", "费率"), text))
    sure = say(*MARK_MEANINGS[Mark(rate["mark"])])
    node.add(_line(say("source of the base", "基准额依据"), f"{rate['base_source']} ({rate['mark']}: {sure})"))
    node.add(_line(say("source of the factor", "系数依据"), rate["factor_source"]))
    node.add(_line(say("rulebook", "规则版本"), _short(rate["rulebook"])))


def _add_entry(branch: Tree, entry: dict[str, Any]) -> None:
    late = (
        ""
        if entry["month"] == entry["origin_month"]
        else say(f", an adjustment of {entry['origin_month']}", f"，为 {entry['origin_month']} 的调整")
    )
    recorded = clock(datetime.fromisoformat(entry["recorded_at"]))
    text = say(
        f"{entry['entry']}, month {entry['month']}{late}, {entry['order_count']:,} orders, recorded {recorded}",
        f"第 {entry['entry']} 号，{entry['month']}{late}，{entry['order_count']:,} 单，入账 {recorded}",
    )
    node = branch.add(_line(say("entry", "分录"), text))
    for posting in entry["postings"][:POSTINGS_SHOWN_MAX]:
        node.add(Text(_posting_text(posting)))
    if (rest := len(entry["postings"]) - POSTINGS_SHOWN_MAX) > 0:
        node.add(Text(say(f"… and {rest} more postings", f"……另有 {rest} 行"), style="dim"))
    node.add(_line(say("month", "月度结算"), _settlement_text(entry)))


def _posting_text(posting: dict[str, Any]) -> str:
    area = PROVINCES[posting["province"]]
    credit = posting["amount"].startswith("-")
    names = [say(*ACCOUNT_KINDS[posting["account"]]), say(area.name_en, area.name), posting["platform"]]
    side = say("credit", "贷") if credit else say("debit", "借")
    account = " · ".join(name for name in names if name)
    amount = posting["amount"].removeprefix("-")
    return f"{side}  {account}  {posting['occurred_on']}  " + say(f"{amount} yuan", f"{amount} 元")


def _settlement_text(entry: dict[str, Any]) -> str:
    settled = entry["settlement"]
    if settled is None:
        return say(f"{entry['month']} is not settled yet", f"{entry['month']} 尚未结算")
    sealed = clock(datetime.fromisoformat(settled["sealed_at"]))
    text = say(f"sealed {sealed}, due {settled['due_on']}", f"封存于 {sealed}，缴费截止 {settled['due_on']}")
    if line := settled["declaration"]:
        text += say(
            f"; declared line {line['declaration_no']}: {line['order_count']:,} orders, {line['declared']} yuan",
            f"；申报第 {line['declaration_no']} 行：{line['order_count']:,} 单，{line['declared']} 元",
        )
    return text


def _add_record(node: Tree, record: dict[str, Any] | None, raws: list[dict[str, Any]]) -> None:
    if record is None:
        gone = say("its raw record cannot be shown; see the evidence below", "无法显示原始记录，见下方证据")
        node.add(Text(gone, style="red"))
        return
    alike = [number for number, one in enumerate(raws) if all(one[name] == record[name] for name in _ONE_RECORD)]
    if not alike:
        raws.append(record)
    number = alike[0] + 1 if alike else len(raws)
    which = say(
        f", event {record['item'] + 1} of {record['items']}", f"，第 {record['item'] + 1}/{record['items']} 个事件"
    )
    text = f"[{number}] {where_text(record, record['offset'])}{which if record['items'] > 1 else ''}"
    branch = node.add(_line(say("record", "记录"), text))
    branch.add(_line(say("arrived", "到达"), clock(datetime.fromisoformat(record["arrived_at"]))))


def _add_rejected(node: Tree, answer: dict[str, Any]) -> None:
    for one in answer["rejected"]:
        node.add(Text(rejected_text(one), style="yellow"))


def rejected_text(one: dict[str, Any]) -> str:
    """A rejected record: where, and why."""
    return say(
        f"batch {one['batch_id']} offset {one['offset']}: {one['reason']} at {one['place']}: {one['detail']}",
        f"批次 {one['batch_id']} 偏移 {one['offset']}：{reason_text(one['reason'])}（{one['place']}：{one['detail']}）",
    )


def _add_batch(node: Tree, batch: dict[str, Any]) -> None:
    first, last = batch["first_offset"], batch["next_offset"] - 1
    text = say(
        f"{batch['topic']}[{batch['partition']}] offsets {first}–{last}, recorded {clock_of(batch)}",
        f"{batch['topic']}[{batch['partition']}] 偏移 {first}–{last}，入账 {clock_of(batch)}",
    )
    one = node.add(_line(f"{say('batch', '批次')} {batch['batch_id']}", text))
    good = batch["verified"]
    mark = say("verified", "已验证") if good else say("does not hold: see the findings", "不成立：见审计发现")
    style = "green" if good else "red"
    one.add(Text(f"SHA-256 {_short(batch['raw_sha256'])} · {mark}", style=style))
    one.add(_line(say("chain", "证据链"), f"{_short(batch['chain_before'])} → {_short(batch['chain_after'])}"))


def clock_of(batch: dict[str, Any]) -> str:
    """When a batch was recorded."""
    return clock(datetime.fromisoformat(batch["recorded_at"]))


def _short(digest: str) -> str:
    return digest[:HASH_CHARS_SHOWN] + "…"


def show_unheard(answer: dict[str, Any]) -> None:
    """That nothing is recorded, and what to try."""
    err.print(
        Text(
            say(
                f"{answer['platform']} has no order {answer['order']} on record.",
                f"{answer['platform']} 没有订单 {answer['order']} 的记录。",
            ),
            style="bold red",
        )
    )
    for one in answer["rejected"]:
        out.print(Text(say("rejected: ", "曾被拒收：") + rejected_text(one), style="yellow"))
    for platform in answer["elsewhere"]:
        text = f"danbao explain {answer['order']} --platform {platform}"
        out.print(Text(say("another platform has an order of that id: ", "另一平台有同号订单：") + text))
    if not answer["rejected"] and not answer["elsewhere"]:
        err.print(
            Text(
                say(
                    "No rejected record mentions it either. Check the id letter by letter, and whether the file"
                    " or the inbox that holds it was ingested.",
                    "拒收记录中也未提及。请逐字核对订单号，并确认含该订单的文件或收件表已经入账。",
                )
            )
        )
