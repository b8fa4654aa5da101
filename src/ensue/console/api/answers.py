"""What queries take and answer, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ensue.app.seeing import Seen
from ensue.app.telling import raw
from ensue.console.acting import Name, Text
from ensue.events import Recorded
from ensue.handlers.processes import Status
from ensue.history import State, Trace
from ensue.subscriptions.inspecting import Passage
from ensue.subscriptions.operating import AuditEntry, DeadLetter
from ensue.subscriptions.standings import Holder

Position = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=500)]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for, in the query."""


class Events(Asked, frozen=True, kw_only=True):
    """Which events."""

    type: Text | None = None
    key: Text | None = None
    stream: Text | None = None
    correlation: Text | None = None
    since: Text | None = None
    before: Text | None = None
    text: Text | None = None
    until: Position | None = None
    limit: Limit = 50


class Letters(Asked, frozen=True, kw_only=True):
    """Which dead letters."""

    subscription: Text | None = None
    type: Text | None = None
    fault: Text | None = None
    key: Text | None = None
    contains: Text | None = None
    since: Text | None = None
    before: Text | None = None
    all: bool = False
    """Also those that are tried again by themselves."""
    after: Position = 0
    behind: Text = ""
    limit: Limit = 50


class OfQueue(Asked, frozen=True, kw_only=True):
    """Of which subscription, and how many."""

    subscription: Name
    limit: Limit = 50


class OfSubscription(Asked, frozen=True, kw_only=True):
    """Of which subscription."""

    subscription: Text | None = None


class When(Asked, frozen=True, kw_only=True):
    """At which version, or at which moment."""

    version: Annotated[int, msgspec.Meta(ge=1, le=2**62)] | None = None
    as_of: Text | None = None


class Versions(Asked, frozen=True, kw_only=True):
    """Between which versions."""

    first: Position
    last: Position


class OfProcess(Asked, frozen=True, kw_only=True):
    """Which processes."""

    process: Text
    status: Status = "running"
    limit: Limit = 50


class Entries(Asked, frozen=True, kw_only=True):
    """Which entries of the audit."""

    subscription: Text | None = None
    key: Text | None = None
    before: Position = 2**62
    limit: Limit = 50


class OfProjection(Asked, frozen=True, kw_only=True):
    """Of which projection."""

    projection: Text | None = None


class Some(Asked, frozen=True, kw_only=True):
    """How many."""

    limit: Limit = 50


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be."""

    level: str
    what: str
    mend: str
    action: str | None
    values: dict[str, str]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """How the application is."""

    level: str
    sentence: str
    problems: list[Problem]
    recorded_per_second: float | None
    handled_per_second: float | None
    oldest_seconds: float
    dead_letters: int
    retrying: int
    workers: list[str]
    complete_up_to: int
    holders: list[Holder]


class SubscriptionSeen(msgspec.Struct, frozen=True, kw_only=True):
    """How a subscription is."""

    seen: Seen
    handled_per_second: float | None
    caught_up_in_seconds: float | None


class EventSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An event as the log holds it."""

    position: int
    id: str
    type: str
    kind: str
    stream: str | None
    version: int | None
    key: str
    data: msgspec.Raw
    """Null where the visitor may not see payloads."""
    metadata: msgspec.Raw
    correlation_id: str | None
    causation_id: str | None
    recorded_at: datetime


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What queues behind a dead letter."""

    letter: DeadLetter
    queued: int
    """How many there are."""
    events: list[EventSeen]
    """The first of them, in the order that will be kept."""


class EventsFound(msgspec.Struct, frozen=True, kw_only=True):
    """What a search has found, the latest first."""

    events: list[EventSeen]
    down_to: int
    """Everything above this position has been looked through: to go on, ask `until` it."""


class EventShown(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about an event."""

    event: EventSeen
    subscriptions: list[Passage]
    decisions: list[Entry]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator did."""

    number: int
    at: str
    actor: str
    action: str
    subscription: str | None
    key: str | None
    event_id: str | None
    reason: str
    detail: msgspec.Raw


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two versions of an aggregate; the values are as JSON has them."""

    stream: str
    first: int
    last: int
    before: dict[str, msgspec.Raw]
    after: dict[str, msgspec.Raw]
    events: list[EventSeen]


class JobSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A long action."""

    number: int
    what: str
    actor: str
    state: str
    done: int
    total: int
    told: str
    began: datetime
    ended: datetime | None


class Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no other answer."""

    error: str


NULL = msgspec.Raw(b"null")


def json(text: str | None) -> msgspec.Raw:
    """Return stored JSON as it is; text that is none as text."""
    found = raw(text)
    return found if isinstance(found, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(found))


def event_seen(recorded: Recorded[Any], *, payloads: bool) -> EventSeen:
    """Return an event for programs."""
    return EventSeen(
        position=recorded.position,
        id=recorded.id_text,
        type=recorded.type,
        kind=recorded.kind_text,
        stream=recorded.stream,
        version=recorded.version,
        key=recorded.key,
        data=json(recorded.shown) if payloads else NULL,
        metadata=json(recorded.extra) if payloads else NULL,
        correlation_id=recorded.correlation_id,
        causation_id=recorded.causation_id,
        recorded_at=recorded.recorded_at,
    )


def entry(found: AuditEntry, *, payloads: bool) -> Entry:
    """Return an entry of the audit for programs."""
    return Entry(
        number=found.number,
        at=found.at,
        actor=found.actor,
        action=found.action,
        subscription=found.subscription,
        key=found.key,
        event_id=found.event_id,
        reason=found.reason,
        detail=json(found.detail) if payloads else NULL,
    )


def values(state: Mapping[str, Any], *, payloads: bool) -> dict[str, msgspec.Raw]:
    """Return the parts of a state."""
    return {name: msgspec.Raw(msgspec.json.encode(each)) if payloads else NULL for name, each in state.items()}


# --- what hides what events hold


def without_reason(reason: str) -> str:
    """Return what a reason says in front of its first colon: the class of the error."""
    return reason.partition(":")[0]


def veiled_letter(letter: DeadLetter, *, payloads: bool) -> DeadLetter:
    """Return a dead letter without what its event holds."""
    if payloads:
        return letter
    return msgspec.structs.replace(letter, data=None, traceback=None, reason=without_reason(letter.reason))


def veiled_passage(passage: Passage, *, payloads: bool) -> Passage:
    """Return a passage without what the error says."""
    if payloads or passage.reason is None:
        return passage
    return msgspec.structs.replace(passage, reason=without_reason(passage.reason))


def veiled_trace(trace: Trace, *, payloads: bool) -> Trace:
    """Return a trace without what errors say."""
    if payloads:
        return trace
    events = tuple(
        msgspec.structs.replace(
            each, subscriptions=tuple(veiled_passage(one, payloads=False) for one in each.subscriptions)
        )
        for each in trace.events
    )
    return msgspec.structs.replace(trace, events=events)


def veiled_seen(seen: Seen, *, payloads: bool) -> Seen:
    """Return how a subscription is without what its last error says, nor why it waits."""
    if payloads:
        return seen
    error, standing = seen.last_error, seen.standing
    if error is not None:
        error = msgspec.structs.replace(error, reason=without_reason(error.reason))
    if standing is not None and (held := standing.held) is not None:
        held = msgspec.structs.replace(held, reason=without_reason(held.reason))
        standing = msgspec.structs.replace(standing, held=held)
    return msgspec.structs.replace(seen, last_error=error, standing=standing)


def veiled_state(state: State, *, payloads: bool) -> State:
    """Return where an aggregate is, without what it holds."""
    return state if payloads else msgspec.structs.replace(state, state={})
