"""A process manager at work: steps, what they ask for, and the checkpoint are written in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from ensue.errors import (
    DatabaseUnavailable,
    DeclarationError,
    EventValueError,
    LeavesTheDatabase,
    Permanent,
    UndecodableEvent,
)
from ensue.events import Command, Event, Recorded, follow
from ensue.events.personal import is_personal
from ensue.handlers.carrying import Carrier, Record, Work
from ensue.handlers.processes.declared import ProcessManager
from ensue.handlers.processes.keeping import Changes, Moved, Run, Undo, concealing, lock, owner_of, reveal, seen, text
from ensue.handlers.processes.process import Doing, Process, begin, keep, load, stored_as, take
from ensue.handlers.processes.undoing import Recording, check_handled, next_to_undo, want
from ensue.handlers.projections.quiet import quiet
from ensue.handlers.timers import Alarm, setting
from ensue.log import Log, Steps, passes
from ensue.subscriptions import Applies, Backoff, Failure, NotApplied, Park, Start, Subscription


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process manager needs of its application."""

    log: Log
    alarm: Alarm
    record: Record
    is_handled: Callable[[type[Command]], bool]
    """Tells whether a command has its handler."""
    check_timer: Callable[[Event], None]
    """Raises if a timer cannot record an event."""


def managing(
    manager: ProcessManager,
    around: Surroundings,
    *,
    start: Start = "now",
    retry: Backoff = Backoff(),
    partitions: int = 1,
    batch: int = 100,
) -> Subscription:
    """Make a subscription of a process manager."""

    def applies() -> Applies:
        return Managing(manager, around)

    return Subscription(
        name=manager.name,
        types=tuple(each.__type__ for each in manager.types),
        applies=applies,
        batch=batch,
        start=start,
        retry=retry,
        partitions=partitions,
    )


@dataclass(frozen=True, slots=True)
class _Arrived:
    """An event, and the process that it is about."""

    index: int
    recorded: Recorded[Any]
    id: str
    """Of the event; with a number behind it where an upcaster has made several of one."""
    event: Event
    key: str


