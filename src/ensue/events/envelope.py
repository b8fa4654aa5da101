"""What surrounds an event in the log: who, when, in which order, because of what."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import msgspec

from ensue.errors import EventValueError, PersonalDataError, UndecodableEvent, UnknownName
from ensue.events.kinds import Event, Kind, event_class
from ensue.events.personal import PERSONAL, Opened, Opener, holds_tokens
from ensue.events.texts import LONGEST, fault_in
from ensue.events.upcasting import decode, has_past, unknown_members

E_co = TypeVar("E_co", bound=Event, covariant=True)


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known about an event beside the event itself."""

    correlation_id: str | None = None
    """The request, or whatever else the event belongs to."""
    causation_id: str | None = None
    """The id of the event or command that caused this one."""
    actor: str | None = None
    """Who did it."""
    traceparent: str | None = None
    """W3C trace context."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])

    @property
    def extra(self) -> msgspec.Raw | None:
        """What the log keeps beside its columns, as JSON; None if there is nothing."""
        if self.actor is None and self.traceparent is None:  # as of a message, of which there are many
            return msgspec.Raw(b'{"headers":%s}' % _encode(self.headers)) if self.headers else None
        return msgspec.Raw(_encode({name: value for name in _EXTRA if (value := getattr(self, name))}))


RECEIVED_FROM = "received-from"
"""The header of what was recorded because of a message: its source, another service."""
_EXTRA = ("actor", "traceparent", "headers")
_encode = msgspec.json.Encoder().encode
_NOTHING = Metadata()
_current: ContextVar[Metadata] = ContextVar("ensue_metadata", default=_NOTHING)


def current_metadata() -> Metadata:
    """Return the metadata that an event recorded here and now would get."""
    return _current.get()


@contextmanager
def context(
    *,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    actor: str | None = None,
    traceparent: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Generator[Metadata]:
    """Give every event recorded inside this metadata; what is left out is inherited, headers are merged.

    It follows `contextvars`: threads started inside do not inherit it, tasks do. Raises `EventValueError` when a
    value is not text that can be stored; ids have 400 characters at most.
    """
    outer = _current.get()
    inner = Metadata(
        correlation_id=_text("correlation_id", correlation_id, LONGEST) or outer.correlation_id,
        causation_id=_text("causation_id", causation_id, LONGEST) or outer.causation_id,
        actor=_text("actor", actor) or outer.actor,
        traceparent=_text("traceparent", traceparent) or outer.traceparent,
        headers={**outer.headers, **_texts(headers)} if headers else outer.headers,
    )
    token = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(token)


@contextmanager
def restored(metadata: Metadata) -> Generator[None]:
    """Give every event recorded inside exactly this metadata, which was current where the event came about."""
    token = _current.set(metadata)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def because_of(id: str) -> Generator[None]:
    """Give every event recorded inside the metadata that is current, with an event just recorded here as its cause."""
    about = _current.get()
    with restored(msgspec.structs.replace(about, correlation_id=about.correlation_id or id, causation_id=id)):
        yield


def _text(name: str, value: str | None, at_most: int | None = None) -> str | None:
    if value is not None and (fault := fault_in(value, at_most)):
        raise EventValueError(f"metadata {name} {fault}")
    return value


def follow(recorded: Recorded[Any]) -> None:
    """Give what is recorded in this task from now on the metadata of what follows from an event."""
    about = recorded.metadata if recorded.extra else _NOTHING
    _current.set(
        Metadata(
            correlation_id=recorded.own_correlation_id or recorded.id_text,
            causation_id=recorded.id_text,
            actor=about.actor,
            traceparent=about.traceparent,
        )
    )


def _texts(headers: Mapping[str, str]) -> dict[str, str]:
    return {_text("header name", name) or "": _text(f"header {name!r}", value) or "" for name, value in headers.items()}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.strip('"')).astimezone(UTC)


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What `record` did: the ids and positions of the events, in the order in which they were given."""

    id_texts: tuple[str, ...]
    positions: tuple[int, ...]
    stream: str | None
    version: int | None
    """The stream's version after the last of them; None without a stream."""
    recorded_at_text: str
    """ISO 8601."""
    duplicate: bool
    """True if this dedupe key had been recorded before: then this is the receipt of that time."""

    @property
    def ids(self) -> tuple[UUID, ...]:
        """The ids of the events."""
        return tuple(map(UUID, self.id_texts))

    @property
    def id(self) -> UUID:
        """The id of the last event."""
        return UUID(self.id_texts[-1])

    @property
    def position(self) -> int:
        """The position of the last event."""
        return self.positions[-1]

    @property
    def recorded_at(self) -> datetime:
        """When they were recorded, by the clock of the database (of the process for SQLite), in UTC."""
        return _moment(self.recorded_at_text)


def decoder_of(type: str) -> Callable[[str], Event] | None:
    """Return what makes events of the `plain` JSON of a wire type, for those who decode many and keep none.

    None if they may have been stored in an older structure: then it takes `Recorded.events`. Raises `UnknownName`.
    """
    return None if has_past(type) else event_class(type).__structure__.decoding()


_decode_extra = msgspec.json.Decoder(dict[str, Any]).decode


