"""The published contracts: current, valid, and saying what the code holds to: no more and no less."""

import io
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError as Mismatch
from jsonschema.validators import extend
from pydantic import TypeAdapter, ValidationError

from consumers.kafka import rejected
from consumers.loop import Outcome
from consumers.orders import own_topics
from ledger.cli import ingest
from ledger.evidence import GENESIS, Record
from ledger.identity import SIGNATURE_BYTES, Registered
from ledger.intake import Intake, Reader, sources
from ledger.rating import Rating
from ledger.rulebook import load
from ledger.store.heads import Head
from ledger.store.rejections import Rejected
from schemas import orders
from schemas.codes import CITIES, PROVINCES, Answer, Reason
from schemas.mapping import MappingFile
from schemas.platforms import PlatformFile, PlatformRegistration
from schemas.publish import (
    ANSWER_MEANINGS,
    DIRECTORY,
    EXAMPLE_ANSWER,
    EXAMPLE_REJECTED,
    EXAMPLE_REJECTED_HEADERS,
    EXAMPLES,
    documents,
)
from schemas.rulebook import RuleFile

CASES = Path(__file__).parents[1] / "cases"
DOCUMENTS = {name: json.loads(text) for name, text in documents().items()}
SCHEMAS = {name.removesuffix(".schema.json"): made for name, made in DOCUMENTS.items() if "asyncapi" not in name}


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Mismatch]:
    """JSON Schema's patterns are ECMA 262's, where `$` is the very end; Python's also lets a line end pass."""
    if validator.is_type(instance, "string") and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield Mismatch(f"{instance!r} does not match {pattern!r}")


Validator = extend(Draft202012Validator, {"pattern": _pattern})
VALIDATORS = {name: Validator(schema) for name, schema in SCHEMAS.items()}
ASYNCAPI = DOCUMENTS["orders.asyncapi.json"]
RECORD = VALIDATORS["order-record"]
READER = Reader(sources([(Registered(1, "example-delivery"), [])]), Rating(load()))
ARRIVED_US = 1_800_000_000_000_000  # 2027, after every example

Wrong = tuple[str, dict[str, Any]]


def accepted(**changes: Any) -> dict[str, Any]:
    """The first example, changed; None takes a field away; `data` is merged in."""
    made = deepcopy(EXAMPLES[0])
    made["data"] |= changes.pop("data", {})
    made |= changes
    made["data"] = {name: value for name, value in made["data"].items() if value is not None}
    return {name: value for name, value in made.items() if value is not None}


def code_takes(record: Any) -> bool:
    """Whether the shapes of the code take it."""
    shape = orders.event_list if isinstance(record, list) else orders.one_event
    try:
        shape.validate_json(json.dumps(record))
    except ValidationError:
        return False
    return True


def booked(record: Any) -> Intake:
    """What intake, which also knows platforms, cities and times, makes of it."""
    return READER.read([Record(0, ARRIVED_US, json.dumps(record).encode())])


def refs(value: Any) -> list[str]:
    """Every $ref in a document."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in refs(inner)]
    return [found for inner in value for found in refs(inner)] if isinstance(value, list) else []


def resolve(document: Any, ref: str) -> Any:
    """What a local reference leads to; KeyError where it leads nowhere."""
    assert ref.startswith("#/")
    for part in ref[2:].split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every schema of an object in a document."""
    if isinstance(schema, dict):
        own = [schema] if schema.get("type") == "object" else []
        return own + [found for inner in schema.values() for found in objects(inner)]
    return [found for inner in schema for found in objects(inner)] if isinstance(schema, list) else []


# Current and valid


def test_the_published_files_are_the_ones_that_the_code_would_write():
    assert {file.name for file in DIRECTORY.iterdir()} == documents().keys()
    for name, text in documents().items():
        stale = f"{name} is not current: run `make published` and commit it"
        assert (DIRECTORY / name).read_bytes() == text.encode(), stale


def test_a_published_file_is_sorted_and_ends_with_a_newline():
    for text in documents().values():
        assert text.endswith("}\n")
        assert "\r" not in text
        assert list(json.loads(text)) == sorted(json.loads(text))


