"""The log: what can be done with it, as operations that any connection can carry."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import partial
from typing import Any

from msgspec.structs import replace

from ensue.errors import DatabaseUnavailable, EventValueError, WrongDatabase
from ensue.events import (
    Event,
    Observer,
    Receipt,
    Recorded,
    Written,
    current_metadata,
    fault_in,
    restored,
    together,
    write,
)
from ensue.events.personal import declared, is_personal
from ensue.keys import MasterKeys, Vault
from ensue.log.dialect import AggregateRule
from ensue.log.migrating import confirm_ready, migrate, pending
from ensue.log.muting import refuse_if_muted
from ensue.log.own import Own
from ensue.log.personal import PersonalData
from ensue.log.place import Place
from ensue.log.postgres import Postgres
from ensue.log.reading import Selection, check_moment, iso, read_batch
from ensue.log.retaining import Hold, Pruned, hold, holds, lift, pruned
from ensue.log.riding import ride_on
from ensue.log.statements import BEGIN, Call, Query, Steps, T
from ensue.log.yielding import Turns

_BEGIN_READING = Query("begin")
_COMMIT = Query("commit")
_ROLLBACK = Query("rollback")
_ONE_MOMENT = Query("set transaction isolation level repeatable read")


class _Any:
    """The stream may be at any version."""

    def __repr__(self) -> str:
        return "ANY"


ANY = _Any()
"""`expected=ANY`: record whatever the stream's version is (the default)."""
NO_STREAM = 0
"""`expected=NO_STREAM`: record only if the stream does not exist yet."""
Expected = int | _Any


def _check_text(name: str, text: object) -> None:
    if not text:
        raise EventValueError(f"{name}={text!r}: it must be text that is not empty")
    if fault := fault_in(text):
        raise EventValueError(f"{name}=… {fault}")


def _version(expected: object, stream: str | None) -> int:
    if stream is None:
        raise EventValueError(f"expected={expected!r} is about a stream: say which, record(…, stream='…')")
    if isinstance(expected, bool) or not isinstance(expected, int) or expected < 0:
        raise EventValueError(f"expected={expected!r}: use a version (1, 2, …), NO_STREAM or ANY")
    return expected


