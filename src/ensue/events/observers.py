"""Several observers as one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Literal

from ensue.events.envelope import Receipt
from ensue.events.kinds import Event
from ensue.events.observer import Act, Ending, Observer, Operation, Seen


def together(first: Observer | None, second: Observer) -> Observer:
    """Return an observer that tells both: the first one is outside, the second one inside."""
    return second if first is None else _Both(first, second)


class _Acts:
    def __init__(self, acts: Sequence[Act]) -> None:
        self._acts = acts

    def end(self, endings: Sequence[Ending]) -> None:
        for each in self._acts:
            each.end(endings)


class _Both:
    def __init__(self, first: Observer, second: Observer) -> None:
        self._both = (first, second)

    def record(
        self, events: Sequence[Event], stream: str | None, append: Callable[[], Operation[Receipt]]
    ) -> Operation[Receipt]:
        first, second = self._both
        return first.record(events, stream, partial(second.record, events, stream, append))

    def traceparent(self) -> str | None:
        first, second = self._both
        return first.traceparent() or second.traceparent()

    def publish(
        self, subscription: str, system: str, topics: Sequence[str], events: Sequence[Seen]
    ) -> AbstractContextManager[Act]:
        return _entered([each.publish(subscription, system, topics, events) for each in self._both])

    def receive(self, subscription: str, system: str, messages: Sequence[Seen]) -> AbstractContextManager[Act]:
        return _entered([each.receive(subscription, system, messages) for each in self._both])

    def process(self, subscription: str, events: Sequence[Seen]) -> AbstractContextManager[Act]:
        return _entered([each.process(subscription, events) for each in self._both])

    def failed(self, subscription: str, *, waits: bool) -> None:
        for each in self._both:
            each.failed(subscription, waits=waits)

    def leased(self, subscription: str, change: Literal["taken", "given back", "lost"]) -> None:
        for each in self._both:
            each.leased(subscription, change)

    def waited(self, seconds: float) -> None:
        for each in self._both:
            each.waited(seconds)


@contextmanager
def _entered(blocks: Sequence[AbstractContextManager[Act]]) -> Generator[Act]:
    with ExitStack() as stack:
        yield _Acts([stack.enter_context(each) for each in blocks])