def test_a_published_file_holds_no_character_that_is_not_seen():
    for text in documents().values():
        assert not orders.UNSEEN.search(text.replace("\n", ""))
        text.encode()  # and no lone surrogate


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_valid_json_schema_of_2020_12(name: str):
    assert SCHEMAS[name]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMAS[name])
    for ref in refs(SCHEMAS[name]):
        resolve(SCHEMAS[name], ref)


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_object_takes_fields_that_it_does_not_name(name: str):
    for schema in objects(SCHEMAS[name]):
        assert schema["additionalProperties"] is False or "properties" not in schema


# Order events


def test_examples_hold_for_the_schema_the_code_and_the_books():
    for example in (*EXAMPLES, list(EXAMPLES[:3])):
        RECORD.validate(example)
        assert code_takes(example)
        assert booked(example).rejections == []
    assert SCHEMAS["order-record"]["examples"] == [*EXAMPLES, list(EXAMPLES[:3])]


GOOD: list[Any] = [
    accepted(subject="单" * 64),
    accepted(subject="𠮷", id="骑手 42"),
    accepted(datacontenttype="application/json"),
    accepted(data={"pay": None, "position": None}),
    accepted(data={"pay": "999999.9999", "position": {"lat": -90, "lng": 180}}),
    accepted(time="2022-07-01T00:00:00.000001+08:00"),
    [accepted()] * 3,
]


@pytest.mark.parametrize("record", GOOD, ids=range(len(GOOD)))
def test_what_the_schema_takes_the_code_takes(record: Any):
    RECORD.validate(record)
    assert code_takes(record)
    assert booked(record).rejections == []


WRONG: list[Any] = [
    None,
    17,
    "order",
    {},
    [],
    [{}],
    [[accepted()]],
    [accepted(), accepted(type="order.lost")],
    accepted(specversion="0.3"),
    accepted(specversion=1.0),
    accepted(id=None),
    accepted(id=""),
    accepted(id="x" * 65),
    accepted(id=17),
    accepted(subject=None),
    accepted(subject="单" * 65),
    accepted(source=None),
    accepted(source="example"),
    accepted(source="/platforms/" + "x" * 33),
    accepted(type=None),
    accepted(type="order.paid"),
    accepted(type="ORDER.ACCEPTED"),
    accepted(type="order.completed"),
    accepted(type="order.reassigned"),
    accepted(type="order.cancelled"),
    accepted(time=None),
    accepted(time=1790000000),
    accepted(time="1790000000"),
    accepted(time="2026-10-03"),
    accepted(time="2026-10-03T12:10:00"),
    accepted(time="2026-10-03 12:10:00+08:00"),
    accepted(time="2026-10-03T24:00:00+08:00"),
    accepted(time="2026-10-03T12:10:60+08:00"),
    accepted(time="2026-10-03T12:10:00+08:60"),
    accepted(time="2026-10-03T12:10:00.1234567+08:00"),
    accepted(time="2026-13-03T12:10:00+08:00"),
    accepted(time="1999-10-03T12:10:00+08:00"),
    accepted(datacontenttype="text/plain"),
    accepted(traceparent="00"),
    accepted(data={"worker_id": None}),
    accepted(data={"worker_id": ""}),
    accepted(data={"worker_id": "w" * 65}),
    accepted(data={"line": None}),
    accepted(data={"line": "rockets"}),
    accepted(data={"accepted_city": None}),
    accepted(data={"accepted_city": 310100}),
    accepted(data={"accepted_city": "31010"}),
    accepted(data={"pay": 6.5}),
    accepted(data={"pay": "-6.50"}),
    accepted(data={"pay": "6.50001"}),
    accepted(data={"pay": "1234567"}),
    accepted(data={"pay": "٣"}),
    accepted(data={"position": {"lat": 90.1, "lng": 0}}),
    accepted(data={"position": {"lat": 0, "lng": -180.5}}),
    accepted(data={"position": {"lat": "31", "lng": 121}}),
    accepted(data={"position": {"lat": 31}}),
    accepted(data={"position": {"lat": 31, "lng": 121, "alt": 4}}),
    accepted(data={"note": "x"}),
]


