"""Attempts: the calls of one partition's handler, for as long as each may take; an error is an outcome too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import TypeVar

from ensue.errors import Permanent, UndecodableEvent
from ensue.events import Observer
from ensue.subscriptions.declared import Handle, Subscription
from ensue.subscriptions.failing import Failure
from ensue.subscriptions.outcomes import Delivery, Done, Outcome, Park
from ensue.subscriptions.watch import Watch
from ensue.subscriptions.witnessing import witnessed

_DONE = Done()

T = TypeVar("T")


class Attempts:
    """Calls the handler of a subscription; what it opens is opened once, and closed at the end."""

    def __init__(self, subscription: Subscription, observer: Observer | None = None) -> None:
        self._subscription = subscription
        self._observer = observer
        self._opened = subscription.opens() if subscription.opens is not None else None
        self._watch = Watch(subscription.timeout)

    @property
    def together(self) -> bool:
        """Whether several events are handled in one call."""
        return self._opened is not None

    async def one(self, delivery: Delivery) -> Outcome | Failure:
        """Handle one event."""
        handle = self._subscription.handle
        if handle is None:
            return (await self.several([delivery]))[0]
        if self._observer is None:
            return await self._watched(handle(delivery)) or _DONE
        return await self._one_witnessed(self._observer, handle, delivery)

    async def _one_witnessed(self, observer: Observer, handle: Handle, delivery: Delivery) -> Outcome | Failure:
        async def call() -> Sequence[Outcome | Failure]:
            return [await self._watched(handle(delivery)) or _DONE]

        return (await witnessed(observer, self._subscription, [delivery], call))[0]

    async def several(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome | Failure]:
        """Handle several events in one call."""
        if self._observer is None:
            return await self._several(deliveries)
        return await witnessed(self._observer, self._subscription, deliveries, partial(self._several, deliveries))

    async def _several(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome | Failure]:
        assert self._opened is not None  # noqa: S101
        answer = await self._watched(self._opened.handle(deliveries))
        if isinstance(answer, (Failure, Park)):
            return [answer] * len(deliveries)
        if len(answer) != len(deliveries):
            wrong = ValueError(f"{len(deliveries)} events were handled together, and {len(answer)} outcomes returned")
            return [Failure(wrong)] * len(deliveries)
        return [_failure(each) if isinstance(each, Exception) else each or _DONE for each in answer]

    async def _watched(self, call: Awaitable[T]) -> T | Park | Failure:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 a hand is a task
        self._watch.begin(task)
        answer: T | Park | Failure
        try:
            answer = await call
        except asyncio.CancelledError as error:
            if self._watch.end(task):
                answer = self._late()
            elif task.cancelling():
                raise
            else:
                answer = Failure(error, "the handler awaited something that was cancelled")
        except (Permanent, UndecodableEvent) as error:
            answer = _failure(error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not _at_work(task):  # nobody raised it: the loop has ended
                raise
            answer = Failure(error)
        return self._late() if self._watch.end(task) else answer

    def _late(self) -> Failure:
        return Failure(TimeoutError(), f"no answer within {self._subscription.timeout:g} s")

    def unwatch(self) -> None:
        """Break off no call any more that takes too long."""
        self._watch.close()

    async def close(self) -> None:
        """Close what was opened; raises what that raises."""
        if self._opened is not None:
            await self._opened.close()


def _at_work(task: asyncio.Task[None]) -> bool:
    """Tell whether a task is running, rather than being thrown away."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no loop runs any more
        return False


def _failure(error: Exception) -> Failure:
    return Failure(error, final=isinstance(error, (Permanent, UndecodableEvent)))
