"""Given, when, then for handlers: the application's own log, and the real worker."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple, Self

from ensue.app import App
from ensue.errors import DeclarationError
from ensue.events import Event, SourcedEvent
from ensue.events.ids import new_id
from ensue.subscriptions.operating import Filter
from ensue.testing.comparing import as_read, compared, unmatched

_LOOK_EVERY = 0.01
"""Seconds between two looks at how far the subscriptions are."""

_GRACE = 1.0
"""Seconds that a handler which has not ended in time gets to end after all."""


class Letter(NamedTuple):
    """An event that was not handled, and why."""

    subscription: str
    type: str
    reason: str
    traceback: str = ""


class Handled:
    """What came of an event: what was recorded, and what was given up."""

    def __init__(self, app: App, events: list[Event], letters: list[Letter]) -> None:
        self._app = app
        self._events = events
        self._letters = letters

    def then(self, *expected: Event, parked: str | None = None) -> Self:
        """Check that exactly these events were recorded, in any order: handlers work side by side.

        Nothing may have become a dead letter; with `parked`, something must have, and each reason contains this text.
        Raises `AssertionError` that shows both.
        """
        __tracebackhide__ = True
        wanted = [as_read(event) for event in expected]
        wrong: list[str] = []
        if any(unmatched(wanted, self._events)) or any(unmatched(self._events, wanted)):
            wrong += ["other events were recorded", *compared(wanted, self._events)]
        if parked is not None and not self._letters:
            wrong += ["there is no dead letter", "expected:", f"  - parked: {parked}", "got:", "    nothing"]
        others = [each for each in self._letters if parked is None or parked not in each.reason]
        if others:
            wrong += ["there are other dead letters" if parked is not None else "there are dead letters", "expected:"]
            wrong += ["    nothing" if parked is None else f"  - parked: {parked}", "got:"]
            for each in others:
                wrong += [f"  + parked: {each.reason} ({each.type} for {each.subscription})"]
                wrong += [f"      {line}" for line in each.traceback.splitlines()]
        if wrong:
            raise AssertionError("\n".join(wrong))
        return self

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return what a query finds in the log's database now: what a read model says after the event."""
        with self._app.operations.connection() as connection:
            return [tuple(row) for row in connection.execute(sql).fetchall()]


class GivenApp:
    """An application in whose log something has been recorded."""

    def __init__(self, app: App, events: tuple[Event, ...], stream: str | None) -> None:
        self._app = app
        self._events = events
        self._stream = stream or f"given-{new_id()}"

    def when(self, event: Event, /, *, seconds: float = 10.0) -> Handled:
        """Record an event and run the worker until every subscription has handled all, of the given events first.

        What is recorded from the event on counts as its consequence. Raises `AssertionError` if there is something
        left to do after so many `seconds`, with what failed last. In an event loop use `when_async`.
        """
        __tracebackhide__ = True
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.when_async(event, seconds=seconds))
        raise DeclarationError("when(…) was called in an event loop: await given(…).when_async(…)")

    async def when_async(self, event: Event, /, *, seconds: float = 10.0) -> Handled:
        """As `when`, in an event loop, in which async handlers then run."""
        __tracebackhide__ = True
        app = self._app
        async with app.running(grace=_GRACE):  # it registers new subscriptions: before anything is recorded
            before = await asyncio.to_thread(app.operations.horizon)
            await _settled(app, await self._record(*self._events) if self._events else before, seconds)
            position = await self._record(event)
            await _settled(app, position, seconds)
        return await asyncio.to_thread(_look, app, before, position)

    async def _record(self, *events: Event) -> int:
        """Record events in one transaction; return the position of the last one."""
        app, position = self._app, 0
        if any(within.function.is_async for within, _, _ in app.declarations.guards.calls(events)):
            async with app.transaction() as connection:
                for event in events:
                    position = (await app.record(event, via=connection, stream=self._stream_of(event))).position
            return position

        def record() -> int:
            position = 0
            with app.transaction() as connection:
                for event in events:
                    position = app.record(event, via=connection, stream=self._stream_of(event)).position
            return position

        return await asyncio.to_thread(record)

    def _stream_of(self, event: Event) -> str | None:
        return self._stream if isinstance(event, SourcedEvent) else None


async def _settled(app: App, position: int, seconds: float) -> None:
    """Wait until every subscription has handled all there is, up to this position at least."""
    deadline = time.monotonic() + seconds
    while unfinished := await asyncio.to_thread(_unfinished, app, position):
        if time.monotonic() > deadline:
            raise AssertionError("\n".join([f"not everything was handled within {seconds:g} s", *unfinished]))
        await asyncio.sleep(_LOOK_EVERY)


def _unfinished(app: App, position: int) -> list[str]:
    if app.operations.horizon() < position:
        return ["  the log is not complete yet: a transaction that has recorded is still open"]
    found = [each for each in app.operations.standings() if each.subscription in app.subscriptions]
    left = [each for each in found if each.behind or each.retrying]
    failures = app.operations.last_errors() if left else {}
    lines: list[str] = []
    for each in left:
        paused = ", paused" if each.paused else ""
        failed = failures.get(each.subscription)
        reason = f"; last failure: {failed.reason}" if failed is not None else ""
        lines.append(f"  {each.subscription}: {each.behind} behind, {each.retrying} retrying{paused}{reason}")
    return lines


def _look(app: App, before: int, position: int) -> Handled:
    recorded = list(app.read(after=before))
    letters = [
        Letter(each.subscription, each.type, each.reason, each.traceback or "")
        for each in app.operations.dead_letters(Filter(ids=frozenset(each.id_text for each in recorded)))
        if each.subscription in app.subscriptions
    ]
    for each in recorded:
        for passage in app.operations.passages(each):
            if passage.state == "queued" and passage.subscription in app.subscriptions:
                reason = f"queues behind a dead letter of its key: {passage.reason}"
                letters.append(Letter(passage.subscription, each.type, reason))
    return Handled(app, [each.event for each in recorded if each.position > position], letters)