@pytest.mark.parametrize("record", WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_refused_by_the_schema_and_by_the_code(record: Any):
    assert not RECORD.is_valid(record)
    assert not code_takes(record)


REFUSED_BY_INTAKE: list[tuple[dict[str, Any], Reason]] = [
    (accepted(source="/Platforms/example-delivery"), Reason.UNKNOWN_PLATFORM),
    (accepted(source="/platforms/Example"), Reason.UNKNOWN_PLATFORM),
    (accepted(data={"accepted_city": "310000"}), Reason.UNKNOWN_CITY),
    (accepted(data={"accepted_city": "abcdef"}), Reason.UNKNOWN_CITY),
    (accepted(subject="a\0b"), Reason.INVALID),
    (accepted(subject="a\u200bb"), Reason.INVALID),
    (accepted(id="\U000e0041"), Reason.INVALID),
    (accepted(data={"worker_id": "w\u3000"}), Reason.INVALID),
]


@pytest.mark.parametrize(("record", "reason"), REFUSED_BY_INTAKE)
def test_what_only_intake_can_tell_is_in_the_schema_too_where_a_schema_can_say_it(
    record: dict[str, Any], reason: Reason
):
    assert not RECORD.is_valid(record)
    assert [rejection.reason for rejection in booked(record).rejections] == [reason]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.sampled_from(["id", "subject"]))
def test_a_text_holds_for_the_schema_exactly_when_it_holds_for_intake(text: str, field: str):
    record = accepted(**{field: text})
    assert RECORD.is_valid(record) == (booked(record).rejections == [])


PLACES = ("specversion", "id", "source", "type", "subject", "time", "data", "datacontenttype")
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.lists(st.none(), max_size=1), st.just({})
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(EXAMPLES), st.dictionaries(st.sampled_from(PLACES), VALUES, min_size=1, max_size=2))
def test_any_misshapen_event_is_judged_alike_by_schema_and_code(example: dict[str, Any], changes: dict[str, Any]):
    record = example | changes
    assert RECORD.is_valid(record) == (booked(record).rejections == [])


def test_the_limits_in_words_are_the_limits_in_the_code():
    words = SCHEMAS["order-record"]["description"]
    assert f"at most {orders.RECORD_BYTES_MAX} bytes" in words
    assert f"not more than {orders.EVENT_MINUTES_AHEAD_MAX} minutes after" in words
    listed = SCHEMAS["order-record"]["oneOf"][1]
    assert (listed["minItems"], listed["maxItems"]) == (1, orders.EVENTS_PER_RECORD_MAX)
    assert code_takes([accepted()] * listed["maxItems"])
    assert not code_takes([accepted()] * (listed["maxItems"] + 1))
    city = SCHEMAS["order-record"]["$defs"]["AcceptedData"]["properties"]["accepted_city"]
    assert city["enum"] == sorted(CITIES)


# Files


def yaml_of(text: str) -> Any:
    """A YAML file as our readers take it: every scalar but a whole number is text."""
    plain = yaml.load(text, yaml.BaseLoader)
    return whole_numbers(plain)


