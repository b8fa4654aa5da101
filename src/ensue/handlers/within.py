"""Handlers that run inside the recording transaction: guards, and read models that must never lag."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Protocol, TypeVar, overload

from ensue.errors import DeclarationError
from ensue.events import Event, Receipt, because_of
from ensue.handlers.functions import Function
from ensue.log import Call, Log, Query, Steps, is_async, never_awaited
from ensue.log.statements import BEGIN

E = TypeVar("E", bound=Event)
Answer = TypeVar("Answer", bound=Awaitable[None] | None)

_SAVEPOINT = Query("savepoint ensue_within")
_RELEASE = Query("release savepoint ensue_within")
_ROLLBACK = Query("rollback to savepoint ensue_within")

_UNAWAITED = (
    "{!r} is async and handles its event within the recording transaction, but this connection is sync: record on an "
    "async one, or make the handler sync; nothing was recorded"
)


class Watching(Protocol[E]):
    """Takes a function of an event, or of an event and the recording connection, and gives it back."""

    @overload
    def __call__(self, function: Callable[[E], Answer], /) -> Callable[[E], Answer]: ...

    @overload
    def __call__(self, function: Callable[[E, Any], Answer], /) -> Callable[[E, Any], Answer]: ...


@dataclass(frozen=True, slots=True)
class Within:
    """A handler that is called while its event is recorded."""

    name: str
    types: tuple[type[Event], ...]
    function: Function
    module: str | None = None


Calls = list[tuple[Within, Event, int]]
"""What is called, with which event, and which one that is of those that are recorded together."""


class Guards:
    """The handlers of an application that run inside recording, in the order of their declaration."""

    def __init__(self) -> None:
        self.declared: list[Within] = []
        self._by_type: dict[type[Event], list[Within]] = {}

    def add(self, within: Within) -> None:
        self.declared.append(within)
        for type in within.types:
            self._by_type.setdefault(type, []).append(within)

    def calls(self, events: Sequence[Event]) -> Calls:
        """Return what is to be called, and with which event."""
        if not self._by_type:
            return []
        return [
            (within, event, number)
            for number, event in enumerate(events)
            for within in self._by_type.get(type(event), ())
        ]

    def check_timer(self, event: Event) -> None:
        """Raise `DeclarationError` if a timer cannot record an event as `record` would."""
        if calls := self.calls((event,)):
            raise DeclarationError(
                f"{type(event).__qualname__} is handled within its recording, by {calls[0][0].name!r}, and a timer's "
                "event is recorded by a worker, which does not call that: let the timer record an event of its own, "
                "and handle it with @app.on(…)"
            )

    def record(self, log: Log, steps: Steps[Receipt], calls: Calls, via: Any) -> Any:
        """Record and call; if that raises, neither the event nor what the handlers did is there."""
        if is_async(via):
            return _record_async(log, steps, calls, via)
        for within, _, _ in calls:
            if within.function.is_async:
                steps.close()
                raise DeclarationError(_UNAWAITED.format(within.name))
        log.run(_open(), via)
        try:
            receipt: Receipt = log.run(steps, via)
            if not receipt.duplicate:
                for within, event, number in calls:
                    with because_of(receipt.id_texts[number]):
                        answer = within.function.directly(event, via)
                    if never_awaited(answer):
                        raise DeclarationError(_UNAWAITED.format(within.name))
        except BaseException:
            with suppress(Exception):  # a connection that is lost has undone it
                log.run(_undo(), via)
            raise
        log.run(_do(_RELEASE), via)
        return receipt


async def _record_async(log: Log, steps: Steps[Receipt], calls: Calls, via: Any) -> Receipt:
    await log.run(_open(), via)
    try:
        receipt: Receipt = await log.run(steps, via)
        if not receipt.duplicate:
            for within, event, number in calls:
                with because_of(receipt.id_texts[number]):
                    answer = within.function.directly(event, via)
                    if isawaitable(answer):
                        await answer
    except BaseException:
        with suppress(Exception):
            await log.run(_undo(), via)
        raise
    await log.run(_do(_RELEASE), via)
    return receipt


def _open() -> Steps[None]:
    yield BEGIN
    yield Call(_SAVEPOINT)


def _undo() -> Steps[None]:
    yield Call(_ROLLBACK)
    yield Call(_RELEASE)


def _do(query: Query) -> Steps[None]:
    yield Call(query)