class Recorded(msgspec.Struct, Generic[E_co], gc=False, eq=False):  # gc=False: it never holds a cycle
    """An event as the log holds it.

    What costs time to convert (the event itself, its id, its time, its metadata) is converted when it is asked for.
    """

    position: int
    id_text: str
    type: str
    kind_text: str
    stream: str | None
    version: int | None
    own_key: str | None
    data: str
    """The event as JSON, exactly as it is stored: what is personal in it is encrypted. `plain` is readable."""
    extra: str | None
    own_correlation_id: str | None
    causation_id: str | None
    recorded_at_text: str
    """ISO 8601, perhaps in quotes, as the database writes it fastest."""
    _event: Any = None
    opener: Opener | None = None
    """Reads what is encrypted in it; None where nothing is."""

    @property
    def plain(self) -> str:
        """The event as JSON, with its personal fields; those of persons who are forgotten hold their masks.

        Raises `UndecodableEvent` if one cannot be read.
        """
        return self.data if self.opener is None else self._opened(self.opener).data

    @property
    def masked(self) -> frozenset[str]:
        """The fields (by their names in JSON) that hold masks because their person is forgotten."""
        return frozenset() if self.opener is None else self._opened(self.opener).masked

    @property
    def shown(self) -> str:
        """As `plain`, for people: where something personal cannot be read, it says so and nothing is raised."""
        return self.data if self.opener is None else self.opener.show(self.type, self.id_text, self.data)

    def _opened(self, opener: Opener) -> Opened:
        try:
            return opener.open(self.type, self.id_text, self.data)
        except Exception as error:
            raise self._undecodable(error) from error

    @property
    def event(self) -> E_co:
        """The event; raises `UndecodableEvent` if no class has its type, the class no longer fits, or it has become
        several.
        """
        if self._event is None:
            self._event = self._decode()
        decoded: E_co = self._event
        return decoded

    @property
    def events(self) -> tuple[E_co, ...]:
        """The event, or what an upcaster makes of it if that is several or none; raises `UndecodableEvent`."""
        if self._event is None and has_past(self.type):
            return cast("tuple[E_co, ...]", self._decode_all())
        return (self.event,)

    @property
    def unknown_fields(self) -> frozenset[str]:
        """What is stored with the event and its class does not take, by paths as `address.zip`; the log keeps it."""
        return unknown_members(self.type, self.data)

    def _readable(self) -> str:
        if self.opener is not None:
            return self.opener.open(self.type, self.id_text, self.data).data
        if holds_tokens(self.data):
            raise PersonalDataError("its personal fields are encrypted, and it was not read from its log")
        return self.data

    def _decode(self) -> Event:
        if not has_past(self.type):
            try:
                data = self.data if self.opener is None and self.type not in PERSONAL else self._readable()
                event: Event = event_class(self.type).__structure__.decode(data)
            except Exception as error:
                raise self._undecodable(error) from error
            return event
        events = self._decode_all()
        if len(events) != 1:
            raise UndecodableEvent(
                f"event {self.id_text} at position {self.position} ({self.type}) has become {len(events)} events: "
                "ask for its `events`",
                position=self.position,
                type=self.type,
                stream=self.stream,
                version=self.version,
            )
        return events[0]

    def _decode_all(self) -> tuple[Event, ...]:
        try:
            return decode(self.type, self._readable())
        except Exception as error:
            raise self._undecodable(error) from error

    def _undecodable(self, error: Exception) -> UndecodableEvent:
        where = f"event {self.id_text} at position {self.position} "
        if isinstance(error, PersonalDataError):
            where += f"({self.type}) cannot be read: "
        else:
            where = "" if isinstance(error, UnknownName) else f"{where}does not fit its class {self.type!r}: "
        return UndecodableEvent(
            where + str(error),
            position=self.position,
            type=self.type,
            stream=self.stream,
            version=self.version,
        )

    @property
    def id(self) -> UUID:
        """The event's UUIDv7."""
        return UUID(self.id_text)

    @property
    def kind(self) -> Kind:
        """Which of the three kinds it is."""
        return Kind(self.kind_text)

    @property
    def key(self) -> str:
        """What its order is kept by: its key, else its stream, else itself (then it has no order to keep)."""
        return self.own_key or self.stream or self.id_text

    @property
    def correlation_id(self) -> str:
        """What it belongs to; an event that began something belongs to itself."""
        return self.own_correlation_id or self.id_text

    @property
    def recorded_at(self) -> datetime:
        """When it was recorded, by the clock of the database (of the process for SQLite), in UTC."""
        return _moment(self.recorded_at_text)

    @property
    def metadata(self) -> Metadata:
        """Everything known beside the event; raises `UndecodableEvent` if that is not what ensue writes."""
        try:
            return msgspec.convert(
                {
                    **(_decode_extra(self.extra) if self.extra else {}),
                    "correlation_id": self.correlation_id,
                    "causation_id": self.causation_id,
                },
                Metadata,
            )
        except Exception as error:
            raise UndecodableEvent(
                f"the metadata of event {self.id_text} at position {self.position} ({self.type}) is not what ensue "
                f"writes: {error}",
                position=self.position,
                type=self.type,
            ) from error
