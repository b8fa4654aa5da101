"""What caused what: the tree of the events that followed from one, across aggregates, processes and services."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ensue.errors import EnsueError, UndecodableEvent, UnknownName
from ensue.events import RECEIVED_FROM, Metadata, Recorded
from ensue.history.errands import Ask, Errand
from ensue.log import Log, Selection, Steps
from ensue.subscriptions.inspecting import Passage, passages


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """One event in a trace, or a cause of which only the id is known."""

    id: str
    depth: int
    """How many causes lie between it and the root: 0 for the root itself."""
    cause: str | None
    """The id of what caused it, if that was recorded."""
    service: str | None = None
    """The application whose log holds it; None: no log that was looked at."""
    position: int | None = None
    type: str | None = None
    kind: str | None = None
    stream: str | None = None
    version: int | None = None
    key: str | None = None
    """What its order is kept by, unless that is itself."""
    actor: str | None = None
    recorded_at: datetime | None = None
    seconds: float | None = None
    """Since the first event of the trace, by the clocks of the databases."""
    received_from: str | None = None
    """The source of the message that it was recorded because of: another service."""
    published_by: tuple[str, ...] = ()
    """The relays that have published it."""
    subscriptions: tuple[Passage, ...] = ()
    """How far every subscription that wants it is with it."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The tree of what caused what, around one event."""

    id: str
    """The event that was asked about."""
    correlation_id: str
    events: tuple[Traced, ...]
    """The root first; behind each event, what it caused, in the order of the log and deeper by one."""
    complete: bool
    """False: there were more events of the same correlation id than were looked at."""
    beside: int
    """How many events that were looked at have the same correlation id and another root."""

    @property
    def root(self) -> Traced:
        """The furthest cause that is known."""
        return self.events[0]

    @property
    def event(self) -> Traced:
        """The event that was asked about."""
        return next(each for each in self.events if each.id == self.id)

    def effects(self, of: Traced) -> list[Traced]:
        """Return what an event of the trace has caused directly."""
        return [each for each in self.events if each.cause == of.id and each.depth == of.depth + 1]

    def causes(self, of: Traced) -> list[Traced]:
        """Return what has led to an event of the trace: from the root to its cause."""
        by_id = {each.id: each for each in self.events}
        found: list[Traced] = []
        while of.depth > 0 and of.cause is not None:
            of = by_id[of.cause]
            found.append(of)
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Service:
    """An application as a trace needs it."""

    name: str
    log: Log
    relays: Collection[str]
    """The names of the subscriptions that publish."""


@dataclass(slots=True)
class _Found:
    """What has been read so far."""

    by_id: dict[str, tuple[Service, Recorded[Any]]] = field(default_factory=dict[str, tuple[Service, Recorded[Any]]])
    families: set[str] = field(default_factory=set[str])
    complete: bool = True

    def add(self, service: Service, rows: Sequence[Recorded[Any]]) -> None:
        for row in rows:
            self.by_id.setdefault(row.id_text, (service, row))


def trace(services: Sequence[Service], id: str, limit: int) -> Errand[Trace]:
    """Find an event, what led to it, and all that followed from that; raise `UnknownName` if no log has the event.

    All that belongs to one request bears its correlation id, in other services too: that is what is read, of each log
    `limit` events at most, and joined by causation ids. A cause of another correlation id is looked up by its id.
    """
    if limit < 1:
        raise EnsueError(f"limit={limit}: at least 1 event")
    asked = _uuid(id)
    found = _Found()
    start = None if asked is None else (yield from _look_up(services, asked, found))
    if asked is None or start is None:
        logs = ", ".join(repr(each.name) for each in services)
        raise UnknownName(f"no event has the id {id!r}, in the log of {logs}")
    yield from _read_families(services, start, found, limit)
    path = yield from _climb(services, start, found, limit)
    root = path[-1]
    children = _children(found)
    tree = _walk(root, children)
    known = [each for each, _ in tree if each in found.by_id]
    passed = yield from _passages(known, found)
    relatives = {row.id_text for _, row in found.by_id.values() if row.correlation_id == start.correlation_id}
    began = min(found.by_id[each][1].recorded_at for each in known)
    return Trace(
        id=asked,
        correlation_id=start.correlation_id,
        events=tuple(_traced(each, depth, found, passed, began) for each, depth in tree),
        complete=found.complete,
        beside=len(relatives.difference(known)),
    )


def _uuid(text: str | None) -> str | None:
    try:
        return None if text is None else str(UUID(text))
    except ValueError:
        return None


