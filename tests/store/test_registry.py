"""The registry of platforms: registered once, added to, never changed; a fresh ledger knows the examples.

In: registrations. Out: rows, or BadQuestion that names what differs or is taken.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from psycopg import errors
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError
from support import Desk, accepted, owner, rows

from ledger.errors import BadQuestion
from ledger.examples import registrations
from ledger.store import connect, registry
from ledger.store.tables import platform
from schemas.codes import Line
from schemas.platforms import PlatformRegistration

CODE = "91310000MA1FL4Q87R"


@pytest.fixture
def registrar(ledger_url: str) -> Iterator[Engine]:
    """The ledger in the role of the registrar."""
    with connect.ledger(ledger_url, connect.REGISTRAR) as engine:
        yield engine


@pytest.fixture
def tx(registrar: Engine) -> Iterator[Connection]:
    """A transaction of the registrar."""
    with registrar.begin() as connection:
        yield connection


def kuaisong(**changes: Any) -> PlatformRegistration:
    """A platform that is no example."""
    plain: dict[str, Any] = {
        "platform_id": "kuaisong",
        "name": "Kuaisong",
        "name_zh": "快送",
        "aliases": ("ks",),
        "uscc": CODE,
        "lines": (Line.INSTANT_DELIVERY,),
        "provinces": {"31": date(2026, 7, 1)},
    }
    return PlatformRegistration(**plain | changes)


# ---- adding


def test_a_platform_is_registered_once(tx: Connection) -> None:
    assert registry.register(tx, kuaisong()) is True
    assert registry.register(tx, kuaisong()) is False
    row = registry.find(tx, "kuaisong")
    assert row[1:] == ("kuaisong", "Kuaisong", "快送", ["ks"], CODE, False)


def test_lines_and_provinces_are_added_to_a_platform(tx: Connection, ledger_url: str) -> None:
    registry.register(tx, kuaisong())
    wider = kuaisong(lines=(Line.INSTANT_DELIVERY, Line.RIDE_HAILING), provinces={"44": date(2026, 9, 1)})
    assert registry.register(tx, wider) is True
    assert registry.register(tx, wider) is False
    tx.commit()
    query = "select {} from platform_{} join platform using (platform_no) where not example order by 1"
    assert rows(ledger_url, query.format("line", "line")) == [("instant_delivery",), ("ride_hailing",)]
    assert rows(ledger_url, query.format("province, first_day", "province")) == [
        ("31", date(2026, 7, 1)),
        ("44", date(2026, 9, 1)),
    ]


# ---- refusing


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"uscc": "91310000MA1FL4Q88W"}, "91310000MA1FL4Q88W"),
        ({"name": "Quick"}, "Quick"),
        ({"name_zh": "快快送"}, "快快送"),
        ({"aliases": ("ks", "quick")}, "quick"),
        ({"provinces": {"31": date(2026, 8, 1)}}, "2026-07-01"),
    ],
    ids=["code", "name", "Chinese name", "alias", "first day"],
)
def test_what_stands_is_never_changed(tx: Connection, change: dict[str, Any], named: str) -> None:
    registry.register(tx, kuaisong())
    before = rows_of(tx)
    with pytest.raises(BadQuestion) as refused, tx.begin_nested():
        registry.register(tx, kuaisong(**change))
    assert named in refused.value.what.en
    assert "never changed" in refused.value.fix.en
    assert rows_of(tx) == before


def test_leaving_out_an_alias_that_stands_is_no_change(tx: Connection) -> None:
    registry.register(tx, kuaisong())
    assert registry.register(tx, kuaisong(aliases=())) is False


@pytest.mark.parametrize(
    "change",
    [
        {"platform_id": "other"},
        {"platform_id": "ks", "uscc": "91310000MA1FL4Q88W", "aliases": ()},
        {"platform_id": "other", "uscc": "91310000MA1FL4Q88W", "aliases": ("kuaisong",)},
        {"platform_id": "other", "uscc": "91310000MA1FL4Q88W", "aliases": ("ks",)},
    ],
    ids=["the code", "an alias as id", "an id as alias", "an alias"],
)
def test_what_another_platform_has_is_taken(tx: Connection, change: dict[str, Any]) -> None:
    registry.register(tx, kuaisong())
    with pytest.raises(BadQuestion) as refused:
        registry.register(tx, kuaisong(**change))
    assert "kuaisong" in refused.value.what.en
    assert "danbao platforms show kuaisong" in refused.value.fix.en


def test_two_registrars_at_once_take_turns(ledger_url: str, registrar: Engine) -> None:
    with registrar.connect() as first, registrar.connect() as second:
        registry.register(first, kuaisong())
        second.exec_driver_sql("set lock_timeout = '100ms'")
        with pytest.raises(Exception, match="lock timeout"):
            registry.register(second, kuaisong(platform_id="other", uscc="91310000MA1FL4Q88W"))
        second.rollback()
        first.commit()
        with pytest.raises(BadQuestion, match="kuaisong has that code or one of these names"):
            registry.register(second, kuaisong(platform_id="other", uscc="91310000MA1FL4Q88W"))


@pytest.mark.parametrize("platform_id", ["Kuaisong", "", "-x", "k/x", "x" * 33])
def test_the_database_refuses_an_id_that_no_url_could_hold(ledger_url: str, platform_id: str) -> None:
    insert = "insert into platform (platform_id, name, name_zh, uscc) values (%s, 'x', 'x', %s)"
    with owner(ledger_url) as connection, pytest.raises(errors.CheckViolation):
        connection.execute(insert, [platform_id, CODE])


def test_the_database_refuses_a_code_that_is_taken(tx: Connection) -> None:
    registry.register(tx, kuaisong())
    with pytest.raises(IntegrityError):
        tx.execute(platform.insert().values(platform_id="other", name="x", name_zh="x", uscc=CODE))


# ---- finding


@pytest.mark.parametrize("name", ["kuaisong", "ks", "Kuaisong", "快送", CODE])
def test_a_platform_is_found_by_any_of_its_names(tx: Connection, name: str) -> None:
    registry.register(tx, kuaisong())
    assert registry.find(tx, name).platform_id == "kuaisong"


def test_an_unknown_platform_is_a_bad_question_that_lists_the_known_ones(tx: Connection) -> None:
    with pytest.raises(BadQuestion) as refused:
        registry.find(tx, "nobody")
    assert "'nobody'" in refused.value.what.en
    assert "eleme" in refused.value.fix.en
    assert "danbao platforms add nobody" in refused.value.fix.en
    assert refused.value.exit_code == 2


def test_events_under_an_alias_are_the_platforms_own(tx: Connection, engine: Engine) -> None:
    registry.register(tx, kuaisong())
    tx.commit()
    desk = Desk(engine)
    assert desk.answers(accepted("A", platform="kuaisong")) == ["new"]
    assert desk.answers(accepted("A", platform="ks")) == ["duplicate"]
    assert desk.answers(accepted("A", platform="ks", worker="W2")) == ["conflict"]


# ---- a fresh ledger


def test_a_fresh_ledger_knows_the_example_platforms_and_marks_them(tx: Connection) -> None:
    found = registry.all_platforms(tx)
    assert [row.platform_id for row in found] == [item.platform_id for item in registrations()]
    assert all(row.example for row in found)
    assert {"example-delivery", "eleme", "sendy-channel-1", "doordash"} <= {row.platform_id for row in found}


def test_an_example_registered_again_stays_as_it_is(tx: Connection) -> None:
    for item in registrations():
        assert registry.register(tx, item) is False
    assert all(row.example for row in registry.all_platforms(tx))


def rows_of(tx: Connection) -> list[Any]:
    """All that is registered."""
    tables = ("platform", "platform_line", "platform_province")
    return [tx.exec_driver_sql(f"select * from {name} order by 1, 2").all() for name in tables]
