"""What differs between the rights that a file grants and those that there are: pure."""

import pytest
from languages import speaks_both

from consumers.kafka.rights import Right, granted, missing, too_many
from ledger import yamlfile
from ledger.cli.acls import HOW_TO, RIGHTS_FILE
from ledger.errors import BadQuestion
from schemas.rights import RightsFile

TEXT = RIGHTS_FILE.read_text("utf-8")


def parse(text: str) -> RightsFile:
    return yamlfile.parse(text.encode(), "acls.yaml", RightsFile, HOW_TO)


def rights(platforms: str = "[a, b]") -> set[Right]:
    """What the file that comes with the product grants, for these platforms."""
    return granted(parse(TEXT.replace("platforms: []", f"platforms: {platforms}")))


def right(principal: str, name: str, may: str, match: str = "name", on: str = "topic") -> Right:
    return Right(f"User:{principal}", on, name, match, may)


def test_a_platform_may_do_three_things_and_all_with_what_is_its_own() -> None:
    assert {one for one in rights() if one.principal == "User:platform-a"} == {
        right("platform-a", "orders.v1.a", "write"),
        right("platform-a", "orders.rejected.v1.a", "read"),
        right("platform-a", "platform-a", "read", on="group"),
    }


def test_only_a_platform_itself_may_write_to_its_own_topic() -> None:
    def reaches(one: Right) -> bool:
        return one.name == "orders.v1.a" or (one.match == "prefix" and "orders.v1.a".startswith(one.name))

    writers = {one.principal for one in rights() if one.may == "write" and one.on == "topic" and reaches(one)}
    assert writers == {"User:platform-a"}


def test_no_platform_can_be_called_so_that_it_gets_the_ledgers_rights() -> None:
    plain = {one for one in rights("[]") if one.principal in ("User:danbao", "User:danbao-operator")}
    named = rights("[danbao, danbao-operator, operator]")
    assert {one for one in named if one.principal in ("User:danbao", "User:danbao-operator")} == plain


def test_rights_that_are_as_the_file_says_differ_in_nothing() -> None:
    assert missing(rights(), rights()) == []
    assert too_many(rights(), rights()) == []


def test_what_is_granted_and_not_there_is_missing() -> None:
    assert {one.principal for one in missing(rights("[a, b]"), rights("[a]"))} == {"User:platform-b"}


@pytest.mark.parametrize(
    "found",
    [
        right("danbao", "carts.v1", "read"),
        right("platform-gone", "platform-gone", "read", on="group"),
        right("*", "orders.v1.a", "write"),
        right("mallory", "orders.v1.a", "all"),
        right("mallory", "o", "write", "prefix"),
        right("mallory", "orders.v1.a.b", "write"),
        right("mallory", "orders.v1.ab", "write", "prefix"),
        right("mallory", "*", "read"),
        right("mallory", "danbao-orders", "read", on="group"),
        Right("User:platform-a", "topic", "orders.v1.a", "name", "write", "10.0.0.7"),
    ],
)
def test_what_somebody_may_do_with_ours_beyond_the_file_is_too_many(found: Right) -> None:
    assert too_many(rights(), rights() | {found}) == [found]


@pytest.mark.parametrize(
    "found",
    [
        right("shop", "carts.v1", "write"),
        right("shop", "order", "read"),
        right("shop", "orders", "all"),
        right("shop", "carts", "read", "prefix"),
        right("shop", "danbao-orders", "write"),
        right("shop", "orders.v1", "read", on="group"),
        right("shop", "kafka-cluster", "alter", on="cluster"),
    ],
)
def test_what_concerns_others_is_left_alone(found: Right) -> None:
    assert too_many(rights(), rights() | {found}) == []


@pytest.mark.parametrize(
    ("line", "other", "said"),
    [
        ('name: "orders.v1.{platform}"', "name: orders.v1", "would be every platform's"),
        ("platforms: []", "platforms: [Meituan]", "platforms.0"),
        ("may: [write]}", "may: [all]}", "may.0"),
        ("on: group, name: danbao", "on: cluster, name: danbao", "users.0.grants.4.on"),
    ],
)
def test_a_file_that_gives_too_much_or_makes_no_sense_is_refused(line: str, other: str, said: str) -> None:
    assert line in TEXT
    with pytest.raises(BadQuestion) as refused:
        parse(TEXT.replace(line, other, 1))
    assert said in refused.value.what.en
    if "every platform" in said:
        assert speaks_both(refused.value.what)


def test_what_a_platform_may_do_reaches_by_no_prefix() -> None:
    line = '{on: topic, name: "orders.v1.{platform}", may: [write]}'
    assert line in TEXT
    with pytest.raises(BadQuestion, match="match"):
        parse(TEXT.replace(line, line.replace("may:", "match: prefix, may:")))