def whole_numbers(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: whole_numbers(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole_numbers(inner) for inner in value]
    return int(value) if name in ("hours", "due_day") and value.isdigit() else value


def packaged(folder: str) -> list[Any]:
    found = [file for file in files("ledger").joinpath(folder).iterdir() if file.name.endswith(".yaml")]
    assert found
    return [yaml_of(file.read_text("utf-8")) for file in found]


def test_packaged_rule_files_hold_for_their_schema():
    for rules in packaged("rules"):
        VALIDATORS["rule-file"].validate(rules)


def test_bundled_mappings_hold_for_their_schema():
    for mapping in packaged("mappings"):
        VALIDATORS["mapping-file"].validate(mapping)


def test_example_platforms_hold_for_their_schema():
    text = files("ledger").joinpath("example_platforms.yaml").read_text("utf-8")
    for registration in PlatformFile.model_validate(yaml_of(text)).platforms:
        VALIDATORS["platform-registration"].validate(json.loads(registration.model_dump_json()))
    for registration in yaml_of(text)["platforms"]:
        VALIDATORS["platform-registration"].validate(registration)


RULE = {
    "line": "ride_hailing",
    "premium_base": "0.01",
    "unit": "yuan per order",
    "in_force_from": "2022-07-01",
    "source": "a text",
    "checked_on": "2026-11-22",
    "mark": "U",
}
MAPPING = {
    "name": "small",
    "about": "a test",
    "time_format": "iso",
    "zone": "+08:00",
    "platform": "small",
    "order_id": "{order}",
    "events": [{"type": "order.completed", "id": "{order}/c", "time": "{at}"}],
    "platforms": [],
}
PLATFORM = {
    "platform_id": "small",
    "name": "Small",
    "name_zh": "小",
    "uscc": "91210200MAEXAMP57N",
    "lines": ["ride_hailing"],
    "provinces": {"all": "2022-07-01"},
}
ACCEPTED_ROW = {
    "type": "order.accepted",
    "id": "{order}/a",
    "time": "{at}",
    "worker_id": "{worker}",
    "line": "ride_hailing",
    "accepted_city": "310100",
}
SHAPES: dict[str, tuple[TypeAdapter[Any], Any]] = {
    "rule-file": (TypeAdapter(RuleFile), lambda row: {"premium_bases": [row]}),
    "mapping-file": (TypeAdapter(MappingFile), lambda row: row),
    "platform-registration": (TypeAdapter(PlatformRegistration), lambda row: row),
}
WRONG_FILES: list[Wrong] = [
    ("rule-file", RULE | {"premium_base": "0"}),
    ("rule-file", RULE | {"premium_base": "-0.01"}),
    ("rule-file", RULE | {"premium_base": "0.00001"}),
    ("rule-file", RULE | {"premium_base": "1e-2"}),
    ("rule-file", RULE | {"premium_base": 1}),
    ("rule-file", RULE | {"source": " "}),
    ("rule-file", RULE | {"source": "x" * 501}),
    ("rule-file", RULE | {"mark": "W"}),
    ("rule-file", RULE | {"unit": "fen per order"}),
    ("rule-file", RULE | {"line": "any"}),
    ("rule-file", RULE | {"province": "99"}),
    ("rule-file", RULE | {"platform": "A B"}),
    ("rule-file", RULE | {"in_force_from": "1999-12-31"}),
    ("rule-file", RULE | {"in_force_from": "soon"}),
    ("rule-file", RULE | {"remark": "x"}),
    *[("rule-file", {name: value for name, value in RULE.items() if name != missing}) for missing in RULE],
    ("mapping-file", MAPPING | {"name": "Small One"}),
    ("mapping-file", MAPPING | {"zone": "Asia/Shanghai"}),
    ("mapping-file", MAPPING | {"time_format": "ISO"}),
    ("mapping-file", MAPPING | {"order_id": "{order"}),
    ("mapping-file", MAPPING | {"order_id": "{}"}),
    ("mapping-file", MAPPING | {"platform": "Small One"}),
    ("mapping-file", MAPPING | {"encoding": "latin-1"}),
    ("mapping-file", MAPPING | {"delimiter": "::"}),
    ("mapping-file", MAPPING | {"events": []}),
    ("mapping-file", MAPPING | {"events": [ACCEPTED_ROW | {"line": "rockets"}]}),
    ("mapping-file", MAPPING | {"events": [ACCEPTED_ROW | {"accepted_city": "Shanghai"}]}),
    ("mapping-file", MAPPING | {"events": [ACCEPTED_ROW | {"type": "order.paid"}]}),
    *[("mapping-file", {name: value for name, value in MAPPING.items() if name != missing}) for missing in MAPPING],
    ("platform-registration", PLATFORM | {"platform_id": "Small"}),
    ("platform-registration", PLATFORM | {"platform_id": "any"}),
    ("platform-registration", PLATFORM | {"uscc": "91210200MAEXAMP57"}),
    ("platform-registration", PLATFORM | {"uscc": "91210200MAEXAMPI7N"}),
    ("platform-registration", PLATFORM | {"lines": []}),
    ("platform-registration", PLATFORM | {"provinces": {}}),
    ("platform-registration", PLATFORM | {"provinces": {"99": "2022-07-01"}}),
    ("platform-registration", PLATFORM | {"aliases": ["a b"]}),
    ("platform-registration", PLATFORM | {"aliases": ["a"] * 17}),
    ("platform-registration", PLATFORM | {"name": "x" * 101}),
    ("platform-registration", PLATFORM | {"phone": "1"}),
    *[
        ("platform-registration", {name: value for name, value in PLATFORM.items() if name != missing})
        for missing in PLATFORM
    ],
]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("rule-file", RULE),
        ("rule-file", RULE | {"premium_base": "0.0700", "province": "31", "platform": "eats", "note": "x"}),
        ("mapping-file", MAPPING),
        ("mapping-file", MAPPING | {"events": [ACCEPTED_ROW], "time_format": "%Y-%m-%d %H:%M"}),
        ("mapping-file", MAPPING | {"events": [ACCEPTED_ROW | {"accepted_city": "{city}"}], "delimiter": ";"}),
        ("platform-registration", PLATFORM),
        ("platform-registration", PLATFORM | {"provinces": dict.fromkeys(PROVINCES, "2026-07-01")}),
    ],
)
def test_a_right_file_holds_for_the_schema_and_the_code(name: str, row: dict[str, Any]):
    shape, wrap = SHAPES[name]
    VALIDATORS[name].validate(wrap(row))
    shape.validate_json(json.dumps(wrap(row)))


