"""CloudEvents 1.0 (https://cloudevents.io): how an event leaves the log for a broker, and how it comes in.

In binary mode the attributes are headers and the body is the event's JSON as the log holds it; in structured mode one
JSON document holds both. Nothing is decoded on the way out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec

from ensue.errors import MalformedMessage, UnknownName
from ensue.events import Event, Metadata, Recorded, decode

JSON = "application/json"
STRUCTURED = "application/cloudevents+json"

_NAMES = (
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "partitionkey",
    "correlationid",
    "causationid",
    "traceparent",
    "sequence",
)


class Binding:
    """How a protocol carries the attributes of binary mode: with which prefix, and in which letters."""

    def __init__(self, prefix: str, *, percent: bool, content_type: str | None) -> None:
        """Take whether values are percent-encoded, and the header of the content type; None: it is a property."""
        self.prefix = prefix
        self.percent = percent
        self.content_type = content_type
        self.names = tuple(prefix + name for name in _NAMES)


HTTP = Binding("ce-", percent=True, content_type="content-type")
NATS = Binding("ce-", percent=True, content_type="content-type")
KAFKA = Binding("ce_", percent=False, content_type="content-type")
AMQP = Binding("cloudEvents_", percent=False, content_type=None)
REDIS = Binding("ce_", percent=False, content_type="content-type")
"""No binding is specified for Redis: an entry has fields as Kafka has headers."""


class Message(NamedTuple):
    """An event as a broker takes it."""

    content_type: str
    headers: dict[str, str]
    """The attributes; with the content type where the protocol has a header for it."""
    body: bytes


def source_of(service: str) -> str:
    """Return the URI by which a service is known as the source of its events."""
    return f"urn:ensue:{quote(service, safe='')}"


# --- out


def binary(recorded: Recorded[Any], source: str, binding: Binding = HTTP) -> Message:
    """Write an event in binary mode: its attributes as headers, its JSON as the body."""
    (specversion, id, origin, type, time, key, correlation, causation, trace, sequence) = binding.names
    headers = {
        specversion: "1.0",
        id: recorded.id_text,
        origin: source,
        type: recorded.type,
        time: _time(recorded),
        correlation: recorded.correlation_id,
        sequence: f"{recorded.position:020d}",
    }
    if (found := recorded.own_key or recorded.stream) is not None:
        headers[key] = found
    if recorded.causation_id is not None:
        headers[causation] = recorded.causation_id
    if recorded.extra is not None and (parent := _traceparent(recorded.extra)) is not None:
        headers[trace] = parent
    if binding.percent:
        for name, value in headers.items():
            if _UNSAFE(value) is not None:
                headers[name] = quote(value, safe=_SAFE)
    if binding.content_type is not None:
        headers[binding.content_type] = JSON
    return Message(JSON, headers, recorded.plain.encode())


def structured(recorded: Recorded[Any], source: str, binding: Binding = HTTP) -> Message:
    """Write an event in structured mode: one JSON document of its attributes and its JSON."""
    more = ""
    if (key := recorded.own_key or recorded.stream) is not None:
        more = f'"partitionkey":{_quoted(key)},'
    if recorded.causation_id is not None:
        more += f'"causationid":{_quoted(recorded.causation_id)},'
    if recorded.extra is not None and (parent := _traceparent(recorded.extra)) is not None:
        more += f'"traceparent":{_quoted(parent)},'
    body = (
        f'{{"specversion":"1.0","id":{_quoted(recorded.id_text)},"source":{_quoted_often(source)},'
        f'"type":{_quoted_often(recorded.type)},"time":"{_time(recorded)}","datacontenttype":"{JSON}",'
        f'"correlationid":{_quoted(recorded.correlation_id)},{more}'
        f'"sequence":"{recorded.position:020d}","data":{recorded.plain}}}'
    )
    headers = {} if binding.content_type is None else {binding.content_type: STRUCTURED}
    return Message(STRUCTURED, headers, body.encode())


_SAFE = "!#$&'()*+,/:;<=>?@[\\]^`{|}~"
_UNSAFE = re.compile(r"[^!#$&-~]").search
_encode = msgspec.json.Encoder().encode


class _Extra(msgspec.Struct):
    traceparent: str | None = None


_decode_extra = msgspec.json.Decoder(_Extra).decode


def _traceparent(extra: str) -> str | None:
    if "traceparent" not in extra:
        return None
    try:
        return _decode_extra(extra).traceparent
    except msgspec.MsgspecError:  # recorded by SQL; a trace that is lost is no reason to hold an event back
        return None


def _time(recorded: Recorded[Any]) -> str:
    """Return when it was recorded, by RFC 3339 in UTC."""
    text = recorded.recorded_at_text.strip('"')
    if text[-1] == "Z":
        return text
    if text[-6:] == "+00:00":
        return text[:-6] + "Z"
    return recorded.recorded_at.isoformat(timespec="microseconds")[:-6] + "Z"


def _quoted(text: str) -> str:
    return _encode(text).decode()


_quoted_often = lru_cache(maxsize=1000)(_quoted)


# --- in


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that came from a broker, ours or anybody's."""

    id: str
    source: str
    type: str
    time: datetime | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: bytes | None = None
    """The event's own content, to the byte; None if it has none."""
    extensions: dict[str, str] = {}
    """All other attributes, as text."""

    @property
    def key(self) -> str | None:
        """What its order is kept by; None if it has no order to keep."""
        return self.extensions.get("partitionkey")

    @property
    def uuid(self) -> UUID | None:
        """Its id as a UUID; None if it is none."""
        try:
            return UUID(self.id)
        except ValueError:
            return None

    @property
    def position(self) -> int | None:
        """Its position in the log of the service that published it, if it says so."""
        text = self.extensions.get("sequence", "")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def metadata(self) -> Metadata:
        """What is known about it, as of a recorded event."""
        return Metadata(
            correlation_id=self.extensions.get("correlationid") or self.id,
            causation_id=self.extensions.get("causationid"),
            traceparent=self.extensions.get("traceparent"),
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """The event in its class, or what an upcaster makes of it.

        Raises `UnknownName` if no class has its type, and `MalformedMessage` if its data does not fit the class.
        """
        if self.data is None or not is_json(self.datacontenttype):
            what = "has no data" if self.data is None else f"is {self.datacontenttype}, not JSON"
            raise MalformedMessage(f"message {self.id!r} of {self.source} ({self.type}) {what}: no event can be read")
        try:
            return decode(self.type, self.data.decode())
        except UnknownName:
            raise
        except Exception as error:
            raise MalformedMessage(
                f"message {self.id!r} of {self.source} does not fit its class {self.type!r}: {error}"
            ) from error


Headers = Mapping[str, Any] | Mapping[bytes, Any] | Iterable[tuple[str | bytes, Any]]
"""Headers as brokers hand them over: a mapping or pairs, text or bytes."""

_PREFIXES = ("ce-", "ce_", "cloudevents_", "cloudevents:")
"""Of a message that has several of them, the first one counts."""
_NO_PREFIX = len(_PREFIXES)


def parse(
    headers: Headers, body: bytes, *, content_type: str | None = None, binding: Binding | None = None
) -> CloudEvent:
    """Read a message in either mode, with the prefix of any protocol; `content_type` where it is no header.

    The binding says whether values are percent-encoded; without it, those whose names begin with `ce-` are. What is
    missing or cannot be read raises `MalformedMessage`, with the reason; what is there besides is kept.
    """
    pairs = cast("Iterable[tuple[Any, Any]]", headers.items() if isinstance(headers, Mapping) else headers)
    names, values = tuple(zip(*pairs, strict=True)) or ((), ())
    plan = _plan(names)
    attributes = _texts(plan, names, values)
    kind = content_type or (None if plan.kind is None else _text(values[plan.kind], "header", "content-type"))
    if kind is not None and kind.lower().startswith("application/cloudevents"):
        return _parse_structured(body, kind)
    if not attributes:
        if b'"specversion"' in body and (kind is None or is_json(kind)):  # from a protocol that has no headers
            return _parse_structured(body, STRUCTURED)
        raise MalformedMessage(
            f"the message is no CloudEvent: it has neither headers that begin with ce- (or {', '.join(_PREFIXES[1:])}) "
            f"nor the content type {STRUCTURED}; its headers are: {', '.join(plan.others[:10]) or 'none'}"
        )
    if plan.rank == 0 and (binding is None or binding.percent):
        for name, text in attributes.items():
            if "%" in text or text[:1] == '"':
                attributes[name] = _unescaped(name, text)
    return _cloud_event(attributes, body or None, kind)


@lru_cache(maxsize=1000)
def is_json(content_type: str | None) -> bool:
    """Tell whether data is JSON; it is where nothing is said."""
    if content_type is None:
        return True
    media = content_type.partition(";")[0].strip().lower()
    return media.endswith("+json") or media.partition("/")[2] == "json"


class _Plan(NamedTuple):
    """What the headers of a message are, by their names, of which many messages have the same."""

    keys: tuple[str | None, ...]
    """The attribute that each header is; None: it is none."""
    rank: int
    """Which of the prefixes they have."""
    kind: int | None
    """Where the content type is."""
    others: list[str]
    """The names of all that are no attributes, sorted."""


@lru_cache(maxsize=1000)
def _plan(names: tuple[str | bytes, ...]) -> _Plan:
    read = [_read_name(name) for name in names]
    nearest = min((rank for _, rank, _ in read), default=_NO_PREFIX)
    keys = tuple(key if rank == nearest < _NO_PREFIX else None for _, rank, key in read)
    others = {whole: place for place, (whole, rank, _) in enumerate(read) if rank == _NO_PREFIX}
    return _Plan(keys, nearest, others.get("content-type", others.get("content_type")), sorted(others))


def _texts(plan: _Plan, names: Sequence[str | bytes], values: Sequence[Any]) -> dict[str, str]:
    """Return the attributes as text."""
    try:
        return {
            key: value
            if type(value) is str
            else value.decode()
            if type(value) is bytes
            else _text(value, "header", key)
            for key, value in zip(plan.keys, values, strict=True)
            if key is not None
        }
    except UnicodeDecodeError:  # now with the name of the one that is not
        for key, name, value in zip(plan.keys, names, values, strict=True):
            if key is not None:
                _text(value, "header", _read_name(name)[0])
        raise


@lru_cache(maxsize=1000)
def _read_name(name: str | bytes) -> tuple[str, int, str]:
    """Return a header's name, which of the prefixes it has, and what stands behind that."""
    whole = _text(name, "a header's name").lower()
    for rank, prefix in enumerate(_PREFIXES):
        if whole.startswith(prefix):
            return whole, rank, whole[len(prefix) :]
    return whole, _NO_PREFIX, whole


def _text(value: Any, what: str, name: str = "") -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise MalformedMessage(f"{what}{f' {name!r}' if name else ''} is not UTF-8: {error}") from error
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _unescaped(name: str, value: str) -> str:
    if value[:1] == '"' == value[-1:] and len(value) > 1:
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    if "%" not in value:
        return value
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise MalformedMessage(f"attribute {name} is {value!r}, which is no percent-encoded UTF-8") from error


def _parse_structured(body: bytes, content_type: str) -> CloudEvent:
    media = content_type.partition(";")[0].strip().lower()
    if media not in (STRUCTURED, "application/cloudevents"):
        what = "a batch: send one event a message" if "batch" in media else f"only {STRUCTURED} can be read"
        raise MalformedMessage(f"the message is {content_type}, {what}")
    try:
        members = _decode_members(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"the message is {content_type}, and its body is no JSON object: {error}") from error
    raw, encoded = members.pop("data", None), members.pop("data_base64", None)
    attributes: dict[str, str] = {}
    for name, member in members.items():
        value = msgspec.json.decode(member)
        if value is not None:
            attributes[name] = value if isinstance(value, str) else _encode(value).decode()
    data = None if raw is None else bytes(raw)
    if encoded is not None:
        if data is not None:
            raise MalformedMessage("the message has data and data_base64; one of them is allowed")
        data = _from_base64(encoded)
    elif data is not None and data[:1] == b'"' and not is_json(attributes.get("datacontenttype")):
        data = str(msgspec.json.decode(data)).encode()
    return _cloud_event(attributes, data, attributes.get("datacontenttype"))


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _from_base64(raw: msgspec.Raw) -> bytes:
    try:
        return base64.b64decode(msgspec.json.decode(raw, type=str), validate=True)
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise MalformedMessage(f"data_base64 of the message is no base64 text: {error}") from error


def _cloud_event(attributes: dict[str, str], data: bytes | None, content_type: str | None) -> CloudEvent:
    """Make one of the attributes, which it uses up."""
    take = attributes.pop
    specversion, id = take("specversion", ""), take("id", "")
    source, type = take("source", ""), take("type", "")
    if not (specversion and id and source and type):
        told = {"specversion": specversion, "id": id, "source": source, "type": type}
        missing = ", no ".join(name for name, text in told.items() if not text)
        there = ", ".join(f"{name}={text!r}" for name, text in told.items() if text and name != "specversion")
        raise MalformedMessage(f"the message has no {missing}" + (f" ({there})" if there else ""))
    if specversion != "1.0":
        raise MalformedMessage(f"message {id!r} of {source} is a CloudEvent {specversion}; 1.0 can be read")
    moment = take("time", None)
    stated = take("datacontenttype", None)
    return CloudEvent(
        id=id,
        source=source,
        type=type,
        time=None if moment is None else _moment(moment, id, source),
        subject=take("subject", None),
        datacontenttype=content_type or stated,
        dataschema=take("dataschema", None),
        data=data,
        extensions=attributes,
    )


def _moment(text: str, id: str, source: str) -> datetime:
    try:
        if text.isdecimal() and len(text) > 8:  # AMQP has a type for moments: milliseconds since 1970
            moment = datetime.fromtimestamp(int(text) / 1000, UTC)
        else:
            moment = datetime.fromisoformat(text.upper())
    except (ValueError, OverflowError, OSError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise MalformedMessage(
            f"message {id!r} of {source} has the time {text!r}: "
            "write it by RFC 3339 with a time zone, 2026-03-01T09:30:00Z"
        )
    return moment
