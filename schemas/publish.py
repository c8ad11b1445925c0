"""The published contracts: JSON Schema and AsyncAPI, generated from the shapes that the code holds to.

In: the shapes of this package. Out: the files of `schemas/published/`, by name, as text; `python -m
schemas.publish` writes them, and a test proves that they are current. What JSON Schema cannot say
(a city that exists on that day, rules that do not overlap, a platform that is registered) is said in
words, and answered with a reason code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from schemas import orders
from schemas.codes import PLATFORM_ID, Answer, Reason
from schemas.mapping import MappingFile
from schemas.platforms import PlatformRegistration
from schemas.rulebook import RuleFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DIRECTORY = Path(__file__).parent / "published"
CHANNEL = orders.ORDERS_TOPIC
KAFKA_BINDING = "0.5.0"

ANSWER_MEANINGS: dict[Answer, str] = {
    Answer.NEW: "recorded; an accepted order is insured and charged",
    Answer.DUPLICATE: "known already with the same content; nothing changed",
    Answer.CONFLICT: "known already with other content; the first version stands, this one is kept as evidence",
    Answer.REJECTED: "not recorded, kept whole with the reason",
}


def _example(number: int, kind: str, time: str, data: dict[str, Any], order: int = 17) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"5000{number}",
        "source": "/platforms/example-delivery",
        "type": f"order.{kind}",
        "subject": f"20261003-{order:06}",
        "time": time,
        "data": data,
    }


EXAMPLES: tuple[dict[str, Any], ...] = (
    _example(
        1,
        "accepted",
        "2026-10-03T12:10:00+08:00",
        {
            "worker_id": "R-48213",
            "line": "instant_delivery",
            "accepted_city": "310100",
            "pay": "6.50",
            "position": {"lat": 31.2304, "lng": 121.4737},
        },
    ),
    _example(2, "reassigned", "2026-10-03T12:14:30.250+08:00", {"worker_id": "R-50077"}),
    _example(3, "completed", "2026-10-03T04:41:05Z", {}),
    _example(4, "cancelled", "2026-10-03T12:41:05+08:00", {"reason": "customer_absent"}, order=18),
)
EXAMPLE_REJECTED = _example(
    1, "accepted", "2026-10-03T12:10:00+08:00", EXAMPLES[0]["data"] | {"accepted_city": "999999"}
)
EXAMPLE_REJECTED_HEADERS = {
    "danbao-reason": "unknown_city",
    "danbao-place": "data.accepted_city",
    "danbao-detail": "'999999' is not a city of GB/T 2260; give the six digits of the prefecture-level city",
    "danbao-topic": CHANNEL,
    "danbao-partition": "3",
    "danbao-offset": "81002",
    "danbao-item": "0",
}
EXAMPLE_ANSWER = {"topic": CHANNEL, "offset": 81_002, "item": 0, "answer": "new", "reason": None}


class _Generator(GenerateJsonSchema):
    """Without a title on every field that repeats its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _schema_of(shape: Any) -> dict[str, Any]:
    return TypeAdapter(shape).json_schema(schema_generator=_Generator)


def _published(name: str, schema: dict[str, Any], **words: Any) -> dict[str, Any]:
    return schema | {"$schema": DIALECT, "$id": f"urn:danbao:{name}", **words}


def order_record() -> dict[str, Any]:
    """A record of the order channel: one event, or a list of events."""
    packed = _schema_of(orders.EventList)
    definitions = packed.pop("$defs") | {"OrderEvent": packed["items"]}
    event = {"$ref": "#/$defs/OrderEvent"}
    return _published(
        "order-record",
        {"oneOf": [event, packed | {"items": event}], "$defs": definitions},
        title="Order record",
        description="One order event, or a list of them: CloudEvents 1.0 in JSON, UTF-8,"
        f" at most {orders.RECORD_BYTES_MAX} bytes. `source` is the platform, `id` its number of the event,"
        " `subject` the order, `time` when it happened: not before 2022-07-01 in Asia/Shanghai,"
        f" and not more than {orders.EVENT_MINUTES_AHEAD_MAX} minutes after the record arrives.",
        examples=[*EXAMPLES, list(EXAMPLES[:3])],
    )


def rule_file() -> dict[str, Any]:
    """A file of rules, as YAML or JSON; amounts are text."""
    return _published(
        "rule-file",
        _schema_of(RuleFile),
        title="Rule file",
        description="Rows under one or more topics, each with its period, its source and how sure we are of it."
        " `danbao rules check` also refuses rows that overlap, leave a gap or give a fraction of a 毫.",
    )


def mapping_file() -> dict[str, Any]:
    """A file that says how the rows of an export become order events."""
    return _published(
        "mapping-file",
        _schema_of(MappingFile),
        title="Mapping file",
        description="How the rows of a platform's CSV export become order events; every scalar is text.",
    )


