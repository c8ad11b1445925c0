"""`danbao audit findings`: what deserves a look, until it no longer does, and where to look further.

In: records that are rejected, sent again, mended. Out: what is counted, the exit code, the next command.
"""

import shlex

from command import Command
from support import Event, accepted, cancelled, completed, ndjson, reassigned

REGISTER = (
    "platforms add kuaisong --name Kuaisong --name-zh 快送 --uscc 91310000MA1FL4Q87R --line instant_delivery"
    " --province 31=2026-07-01"
)


def counts(danbao: Command, *more: str, exit_code: int = 1) -> dict[tuple[str, str], int]:
    found = danbao.plain("audit", "findings", *more, exit_code=exit_code)["findings"]
    return {(one["code"], one["particulars"]): one["count"] for one in found if one["code"] != "not_settled"}


def at_home(order: str) -> Event:
    """An order where its platform is registered."""
    return accepted(order, city="210200")


def test_the_same_rejected_bytes_count_once_however_often_they_come(danbao: Command) -> None:
    ndjson(danbao.here / "o.ndjson", at_home("A"), b"rubbish", accepted("B", city="310115"))
    danbao("ingest", "o.ndjson")
    danbao("ingest", "o.ndjson", "--again")
    ndjson(danbao.here / "more.ndjson", at_home("A"), b"rubbish", b"other rubbish")
    danbao("ingest", "more.ndjson")
    assert counts(danbao) == {("rejected", "malformed"): 2, ("rejected", "unknown_city"): 1}


def test_what_was_rejected_and_is_booked_since_no_longer_deserves_a_look(danbao: Command) -> None:
    events = [
        accepted("A", platform="kuaisong"),
        reassigned("A", "W2", platform="kuaisong"),
        completed("A", platform="kuaisong"),
        cancelled("B", platform="kuaisong"),
    ]
    ndjson(danbao.here / "o.ndjson", *events)
    ndjson(danbao.here / "place.ndjson", [accepted("C", city="310115"), accepted("D", city="310115"), at_home("E")])
    danbao("ingest", "o.ndjson", exit_code=1)
    danbao("ingest", "place.ndjson")
    assert counts(danbao) == {("rejected", "unknown_platform"): 4, ("rejected", "unknown_city"): 2}
    danbao(*shlex.split(REGISTER))
    ndjson(danbao.here / "mended.ndjson", *events[:3], at_home("C"))
    danbao("ingest", "mended.ndjson")
    assert counts(danbao) == {("rejected", "unknown_platform"): 1, ("rejected", "unknown_city"): 1}


def test_what_a_platform_sent_is_shown_as_it_is_and_steers_no_terminal(danbao: Command) -> None:
    ndjson(
        danbao.here / "o.ndjson", at_home("[bold]A"), accepted("[bold]A", "2026-10-05T12:00:00+08:00", city="210200")
    )
    danbao("ingest", "o.ndjson")
    assert "e.g. [bold]A" in danbao("audit", "findings", exit_code=1).stdout


def test_only_what_was_recorded_since_a_day_is_counted(danbao: Command) -> None:
    ndjson(
        danbao.here / "o.ndjson",
        *(accepted("A"), accepted("A", "2026-10-05T12:00:00+08:00"), completed("B"), b"rubbish"),
        accepted("C", city="650100"),
    )
    danbao("ingest", "o.ndjson")
    every = {"province_not_registered", "never_accepted", "conflict", "other_day", "rejected"}
    assert {code for code, _ in counts(danbao, "--since", "2022-07-01")} == every
    danbao("settle", "2026-10")
    assert counts(danbao, "--since", "2199-01-01", exit_code=0) == {}
    assert "Nothing deserves a look." in danbao("audit", "findings", "--since", "2199-01-01").stdout


def test_each_finding_names_the_command_that_shows_what_is_behind_it(danbao: Command) -> None:
    ndjson(
        danbao.here / "o.ndjson",
        *(accepted("A 1"), accepted("A 1", worker="W2"), completed("B"), b"rubbish", accepted("C", city="650100")),
        accepted("D", city="310115"),
    )
    danbao("ingest", "o.ndjson")
    found = {one["code"]: one["further"] for one in danbao.plain("audit", "findings", exit_code=1)["findings"]}
    assert found["conflict"] == "danbao explain 'A 1' --platform eleme"
    assert found["not_settled"] == "danbao settle 2026-10 --dry-run"
    shown = danbao("audit", "findings", exit_code=1).stdout
    for command in found.values():
        assert command in shown
        danbao(*shlex.split(command)[1:])
    rejected = [line for line in shown.splitlines() if line.strip().startswith("danbao rejects list")]
    assert sorted(line.strip() for line in rejected) == [
        "danbao rejects list --reason malformed",
        "danbao rejects list --reason unknown_city --platform eleme",
    ]