class Log:
    """One application's log. Its methods return operations; `run` carries one out over a connection."""

    def __init__(self, place: Place, master_keys: MasterKeys | None = None) -> None:
        self.place = place
        self.dialect = place.dialect
        self.personal = PersonalData(place.dialect, Vault(master_keys, in_memory=place.in_memory))
        """The persons' keys, and what is encrypted with them."""
        self.own = Own(place)
        """Connections of ensue's own."""
        self.turns = Turns(place)
        """For those who write one transaction after the other."""
        self.observer: Observer | None = None
        """Is told what happens, if anybody is."""

    def run(self, steps: Steps[T], via: object) -> Any:
        """Carry an operation out: the result on a sync connection, an awaitable of it on an async one."""
        ride = ride_on(via)
        if ride.kind != self.dialect.label:
            raise WrongDatabase(
                f"the connection speaks to {ride.kind}, but the log of {self.place.app!r} is in {self.dialect.label}: "
                "an event is recorded in the transaction of the data it is about; nothing was recorded"
            )
        return ride.run(steps, self.place)

    def append(
        self,
        events: tuple[Event, ...],
        *,
        stream: str | None = None,
        expected: Expected = ANY,
        dedupe: str | None = None,
        rule: AggregateRule = "off",
        told: bool = False,
    ) -> Steps[Receipt]:
        """Record events in the connection's open transaction; `told`: the observer, if there is one, knows."""
        refuse_if_muted()
        if stream is not None:
            _check_text("stream", stream)
        if dedupe is not None:
            _check_text("dedupe", dedupe)
        version = None if expected is ANY else _version(expected, stream)
        if self.observer is not None and not told:
            append = partial(self.append, events, stream=stream, expected=expected, dedupe=dedupe, rule=rule, told=True)
            return self.observer.record(events, stream, append)
        written = write(events, stream=stream)
        if declared() and any(is_personal(each.type) for each in written):
            return self._append_personal(written, stream, version, dedupe, rule)
        return self.dialect.append(
            written, stream=stream, expected=version, dedupe=dedupe, log=self.place.app, rule=rule
        )

    def _append_personal(
        self, written: list[Written], stream: str | None, expected: int | None, dedupe: str | None, rule: AggregateRule
    ) -> Steps[Receipt]:
        concealed = yield from self.personal.conceal(written)
        return (
            yield from self.dialect.append(
                concealed, stream=stream, expected=expected, dedupe=dedupe, log=self.place.app, rule=rule
            )
        )

    def traced(self) -> AbstractContextManager[None]:
        """Give what is written down inside the trace context of what goes on here, if an observer knows of one."""
        found = None if self.observer is None else self.observer.traceparent()
        return nullcontext() if found is None else restored(replace(current_metadata(), traceparent=found))

    def observe(self, observer: Observer) -> None:
        """Tell somebody, too, what happens from now on; a worker that runs already tells nobody else."""
        self.observer = self.own.observer = together(self.observer, observer)

    def horizon(self) -> Steps[int]:
        """Return the position up to which the log is complete."""
        position: int = (yield Call(self.dialect.sql["horizon"]))[0][0]
        return position

    def read(self, selection: Selection, limit: int) -> Steps[list[Recorded[Any]]]:
        """Read the first events of a selection, in position order, whether or not the log is complete there."""
        found = yield from read_batch(self.dialect, selection, limit)
        if selection.edited is not None and found:
            found[0].data = selection.edited
        return (yield from self._equipped(found))

    def latest(self, selection: Selection, limit: int) -> Steps[list[Recorded[Any]]]:
        """Read the latest events of a selection, the last first, whether or not the log is complete there."""
        return (yield from self._equipped((yield from read_batch(self.dialect, selection, limit, latest=True))))

    def _equipped(self, found: list[Recorded[Any]]) -> Steps[list[Recorded[Any]]]:
        """Give personal events what it takes to read them."""
        if self.personal.vault.used:
            yield from self.personal.equip(found)
        return found

    def stored_types(self) -> Steps[list[str]]:
        """Return every wire type that there is an event of."""
        return [type for (type,) in (yield Call(self.dialect.sql["stored_types"]))]

    def position_at(self, moment: datetime) -> Steps[int]:
        """Return the first position of what was recorded at a moment or later, now and for ever.

        No event before it was recorded at the moment or later, nor will one ever be. Proof: let H be the horizon, which
        is asked for first. An event that is not visible to the later statement has a position above H, see
        functions/horizon.sql, and the answer is never above H + 1. A visible one that was recorded at the moment or
        later is not before the smallest of those. No clock is compared with another, and they may jump: it is about the
        `recorded_at` that the events bear. Those of concurrent transactions may be in another order than their
        positions, so behind it there may be a few that were recorded just before the moment. Asked again, the answer is
        the same once the horizon has passed it, unless its event is pruned; until then it is H + 1 and grows.

        Raises `EnsueError` for a moment without a time zone.
        """
        check_moment(moment)
        complete = yield from self.horizon()
        position = (yield self.dialect.sql["position_at"](moment=iso(moment)))[0][0]
        return complete + 1 if position is None else min(position, complete + 1)

    # --- what is kept, and what is no more

    def holds(self) -> Steps[list[Hold]]:
        """Return the holds, the one that keeps most first."""
        return holds(self.dialect)

    def hold(self, name: str, position: int, reason: str) -> Steps[list[Pruned]]:
        """Keep everything behind a position from being pruned; return what is missing there already.

        In a transaction of its own. A hold that is there is moved.
        """
        _check_text("name", name)
        return hold(self.dialect, name, position, reason)

    def lift(self, name: str) -> Steps[None]:
        """Take a hold away; raise `UnknownName` if there is none of this name."""
        return lift(self.dialect, name)

    def pruned(self, after: int = 0, types: Collection[str] = ()) -> Steps[list[Pruned]]:
        """Return what has been pruned behind a position, of these types or of all; none: all is still there."""
        return pruned(self.dialect, after, types)

    # --- transactions

    def transaction(self, steps: Steps[T]) -> Steps[T]:
        """Put an operation into a transaction of its own, on a connection of ensue's own that has none open."""
        yield Call(self.dialect.begin)
        try:
            result = yield from steps
        except (DatabaseUnavailable, GeneratorExit):  # the connection is lost, or dropped by who gave up the operation
            raise
        except BaseException:
            yield Call(_ROLLBACK)
            raise
        yield Call(_COMMIT)
        return result

    def at_one_moment(self, steps: Steps[T]) -> Steps[T]:
        """Put an operation that only reads into a transaction of its own in which all is of one moment; as above.

        It keeps nobody from writing.
        """
        yield Call(_BEGIN_READING)
        try:
            yield from self.still()
            result = yield from steps
        except (DatabaseUnavailable, GeneratorExit):
            raise
        except BaseException:
            yield Call(_ROLLBACK)
            raise
        yield Call(_COMMIT)
        return result

    def impatiently(self, steps: Steps[T]) -> Steps[T]:
        """Let an operation in a transaction wait for others' locks for ten seconds, not for ever."""
        for query in self.dialect.impatient:
            yield Call(query)
        return (yield from steps)

    def still(self) -> Steps[None]:
        """Let what is read in the transaction that has just begun be of one moment: in SQLite it always is."""
        if isinstance(self.dialect, Postgres):
            yield Call(_ONE_MOMENT)

    def alone(self, steps: Steps[T], *, single: bool) -> Steps[T]:
        """Put an operation into a transaction of its own, on `own`; a `single` statement is one in PostgreSQL."""
        return steps if single and isinstance(self.dialect, Postgres) else self.transaction(steps)

    def begin(self) -> Steps[None]:
        """Make sure that the connection leads to the log and has a transaction that the operation can be part of."""
        yield BEGIN

    def pending(self) -> Steps[list[str]]:
        """Return the migrations that have not been applied."""
        return pending(self.place)

    def confirm_ready(self) -> Steps[None]:
        """Raise `NotMigrated` if migrations are pending, and `WrongDatabase` if the log is another application's."""
        return confirm_ready(self.place)

    def migrate(self) -> Steps[list[str]]:
        """Apply the pending migrations in the connection's open transaction."""
        return migrate(self.place)
