"""What operators ask and decide: how far subscriptions are, what is parked, and what happens next with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from ensue.errors import EventValueError, UnknownName
from ensue.events import Recorded, decode
from ensue.log import Call, Log, Selection, Steps, legible
from ensue.subscriptions.declared import slot_of
from ensue.subscriptions.parking import GOES_ON

Decision = Literal["retry", "skip", "discard"]
Progress = Callable[[int, int], None]
"""Is told how much is done, and of how much."""

_PAGE = 1000
_names = msgspec.json.Decoder(list[str]).decode


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is wrong with the events, but what the handler needs is away: a relay's broker, for one."""

    since: datetime
    again_at: datetime
    """The next try."""
    reason: str


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a subscription, and who works on it."""

    first_slot: int
    last_slot: int
    checkpoint: int
    owner: str | None
    leased_until: datetime | None
    expired: bool
    """It has an owner, but its lease has run out: the owner is dead or cut off."""
    moved_at: datetime
    """When its checkpoint was last written."""
    held: Held | None
    """Why it does not go on; None: it is not held."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a subscription is."""

    subscription: str
    paused: bool
    types: tuple[str, ...]
    checkpoint: int
    """The lowest of its partitions' checkpoints."""
    behind: int
    """Events of its types between that and the head of the log."""
    oldest: datetime | None
    """When the first of them was recorded."""
    seconds_behind: float
    """How long ago that was."""
    retrying: int
    """Keys that are parked and tried again by themselves."""
    dead: int
    """Keys that are parked and wait for a person."""
    held: Held | None
    """Of its partitions that are held, the one that has been so for longest; None: none is."""
    partitions: tuple[Partition, ...]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a subscription has given up on for now; its key is parked."""

    subscription: str
    key: str
    position: int
    id: str
    type: str
    next_step: str
    """`wait`: for a person. `retry`, `skip`, `discard`: the worker does it when it is due."""
    due_at: datetime | None
    attempt: int
    reason: str
    traceback: str | None
    worker: str | None
    data: str | None
    """The event as JSON, as it will be delivered; None if it is no longer in the log."""
    edited: bool
    parked_at: datetime
    failed_at: datetime

    @property
    def on_its_way(self) -> bool:
        """The event has been handled, and those that queue behind it are next: there is nothing to decide on."""
        return self.next_step == "skip" and self.reason == GOES_ON


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which parked events; conditions are joined by `and`, none means all."""

    subscription: str | None = None
    type: str | None = None
    key: str | None = None
    id: str | None = None
    """The event's id, or the beginning or the end of it."""
    ids: frozenset[str] = frozenset()
    """One of these ids; none means any."""
    reason: str | None = None
    """A part of the reason, in any case."""
    parked_before: datetime | None = None
    parked_since: datetime | None = None
    waiting_only: bool = True
    """Only those that wait for a person."""

    def matches(self, letter: DeadLetter) -> bool:
        """Tell whether a parked event is one of them."""
        return (
            (self.subscription is None or letter.subscription == self.subscription)
            and (self.type is None or letter.type == self.type)
            and (self.key is None or letter.key == self.key)
            and (self.id is None or letter.id.startswith(self.id) or letter.id.endswith(self.id))
            and (not self.ids or letter.id in self.ids)
            and (self.reason is None or self.reason.lower() in letter.reason.lower())
            and (self.parked_before is None or letter.parked_at < self.parked_before)
            and (self.parked_since is None or letter.parked_at >= self.parked_since)
            and (not self.waiting_only or letter.next_step == "wait")
        )


class AuditEntry(msgspec.Struct, frozen=True, array_like=True):
    """What an operator did."""

    at: str
    actor: str
    action: str
    subscription: str | None
    key: str | None
    event_id: str | None
    reason: str
    detail: str | None


