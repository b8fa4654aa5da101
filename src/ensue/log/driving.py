"""The few lines that carry an operation out, over a sync and over an async connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from ensue.log.dialect import Fault
from ensue.log.observing import observe
from ensue.log.place import Place
from ensue.log.statements import Begin, Call, Observe, Rows, Step, Steps, T


class Ride(Protocol):
    """Carries operations over one connection, without ever ending its transaction.

    `run` returns the operation's result on a sync connection and an awaitable of it on an async one.
    """

    kind: str
    """The dialect's label: which database the connection speaks to."""
    asynchronous: ClassVar[bool]
    """Whether `run` returns an awaitable."""

    def __init__(self, connection: Any) -> None: ...

    def run(self, steps: Steps[T], place: Place) -> Any: ...


class SyncCarrier(Protocol):
    """What `drive` needs of a connection."""

    def begin(self, place: Place) -> None:
        """Make sure that the connection leads to the place and that a transaction is open or begins by itself."""
        ...

    def execute(self, call: Call) -> Rows: ...

    def fault(self, error: Exception) -> Fault | None:
        """Return what the database said, None if this is no error of the database."""
        ...


class AsyncCarrier(Protocol):
    """What `drive_async` needs of a connection."""

    async def begin(self, place: Place) -> None: ...

    async def execute(self, call: Call) -> Rows: ...

    def fault(self, error: Exception) -> Fault | None: ...


def drive(steps: Steps[T], carrier: SyncCarrier, place: Place) -> T:
    """Carry an operation out; a failed statement is raised inside it, in ensue's terms where it has some."""
    advance: Callable[[Any], Step] = steps.send
    value: Any = None
    try:
        while True:
            step = advance(value)
            try:
                if isinstance(step, Call):
                    value = carrier.execute(step)
                elif isinstance(step, Begin):
                    value = ()
                    carrier.begin(place)
                elif isinstance(step, Observe):
                    value = observe(step.call, place)
                else:
                    value = step.function()
                advance = steps.send
            except Exception as error:  # noqa: BLE001 handed to the operation, which raises it if it has no cure
                value, advance = _translated(error, carrier.fault, place), steps.throw
    except StopIteration as done:
        result: T = done.value
        return result


async def drive_async(steps: Steps[T], carrier: AsyncCarrier, place: Place) -> T:
    """As `drive`, over an async connection."""
    advance: Callable[[Any], Step] = steps.send
    value: Any = None
    try:
        while True:
            step = advance(value)
            try:
                if isinstance(step, Call):
                    value = await carrier.execute(step)
                elif isinstance(step, Begin):
                    value = ()
                    await carrier.begin(place)
                elif isinstance(step, Observe):
                    value = observe(step.call, place)
                else:
                    value = await asyncio.to_thread(step.function)
                advance = steps.send
            except Exception as error:  # noqa: BLE001 handed to the operation, which raises it if it has no cure
                value, advance = _translated(error, carrier.fault, place), steps.throw
    except StopIteration as done:
        result: T = done.value
        return result


def _translated(error: Exception, fault: Callable[[Exception], Fault | None], place: Place) -> Exception:
    found = fault(error)
    ours = place.dialect.translate(found, place.shown) if found else None
    if ours is None:
        return error
    ours.__cause__ = error
    return ours
