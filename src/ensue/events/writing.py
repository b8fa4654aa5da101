"""From an event to what the log stores of it."""

from __future__ import annotations

from enum import Enum
from uuid import UUID

import msgspec

from ensue.errors import EventValueError
from ensue.events.envelope import current_metadata
from ensue.events.ids import new_id
from ensue.events.kinds import Event, Kind
from ensue.events.texts import LONGEST, fault_in


class Written(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One event as the log's recording function takes it."""

    id: str
    type: str
    kind: Kind
    data: msgspec.Raw
    key: str | None = None
    metadata: msgspec.Raw | None = None
    correlation_id: str | None = None
    causation_id: str | None = None


class _Stored(msgspec.Struct, frozen=True, gc=False):
    """As `Written`: msgspec does not decode a union of raw JSON and None."""

    id: str
    type: str
    kind: Kind
    data: msgspec.Raw
    key: str | None = None
    metadata: msgspec.Raw = msgspec.Raw()
    correlation_id: str | None = None
    causation_id: str | None = None


_decode = msgspec.json.Decoder(_Stored).decode


def written_again(text: str) -> Written:
    """Return what was put aside as JSON, to be recorded later."""
    found = _decode(text)
    return Written(
        found.id,
        found.type,
        found.kind,
        found.data,
        found.key,
        found.metadata or None,
        found.correlation_id,
        found.causation_id,
    )


def write(events: tuple[Event, ...], *, stream: str | None) -> list[Written]:
    """Encode events with the current metadata; raise `EventValueError` for what cannot be recorded."""
    if not events:
        raise EventValueError("record() was given no event")
    about = current_metadata()
    metadata = about.extra
    correlation, causation = about.correlation_id, about.causation_id
    written: list[Written] = []
    for event in events:
        cls = type(event)
        try:
            structure, kind, key = cls.__structure__, cls.__kind__, cls.__key__
        except AttributeError:
            raise EventValueError(
                f"{cls.__qualname__} is not an event: derive it from DomainEvent, SourcedEvent or IntegrationEvent"
            ) from None
        if stream is None and kind is Kind.SOURCED:
            raise EventValueError(
                f"{cls.__qualname__} is an event-sourced event and belongs to a stream: record(…, stream='…')"
            )
        if key is not None:
            key = _key(event, key)
        data = msgspec.Raw(structure.encode(event))
        written.append(Written(new_id(), cls.__type__, kind, data, key, metadata, correlation, causation))
    return written


def _key(event: Event, field: str) -> str:
    value = getattr(event, field)
    if type(value) is str and 0 < len(value) <= LONGEST:
        return value
    if type(value) is UUID:
        text: str = msgspec.to_builtins(value)  # a third of the price of UUID's own
        return text
    text = str(value.value if isinstance(value, Enum) else value)
    if len(text) > LONGEST:
        raise EventValueError(f"{type(event).__qualname__}.{field}, the key that keeps the order, {fault_in(text)}")
    if value is None or not text:
        raise EventValueError(f"{type(event).__qualname__}.{field} is {value!r}: the key that keeps the order is empty")
    return text