def standings(log: Log) -> Steps[list[Standing]]:
    """Return how far every subscription is, by name."""
    sql = log.dialect.sql
    rows = yield sql["progress"]()
    parked = {name: (retrying, dead) for name, retrying, dead in (yield sql["parked_counts"]())}
    head = yield from log.horizon()
    grouped: dict[str, list[Sequence[Any]]] = {}
    for row in rows:
        grouped.setdefault(row[0], []).append(row)
    found: list[Standing] = []
    for name, parts in grouped.items():
        checkpoint = min(part[4] for part in parts)
        types = tuple(_names(parts[0][-1]))
        behind, oldest = yield from _behind(log, types, checkpoint, head)
        retrying, dead = parked.get(name, (0, 0))
        partitions = tuple(_partition(part) for part in parts)
        found.append(
            Standing(
                subscription=name,
                paused=bool(parts[0][1]),
                types=types,
                checkpoint=checkpoint,
                behind=behind,
                oldest=oldest,
                seconds_behind=max(0.0, (datetime.now(UTC) - oldest).total_seconds()) if oldest else 0.0,
                retrying=retrying,
                dead=dead,
                held=min((each.held for each in partitions if each.held), key=lambda held: held.since, default=None),
                partitions=partitions,
            )
        )
    return found


def _partition(row: Sequence[Any]) -> Partition:
    _, _, first, last, checkpoint, owner, until, expired, moved_at, since, again_at, reason, _ = row
    return Partition(
        first_slot=first,
        last_slot=last,
        checkpoint=checkpoint,
        owner=owner,
        leased_until=_moment(until),
        expired=bool(expired),
        moved_at=datetime.fromisoformat(moved_at),
        held=None
        if since is None
        else Held(since=datetime.fromisoformat(since), again_at=datetime.fromisoformat(again_at), reason=reason),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _behind(log: Log, types: tuple[str, ...], checkpoint: int, head: int) -> Steps[tuple[int, datetime | None]]:
    first = yield from log.read(Selection(after=checkpoint, until=head, types=types), 1)
    if not first:
        return 0, None
    total = 0
    for type in types:
        total += (yield log.dialect.sql["count_type"](type=type, after=checkpoint, until=head))[0][0]
    return total, first[0].recorded_at


def dead_letters(log: Log, filter: Filter) -> Steps[list[DeadLetter]]:
    """Return the parked events that match, in the log's order."""
    found: list[DeadLetter] = []
    for row in (yield log.dialect.sql["parked"]()):
        (
            subscription,
            key,
            position,
            id,
            type,
            step,
            due,
            attempt,
            reason,
            trace,
            worker,
            data,
            parked,
            failed,
            edited,
        ) = row
        letter = DeadLetter(
            subscription=subscription,
            key=key,
            position=position,
            id=id,
            type=type,
            next_step=step,
            due_at=_moment(due),
            attempt=attempt,
            reason=reason,
            traceback=trace,
            worker=worker,
            data=legible(data),
            edited=bool(edited),
            parked_at=datetime.fromisoformat(parked),
            failed_at=datetime.fromisoformat(failed),
        )
        if filter.matches(letter):
            found.append(letter)
    return found


def waiting(log: Log, letter: DeadLetter) -> Steps[list[Recorded[Any]]]:
    """Return the events that queue behind a parked one, in order, at most a thousand."""
    queue = yield from _queue(log, letter)
    return [] if queue is None else (yield from log.read(queue, _PAGE))


def _queue(log: Log, letter: DeadLetter) -> Steps[Selection | None]:
    """Select what queues behind a parked event; what the checkpoint has not reached is still to be delivered."""
    rows = yield log.dialect.sql["slot_at"](subscription=letter.subscription, key=letter.key, slot=slot_of(letter.key))
    if not rows or letter.key == letter.id:
        return None
    reached, *_, types = rows[0]
    return Selection(after=letter.position, until=reached, types=tuple(_names(types)), key=letter.key)


def _all_waiting(log: Log, letter: DeadLetter) -> Steps[tuple[list[str], int]]:
    """Return the ids of all that queue behind a parked event, and the position up to which that was looked for."""
    ids: list[str] = []
    queue = yield from _queue(log, letter)
    if queue is None:
        return ids, letter.position
    after = letter.position
    while rows := (yield from log.read(replace(queue, after=after), _PAGE)):
        ids.extend(each.id_text for each in rows)
        after = rows[-1].position
    return ids, max(letter.position, queue.until or 0)


def decide(
    log: Log,
    filter: Filter,
    decision: Decision,
    *,
    actor: str,
    reason: str,
    dry_run: bool,
    progress: Progress | None = None,
) -> Steps[list[DeadLetter]]:
    """Say what happens next with every parked event that matches; return them in the log's order.

    The worker that holds the key carries it out: `retry` tries again now, with all its attempts anew; `skip` gives up
    this event and goes on with those behind it; `discard` drops the event and all that queue behind it now, not what
    is recorded later. The order of a key is kept in every case. Each decision is written to the audit table, with the
    ids of what is dropped.
    """
    letters = [each for each in (yield from dead_letters(log, filter)) if not each.on_its_way]
    if dry_run:
        return letters
    sql = log.dialect.sql
    decided: list[DeadLetter] = []
    for number, letter in enumerate(letters):
        if progress is not None:
            progress(number, len(letters))
        dropped = [letter.id] if decision in ("skip", "discard") else []
        until = None
        if decision == "discard":
            behind, until = yield from _all_waiting(log, letter)
            dropped += behind
        taken = yield sql["decide"](
            subscription=letter.subscription,
            key=letter.key,
            position=letter.position,
            next_step=decision,
            data=None,
            until=until,
        )
        if taken:  # otherwise it has moved on meanwhile
            decided.append(letter)
            detail = msgspec.json.encode({"position": letter.position, "dropped": dropped}).decode()
            yield from _audit(log, letter, decision, actor, reason, detail)
    return decided


def edit(log: Log, letter: DeadLetter, data: str, *, actor: str, reason: str) -> Steps[None]:
    """Deliver a parked event with other contents, to this subscription only; the log keeps what was recorded.

    Raises `EventValueError` if its class would not take the contents, `UnknownName` if it is parked no more.
    """
    if letter.on_its_way:
        raise UnknownName(f"event {letter.id} has been handled by {letter.subscription}; what queues behind it is next")
    try:
        decode(letter.type, data)
    except UnknownName:
        raise
    except Exception as error:
        raise EventValueError(f"{letter.type} does not take these contents: {error}") from error
    taken = yield log.dialect.sql["decide"](
        subscription=letter.subscription,
        key=letter.key,
        position=letter.position,
        next_step="retry",
        data=data,
        until=None,
    )
    if not taken:
        raise UnknownName(f"event {letter.id} is no longer parked for {letter.subscription}")
    detail = msgspec.json.encode({"position": letter.position, "before": letter.data, "after": data}).decode()
    yield from _audit(log, letter, "edit", actor, reason, detail)


def _audit(log: Log, letter: DeadLetter, action: str, actor: str, reason: str, detail: str) -> Steps[None]:
    yield log.dialect.sql["insert_audit"](
        actor=actor,
        action=action,
        subscription=letter.subscription,
        key=letter.key,
        event_id=letter.id,
        reason=reason,
        detail=detail,
    )


def audit(log: Log, limit: int, subscription: str | None, event_id: str | None) -> Steps[list[AuditEntry]]:
    """Return what operators did, the latest first: all of it, or that to one subscription or one event."""
    rows = yield log.dialect.sql["audit"](limit=limit, subscription=subscription, event_id=event_id)
    return [AuditEntry(*row) for row in rows]


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that has recorded and is still open: nothing behind its position can be delivered yet."""

    position: int
    pid: int | None
    application: str
    state: str
    seconds: float
    query: str


def holders(log: Log) -> Steps[list[Holder]]:
    """Return who holds the horizon back, the furthest first; nobody in SQLite."""
    if "holders" not in log.dialect.sql:
        return []
    return [
        Holder(
            position=position, pid=pid, application=app or "", state=state or "prepared", seconds=age, query=query or ""
        )
        for position, pid, app, state, age, query in (yield log.dialect.sql["holders"]())
    ]


class WorkerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that the log knows of."""

    id: str
    seconds: float
    """Since it was last heard of."""


def workers(log: Log) -> Steps[list[WorkerSeen]]:
    """Return the workers that have lived lately."""
    return [WorkerSeen(id=id, seconds=seconds) for id, seconds in (yield log.dialect.sql["workers"]())]


def clock(log: Log) -> Steps[float]:
    """Return how far this machine's clock is ahead of the database's, in seconds."""
    found = (yield Call(log.dialect.sql["clock"]))[0][0]
    return (datetime.now(UTC) - datetime.fromisoformat(found)).total_seconds()
