"""Processes as rows: read and locked, and written together at the end of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from ensue.errors import DatabaseUnavailable
from ensue.events import Event, event_class
from ensue.events.personal import declared, holds_tokens, is_personal, personal_members
from ensue.handlers.processes.process import stored_as
from ensue.handlers.timers import Setting, drop_timers, set_timers
from ensue.keys import Concealing, Ring
from ensue.log import Log, Steps

_encode = msgspec.json.Encoder().encode
_timers = msgspec.json.Decoder(dict[str, str]).decode
_late = msgspec.json.Decoder(list[str]).decode

Status = Literal["running", "compensating", "done", "compensated", "cancelled"]
"""`compensating`: it has ended, and what undoes its steps is under way."""
Ending = Literal["compensated", "cancelled"]


class Undo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What compensates for something that was done."""

    type: str
    data: msgspec.Raw
    wanted: bool = False
    """It is to be recorded when its turn comes."""
    sent: str | None = None
    """By which its handler says that it is done: it has been recorded, and those before it wait for that."""

    @property
    def event(self) -> Event:
        """The event; raises `UnknownName` if no class has its type."""
        found: Event = event_class(self.type).__structure__.decode(bytes(self.data))
        return found


undo_in = msgspec.json.Decoder(list[Undo]).decode


class Run(msgspec.Struct, kw_only=True):
    """One process, as it is kept."""

    key: str
    version: int
    status: Status = "running"
    ending: Ending | None = None
    """It has ended, and will have this status when what it undoes is done."""
    outcome: str | None = None
    state: str = "{}"
    timers: dict[str, str]
    """The events of the timers that it waits for, by name."""
    late: list[str]
    """Events of timers that had fired when they were cancelled."""
    undo: list[Undo]
    compensated: bool = False
    steps: int = 0
    is_new: bool = False

    @property
    def moves(self) -> bool:
        """Whether events still move it."""
        return self.status == "running" and self.ending is None

    @property
    def row(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "version": self.version,
            "status": self.status,
            "ending": self.ending,
            "outcome": self.outcome,
            "state": self.state,
            "timers": text(self.timers),
            "late": text(self.late),
            "undo": text(self.undo),
            "compensated": self.compensated,
            "steps": self.steps,
        }


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """That an event has moved a process."""

    key: str
    event_id: str
    number: int
    type: str
    did: str


class Changes:
    """What the steps of a transaction change, to be written at its end."""

    def __init__(self, log: Log, process: str) -> None:
        self._log = log
        self._process = process
        self._runs: dict[str, Run] = {}
        self._moved: list[Moved] = []
        self._settings: dict[tuple[str, str], Setting] = {}
        self._dropped: dict[tuple[str, str], tuple[Run, str]] = {}
        """Timers that an earlier transaction has set, with the process and the id of the event."""

    @property
    def soonest(self) -> float | None:
        """In how many seconds the first of the new timers is due."""
        return min((each.seconds for each in self._settings.values() if each.at is None), default=None)

    def note(self, run: Run, moved: Moved | None = None) -> None:
        """Note that a process is not as it was read."""
        self._runs[run.key] = run
        if moved is not None:
            self._moved.append(moved)

    def set_timer(self, run: Run, each: Setting) -> None:
        """Set a timer of a process, in place of the one of its name."""
        self.drop_timer(run, each.name)
        self._settings[each.owner, each.name] = each
        run.timers[each.name] = each.written.id

    def drop_timer(self, run: Run, name: str) -> None:
        """Cancel a timer of a process."""
        id = run.timers.pop(name, None)
        place = (owner_of(self._process, run.key), name)
        if id is not None and self._settings.pop(place, None) is None:
            self._dropped[place] = (run, id)

    def is_late(self, run: Run, id: str) -> bool:
        """Tell whether an event is of a timer that had fired when it was cancelled; it is asked for once."""
        place = next((place for place, (_, dropped) in self._dropped.items() if dropped == id), None)
        if place is not None:  # by a step of this transaction
            del self._dropped[place]
        elif id in run.late:
            run.late.remove(id)
            self.note(run)
        else:
            return False
        return True

    def save(self) -> Steps[None]:
        """Write all of it."""
        yield from self._save_timers()
        sql = self._log.dialect.sql
        runs = self._runs.values()
        if declared():
            for run in runs:
                yield from conceal(self._log, self._process, run)
        if new := [run.row for run in runs if run.is_new]:
            begun = yield sql["insert_processes"](process=self._process, rows=text(new))
            if len(begun) < len(new):
                raise DatabaseUnavailable("another partition has just begun a process of the same key")
        if old := [run.row for run in runs if not run.is_new]:
            yield sql["update_processes"](process=self._process, rows=text(old))
        if self._moved:
            yield sql["insert_steps"](process=self._process, rows=text(self._moved))

    def _save_timers(self) -> Steps[None]:
        if self._dropped:
            in_time = yield from drop_timers(self._log, self._dropped)
            for place, (run, id) in self._dropped.items():
                if place not in in_time and run.moves:
                    run.late.append(id)
        if self._settings:
            yield from set_timers(self._log, tuple(self._settings.values()))