def platform_registration() -> dict[str, Any]:
    """A platform as it is registered."""
    return _published("platform-registration", _schema_of(PlatformRegistration), title="Platform registration")


def asyncapi() -> dict[str, Any]:
    """The order channels, what comes back of them, and the answers, AsyncAPI 3.0."""
    packed = _schema_of(orders.EventList)
    schemas = {
        **packed.pop("$defs"),
        "OrderEvent": packed["items"],
        "OrderEventList": packed | {"items": {"$ref": "#/$defs/OrderEvent"}},
        "EventAnswer": _answer(),
        "OrderHeaders": _order_headers(),
        "RejectedHeaders": _rejected_headers(),
    }
    return {
        "asyncapi": "3.0.0",
        "id": "urn:danbao:orders",
        "info": {
            "title": "danbao 单保: order events",
            "version": "1.0.0",
            "description": "Platforms push what happens to their orders; every event is answered."
            " Events of one order may come in any order, more than once, and late.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "orders": _orders_channel(),
            "ownOrders": _own_orders_channel(),
            "rejected": _rejected_channel(),
            "answers": _answers_channel(),
        },
        "operations": {
            "recordOrders": _operation("orders"),
            "recordOwnOrders": _operation("ownOrders"),
            "tellRejected": _telling(),
        },
        "components": {"messages": _messages(), "schemas": _for_asyncapi(schemas)},
    }


def _answer() -> dict[str, Any]:
    """An answer's schema, with its codes in words."""
    schema = _schema_of(orders.EventAnswer)
    definitions = schema.pop("$defs")
    answer = definitions["Answer"] | {"description": _listed(ANSWER_MEANINGS)}
    reason = definitions["Reason"] | {"description": _listed(orders.REASON_MEANINGS)}
    schema["properties"] |= {"answer": answer, "reason": {"oneOf": [reason, {"type": "null"}]}}
    return schema


def _order_headers() -> dict[str, Any]:
    """The headers of an order record; others may come along."""
    signature = {
        "type": "string",
        "contentEncoding": "binary",
        "description": "A detached Ed25519 signature (RFC 8032) of the record's bytes as they are sent, before Kafka"
        " compresses them: 64 bytes, not text.",
    }
    return {"type": "object", "properties": {orders.SIGNATURE_HEADER: signature}}


def _rejected_headers() -> dict[str, Any]:
    """The headers of a rejected record, each as text in UTF-8."""
    properties: dict[str, dict[str, Any]] = {
        f"danbao-{name}": {"type": "string", "description": meaning}
        for name, meaning in orders.REJECTED_HEADERS.items()
    }
    properties["danbao-reason"]["enum"] = [str(code) for code in Reason]
    for name in ("partition", "offset", "cut"):
        properties[f"danbao-{name}"]["pattern"] = "^[0-9]+$"
    properties["danbao-item"]["pattern"] = "^(-1|[0-9]+)$"
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name != "danbao-cut"],
    }


def _listed(meanings: Mapping[Any, object]) -> str:
    return "\n".join(f"- `{code}`: {meaning}" for code, meaning in meanings.items())


def _orders_channel() -> dict[str, Any]:
    return {
        "address": CHANNEL,
        "title": "Order events, of all platforms",
        "description": "What happened to orders. The key of a record is the platform and the order, so that an"
        " order's events stay in order on one partition. All platforms write here, so records are signed; only those of"
        " example platforms need not be.",
        "messages": _order_messages(),
    }


def _own_orders_channel() -> dict[str, Any]:
    return {
        "address": f"{CHANNEL}.{{platform}}",
        "title": "Order events, of one platform",
        "description": "A platform's own topic, to which the brokers let it alone write. Events of other platforms are"
        " rejected here. Records are signed once the platform has registered a key.",
        "parameters": {"platform": {"description": "The platform's id.", "examples": ["example-delivery"]}},
        "messages": _order_messages(),
    }


def _order_messages() -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in ("orderEvent", "orderEventList")}


def _rejected_channel() -> dict[str, Any]:
    return {
        "address": orders.REJECTED_TOPIC,
        "title": "Rejected records",
        "description": "What could not be booked, of all platforms, with the reason. Mend it and send it again. A crash"
        " may tell one twice, at the same topic, partition, offset and item; none is left out.",
        "messages": {"rejectedRecord": {"$ref": "#/components/messages/rejectedRecord"}},
    }


def _answers_channel() -> dict[str, Any]:
    return {
        "address": None,
        "title": "Answers",
        "description": "One answer per event, in order; an answer means committed. From a file or the inbox they"
        " are written by `danbao ingest --answers FILE`, one JSON object a line. Of a stream only what was rejected is"
        f" told, on {orders.REJECTED_TOPIC}.",
        "messages": {"eventAnswer": {"$ref": "#/components/messages/eventAnswer"}},
    }


