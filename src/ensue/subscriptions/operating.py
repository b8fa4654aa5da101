"""What operators ask and decide about dead letters: what is parked, and what happens next with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from ensue.errors import EventValueError, PersonalDataError, UnknownName
from ensue.events import Recorded, decode
from ensue.keys import Ring
from ensue.log import Log, Rows, Selection, Steps, legible
from ensue.subscriptions.declared import slot_of
from ensue.subscriptions.parking import GOES_ON, PLACE

Decision = Literal["retry", "skip", "discard"]
Progress = Callable[[int, int], None]
"""Is told how much is done, and of how much."""

_PAGE = 1000
ALL = 2**62
"""No limit."""
_json = msgspec.json.Encoder().encode
_names = msgspec.json.Decoder(list[str]).decode


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
    """The event as JSON, as it will be delivered; None if it is no longer in the log. Something personal that cannot be
    read here says so."""
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
    fault: str | None = None
    """What the reason says in front of its first colon: the class of the error."""
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


@dataclass(frozen=True)
class Noting:
    """Collects, of the events that are dropped, those that somebody has to know of."""

    wants: Callable[[Recorded[Any]], bool]
    noted: list[Recorded[Any]] = field(default_factory=list[Recorded[Any]])


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
    number: int
    """Grows from entry to entry."""


def dead_letters(
    log: Log, filter: Filter, limit: int = ALL, behind: tuple[int, str] = (0, "")
) -> Steps[list[DeadLetter]]:
    """Return the parked events that match, in the log's order: so many, behind a (position, subscription)."""
    sealed = log.personal.vault.used and filter.reason is not None
    found: list[DeadLetter] = []
    while True:
        rows = yield from _parked(log, replace(filter, reason=None) if sealed else filter, limit, behind)
        letters = yield from _letters(log, rows)
        if not sealed:
            return letters
        # what is encrypted is searched when it has been decrypted
        found.extend(each for each in letters if str(filter.reason).lower() in each.reason.lower())
        if len(rows) < limit or len(found) >= limit:
            return found[:limit]
        behind = (letters[-1].position, letters[-1].subscription)


