"""Messages as the inbox sees them: read once, and written down so that nothing of them is lost."""

from __future__ import annotations

import base64
import hashlib
import types
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from ensue.brokers.broker import Incoming
from ensue.contracts.cloudevents import STRUCTURED, Binding, CloudEvent, is_json, parse
from ensue.errors import EventValueError, MalformedMessage, UnknownName
from ensue.events import RECEIVED_FROM, DomainEvent, Event, Metadata, Recorded, Written, fault_in
from ensue.events.personal import is_personal, personal_members
from ensue.keys import Concealing

_encode = msgspec.json.Encoder().encode
_NUL = b"\\u0000"


class _Unread(msgspec.Struct, frozen=True, kw_only=True):
    """A message of which no CloudEvent could be made, whole."""

    reason: str
    topic: str
    key: str | None
    content_type: str | None
    headers: list[tuple[str, str]]
    body_base64: str


class _Kept(msgspec.Struct, frozen=True):
    message: msgspec.Raw = msgspec.Raw()
    malformed: _Unread | None = None


_decode_kept = msgspec.json.Decoder(_Kept).decode


def kept_event(name: str) -> type[DomainEvent]:
    """Return the event as which a receiver records a message that it cannot handle directly.

    Its `message` is the CloudEvent, as in structured mode; what is none is under `malformed`, whole.
    """
    wire = f"inbox of {name}"
    annotations = {"message": dict[str, Any] | None, "malformed": _Unread | None}
    body = {
        "__module__": __name__,
        "__qualname__": wire,
        "__doc__": f"A message that {name} could not handle directly.",
        "__annotations__": annotations,
        "message": None,
        "malformed": None,
    }
    made: type[DomainEvent] = types.new_class("Kept", (DomainEvent,), {"name": wire}, lambda space: space.update(body))
    return made


class Received(msgspec.Struct, kw_only=True):
    """A message, read as far as it can be read."""

    source: str
    id: str
    """With `source` its identity: a second one of both is the same message."""
    key: str
    """What its order is kept by."""
    events: tuple[Event, ...] = ()
    """The event in its class, or what an upcaster makes of it."""
    problem: str | None = None
    """Why no event could be read of it."""
    written: tuple[Written, ...] = ()
    """The event as an inbox records it, once it has been prepared."""
    message: CloudEvent | None = None
    incoming: Incoming | None = None

    @property
    def metadata(self) -> Metadata:
        """What is recorded because of it gets this."""
        if self.message is None:
            return Metadata(causation_id=self.id)
        about = self.message.extensions
        trace = about.get("traceparent")
        return Metadata(
            correlation_id=_fitted(about.get("correlationid") or self.id),
            causation_id=self.id,
            traceparent=trace if trace is None or fault_in(trace) is None else None,
            headers={RECEIVED_FROM: self.source},
        )

    def concealing(self, id: str) -> Concealing | None:
        """Return what is personal in it, before it is kept in the event of this id; None if nothing is.

        None too if nobody can say whose it is: it is kept as it came, and its handler decides.
        """
        message = self.message
        if message is None or message.data is None or not self.events or not is_personal(message.type):
            return None
        fields = tuple(each for each in personal_members(message.type).values() if each.subject)
        try:
            return Concealing(fields, message.type, message.type, id, message.data)
        except EventValueError:
            return None

    def concealed(self, data: bytes) -> Received:
        """Return it with this data in its place."""
        assert self.message is not None  # noqa: S101 there was something to conceal
        return msgspec.structs.replace(self, message=msgspec.structs.replace(self.message, data=data))

    def written_down(self) -> bytes:
        """Return all of it as JSON, from which `read_again` reads it."""
        if self.message is not None and (text := _structured(self.message)) is not None:
            return b'{"message":' + text + b"}"
        assert self.incoming is not None  # noqa: S101 what was read again is written down already
        headers = self.incoming.headers
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        unread = _Unread(
            reason=self.problem or "PostgreSQL cannot keep the NUL character that it holds",
            topic=self.incoming.topic,
            key=self.incoming.key,
            content_type=self.incoming.content_type,
            headers=[(_shown(name), _shown(value)) for name, value in pairs],
            body_base64=base64.b64encode(self.incoming.body).decode(),
        )
        return _encode({"malformed": unread})


def read(incoming: Incoming, binding: Binding, wanted: Collection[str], reader: str) -> Received:
    """Read a message as it came; what cannot be read says so and keeps all of it."""
    try:
        message = parse(incoming.headers, incoming.body, content_type=incoming.content_type, binding=binding)
    except MalformedMessage as error:
        digest = hashlib.sha256(repr(incoming.headers).encode() + incoming.body).hexdigest()
        return Received(
            source=incoming.topic, id=digest, key=_fitted(incoming.key or digest), problem=str(error), incoming=incoming
        )
    return _received(message, wanted, reader, incoming)


def read_again(recorded: Recorded[Any], wanted: Collection[str], reader: str) -> Received:
    """Read a message that was written down: perhaps the code, or a person, can read it now."""
    try:
        kept = _decode_kept(recorded.data)
        if kept.message:
            message = parse({}, bytes(kept.message), content_type=STRUCTURED)
            if recorded.opener is not None and message.data is not None:
                opened = recorded.opener.open(message.type, recorded.id_text, message.data.decode())
                message = msgspec.structs.replace(message, data=opened.data.encode())
            return _received(message, wanted, reader, None)
        if kept.malformed is None:
            raise MalformedMessage("it has neither message nor malformed")
        unread = kept.malformed
        body = base64.b64decode(unread.body_base64, validate=True)
        incoming = Incoming(unread.topic, unread.key, unread.content_type, unread.headers, body, None)
        message = parse(incoming.headers, incoming.body, content_type=incoming.content_type)
    except (MalformedMessage, msgspec.MsgspecError, ValueError) as error:
        return Received(source="", id="", key="", problem=str(error))
    return _received(message, wanted, reader, incoming)


def _received(message: CloudEvent, wanted: Collection[str], reader: str, incoming: Incoming | None) -> Received:
    events: tuple[Event, ...] = ()
    problem = None
    if message.type not in wanted:
        problem = f"{reader} reads {', '.join(sorted(wanted))}, and this is {message.type!r} of {message.source}"
    else:
        try:
            events = message.events
        except (MalformedMessage, UnknownName) as error:
            problem = str(error)
    key = message.key or (incoming.key if incoming is not None else None) or f"{message.source}/{message.id}"
    return Received(
        source=_fitted(message.source),
        id=_fitted(message.id),
        key=_fitted(key),
        events=events,
        problem=problem,
        message=message,
        incoming=incoming,
    )


def _fitted(text: str) -> str:
    """Return a text of others as every database can keep and find it: what cannot be kept is known by its digest."""
    if fault_in(text) is None:
        return text
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _structured(message: CloudEvent) -> bytes | None:
    """Write a message down as a structured CloudEvent; None if PostgreSQL could not keep that."""
    members: dict[str, Any] = {"specversion": "1.0", "id": message.id, "source": message.source, "type": message.type}
    for name in ("time", "subject", "datacontenttype", "dataschema"):
        if (value := getattr(message, name)) is not None:
            members[name] = value
    members |= message.extensions
    if message.data is not None:
        if is_json(message.datacontenttype) and _is_json(message.data):
            members["data"] = msgspec.Raw(message.data)
        else:
            members["data_base64"] = base64.b64encode(message.data).decode()
    text = _encode(members)
    return None if _NUL in text else text


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _shown(value: object) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, (bytes, bytearray)) else str(value)
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
