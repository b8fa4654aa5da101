"""Timers are rows: they are set and cancelled in the open transaction of whoever does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from ensue.errors import DeclarationError, UnknownName
from ensue.events import Event, Written, fault_in, write, written_again
from ensue.events.personal import declared
from ensue.log import Log, Steps
from ensue.subscriptions import When, seconds

_json = msgspec.json.Encoder().encode


class Timer(msgspec.Struct, frozen=True, kw_only=True):
    """A timer that has been set."""

    name: str
    """By which it is replaced and cancelled: the event's id if it was given none."""
    due_at: datetime
    type: str
    """The wire type of the event that will be recorded."""
    event_id: str
    """The id that the event will have."""


class Setting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A timer as it is about to be set."""

    owner: str
    name: str
    seconds: float
    event: str
    """As it will be recorded, with its id and metadata."""
    at: str | None = None

    @property
    def written(self) -> Written:
        """The event as it will be recorded."""
        return written_again(self.event)


def setting(when: When, event: Event, *, owner: str = "", name: str | None = None) -> Setting:
    """Prepare a timer; raise `DeclarationError` for what is no time, and `EventValueError` for what cannot be recorded.

    The event gets its id and its metadata now.
    """
    if name is not None and (not isinstance(name, str) or not name or fault_in(name, 100)):
        raise DeclarationError(f"timer {name!r}: a name is text of at most 100 characters that is not empty")
    (written,) = write((event,), stream=None)
    moment, delay = _time(when)
    return Setting(
        owner=owner,
        name=written.id if name is None else name,
        seconds=delay,
        at=moment,
        event=_json(written).decode(),
    )


def _time(when: When) -> tuple[str | None, float]:
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise DeclarationError(f"after({when!r}): the moment has no time zone: make it aware")
        return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"), 0.0
    delay = seconds(when)
    if delay > _LONGEST:
        raise DeclarationError(f"after({when!r}): more than a hundred years ahead")
    return None, round(max(0.0, delay), 3)


_LONGEST = 100 * 366 * 86400.0


def set_timers(log: Log, settings: Sequence[Setting]) -> Steps[list[Timer]]:
    """Set timers in the open transaction; one of the same owner and name is replaced."""
    yield from log.begin()
    settings = yield from _concealed(log, settings)
    rows = yield log.dialect.sql["set_timers"](rows=_json(settings).decode())
    return [
        Timer(name=each.name, due_at=datetime.fromisoformat(due), type=each.written.type, event_id=each.written.id)
        for each, (due,) in zip(settings, rows, strict=True)
    ]


def _concealed(log: Log, settings: Sequence[Setting]) -> Steps[Sequence[Setting]]:
    """Encrypt what is personal in the events, which wait in the database until they are recorded."""
    if not declared():
        return settings
    ready = yield from log.personal.conceal([each.written for each in settings])
    return [
        msgspec.structs.replace(each, event=_json(written).decode())
        for each, written in zip(settings, ready, strict=True)
    ]


def drop_timers(log: Log, timers: Iterable[tuple[str, str]]) -> Steps[set[tuple[str, str]]]:
    """Cancel timers by owner and name, in the open transaction; return those that had not fired."""
    yield from log.begin()
    rows = yield log.dialect.sql["drop_timers"](rows=_json(list(timers)).decode())
    return {(owner, name) for owner, name in rows}


def timers_of(log: Log, owner: str) -> Steps[list[Timer]]:
    """Return the timers of an owner that wait, the next one first."""
    found: list[Timer] = []
    for name, due, event in (yield log.dialect.sql["timers_of"](owner=owner)):
        written = written_again(event)
        found.append(Timer(name=name, due_at=datetime.fromisoformat(due), type=written.type, event_id=written.id))
    return found


class WaitingTimer(Timer, frozen=True, kw_only=True):
    """A timer that waits, with whose it is."""

    owner: str
    """The process that has set it, as name/key; empty: the application."""


def next_timers(log: Log, limit: int) -> Steps[list[WaitingTimer]]:
    """Return the timers that wait, the next one first."""
    found: list[WaitingTimer] = []
    for owner, name, due, event in (yield log.dialect.sql["next_timers"](limit=limit)):
        written = written_again(event)
        due_at = datetime.fromisoformat(due)
        found.append(WaitingTimer(owner=owner, name=name, due_at=due_at, type=written.type, event_id=written.id))
    return found


def steer_timer(
    log: Log, owner: str, name: str, action: Literal["fire timer", "cancel timer"], *, actor: str, reason: str
) -> Steps[None]:
    """Let a timer be due now, or drop it, and note who did it; raise `UnknownName` if it does not wait."""
    sql = log.dialect.sql
    if action == "fire timer":
        done = bool((yield sql["fire_timer"](owner=owner, name=name)))
    else:
        done = bool((yield sql["drop_timers"](rows=_json([(owner, name)]).decode())))
    if not done:
        raise UnknownName(f"no timer {name!r} of {owner or 'the application'!r} waits: it has fired, or was cancelled")
    process, _, key = owner.partition("/")
    yield sql["insert_audit"](
        actor=actor,
        action=action,
        subscription=process or None,
        key=key or None,
        event_id=None,
        reason=reason,
        detail=_json({"timer": name}).decode(),
    )
