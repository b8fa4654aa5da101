"""Events leave as CloudEvents 1.0 and come in as such: by the official SDK, in both directions and both modes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast
from uuid import UUID

import pytest
from cloudevents.core.bindings import amqp, http, kafka, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as TheirEvent

from ensue import IntegrationEvent, PastEvent, Recorded, upcast
from ensue.contracts.cloudevents import (
    AMQP,
    HTTP,
    JSON,
    KAFKA,
    NATS,
    STRUCTURED,
    Binding,
    Message,
    binary,
    is_json,
    parse,
    source_of,
    structured,
)
from ensue.errors import MalformedMessage, UnknownName

SOURCE = source_of("accounts")
ID = "01932f5e-8b7a-7000-8000-000000000001"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FORMAT = JSONFormat()


class SignedUp(IntegrationEvent, version=1, name="test.cloudevents.SignedUp", key="user"):
    user: str
    amount: int


class Renamed(IntegrationEvent, version=2, name="test.cloudevents.Renamed"):
    new: str


class RenamedOnce(PastEvent, name="test.cloudevents.Renamed.v1"):
    old: str


@upcast
def _renamed(old: RenamedOnce) -> Renamed:
    return Renamed(new=old.old)


def recorded(**changes: Any) -> Recorded[Any]:
    values: dict[str, Any] = {
        "position": 42,
        "id_text": ID,
        "type": SignedUp.__type__,
        "kind_text": "integration",
        "stream": None,
        "version": None,
        "own_key": 'Zoë "Z" 100%',
        "data": '{"user":"Zoë \\"Z\\" 100%","amount":7}',
        "extra": json.dumps({"traceparent": TRACE, "actor": "not told to others"}),
        "own_correlation_id": "request 7",
        "causation_id": "because",
        "recorded_at_text": "2026-03-01T09:30:00.000120Z",
    }
    return Recorded(**{**values, **changes})


# --- the official SDK reads what we write


def over_http(message: Message) -> Any:
    return http.from_http(http.HTTPMessage(headers=message.headers, body=message.body), FORMAT)


def over_kafka(message: Message) -> Any:
    headers = {name: value.encode() for name, value in message.headers.items()}
    return kafka.from_kafka(kafka.KafkaMessage(headers=headers, key=None, value=message.body), FORMAT)


def over_amqp(message: Message) -> Any:
    return amqp.from_amqp(
        amqp.AMQPMessage(
            properties={"content-type": message.content_type},
            application_properties=cast("Any", message.headers),
            application_data=message.body,
        ),
        FORMAT,
    )


@pytest.mark.parametrize("write", [binary, structured])
@pytest.mark.parametrize("binding, receive", [(HTTP, over_http), (KAFKA, over_kafka), (AMQP, over_amqp)])
def test_the_official_sdk_reads_it(write: Any, binding: Binding, receive: Callable[[Message], Any]) -> None:
    theirs = receive(write(recorded(), SOURCE, binding))
    assert (theirs.get_id(), theirs.get_source(), theirs.get_type()) == (ID, "urn:ensue:accounts", SignedUp.__type__)
    assert theirs.get_time() == datetime(2026, 3, 1, 9, 30, 0, 120, tzinfo=UTC)
    assert theirs.get_datacontenttype() == "application/json"
    assert theirs.get_data() == {"user": 'Zoë "Z" 100%', "amount": 7}
    extensions = {name: theirs.get_extension(name) for name in ("partitionkey", "correlationid", "causationid")}
    assert extensions == {"partitionkey": 'Zoë "Z" 100%', "correlationid": "request 7", "causationid": "because"}
    assert theirs.get_extension("traceparent") == TRACE
    assert theirs.get_extension("sequence") == "00000000000000000042"


# --- we read what the official SDK writes


def theirs() -> TheirEvent:
    return TheirEvent(
        attributes={
            "id": "no uuid, 100%",
            "source": "/sensors/7?x=ü",
            "type": "com.example.measured",
            "time": datetime(2026, 3, 1, 10, 30, tzinfo=timezone(timedelta(hours=1))),
            "subject": "Zoë",
            "datacontenttype": "application/json",
            "dataschema": "https://example.com/measured.json",
            "partitionkey": "k1",
            "sequence": "9",
            "comexampleother": "kept",
        },
        data={"value": 1.5},
    )


@pytest.mark.parametrize("module", [http, kafka, amqp, rabbitmq])
@pytest.mark.parametrize("mode", ["to_binary", "to_structured"])
def test_we_read_what_the_official_sdk_writes(module: Any, mode: str) -> None:
    message: Any = getattr(module, mode)(theirs(), FORMAT)
    headers = getattr(message, "headers", None) or getattr(message, "application_properties", {})
    kind = getattr(message, "content_type", None) or getattr(message, "properties", {}).get("content-type")
    body = next(getattr(message, name) for name in ("body", "value", "application_data") if hasattr(message, name))
    event = parse(headers, body, content_type=kind, binding=AMQP if module is rabbitmq else None)
    assert (event.id, event.source, event.type) == ("no uuid, 100%", "/sensors/7?x=ü", "com.example.measured")
    assert event.time == datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    assert (event.subject, event.dataschema) == ("Zoë", "https://example.com/measured.json")
    assert json.loads(event.data or b"") == {"value": 1.5}
    assert (event.key, event.position, event.uuid) == ("k1", 9, None)
    assert event.extensions["comexampleother"] == "kept"
    assert event.metadata.correlation_id == "no uuid, 100%"


# --- there and back


@pytest.mark.parametrize("write", [binary, structured])
@pytest.mark.parametrize("binding", [HTTP, NATS, KAFKA, AMQP])
def test_what_we_write_we_read(write: Any, binding: Binding) -> None:
    message: Message = write(recorded(), SOURCE, binding)
    event = parse(message.headers, message.body, content_type=message.content_type)
    assert event.events == (SignedUp(user='Zoë "Z" 100%', amount=7),)
    assert event.data == recorded().data.encode()
    assert (event.uuid, event.key, event.position, event.time) == (
        UUID(ID),
        'Zoë "Z" 100%',
        42,
        datetime(2026, 3, 1, 9, 30, 0, 120, tzinfo=UTC),
    )
    assert (event.metadata.correlation_id, event.metadata.causation_id, event.metadata.traceparent) == (
        "request 7",
        "because",
        TRACE,
    )
    assert b"not told" not in repr(message).encode()


def test_headers_are_plain_ascii_where_they_must_be() -> None:
    for binding in (HTTP, NATS):
        headers = binary(recorded(), SOURCE, binding).headers
        assert headers["ce-partitionkey"] == "Zo%C3%AB%20%22Z%22%20100%25"
        assert all(value.isascii() and "\n" not in value for value in headers.values())
    assert binary(recorded(), SOURCE, KAFKA).headers["ce_partitionkey"] == 'Zoë "Z" 100%'


@pytest.mark.parametrize("write", [binary, structured])
def test_what_is_not_known_is_left_out(write: Any) -> None:
    bare = recorded(own_key=None, extra=None, own_correlation_id=None, causation_id=None)
    message: Message = write(bare, SOURCE)
    event = parse(message.headers, message.body)
    assert (event.key, event.metadata.correlation_id, event.metadata.causation_id) == (None, ID, None)
    assert event.extensions.keys() == {"correlationid", "sequence"}


def test_a_broken_trace_holds_nothing_back() -> None:
    message = structured(recorded(extra='{"traceparent":7}'), SOURCE)
    assert "traceparent" not in parse(message.headers, message.body).extensions


@pytest.mark.parametrize(
    "text", ['"2026-03-01T09:30:00.5+00:00"', "2026-03-01T09:30:00.500000Z", '"2026-03-01T10:30:00.5+01:00"']
)
def test_the_time_is_in_utc_however_the_database_writes_it(text: str) -> None:
    time = binary(recorded(recorded_at_text=text), SOURCE).headers["ce-time"]
    assert time.endswith("Z")
    assert datetime.fromisoformat(time) == datetime(2026, 3, 1, 9, 30, 0, 500_000, tzinfo=UTC)


def test_a_service_is_a_uri() -> None:
    assert source_of("my shop/ü") == "urn:ensue:my%20shop%2F%C3%BC"


def test_older_versions_are_upcast_where_they_arrive() -> None:
    old = recorded(type="test.cloudevents.Renamed.v1", data='{"old":"x"}')
    message = structured(old, SOURCE)
    assert parse(message.headers, message.body).events == (Renamed(new="x"),)


# --- what others send

HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "//x", "ce-type": "t"}


def test_names_of_headers_in_any_letters_and_bytes() -> None:
    assert parse({"CE-SpecVersion": "1.0", "Ce-Id": '"a \\"b\\""', "ce-source": "s", "CE-TYPE": "t"}, b"").id == 'a "b"'
    pairs = [(name.replace("-", "_").encode(), value.encode()) for name, value in HEADERS.items()]
    assert parse(pairs, b"{}", content_type="application/json; charset=utf-8").data == b"{}"
    numbers = {"cloudEvents:" + name[3:]: value for name, value in HEADERS.items()}
    typed = parse({**numbers, "cloudEvents:ready": True, "cloudEvents:size": 7, "other": [1]}, b"")
    assert typed.extensions == {"ready": "true", "size": "7"}


def test_structured_without_any_header() -> None:
    body = b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":[1, 2],"ready":true,"size":7,"none":null}'
    event = parse({}, body)
    assert (event.data, event.extensions) == (b"[1, 2]", {"ready": "true", "size": "7"})


def test_data_that_is_not_json() -> None:
    start = b'{"specversion":"1.0","id":"1","source":"s","type":"t"'
    structured = {"content-type": "application/cloudevents+json; charset=utf-8"}
    assert parse(structured, start + b',"datacontenttype":"text/plain","data":"hi \\n"}').data == b"hi \n"
    assert parse(structured, start + b',"data":"hi"}').data == b'"hi"'
    encoded = parse(structured, start + b',"datacontenttype":"image/png","data_base64":"AAEC"}')
    assert encoded.data == b"\x00\x01\x02"
    with pytest.raises(MalformedMessage, match=r"is image/png, not JSON: no event can be read"):
        _ = encoded.events
    with pytest.raises(MalformedMessage, match="has no data"):
        _ = parse(structured, start + b"}").events
    assert parse({"content-type": "text/plain", **HEADERS}, b"\xff").data == b"\xff"


@pytest.mark.parametrize(
    "kind, json",
    [(None, True), (JSON, True), ("text/json; charset=utf-8", True), ("a/b+JSON", True), ("text/plain", False)],
)
def test_what_is_json(kind: str | None, json: bool) -> None:
    assert is_json(kind) is json


# --- what cannot be read

START = '{"specversion":"1.0","id":"1","source":"s","type":"t"'


@pytest.mark.parametrize(
    "headers, body, said",
    [
        ({"x": "1"}, "{}", "no CloudEvent: it has neither headers that begin with ce- .* its headers are: x"),
        ({}, "", "its headers are: none"),
        ({"content-type": "text/plain"}, '{"specversion":"1.0"}', "no CloudEvent"),
        ({**HEADERS, "ce-id": ""}, "", r"has no id \(source='//x', type='t'\)"),
        ({"ce-id": "1"}, "", r"has no specversion, no source, no type \(id='1'\)"),
        ({**HEADERS, "ce-specversion": "0.3"}, "", "message '1' of //x is a CloudEvent 0.3; 1.0 can be read"),
        ({**HEADERS, "ce-time": "yesterday"}, "", "has the time 'yesterday': write it by RFC 3339"),
        ({**HEADERS, "ce-time": "2026-03-01T09:30:00"}, "", "with a time zone"),
        ({**HEADERS, "ce-key": "%C0%A0"}, "", "attribute key is '%C0%A0', which is no percent-encoded UTF-8"),
        ({**HEADERS, "ce-key": b"\xff"}, "", "header 'ce-key' is not UTF-8"),
        ({"content-type": STRUCTURED}, "{", "its body is no JSON object"),
        ({"content-type": STRUCTURED}, "[]", "its body is no JSON object"),
        ({"content-type": STRUCTURED}, "{}", "has no specversion, no id, no source, no type"),
        ({"content-type": "application/cloudevents-batch+json"}, "[]", "a batch: send one event a message"),
        ({"content-type": "application/cloudevents+avro"}, "", "only application/cloudevents.json can be read"),
        ({"content-type": STRUCTURED}, START + ',"data":1,"data_base64":""}', "one of them is allowed"),
        ({"content-type": STRUCTURED}, START + ',"data_base64":"?"}', "is no base64 text"),
        ({"content-type": STRUCTURED}, START + ',"data_base64":7}', "is no base64 text"),
    ],
)
def test_what_is_malformed_is_told(headers: dict[str, Any], body: str, said: str) -> None:
    with pytest.raises(MalformedMessage, match=said):
        parse(headers, body.encode())


def test_data_that_does_not_fit_its_class() -> None:
    message = binary(recorded(data='{"user":"x","amount":"many"}'), SOURCE)
    with pytest.raises(MalformedMessage, match=rf"message '{ID}' of urn:ensue:accounts does not fit .*amount"):
        _ = parse(message.headers, message.body).events
    message = binary(recorded(type="test.cloudevents.Nobody.v1"), SOURCE)
    with pytest.raises(UnknownName, match=r"no event class has the wire type 'test.cloudevents.Nobody.v1'"):
        _ = parse(message.headers, message.body).events


@pytest.mark.parametrize("write", [binary, structured])
def test_writing_takes_some_microseconds(write: Any) -> None:
    """On the relay's hot path nothing is decoded; the limit leaves room for a busy machine."""
    event, times = recorded(own_key="42", own_correlation_id=ID), []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(1000):
            write(event, SOURCE, KAFKA)
        times.append(time.perf_counter() - began)
    assert min(times) / 1000 < 50e-6
