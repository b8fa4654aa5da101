"""Reactions: plain functions that are called with an event, at least once, in the order of its key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol, TypeVar, overload

from ensue.errors import DeclarationError, Permanent
from ensue.events import Event, follow
from ensue.handlers.functions import Function
from ensue.handlers.processes import Undoing, ticket_of
from ensue.handlers.timers import Asking, Setting
from ensue.subscriptions import Backoff, Delivery, Done, Hold, Outcome, Park, Retry, Start, Subscription, seconds

E = TypeVar("E", bound=Event)
Answer = TypeVar("Answer", bound=Outcome | Awaitable[Outcome | None] | None)


class Reacting(Protocol[E]):
    """Takes a function of an event, or of an event and its delivery, sync or async, and gives it back."""

    @overload
    def __call__(self, function: Callable[[E], Answer], /) -> Callable[[E], Answer]: ...

    @overload
    def __call__(self, function: Callable[[E, Delivery], Answer], /) -> Callable[[E, Delivery], Answer]: ...


def reaction(
    function: Callable[..., Any],
    types: tuple[type[Event], ...],
    *,
    name: str,
    start: Start = "now",
    retry: Backoff = Backoff(),
    concurrency: int = 10,
    partitions: int = 1,
    timeout: float | timedelta | str | None = 60.0,
    timers: Asking | None = None,
    undoing: Undoing | None = None,
) -> Subscription:
    """Make a subscription of a function; raise `DeclarationError` for what cannot be one.

    With `undoing`, a command that compensates for a step of a process is done when it has been told so.
    """
    label = name
    called = Function(function, label)
    try:
        limit = None if timeout is None else seconds(timeout)
    except DeclarationError as error:
        raise DeclarationError(f"subscription {label!r}: timeout: {error}") from None

    async def handle(delivery: Delivery) -> Outcome | None:
        recorded = delivery.recorded
        ticket = None if undoing is None or delivery.again else ticket_of(recorded)
        if undoing is not None and ticket is not None and not await undoing.is_open(ticket):
            return None
        events = recorded.events
        follow(recorded)
        answer: Outcome | None = None
        asked: list[Setting] = []
        if timers is not None and called.takes_two:
            delivery = replace(delivery, _ask=timers(asked))
        for part, event in enumerate(events, 1):
            if isinstance(event, types):
                answer = await called(event, delivery if part == 1 else replace(delivery, part=part))
                if answer is not None and not isinstance(answer, (Done, Retry, Park, Hold)):
                    raise Permanent(
                        f"{label} returned {answer!r}; a handler returns None, Done(), Retry(…), Park(…) or Hold(…)"
                    )
                if isinstance(answer, (Retry, Park, Hold)):
                    return answer  # all of them again, each with its own idempotency key
        if timers is not None and asked:
            await timers.set(asked)
        if undoing is not None and ticket is not None:
            await undoing.hand_in(ticket)
        return answer

    return Subscription(
        name=label,
        types=tuple(each.__type__ for each in types),
        handle=handle,
        start=start,
        retry=retry,
        concurrency=concurrency,
        partitions=partitions,
        timeout=limit,
    )
