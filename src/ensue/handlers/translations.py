"""Translations: from the events inside a service to the contracts that it publishes, exactly once."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar, cast, get_args, get_type_hints, overload

from ensue.errors import Permanent
from ensue.events import Event, IntegrationEvent
from ensue.handlers.functions import Function
from ensue.handlers.threads import in_thread
from ensue.subscriptions import Delivery

E = TypeVar("E", bound=Event)
Translation = IntegrationEvent | Iterable[IntegrationEvent] | None
Answer = TypeVar("Answer", bound=Translation | Awaitable[Translation])

Record = Callable[[tuple[IntegrationEvent, ...], str], object]
"""Records events under a dedupe key, in a transaction of its own."""


class Translating(Protocol[E]):
    """Takes a function of an event that returns integration events, sync or async, and gives it back."""

    @overload
    def __call__(self, function: Callable[[E], Answer], /) -> Callable[[E], Answer]: ...

    @overload
    def __call__(self, function: Callable[[E, Delivery], Answer], /) -> Callable[[E, Delivery], Answer]: ...


def translation(function: Callable[..., Any], label: str, record: Record) -> Callable[..., Awaitable[None]]:
    """Make a handler of a translating function.

    It may be called twice for an event; what it returns is recorded once, under the delivery's idempotency key.
    """
    called = Function(function, label)

    async def translate(event: Event, delivery: Delivery) -> None:
        events = _events(await called(event, delivery), label)
        if events:
            await in_thread(record, events, delivery.idempotency_key)

    return translate


def _events(answer: Any, label: str) -> tuple[IntegrationEvent, ...]:
    if answer is None:
        return ()
    several = isinstance(answer, Iterable) and not isinstance(answer, Event)
    events = tuple(cast("Iterable[Any]", answer)) if several else (cast("Any", answer),)
    for event in events:
        if not isinstance(event, IntegrationEvent):
            raise Permanent(
                f"{label} returned {event!r}: a translation returns integration events, one or several, or None"
            )
    return events


def translates_to(function: Callable[..., Any]) -> tuple[type[IntegrationEvent], ...]:
    """Return the events that a translation makes, as far as the annotation of what it returns says so."""
    called: Any = inspect.unwrap(function if inspect.isroutine(function) else getattr(function, "__call__"))  # noqa: B004, B009
    answer = SimpleNamespace(__annotations__={"return": getattr(called, "__annotations__", {}).get("return")})
    try:
        hint = get_type_hints(answer, getattr(called, "__globals__", {}))["return"]
    except Exception:  # noqa: BLE001 whatever stands there, it is only shown
        return ()
    return tuple(dict.fromkeys(_named(hint)))


def _named(hint: Any) -> Iterator[type[IntegrationEvent]]:
    if isinstance(hint, type) and issubclass(hint, IntegrationEvent):
        if hasattr(hint, "__type__"):
            yield hint
        return
    for part in get_args(hint):
        yield from _named(part)