def _look_up(services: Sequence[Service], id: str, found: _Found) -> Errand[Recorded[Any] | None]:
    for service in services:
        rows: list[Recorded[Any]] = yield Ask(service.log, service.log.read(Selection(id=id), 1))
        if rows:
            found.add(service, rows)
            return found.by_id[id][1]
    return None


def _read_families(services: Sequence[Service], member: Recorded[Any], found: _Found, limit: int) -> Errand[None]:
    """Read what belongs together, the first events of it; of the member's own log also those behind the member."""
    family = member.correlation_id
    if family in found.families:
        return
    found.families.add(family)
    home = found.by_id[member.id_text][0]
    for service in services:
        rows = yield from _read(service, Selection(correlation_id=family), limit, found)
        if len(rows) > limit:
            found.complete = False
            if service is home:
                behind = Selection(correlation_id=family, after=member.position)
                yield from _read(service, behind, limit, found)


def _read(service: Service, selection: Selection, limit: int, found: _Found) -> Errand[list[Recorded[Any]]]:
    rows: list[Recorded[Any]] = yield Ask(service.log, service.log.read(selection, limit + 1))
    found.add(service, rows[:limit])
    return rows


def _climb(services: Sequence[Service], start: Recorded[Any], found: _Found, limit: int) -> Errand[list[str]]:
    """Return the ids from an event up to its furthest cause; the last one may be known by its id only."""
    path, row = [start.id_text], start
    while (cause := row.causation_id) is not None and (cause := _uuid(cause) or cause) not in path:
        known = found.by_id.get(cause)
        above = known[1] if known else None
        if above is None and _uuid(cause) is not None:
            above = yield from _look_up(services, cause, found)
        if len(path) >= limit:
            found.complete = False
            break
        path.append(cause)
        if above is None:
            break
        yield from _read_families(services, above, found, limit)
        row = above
    return path


def _children(found: _Found) -> Mapping[str, list[str]]:
    """Return what each event caused: within a log in its order, and by time where logs meet."""
    rows = sorted(found.by_id.values(), key=lambda each: (each[1].recorded_at, each[1].position))
    children: dict[str, list[str]] = {}
    for _, row in rows:
        if row.causation_id is not None:
            children.setdefault(_uuid(row.causation_id) or row.causation_id, []).append(row.id_text)
    return children


def _walk(root: str, children: Mapping[str, list[str]]) -> list[tuple[str, int]]:
    """Return a tree's ids, each before what it caused, with their depths; an id that would cause itself once."""
    tree: list[tuple[str, int]] = []
    seen: set[str] = set()
    todo = [(root, 0)]
    while todo:
        id, depth = todo.pop()
        if id not in seen:
            seen.add(id)
            tree.append((id, depth))
            todo.extend((child, depth + 1) for child in reversed(children.get(id, ())))
    return tree


def _passages(ids: Sequence[str], found: _Found) -> Errand[dict[str, list[Passage]]]:
    """Return how far the subscriptions of its log are with each event."""
    by_log: dict[Log, list[Recorded[Any]]] = {}
    for id in ids:
        service, row = found.by_id[id]
        by_log.setdefault(service.log, []).append(row)
    passed: dict[str, list[Passage]] = {}
    for log, rows in by_log.items():
        passed |= yield Ask(log, _all_passages(log, rows))
    return passed


def _all_passages(log: Log, rows: Sequence[Recorded[Any]]) -> Steps[dict[str, list[Passage]]]:
    passed: dict[str, list[Passage]] = {}
    for row in rows:
        passed[row.id_text] = yield from passages(log, row)
    return passed


def _about(row: Recorded[Any]) -> Metadata:
    try:
        return row.metadata
    except UndecodableEvent:  # recorded by SQL, in a way of its own
        return Metadata()


def _traced(id: str, depth: int, found: _Found, passed: Mapping[str, list[Passage]], began: datetime) -> Traced:
    if id not in found.by_id:
        return Traced(id=id, depth=depth, cause=None)
    service, row = found.by_id[id]
    about = _about(row)
    subscriptions = tuple(passed[id])
    return Traced(
        id=id,
        depth=depth,
        cause=_uuid(row.causation_id) or row.causation_id,
        service=service.name,
        position=row.position,
        type=row.type,
        kind=row.kind_text,
        stream=row.stream,
        version=row.version,
        key=None if row.key == row.id_text else row.key,
        actor=about.actor,
        recorded_at=row.recorded_at,
        seconds=(row.recorded_at - began).total_seconds(),
        received_from=about.headers.get(RECEIVED_FROM),
        published_by=tuple(
            each.subscription
            for each in subscriptions
            if each.state == "passed" and each.subscription in service.relays
        ),
        subscriptions=subscriptions,
    )
