"""What operators ask about processes, and how they end one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import msgspec

from ensue.errors import UnknownName
from ensue.events import Event
from ensue.handlers.carrying import Do, Record, Work
from ensue.handlers.processes.keeping import Run, Status, Undo, lock, owner_of, reveal, text
from ensue.handlers.processes.process import stored_as
from ensue.handlers.timers import Timer, drop_timers, timers_of
from ensue.keys import Ring
from ensue.log import Log, Steps, iso

_END = datetime(9999, 1, 1, tzinfo=UTC)
_undo = msgspec.json.Decoder(list[Undo]).decode


class ProcessSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A process as operators see it."""

    process: str
    key: str
    version: int
    """Of the code that it began with."""
    status: Status
    outcome: str | None
    """How it ended, in the words of the step that ended it, or of who cancelled it."""
    state: str
    """As JSON."""
    undo: tuple[str, ...]
    """Wire types of what compensates for what it has done so far, the last first."""
    steps: int
    """How many events have moved it."""
    started_at: datetime
    moved_at: datetime


class StepSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An event that has moved a process."""

    number: int
    event_id: str
    type: str
    did: str
    """What the step recorded, set, cancelled and ended, as JSON."""
    at: datetime


class ProcessShown(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a process."""

    process: ProcessSeen
    steps: tuple[StepSeen, ...]
    timers: tuple[Timer, ...]
    """Those that wait."""


def processes(
    log: Log, *, process: str | None = None, key: str | None = None, status: str | None = None, limit: int = 100
) -> Steps[list[ProcessSeen]]:
    """Return the processes that match, those that moved last first."""
    rows = yield log.dialect.sql["processes"](process=process, key=key, status=status, limit=limit)
    ring = yield from log.personal.ring([row[_STATE] for row in rows] if log.personal.vault.used else [])
    return [_seen(row, ring) for row in rows]


_STATE = 5


def begun(
    log: Log, process: str, status: Status, limit: int, before: tuple[datetime, str] | None
) -> Steps[list[ProcessSeen]]:
    """Return processes of a name and a status, those that began last first, before a (moment, key)."""
    moment, key = before or (_END, "")
    rows = yield log.dialect.sql["processes_begun"](
        process=process, status=status, before=iso(moment), behind=key, limit=limit
    )
    ring = yield from log.personal.ring([row[_STATE] for row in rows] if log.personal.vault.used else [])
    return [_seen(row, ring) for row in rows]


def _seen(row: Sequence[Any], ring: Ring) -> ProcessSeen:
    process, key, version, status, outcome, state, undo, steps, started, moved = row
    return ProcessSeen(
        process=process,
        key=key,
        version=version,
        status=status,
        outcome=outcome,
        state=ring.show(stored_as(process), owner_of(process, key), state),
        undo=tuple(each.type for each in reversed(_undo(undo))),
        steps=steps,
        started_at=datetime.fromisoformat(started),
        moved_at=datetime.fromisoformat(moved),
    )


def shown(log: Log, process: str, key: str) -> Steps[ProcessShown]:
    """Return everything about a process; raise `UnknownName` if there is none."""
    found = yield from processes(log, process=process, key=key)
    if not found:
        raise _unknown(process, key)
    rows = yield log.dialect.sql["steps_of"](process=process, key=key)
    return ProcessShown(
        process=found[0],
        steps=tuple(
            StepSeen(
                number=number,
                event_id=id,
                type=type,
                did=did,
                at=datetime.fromisoformat(at),
            )
            for number, id, type, did, at in rows
        ),
        timers=tuple((yield from timers_of(log, owner_of(process, key)))),
    )


def cancelling(
    log: Log, process: str, key: str, *, actor: str, reason: str, compensate: bool, record: Record
) -> Work[tuple[str, ...]]:
    """End a running process: its timers go, and, if that is wanted, what undoes its steps is recorded, the last first.

    Return the wire types of what was recorded. Raises `UnknownName` if no such process runs.
    """
    runs = yield log.impatiently(lock(log, process, [key]))
    run = runs.get(key)
    if run is None:
        raise _unknown(process, key)
    if run.status != "running":
        raise UnknownName(f"process {process!r} of {key!r} is {run.status} already: there is nothing to cancel")
    if compensate:
        yield reveal(log, process, [run], undo_only=True)
    messages: list[Event] = [each.event for each in reversed(run.undo)] if compensate else []
    if messages:
        yield Do(lambda via: record(tuple(messages), via), nullcontext, process)
    yield drop_timers(log, [(owner_of(process, key), name) for name in run.timers])
    run.status, run.outcome, run.timers, run.late = "cancelled", reason or f"cancelled by {actor}", {}, []
    if compensate:
        run.undo, run.compensated = [], True
    recorded = tuple(type(each).__type__ for each in messages)
    detail = text({"compensated": compensate, "recorded": recorded})
    yield _end(log, process, run, actor, reason, detail)
    return recorded


def _end(log: Log, process: str, run: Run, actor: str, reason: str, detail: str) -> Steps[None]:
    sql = log.dialect.sql
    yield sql["update_processes"](process=process, rows=text([run.row]))
    yield sql["insert_audit"](
        actor=actor,
        action="cancel process",
        subscription=process,
        key=run.key,
        event_id=None,
        reason=reason,
        detail=detail,
    )


def _unknown(process: str, key: str) -> UnknownName:
    return UnknownName(f"there is no process {process!r} of the key {key!r}; ensue process list shows those there are")