def _parked(log: Log, filter: Filter, limit: int, behind: tuple[int, str]) -> Steps[Rows]:
    return (
        yield log.dialect.sql["parked"](
            subscription=filter.subscription,
            type=filter.type,
            fault=filter.fault,
            key=filter.key,
            id=filter.id,
            ids=_json(sorted(filter.ids)).decode() if filter.ids else None,
            reason=filter.reason,
            since=_text(filter.parked_since),
            before=_text(filter.parked_before),
            waiting=filter.waiting_only,
            after=behind[0],
            behind=behind[1],
            limit=limit,
        )
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _letters(log: Log, rows: Rows) -> Steps[list[DeadLetter]]:
    if not log.personal.vault.used:
        return [_letter(row, None) for row in rows]
    ring = yield from log.personal.ring(
        text for row in rows for text in (row[_REASON], row[_TRACE], legible(row[_DATA]))
    )
    return [_letter(row, ring) for row in rows]


_REASON, _TRACE, _DATA = 8, 9, 11


def _letter(row: Sequence[Any], ring: Ring | None) -> DeadLetter:
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
    data = legible(data)
    return DeadLetter(
        subscription=subscription,
        key=key,
        position=position,
        id=id,
        type=type,
        next_step=step,
        due_at=None if due is None else datetime.fromisoformat(due),
        attempt=attempt,
        reason=reason if ring is None else ring.tell(reason, PLACE),
        traceback=trace if ring is None or trace is None else ring.tell(trace, PLACE),
        worker=worker,
        data=data if ring is None or data is None else ring.show(type, id, data),
        edited=bool(edited),
        parked_at=datetime.fromisoformat(parked),
        failed_at=datetime.fromisoformat(failed),
    )


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


def _all_waiting(
    log: Log, letter: DeadLetter, noting: Noting | None, noted: list[Recorded[Any]]
) -> Steps[tuple[list[str], int]]:
    """Return the ids of all that queue behind a parked event, and the position up to which that was looked for."""
    ids: list[str] = []
    queue = yield from _queue(log, letter)
    if queue is None:
        return ids, letter.position
    after = letter.position
    while rows := (yield from log.read(replace(queue, after=after), _PAGE)):
        ids.extend(each.id_text for each in rows)
        noted += [each for each in rows if noting is not None and noting.wants(each)]
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
    limit: int = ALL,
    behind: tuple[int, str] = (0, ""),
    noting: Noting | None = None,
) -> Steps[list[DeadLetter]]:
    """Say what happens next with every parked event that matches; return them in the log's order.

    The worker that holds the key carries it out: `retry` tries again now, with all its attempts anew; `skip` gives up
    this event and goes on with those behind it; `discard` drops the event and all that queue behind it now, not what
    is recorded later. The order of a key is kept in every case. Each decision is written to the audit table, with the
    ids of what is dropped.
    """
    found = yield from dead_letters(log, filter, limit, behind)
    letters = [each for each in found if not each.on_its_way]
    if dry_run:
        return letters
    sql = log.dialect.sql
    decided: list[DeadLetter] = []
    for number, letter in enumerate(letters):
        if progress is not None:
            progress(number, len(letters))
        dropped = [letter.id] if decision in ("skip", "discard") else []
        noted: list[Recorded[Any]] = []
        until = None
        if noting is not None and dropped:
            rows = yield from log.read(Selection(after=letter.position - 1, until=letter.position), 1)
            noted += [each for each in rows if noting.wants(each)]
        if decision == "discard":
            queue, until = yield from _all_waiting(log, letter, noting, noted)
            dropped += queue
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
            if noting is not None:
                noting.noted.extend(noted)
            detail = msgspec.json.encode({"position": letter.position, "dropped": dropped}).decode()
            yield from _audit(log, letter, decision, actor, reason, detail)
    return decided


def edit(log: Log, letter: DeadLetter, data: str, *, actor: str, reason: str) -> Steps[None]:
    """Deliver a parked event with other contents, to this subscription only; the log keeps what was recorded.

    Raises `EventValueError` if its class would not take the contents, `UnknownName` if it is parked no more.
    """
    if letter.on_its_way:
        raise UnknownName(f"event {letter.id} has been handled by {letter.subscription}; what queues behind it is next")
    before = yield from _stored(log, letter)
    ring = yield from log.personal.ring([before])
    try:
        data = ring.restored(letter.type, letter.id, data, before)
        decode(letter.type, ring.open(letter.type, letter.id, data).data)
    except (UnknownName, PersonalDataError):
        raise
    except Exception as error:
        raise EventValueError(f"{letter.type} does not take these contents: {error}") from error
    data = yield from log.personal.conceal_edited(letter.type, letter.id, data)
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
    detail = msgspec.json.encode({"position": letter.position, "before": before, "after": data}).decode()
    yield from _audit(log, letter, "edit", actor, reason, detail)


def _stored(log: Log, letter: DeadLetter) -> Steps[str]:
    """Return a parked event as it is stored."""
    filter = Filter(subscription=letter.subscription, ids=frozenset({letter.id}), waiting_only=False)
    for row in (yield from _parked(log, filter, ALL, (0, ""))):
        if row[_DATA] is not None:
            return str(legible(row[_DATA]))
    raise UnknownName(f"event {letter.id} is no longer parked for {letter.subscription}, or no longer in the log")


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


def audit(
    log: Log, limit: int, subscription: str | None, event_id: str | None, key: str | None = None, before: int = ALL
) -> Steps[list[AuditEntry]]:
    """Return what operators did, the latest first: all of it, or that to one subscription, one key or one event."""
    rows = yield log.dialect.sql["audit"](
        limit=limit, subscription=subscription, event_id=event_id, key=key, before=before
    )
    return [AuditEntry(*row) for row in rows]
