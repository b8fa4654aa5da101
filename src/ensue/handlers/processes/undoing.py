"""Compensation: what undoes the steps of a process is recorded one after the other, the last first.

A command is recorded with a ticket in its headers. When its handler is done, or a person has given the command up, the
ticket is handed in, and in one transaction with that the next one is recorded. A ticket that was handed in before, or
is of a process that was cancelled meanwhile, counts for nothing: then the handler is not called either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from ensue.errors import Permanent
from ensue.events import Command, Event, Recorded, context, new_id
from ensue.handlers.carrying import Carrier, Do, Record, Work
from ensue.handlers.processes.keeping import Run, conceal, lock, reveal, text, undo_in
from ensue.handlers.threads import in_thread
from ensue.log import Log, Steps

TICKET = "ensue-undoes"
"""The header of a command that compensates: its ticket, the process, its key."""


class Ticket(NamedTuple):
    """What a command that compensates hands in when it is done."""

    number: str
    process: str
    key: str

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers under which the command is recorded."""
        return {TICKET: f"{self.number} {self.process}/{self.key}"}


def ticket_of(recorded: Recorded[Any]) -> Ticket | None:
    """Return the ticket of a command; None if it compensates for nothing."""
    if recorded.extra is None or TICKET not in recorded.extra:
        return None
    number, _, place = recorded.metadata.headers.get(TICKET, "").partition(" ")
    process, _, key = place.partition("/")
    return Ticket(number, process, key) if key else None


@dataclass(frozen=True, slots=True)
class Recording:
    """Events that are recorded together, with these headers."""

    events: tuple[Event, ...]
    headers: Mapping[str, str] | None = None

    def by(self, record: Record, process: str) -> Do:
        """Record them in the open transaction."""

        def call(via: Any) -> Any:
            if self.headers is None:
                return record(self.events, via)
            with context(headers=self.headers):
                return record(self.events, via)

        return Do(call, nullcontext, process)


def want(run: Run) -> None:
    """Let everything that the steps of a process have said by `undo` be undone."""
    run.undo = [msgspec.structs.replace(each, wanted=True) for each in run.undo]
    run.compensated = True


def next_to_undo(process: str, run: Run, is_handled: Callable[[type[Command]], bool]) -> Iterator[Recording]:
    """Yield what is to be recorded next, up to a command; end the process if it is ending and nothing is left.

    Nothing as long as a command is with its handler. Raises `Permanent` for a command that has no handler, and
    `UnknownName` if no class has the wire type of what is next.
    """
    while not any(each.sent for each in run.undo):
        wanted = [number for number, each in enumerate(run.undo) if each.wanted]
        if not wanted:
            break
        last = run.undo[wanted[-1]]
        event = last.event
        if isinstance(event, Command):
            check_handled(process, run.key, [event], is_handled)
            ticket = Ticket(new_id(), process, run.key)
            run.undo[wanted[-1]] = msgspec.structs.replace(last, sent=ticket.number)
            yield Recording((event,), ticket.headers)
        else:
            del run.undo[wanted[-1]]
            yield Recording((event,))
    if run.ending is not None and not any(each.wanted for each in run.undo):
        run.status, run.ending = run.ending, None


def check_handled(
    process: str, key: str, messages: Iterable[Event], is_handled: Callable[[type[Command]], bool]
) -> None:
    """Raise `Permanent` for a command that nobody would carry out."""
    for each in messages:
        if isinstance(each, Command) and not is_handled(type(each)):
            raise Permanent(
                f"process {process!r} of {key!r} sends {type(each).__qualname__}, which has no handler: give it one "
                "with @app.handle(…)"
            )


@dataclass(frozen=True, slots=True)
class Undoing:
    """Takes tickets in, for the handlers of commands."""

    log: Log
    record: Record
    is_handled: Callable[[type[Command]], bool]

    async def is_open(self, ticket: Ticket) -> bool:
        """Tell whether a process waits for a ticket: if not, its command has been carried out, or is not wanted."""
        found: bool = await self.log.own.run_async(_is_open(self.log, ticket))
        return found

    async def hand_in(self, ticket: Ticket) -> None:
        """Let what comes next be recorded, in a transaction of its own."""
        carrier = Carrier(self.log, ticket.process, asynchronous=False)
        await in_thread(carrier.directly, lambda: self.handing_in(ticket))

    def handing_in(self, ticket: Ticket) -> Work[None]:
        """As `hand_in`, in the open transaction."""
        log, process = self.log, ticket.process
        run = (yield lock(log, process, [ticket.key])).get(ticket.key)
        if run is None or not any(each.sent == ticket.number for each in run.undo):
            return
        yield reveal(log, process, [run], undo_only=True)
        run.undo = [each for each in run.undo if each.sent != ticket.number]
        for each in next_to_undo(process, run, self.is_handled):
            yield each.by(self.record, process)
        yield save(log, process, run, revealed=True)


def _is_open(log: Log, ticket: Ticket) -> Steps[bool]:
    rows = yield log.dialect.sql["undo_of"](process=ticket.process, key=ticket.key)
    return bool(rows) and any(each.sent == ticket.number for each in undo_in(rows[0][0]))


def save(log: Log, process: str, run: Run, *, revealed: bool) -> Steps[None]:
    """Write down where a process stands; `revealed`: what undoes its steps was, and nothing else of it."""
    if revealed:
        yield from conceal(log, process, run, undo_only=True)
    yield log.dialect.sql["update_processes"](process=process, rows=text([run.row]))
