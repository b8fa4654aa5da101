"""Counting what happens in a process, for whichever system keeps the counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

from ensue.events import Act, Ending, Event, Receipt, Seen
from ensue.integrations.instruments import (
    HANDLED,
    HANDLING,
    LEASES,
    PARKED,
    PUBLISHED,
    PUBLISHING,
    RECEIVED,
    RECORDED,
    RETRIED,
    WAITING,
    Instrument,
)
from ensue.log import Steps

_FAILED = Ending("failed")


class Counts(Protocol):
    """Keeps counts; by any thread."""

    def add(self, instrument: Instrument, amount: int, *labels: str) -> None:
        """Count."""
        ...

    def note(self, instrument: Instrument, seconds: float, *labels: str) -> None:
        """Put one duration into a histogram."""
        ...


class Counting:
    """Counts what happens in one application."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def record(
        self, events: Sequence[Event], stream: str | None, append: Callable[[], Steps[Receipt]]
    ) -> Steps[Receipt]:
        """Count events by type, once they are recorded."""
        return self._counted(events, append())

    def _counted(self, events: Sequence[Event], steps: Steps[Receipt]) -> Steps[Receipt]:
        receipt = yield from steps
        if not receipt.duplicate:
            for type_, amount in Counter(type(each).__type__ for each in events).items():
                self._counts.add(RECORDED, amount, type_)
        return receipt

    def traceparent(self) -> str | None:
        """Return None: it does not trace."""
        return None

    @contextmanager
    def publish(self, subscription: str, system: str, topics: Sequence[str], events: Sequence[Seen]) -> Generator[Act]:
        """Count messages, and how long the broker took for them."""
        with self._timed(PUBLISHING, PUBLISHED, subscription, events) as act:
            yield act

    @contextmanager
    def receive(self, subscription: str, system: str, messages: Sequence[Seen]) -> Generator[Act]:
        """Count messages."""
        self._counts.add(RECEIVED, len(messages), subscription)
        yield _Endings()

    def process(self, subscription: str, events: Sequence[Seen]) -> AbstractContextManager[Act]:
        """Count events by how their handling ended, and note how long that took."""
        return self._timed(HANDLING, HANDLED, subscription, events)

    @contextmanager
    def _timed(
        self, duration: Instrument, count: Instrument, subscription: str, events: Sequence[Seen]
    ) -> Generator[Act]:
        counts, act = self._counts, _Endings()
        if again := sum(each.attempt > 1 for each in events):
            counts.add(RETRIED, again, subscription)
        began = time.perf_counter()
        try:
            yield act
        finally:
            counts.note(duration, time.perf_counter() - began, subscription)
            endings = act.endings or [_FAILED] * len(events)
            for how, amount in Counter(each.how for each in endings).items():
                counts.add(count, amount, subscription, how)

    def failed(self, subscription: str, *, waits: bool) -> None:
        """Count what is parked."""
        self._counts.add(PARKED, 1, subscription, "person" if waits else "retry")

    def leased(self, subscription: str, change: Literal["taken", "given back", "lost"]) -> None:
        """Count leases."""
        self._counts.add(LEASES, 1, subscription, change.replace(" ", "_"))

    def waited(self, seconds: float) -> None:
        """Note how long."""
        self._counts.note(WAITING, seconds)


class _Endings:
    def __init__(self) -> None:
        self.endings: Sequence[Ending] = ()

    def end(self, endings: Sequence[Ending]) -> None:
        self.endings = endings