class Managing:
    """Moves processes by the events of one partition."""

    def __init__(self, manager: ProcessManager, around: Surroundings) -> None:
        self._manager = manager
        self._around = around
        self._carrier = Carrier(around.log, manager.name, asynchronous=False)

    async def apply(self, rows: Sequence[Recorded[Any]], progress: Callable[[], Steps[None]], *, careful: bool) -> None:
        """Apply all of them; it always knows which one fails, because a step waits for nothing."""
        changes = Changes(self._around.log, self._manager.name)
        try:
            await self._carrier.carry(lambda: self._work(rows, progress, changes))
        except NotApplied:
            raise
        except Exception as error:
            if passes(error) and not isinstance(error, DatabaseUnavailable):
                raise DatabaseUnavailable(str(error)) from error
            raise
        if changes.soonest is not None:
            self._around.alarm.due_in(changes.soonest)

    def _work(self, rows: Sequence[Recorded[Any]], progress: Callable[[], Steps[None]], changes: Changes) -> Work[None]:
        log, name = self._around.log, self._manager.name
        arrived = [each for index, row in enumerate(rows) for each in self._arrived(index, row)]
        if arrived:
            runs = yield lock(log, name, (each.key for each in arrived))
            yield reveal(log, name, runs.values())
            before = yield seen(log, name, ((each.key, each.id) for each in arrived))
            for each in arrived:
                if (each.key, each.id) not in before:
                    yield from self._move(each, runs, changes)
            yield changes.save()
        yield progress()

    def _arrived(self, index: int, row: Recorded[Any]) -> list[_Arrived]:
        types = self._manager.types
        with _blaming(index):
            return [
                _Arrived(
                    index,
                    row,
                    row.id_text if part == 1 else f"{row.id_text}/{part}",
                    event,
                    self._manager.key_of(event),
                )
                for part, event in enumerate(row.events, 1)
                if isinstance(event, types)
            ]

    # --- one event

    def _move(self, arrived: _Arrived, runs: dict[str, Run], changes: Changes) -> Work[None]:
        run = runs.get(arrived.key)
        if run is not None and changes.is_late(run, arrived.id):
            return
        with _blaming(arrived.index):
            process = self._begin(arrived) if run is None else self._go_on(arrived, run)
        if process is None:
            return
        if run is None:
            run = Run(key=arrived.key, version=type(process).__version__, timers={}, late=[], undo=[], is_new=True)
            runs[run.key] = run
        with _blaming(arrived.index):
            recordings = self._step(process, arrived, run, changes)
        for each in recordings:
            try:
                yield each.by(self._around.record, self._manager.name)
            except Exception as error:
                if passes(error):
                    raise
                raise NotApplied(arrived.index, _failure(error)) from error

    def _begin(self, arrived: _Arrived) -> Process | None:
        """Return a new process, if the event starts one in the newest version."""
        cls = self._manager.newest.cls
        step = cls.__steps__.get(type(arrived.event))
        return begin(cls, arrived.key) if step is not None and step.how == "starts" else None

    def _go_on(self, arrived: _Arrived, run: Run) -> Process | None:
        """Return the process, if it runs and the event moves it in the version that it began with."""
        if not run.moves:
            return None
        version = self._manager.versions.get(run.version)
        if version is None:
            there = ", ".join(map(str, sorted(self._manager.versions)))
            raise NotApplied(
                arrived.index,
                Park(
                    f"process {self._manager.name!r} of {run.key!r} began with version {run.version}, and the code has "
                    f"{there}: declare that version too until its processes have ended, and retry; or cancel it: "
                    f"ensue process cancel {self._manager.name} {run.key}"
                ),
            )
        step = version.cls.__steps__.get(type(arrived.event))
        return load(version.cls, run.key, run.state) if step is not None and step.how == "moves" else None

    def _step(self, process: Process, arrived: _Arrived, run: Run, changes: Changes) -> list[Recording]:
        """Let the process decide, and note what it asks for; return what is to be recorded."""
        recorded = arrived.recorded
        follow(recorded)
        process.moment = recorded.recorded_at
        step = type(process).__steps__[type(arrived.event)]
        try:
            with quiet(run.key):
                step.function(process, arrived.event)
        except LeavesTheDatabase as error:
            raise Permanent(
                f"process {self._manager.name!r} of {run.key!r} was about to leave the database: a step only decides. "
                "Send a command, and do it in the command's handler: @app.handle(…)"
            ) from error
        run.state = keep(process)
        if type(process).__personal__:
            concealing(self._manager.name, run.key, stored_as(self._manager.name), run.state.encode())
        run.steps += 1
        doing = take(process)
        for name in [name for name, id in run.timers.items() if id == arrived.id]:
            del run.timers[name]  # it has fired, and this is its event
        self._set_timers(doing, run, changes)
        if doing.outcome is not None:
            self._end(doing.outcome, doing, run, changes)
        recordings = self._recordings(doing, run)
        told = _told(doing, [each for recording in recordings for each in recording.events])
        changes.note(
            run,
            Moved(
                key=run.key,
                event_id=arrived.id,
                number=run.steps,
                type=type(arrived.event).__type__,
                did=text(told),
            ),
        )
        return recordings

    def _end(self, outcome: str, doing: Doing, run: Run, changes: Changes) -> None:
        run.outcome = outcome
        if run.compensated or doing.compensates_at is not None:
            run.ending = "compensated"
        else:
            run.status = "done"
        for name in tuple(run.timers):
            changes.drop_timer(run, name)

    def _recordings(self, doing: Doing, run: Run) -> list[Recording]:
        """Return what is recorded now; of what compensates, the first command at most."""
        new = [Undo(type(each).__type__, _raw(each)) for each in doing.undo]
        for undo in new:
            if is_personal(undo.type):
                concealing(self._manager.name, run.key, undo.type, bytes(undo.data))
        run.undo += new
        check_handled(self._manager.name, run.key, (*doing.messages, *doing.undo), self._around.is_handled)
        at = len(doing.messages)
        if doing.compensates_at is not None:
            at = doing.compensates_at
            want(run)
        before, after = Recording(tuple(doing.messages[:at])), Recording(tuple(doing.messages[at:]))
        undoing = next_to_undo(self._manager.name, run, self._around.is_handled) if run.compensated else ()
        return [each for each in (before, *undoing, after) if each.events]

    def _set_timers(self, doing: Doing, run: Run, changes: Changes) -> None:
        for name in doing.cancelled:
            changes.drop_timer(run, name)
        for when, event, name in doing.timers:
            self._around.check_timer(event)
            changes.set_timer(run, setting(when, event, owner=owner_of(self._manager.name, run.key), name=name))


def _raw(event: Event) -> msgspec.Raw:
    return msgspec.Raw(type(event).__structure__.encode(event))


def _told(doing: Doing, messages: Sequence[Event]) -> dict[str, Any]:
    """Return what a step did, for those who look at it later; of what compensates, it has recorded the first."""
    told = {
        "recorded": [type(each).__type__ for each in messages],
        "timers": [name for _, _, name in doing.timers],
        "cancelled": doing.cancelled,
        "undo": [type(each).__type__ for each in doing.undo],
        "compensated": doing.compensates_at is not None,
        "ended": doing.outcome,
    }
    return {name: value for name, value in told.items() if value}


@contextmanager
def _blaming(index: int) -> Generator[None]:
    """Say of which event it is the fault if the block raises."""
    try:
        yield
    except NotApplied:
        raise
    except Exception as error:
        if passes(error):
            raise
        raise NotApplied(index, _failure(error)) from error


def _failure(error: Exception) -> Failure:
    return Failure(error, final=isinstance(error, (DeclarationError, EventValueError, Permanent, UndecodableEvent)))