@pytest.mark.parametrize(("name", "row"), WRONG_FILES, ids=range(len(WRONG_FILES)))
def test_a_wrong_file_is_refused_by_the_schema_and_by_the_code(name: str, row: dict[str, Any]):
    shape, wrap = SHAPES[name]
    assert not VALIDATORS[name].is_valid(wrap(row))
    with pytest.raises(ValidationError):
        shape.validate_json(json.dumps(wrap(row)))


# The channel


def test_the_channel_document_has_what_asyncapi_3_asks_for():
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= ASYNCAPI["info"].keys()
    assert ASYNCAPI["channels"]["orders"]["address"] == "orders.v1"
    assert {name: operation["action"] for name, operation in ASYNCAPI["operations"].items()} == {
        "recordOrders": "receive",
        "recordOwnOrders": "receive",
        "tellRejected": "send",
    }
    for operation in ASYNCAPI["operations"].values():
        channel = resolve(ASYNCAPI, operation["channel"]["$ref"])
        for message in operation["messages"]:
            assert resolve(ASYNCAPI, message["$ref"]) in channel["messages"].values()
        if operation["action"] == "send":
            assert "reply" not in operation
            continue
        replied = resolve(ASYNCAPI, operation["reply"]["channel"]["$ref"])
        for message in operation["reply"]["messages"]:
            assert resolve(ASYNCAPI, message["$ref"]) in replied["messages"].values()


def test_every_reference_in_the_channel_document_leads_somewhere():
    found = refs(ASYNCAPI)
    assert found
    for ref in found:
        assert isinstance(resolve(ASYNCAPI, ref), dict)


def payload_validator(message: str) -> Draft202012Validator:
    payload = ASYNCAPI["components"]["messages"][message]["payload"]
    return Draft202012Validator(payload | {"components": ASYNCAPI["components"]})


@pytest.mark.parametrize("message", ASYNCAPI["components"]["messages"])
def test_the_examples_of_a_message_hold_for_its_payload(message: str):
    examples = ASYNCAPI["components"]["messages"][message]["examples"]
    assert examples
    for example in examples:
        payload_validator(message).validate(example["payload"])


def test_the_channels_are_the_topics_of_the_code():
    channels = ASYNCAPI["channels"]
    assert list(own_topics(iter([channels["ownOrders"]["address"].format(platform="eleme")])).values()) == ["eleme"]
    assert list(own_topics(iter([channels["orders"]["address"]])).values()) == [None]
    assert channels["rejected"]["address"] == rejected.TOPIC
    assert channels["ownOrders"]["parameters"].keys() == {"platform"}