def _operation(channel: str) -> dict[str, Any]:
    return {
        "action": "receive",
        "title": "Record order events",
        "summary": "Insures and charges each order once, for ever, and records its later events.",
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [
            {"$ref": f"#/channels/{channel}/messages/orderEvent"},
            {"$ref": f"#/channels/{channel}/messages/orderEventList"},
        ],
        "reply": {
            "channel": {"$ref": "#/channels/answers"},
            "messages": [{"$ref": "#/channels/answers/messages/eventAnswer"}],
        },
    }


def _telling() -> dict[str, Any]:
    return {
        "action": "send",
        "title": "Tell what was rejected",
        "summary": "Sends back each record or event that could not be booked.",
        "channel": {"$ref": "#/channels/rejected"},
        "messages": [{"$ref": "#/channels/rejected/messages/rejectedRecord"}],
    }


def _messages() -> dict[str, Any]:
    return {
        "orderEvent": {
            "name": "orderEvent",
            "title": "Order event",
            "summary": "One thing that happened to one order.",
            "contentType": "application/cloudevents+json",
            "headers": {"$ref": "#/components/schemas/OrderHeaders"},
            "payload": {"$ref": "#/components/schemas/OrderEvent"},
            "bindings": _key(
                f"{PLATFORM_ID[:-1]}/.{{1,{orders.TEXT_CHARS_MAX}}}$", "the platform's id, a slash, the order id"
            ),
            "examples": [{"name": event["type"], "payload": event} for event in EXAMPLES],
        },
        "orderEventList": {
            "name": "orderEventList",
            "title": "Order events, packed",
            "summary": f"Up to {orders.EVENTS_PER_RECORD_MAX} events of one platform in one record.",
            "contentType": "application/cloudevents-batch+json",
            "headers": {"$ref": "#/components/schemas/OrderHeaders"},
            "payload": {"$ref": "#/components/schemas/OrderEventList"},
            "bindings": _key(
                PLATFORM_ID[:-1],
                "begins with the platform's id; the same for the same orders, always. Where orders of one partition are"
                " packed together, the key of any of them, and the partition given",
            ),
            "examples": [{"name": "an order from its acceptance on", "payload": list(EXAMPLES[:3])}],
        },
        "rejectedRecord": {
            "name": "rejectedRecord",
            "title": "Rejected record",
            "summary": "A record, or one event of its list, byte for byte as it was sent.",
            "headers": {"$ref": "#/components/schemas/RejectedHeaders"},
            "payload": {"description": "Whatever was sent; it need not be JSON."},
            "bindings": _key(PLATFORM_ID, "the platform's id; none where the record names no registered platform"),
            "examples": [
                {
                    "name": "a city that does not exist",
                    "headers": EXAMPLE_REJECTED_HEADERS,
                    "payload": EXAMPLE_REJECTED,
                }
            ],
        },
        "eventAnswer": {
            "name": "eventAnswer",
            "title": "Answer",
            "summary": "What became of one event.",
            "payload": {"$ref": "#/components/schemas/EventAnswer"},
            "examples": [{"name": "recorded", "payload": EXAMPLE_ANSWER}],
        },
    }


def _key(pattern: str, description: str) -> dict[str, Any]:
    """The key of a record in Kafka."""
    key = {"type": "string", "pattern": pattern, "description": description}
    return {"kafka": {"key": key, "bindingVersion": KAFKA_BINDING}}


def _for_asyncapi(value: Any) -> Any:
    """JSON Schema → AsyncAPI's schema objects: other places for definitions, no OpenAPI discriminator."""
    if isinstance(value, dict):
        kept = {name: _for_asyncapi(inner) for name, inner in value.items() if name != "discriminator"}
        if isinstance(target := kept.get("$ref"), str):
            kept["$ref"] = target.replace("#/$defs/", "#/components/schemas/")
        return kept
    if isinstance(value, list):
        return [_for_asyncapi(inner) for inner in value]
    return value


def _text(document: dict[str, Any]) -> str:
    """Sorted, readable, the same on every machine; characters that are not seen are escaped."""
    plain = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True)
    lines = (orders.UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], line) for line in plain.split("\n"))
    return "\n".join(lines) + "\n"


def documents() -> dict[str, str]:
    """Every published file: its name and its text."""
    return {
        "order-record.schema.json": _text(order_record()),
        "rule-file.schema.json": _text(rule_file()),
        "mapping-file.schema.json": _text(mapping_file()),
        "platform-registration.schema.json": _text(platform_registration()),
        "orders.asyncapi.json": _text(asyncapi()),
    }


def main() -> None:
    """Write them all."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in documents().items():
        (DIRECTORY / name).write_text(text, "utf-8", newline="\n")
        print(f"schemas/published/{name}")


if __name__ == "__main__":
    main()
