"""From an order to its charge, rate, entry, settlement and raw bytes, and what is said when they do not agree.

In: events handed in at a desk, now and then a change made behind the ledger's back. Out: what `explain`
gathers, and the command's answer.
"""

import json
import re
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from sqlalchemy import Engine
from support import (
    ARRIVED,
    Desk,
    accepted,
    cancelled,
    completed,
    encode,
    owner,
    reassigned,
    rules,
    rules_where,
)
from typer.testing import CliRunner, Result

from consumers import loop, sources
from ledger import mapping
from ledger.cli import common
from ledger.cli import explain as command
from ledger.cli.explain import RAW_BYTES_MAX, readable
from ledger.store import connect, explain, registry, settle
from ledger.store.explain import Explanation, Unheard

OCTOBER = date(2026, 10, 1)
CSV_HEADER = "platform,worker_id,order_id,accepted_at,completed_at,cancelled,pick_lat,pick_lng,deliver_lat,deliver_lng"

app = typer.Typer()
app.command()(command.explain)


@pytest.fixture
def desk(engine: Engine) -> Desk:
    """Where events are handed in."""
    return Desk(engine)


@pytest.fixture
def ask(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`danbao explain` on this ledger, in English unless said otherwise."""
    monkeypatch.setenv("DANBAO_DATABASE_URL", ledger_url)

    def run(order: str, *more: str, platform: str = "eleme", language: str = "en") -> Result:
        monkeypatch.setenv("DANBAO_LANG", language)
        return CliRunner().invoke(app, ["--platform", platform, *more, "--", order])

    return run


def asked(engine: Engine, order: str, platform: str = "eleme") -> Explanation:
    with engine.connect() as connection:
        found = explain.explain(connection, registry.find(connection, platform), order)
    assert isinstance(found, Explanation)
    return found


def answer(result: Result) -> dict[str, Any]:
    """The one JSON object on stdout."""
    return json.loads(result.stdout)


def behind_its_back(url: str, statement: str) -> None:
    """Change facts as a superuser can."""
    with owner(url) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(statement)


# ---- the chain


def test_an_order_leads_to_its_charge_and_the_rate_with_its_sources(engine: Engine, desk: Desk):
    desk.hand_in([accepted("A"), completed("A"), accepted("B")])
    found = asked(engine, "A")
    assert found.charge.amount == found.premium.amount == 700
    assert found.rulebook_hash == rules().hash
    assert found.premium.base_source
    assert found.findings == []


def test_and_to_its_entry_with_postings_and_accounts(ask: Callable[..., Result], desk: Desk):
    desk.hand_in([accepted("A"), accepted("B"), accepted("C", "2026-10-04T09:00:00+08:00")])
    [entry] = answer(ask("A", "--json"))["entries"]
    assert (entry["month"], entry["order_count"], entry["premium_base"]) == ("2026-10", 3, "0.07")
    lines = [(line["account"], line["occurred_on"], line["platform"], line["amount"]) for line in entry["postings"]]
    assert lines == [
        ("premium_receivable", "2026-10-03", "eleme", "0.14"),
        ("premium_income", "2026-10-03", None, "-0.14"),
        ("premium_receivable", "2026-10-04", "eleme", "0.07"),
        ("premium_income", "2026-10-04", None, "-0.07"),
    ]
    assert entry["settlement"] is None


def test_and_to_the_settlement_of_the_month(ask: Callable[..., Result], desk: Desk, ledger_url: str):
    desk.hand_in([accepted("A"), accepted("B")])
    with connect.ledger(ledger_url, connect.SETTLE) as settler:
        settle.seal(settler, "31", OCTOBER, rules())
    desk.hand_in(accepted("late"))
    [entry] = answer(ask("A", "--json"))["entries"]
    assert entry["settlement"]["declaration"] == {
        "declaration_no": 1,
        "order_count": 2,
        "amount": "0.14",
        "declared": "0.14",
        "rounding_entry": None,
    }
    [late] = answer(ask("late", "--json"))["entries"]
    assert (late["month"], late["origin_month"], late["settlement"]) == ("2026-11", "2026-10", None)
    assert "an adjustment of 2026-10" in ask("late").stdout


@pytest.mark.parametrize(
    ("charging", "on_cancellation", "ending", "entries", "kinds", "premium"),
    [
        ("completed", "keep", completed, 1, ["charge"], "0.07"),
        ("completed", "keep", cancelled, 0, [], None),
        ("accepted", "reverse", cancelled, 2, ["reverse"], "0.00"),
    ],
)
def test_what_a_later_event_did_to_the_charge_is_told(
    engine: Engine,
    ask: Callable[..., Result],
    charging: str,
    on_cancellation: str,
    ending: Callable[[str], dict[str, Any]],
    entries: int,
    kinds: list[str],
    premium: str | None,
):
    desk = Desk(engine, book=rules_where(charging, on_cancellation))
    desk.hand_in(accepted("A"))
    desk.hand_in(ending("A"))
    found = answer(ask("A", "--json"))
    assert found["sound"]
    assert [change["kind"] for change in found["adjustments"]] == kinds
    assert (len(found["entries"]), found["premium"]) == (entries, premium)


def test_a_charge_by_completion_leads_to_the_rate_of_the_acceptance_whatever_the_rules_are_now(
    engine: Engine, ask: Callable[..., Result]
):
    Desk(engine, book=rules_where("completed", "keep", "0.25")).hand_in(accepted("A"))
    Desk(engine).hand_in(completed("A"))
    found = answer(ask("A", "--json"))
    assert found["sound"]
    assert (found["premium"], found["rate"]["amount"]) == ("0.25", "0.25")
    assert [(change["kind"], change["amount"]) for change in found["adjustments"]] == [("charge", "0.25")]


def test_each_event_leads_to_the_bytes_that_were_sent(ask: Callable[..., Result], desk: Desk):
    first, second, third = accepted("A"), reassigned("A", "W2"), completed("A")
    desk.hand_in(accepted("X"), [accepted("Y"), first, {"bad": 1}, second])
    desk.hand_in(third)
    events = answer(ask("A", "--json"))["events"]
    assert [event["record"]["raw"] for event in events] == [encode(one).decode() for one in (first, second, third)]
    places = [
        (e["batch"] - events[0]["batch"], e["ordinal"], e["record"]["offset"], e["record"]["item"]) for e in events
    ]
    assert places == [(0, 2, 1, 1), (0, 4, 1, 3), (1, 0, 2, 0)]
    assert [event["record"]["items"] for event in events] == [4, 4, 1]
    assert all(datetime.fromisoformat(event["record"]["arrived_at"]) == ARRIVED for event in events)


def test_a_line_of_a_mapped_file_is_found_again_with_its_mapping_and_shift(
    engine: Engine, ask: Callable[..., Result], tmp_path: Path
):
    line = "eleme,W1,88,2020-02-01 11:00:00+08:00,2020-02-01 11:30:00+08:00,False,39.1,121.6,39.1,121.6"
    other = line.replace(",88,", ",87,")
    path = tmp_path / "orders.csv"
    path.write_text(f"{CSV_HEADER}\n{other}\n{line}\n")
    eleme = mapping.load("eleme")
    source = sources.open_file(path, eleme, date(2026, 2, 1), ARRIVED)
    sources.keep(engine, source, eleme)
    loop.run(loop.Booker(engine, rules()), source, loop.Totals())
    found = answer(ask("88", "--json"))
    assert found["sound"]
    assert [event["record"]["raw"] for event in found["events"]] == [line, line]
    assert [(event["record"]["item"], event["record"]["items"]) for event in found["events"]] == [(0, 2), (1, 2)]
    assert {(event["record"]["file"], event["record"]["line"]) for event in found["events"]} == {("orders.csv", 3)}
    shown = ask("88").stdout
    assert "orders.csv line 3, event 2 of 2" in shown
    assert shown.count(f"\n{line}\n") == 1, "the row stands there once, to be copied"


def test_conflicting_versions_are_shown_with_their_own_bytes(ask: Callable[..., Result], desk: Desk):
    second = accepted("A", "2026-10-05T12:00:00+08:00", worker="W9")
    desk.hand_in(accepted("A"), completed("A"))
    desk.hand_in(second)
    found = answer(ask("A", "--json"))
    [version] = found["conflicts"]
    assert (version["differs"], version["event"]["worker_id"]) == (["time", "worker"], "W9")
    assert version["record"]["raw"] == encode(second).decode()
    assert "differs in time, worker" in ask("A").stdout


def test_an_order_whose_acceptance_never_came_is_explained_without_a_charge(ask: Callable[..., Result], desk: Desk):
    desk.hand_in(completed("A"))
    result = ask("A", "--json")
    assert result.exit_code == 0
    assert (answer(result)["charge"], answer(result)["rate"], answer(result)["premium"]) == (None, None, None)
    assert "never accepted" in ask("A").stdout


def test_a_rejected_record_that_mentions_an_unfinished_order_is_named(ask: Callable[..., Result], desk: Desk):
    desk.hand_in(accepted("8801"), completed("8801", "2029-01-01T00:00:00+08:00"))
    [rejected] = answer(ask("8801", "--json"))["rejected"]
    assert rejected["reason"] == "in_future"


# ---- for a person


def test_the_tree_reads_from_the_charge_down_to_the_evidence_in_both_languages(ask: Callable[..., Result], desk: Desk):
    desk.hand_in([accepted("A"), completed("A")])
    for language, words in (
        ("en", ["charge", "rate", "entry", "debit", "not settled yet", "events", "evidence", "verified"]),
        ("zh", ["计费", "费率", "分录", "借", "尚未结算", "事件", "证据", "已验证"]),
    ):
        shown = ask("A", language=language).stdout
        places = [shown.index(word) for word in words]
        assert places == sorted(places)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_on_a_narrow_screen_times_and_raw_records_are_not_broken(
    ask: Callable[..., Result], desk: Desk, monkeypatch: pytest.MonkeyPatch, language: str
):
    first = accepted("A", "2026-10-03T12:00:00.125+08:00", worker="the-worker-with-the-longest-number-of-all")
    desk.hand_in(first, completed("A"), accepted("A", worker="W9"))
    monkeypatch.setattr(common.out, "width", 80)
    shown = ask("A", language=language).stdout.splitlines()
    assert encode(first).decode() in shown
    tree = shown[: shown.index({"en": "raw records", "zh": "原始记录"}[language])]
    assert max(map(cell_len, tree)) <= 80
    assert re.findall(r"\d{4}-\d\d-\d\d\s*\n[│ ]*\d\d:\d\d", "\n".join(tree)) == []


def test_no_byte_of_a_record_can_steer_the_terminal(engine: Engine, ask: Callable[..., Result]):
    hostile = b'{"x": "\xff\x1b[2J\\u001b[31m\xe2\x80\xae\xc2\x9b"}'
    assert readable(hostile) == '{"x": "\\xff\\x1b[2J\\u001b[31m\\u202e\\x9b"}'
    assert readable("接单\n".encode("gb18030"), "gb18030") == "接单\\n"
    Desk(engine).hand_in(accepted("[link=x]A[/]", worker="[red]W"))
    shown = ask("[link=x]A[/]").stdout
    assert "order [link=x]A[/]" in shown
    assert "[red]W" in shown


def test_a_long_record_is_cut_off_and_says_so(ask: Callable[..., Result], desk: Desk):
    padded = encode(accepted("A")).replace(b"{", b"{" + b" " * 5000, 1)
    desk.hand_in(padded)
    [event] = answer(ask("A", "--json"))["events"]
    assert event["record"]["cut_off"]
    assert len(event["record"]["raw"]) == RAW_BYTES_MAX
    assert f"… of {len(padded):,} bytes" in ask("A").stdout


# ---- what is not there


def test_an_unknown_order_is_answered_with_1_and_what_to_try(ask: Callable[..., Result], desk: Desk):
    desk.hand_in(accepted("A"))
    result = ask("B")
    assert result.exit_code == 1
    assert "has no order B on record" in result.stderr
    assert "Check the id" in result.stderr
    assert answer(ask("B", "--json")) == {
        "platform": "eleme",
        "order": "B",
        "found": False,
        "sound": False,
        "rejected": [],
        "elsewhere": [],
    }


def test_an_order_that_was_rejected_is_answered_with_the_reason(ask: Callable[..., Result], desk: Desk):
    desk.hand_in(accepted("8801", city="999999"), accepted("8802", platform="nobody"))
    result = ask("8801")
    assert result.exit_code == 1
    assert "unknown_city" in result.stdout
    assert "unknown_platform" in ask("8802").stdout


def test_an_order_of_another_platform_is_answered_with_the_command_to_try(ask: Callable[..., Result], desk: Desk):
    desk.hand_in(accepted("A", platform="example-delivery"))
    result = ask("A")
    assert result.exit_code == 1
    assert "danbao explain A --platform example-delivery" in result.stdout


@pytest.mark.parametrize("order", ["", "A" * 65, "A\x1b"])
def test_what_can_be_no_order_id_is_a_bad_question(ask: Callable[..., Result], order: str):
    assert ask(order).exit_code == 2


def test_an_unknown_platform_is_a_bad_question(ask: Callable[..., Result]):
    assert ask("A", platform="nobody").exit_code == 2


def test_what_is_recorded_nowhere_is_unheard(engine: Engine):
    with engine.connect() as connection:
        assert isinstance(explain.explain(connection, registry.find(connection, "eleme"), "A"), Unheard)


# ---- what does not agree


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("update charge set amount = 701", ("charge", "amount")),
        ("update charge set worker_id = 'W9'", ("charge", "worker_id")),
        ("update charge set city = 110100", ("charge", "city")),
        ("update charge set accepted_at = accepted_at + interval '1 minute'", ("charge", "occurred_at")),
        ("update event_key set occurred_at = occurred_at + interval '1 minute'", ("event_key", "occurred_at")),
        ("update event_key set kind = 'X'", ("event_key", "type")),
        ("update entry set premium_base = 701", ("entry", "premium_base")),
        ("update segment set payload = payload || 'x'::bytea", ("segment", "payload")),
        ("update batch set raw_sha256 = chain_after", ("batch", "chain_after")),
        ("update batch set topic = 'other'", ("batch", "chain_after")),
    ],
)
def test_a_change_behind_the_ledgers_back_is_named(
    ask: Callable[..., Result], desk: Desk, ledger_url: str, statement: str, found: tuple[str, str]
):
    desk.hand_in([accepted("A"), completed("A")])
    behind_its_back(ledger_url, statement)
    result = ask("A", "--json")
    assert result.exit_code == 1
    assert found in {(finding["table"], finding["detail"]) for finding in answer(result)["findings"]}
    shown = ask("A")
    assert shown.exit_code == 1
    assert "finding" in shown.stdout