def owner_of(process: str, key: str) -> str:
    """Return to whom the timers of a process belong."""
    return f"{process}/{key}"


def text(value: object) -> str:
    """Return a value as JSON text."""
    return _encode(value).decode()


def lock(log: Log, process: str, keys: Iterable[str]) -> Steps[dict[str, Run]]:
    """Return the processes of these keys, which nobody else changes until the transaction ends."""
    yield from log.begin()
    rows = yield log.dialect.sql["lock_processes"](process=process, keys=text(sorted(set(keys))))
    return {row[0]: _run(row) for row in rows}


# --- what is personal in it


def concealing(process: str, key: str, what: str, data: bytes) -> Concealing:
    """Return what is personal in a process's state, or in a message that it keeps for undoing.

    Raises `EventValueError` if nobody can say whose it is.
    """
    fields = tuple(each for each in personal_members(what).values() if each.subject or what == stored_as(process))
    return Concealing(fields, what, what, owner_of(process, key), data, owner=key)


def conceal(log: Log, process: str, run: Run, *, undo_only: bool = False) -> Steps[None]:
    """Encrypt what is personal in a process that is about to be stored; of who is forgotten, nothing is stored."""
    personal, named = log.personal, stored_as(process)
    if is_personal(named) and not undo_only:
        secret = concealing(process, run.key, named, run.state.encode())
        run.state = (yield from personal.conceal_one(secret, masking=True)).decode()
    for number, each in enumerate(run.undo):
        if is_personal(each.type):
            secret = concealing(process, run.key, each.type, bytes(each.data))
            data = yield from personal.conceal_one(secret, masking=True)
            run.undo[number] = msgspec.structs.replace(each, data=msgspec.Raw(data))


def reveal(log: Log, process: str, runs: Iterable[Run], *, undo_only: bool = False) -> Steps[None]:
    """Make readable what is personal in processes that were read.

    Raises `DatabaseUnavailable` if a key cannot be had now: then none of them moves on.
    """
    closed = [
        run
        for run in runs
        if holds_tokens(run.state) or any(holds_tokens(str(each.data, "utf-8")) for each in run.undo)
    ]
    if not closed or not log.personal.vault.used:
        return
    texts = [text for run in closed for text in (run.state, *(str(each.data, "utf-8") for each in run.undo))]
    ring = yield from log.personal.ring(texts)
    try:
        for run in closed:
            place = owner_of(process, run.key)
            if not undo_only:
                run.state = ring.open(stored_as(process), place, run.state).data
            run.undo = [msgspec.structs.replace(each, data=_opened(ring, each, place)) for each in run.undo]
    except Exception as error:
        raise DatabaseUnavailable(f"process {process!r}: what is personal in it cannot be read: {error}") from error


def _opened(ring: Ring, undo: Undo, place: str) -> msgspec.Raw:
    return msgspec.Raw(ring.open(undo.type, place, str(undo.data, "utf-8")).data.encode())


def _run(row: Sequence[Any]) -> Run:
    key, version, status, ending, outcome, state, timers, late, undo, compensated, steps = row
    return Run(
        key=key,
        version=version,
        status=status,
        ending=ending,
        outcome=outcome,
        state=state,
        timers=_timers(timers),
        late=_late(late),
        undo=undo_in(undo),
        compensated=bool(compensated),
        steps=steps,
    )


def seen(log: Log, process: str, events: Iterable[tuple[str, str]]) -> Steps[set[tuple[str, str]]]:
    """Return which events have moved their process before, of these keys and ids."""
    rows = yield log.dialect.sql["seen_steps"](process=process, rows=text(list(events)))
    return {(key, id) for key, id in rows}