def test_the_headers_of_a_rejected_record_are_those_that_the_ledger_sends():
    headers = Draft202012Validator(ASYNCAPI["components"]["schemas"]["RejectedHeaders"])
    one = Rejected(
        "orders.v1", 3, 81, -1, None, None, "malformed", "record", "…", b"x" * (rejected.VALUE_BYTES_MAX + 1)
    )
    sent = {name: value.decode() for name, value in rejected.message(one)["headers"]}
    headers.validate(sent)
    assert sent.keys() == headers.schema["properties"].keys()
    for name in sent.keys() - {"danbao-cut"}:
        assert not headers.is_valid({key: value for key, value in sent.items() if key != name})
    [example] = ASYNCAPI["components"]["messages"]["rejectedRecord"]["examples"]
    headers.validate(example["headers"])
    assert resolve(ASYNCAPI, ASYNCAPI["components"]["messages"]["rejectedRecord"]["headers"]["$ref"]) == headers.schema


def test_both_order_messages_may_be_signed():
    for message in ("orderEvent", "orderEventList"):
        headers = resolve(ASYNCAPI, ASYNCAPI["components"]["messages"][message]["headers"]["$ref"])
        assert list(headers["properties"]) == [orders.SIGNATURE_HEADER]
        assert f"{SIGNATURE_BYTES} bytes" in headers["properties"][orders.SIGNATURE_HEADER]["description"]


def test_what_the_example_of_a_rejected_record_says_is_what_intake_says():
    [rejection] = READER.read([Record(0, ARRIVED_US, json.dumps([EXAMPLE_REJECTED]).encode())]).rejections
    assert (rejection.reason, rejection.place) == (
        EXAMPLE_REJECTED_HEADERS["danbao-reason"],
        EXAMPLE_REJECTED_HEADERS["danbao-place"],
    )


@pytest.mark.parametrize("record", [record for record in WRONG if isinstance(record, dict)], ids=str)
def test_the_channel_refuses_the_same_events_as_the_schema(record: dict[str, Any]):
    assert not payload_validator("orderEvent").is_valid(record)


def test_the_key_of_a_record_is_platform_and_order():
    key = ASYNCAPI["components"]["messages"]["orderEvent"]["bindings"]["kafka"]["key"]
    holds = Draft202012Validator(key).is_valid
    assert holds("example-delivery/20261003-000017")
    assert holds("eleme/单/号")
    assert not holds("20261003-000017")
    assert not holds("eleme/")


def test_every_answer_and_every_reason_is_published_with_its_meaning():
    assert ANSWER_MEANINGS.keys() == set(Answer)
    assert orders.REASON_MEANINGS.keys() == set(Reason)
    answer = ASYNCAPI["components"]["schemas"]["EventAnswer"]["properties"]
    assert answer["answer"]["enum"] == [str(code) for code in Answer]
    assert answer["reason"]["oneOf"][0]["enum"] == [str(code) for code in Reason]
    for code in Reason:
        assert f"- `{code}`: " in answer["reason"]["oneOf"][0]["description"]


def test_the_answers_that_ingest_writes_are_the_published_ones():
    intake = READER.read([Record(0, ARRIVED_US, json.dumps([accepted(), {}]).encode()), Record(1, ARRIVED_US, b"{")])
    answers = [Answer.NEW, Answer.REJECTED, Answer.REJECTED]
    written = io.BytesIO()
    ingest.write_answers(written, "orders.v1", Outcome(intake, 1, 700, answers, Head("orders.v1", 0, 2, GENESIS)))
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    for line in lines:
        payload_validator("eventAnswer").validate(line)
    assert [(line["offset"], line["item"], line["answer"], line["reason"]) for line in lines] == [
        (0, 0, "new", None),
        (0, 1, "rejected", "invalid"),
        (1, 0, "rejected", "malformed"),
    ]
    assert lines[0].keys() == EXAMPLE_ANSWER.keys()
