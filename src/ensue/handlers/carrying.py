"""Work in one transaction of the log's database, in which the log's operations and the user's functions alternate.

It is written once, as a generator; a sync or an async connection carries it, whichever the user's function wants.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from ensue.errors import DeclarationError, Permanent
from ensue.events import Event
from ensue.handlers.threads import in_thread
from ensue.log import Log, Postgres, Steps, Transaction

T = TypeVar("T")

MakeTransaction = Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]
"""Opens a transaction on a connection to the log's database, and lends that connection."""


class Record(Protocol):
    """Records events in the open transaction of a connection: a receipt, or an awaitable of it on an async one."""

    def __call__(self, events: tuple[Event, ...], via: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Do:
    """Call a function of the user's with the connection; its result, awaited, comes back."""

    call: Callable[[Any], Any]
    inside: Callable[[], AbstractContextManager[Any]]
    """Makes what is around the call."""
    label: str


@dataclass(frozen=True, slots=True)
class Each:
    """Call a function of the user's again and again."""

    calls: Callable[[Any], Iterator[Any]]
    """Given the connection, it calls the function whenever it is asked for the next answer, and yields that."""
    heed: Callable[[Any], None]
    """Is given what a call returned, awaited, unless that is None."""
    inside: Callable[[], AbstractContextManager[Any]]
    """Makes what is around all the calls."""
    label: str


Work: TypeAlias = Generator["Steps[Any] | Do | Each", Any, T]
"""What is done in the transaction; an error of a step is raised inside it."""


def as_steps(work: Work[T]) -> Steps[T]:
    """Return work that calls no function of the user's as one operation, in whatever transaction is open."""
    advance: Callable[[Any], Any] = work.send
    value: Any = None
    try:
        while True:
            step = advance(value)
            assert not isinstance(step, (Do, Each)), step.label  # noqa: S101 whoever makes such work carries it
            steps: Steps[Any] = step
            try:
                value = yield from steps
                advance = work.send
            except Exception as error:  # noqa: BLE001 raised inside the work, which says what it means
                value, advance = error, work.throw
    except StopIteration as done:
        result: T = done.value
        return result


class Carrier:
    """Opens transactions for one declared function, and carries work out in them."""

    def __init__(
        self,
        log: Log,
        label: str,
        *,
        asynchronous: bool,
        transaction: MakeTransaction | None = None,
        timeout: float | None = None,
    ) -> None:
        self._log = log
        self._label = label
        self.asynchronous = asynchronous
        self._transaction: MakeTransaction = transaction or (lambda: Transaction(log))
        self._pipelines = transaction is None and isinstance(log.dialect, Postgres)
        self._timeout = timeout

    async def carry(self, make: Callable[[], Work[T]], *, together: bool = False) -> T:
        """Carry work out and commit; what it raises, or what committing raises, rolls back.

        `together`: statements may be sent before the one before is answered. Then an error may come late, at a later
        step or at the end. Raises `DeclarationError` if the transaction is sync and the function is not, or vice versa.
        """
        async with self._log.turns.turn():
            if self.asynchronous:
                return await self._carry_async(make, together)
            found: T = await in_thread(self.directly, make, together)
            return found

    async def _carry_async(self, make: Callable[[], Work[T]], together: bool) -> T:
        context = self._transaction()
        if not isinstance(context, AbstractAsyncContextManager):
            raise DeclarationError(
                f"{self._label!r} is async, and transaction= makes {type(context).__name__}, which is not: "
                "give it an async one, or make the handler sync"
            )
        async with AsyncExitStack() as stack:
            via: Any = await stack.enter_async_context(context)
            if together and self._pipelines:
                await stack.enter_async_context(via.pipeline())
            return await self._drive_async(make(), via)

    def directly(self, make: Callable[[], Work[T]], together: bool = False) -> T:
        """As `carry`, for a sync function, in this thread."""
        context = self._transaction()
        if not isinstance(context, AbstractContextManager):
            raise DeclarationError(
                f"{self._label!r} is sync, and transaction= makes {type(context).__name__}, which is async: "
                "give it a sync one, or make the handler async"
            )
        with ExitStack() as stack:
            via: Any = stack.enter_context(context)
            if together and self._pipelines:
                stack.enter_context(via.pipeline())
            return self._drive(make(), via)

    def _drive(self, work: Work[T], via: Any) -> T:
        advance: Callable[[Any], Any] = work.send
        value: Any = None
        try:
            while True:
                step = advance(value)
                try:
                    if isinstance(step, Do):
                        with step.inside():
                            value = _settled(step.call(via), step.label)
                    elif isinstance(step, Each):
                        value = None
                        with step.inside():
                            for answer in step.calls(via):
                                if answer is not None:
                                    step.heed(_settled(answer, step.label))
                    else:
                        value = self._log.run(step, via)
                    advance = work.send
                except Exception as error:  # noqa: BLE001 raised inside the work, which says what it means
                    value, advance = error, work.throw
        except StopIteration as done:
            result: T = done.value
            return result

    async def _drive_async(self, work: Work[T], via: Any) -> T:
        advance: Callable[[Any], Any] = work.send
        value: Any = None
        try:
            while True:
                step = advance(value)
                try:
                    if isinstance(step, Do):
                        with step.inside():
                            async with asyncio.timeout(self._timeout):
                                value = await step.call(via)
                    elif isinstance(step, Each):
                        value = None
                        with step.inside():
                            for call in step.calls(via):
                                async with asyncio.timeout(self._timeout):
                                    answer = await call
                                if answer is not None:
                                    step.heed(answer)
                    else:
                        value = await self._log.run(step, via)
                    advance = work.send
                except Exception as error:  # noqa: BLE001 raised inside the work, which says what it means
                    value, advance = error, work.throw
        except StopIteration as done:
            result: T = done.value
            return result


def _settled(answer: Any, label: str) -> Any:
    """Return the answer of a sync function; raise `Permanent` for one that wants to be awaited."""
    if inspect.isawaitable(answer):
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        raise Permanent(
            f"{label!r} is called as a sync function and returned an awaitable: make it async def, so that it is "
            "awaited"
        )
    return answer
