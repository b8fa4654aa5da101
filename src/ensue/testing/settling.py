"""Waiting until everything that follows has followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ensue.app import App
from ensue.app.seeing import standings_of, state_of
from ensue.errors import DeclarationError
from ensue.events import Event, Recorded
from ensue.handlers.timers.firing import next_due
from ensue.handlers.timers.schedules import missed
from ensue.subscriptions.operating import Filter

_LOOK_EVERY = 0.01
"""Seconds between two looks."""
_GRACE = 1.0


class Settle:
    """Runs the real worker until nothing is left to do, unless one is at work already.

    Nothing is left when every declared subscription has passed all events that it wants, no transaction that has
    recorded is open, no timer and no schedule is due, and nothing new has been recorded meanwhile. What waits for its
    time waits for the clock: timers, and retries of what has failed. Dead letters wait for a person.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(self, seconds: float = 10.0) -> None:
        """Wait; raises `AssertionError` that says what is left if that takes more than so many seconds.

        In an event loop await `settle_async()`.
        """
        __tracebackhide__ = True
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self.within_loop(seconds))
        else:
            raise DeclarationError("settle() was called in an event loop: await settle_async()")

    async def within_loop(self, seconds: float = 10.0) -> None:
        """As a call, in an event loop, in which async handlers then run."""
        __tracebackhide__ = True
        app, deadline = self._app, time.monotonic() + seconds
        if await asyncio.to_thread(_is_worked, app):
            await _until_settled(app, deadline, seconds)
            return
        async with app.running(grace=_GRACE):
            await _until_settled(app, deadline, seconds)


async def _until_settled(app: App, deadline: float, seconds: float) -> None:
    __tracebackhide__ = True
    while left := await asyncio.to_thread(_left, app):
        if time.monotonic() > deadline:
            raise AssertionError("\n".join([f"not everything has followed within {seconds:g} s", *left]))
        await asyncio.sleep(_LOOK_EVERY)


def _is_worked(app: App) -> bool:
    """Tell whether a worker holds all that is declared."""
    found, _, missing = standings_of(app)
    return bool(found) and not missing and all(state_of(part) == "worked" for each in found for part in each.partitions)


def _left(app: App) -> list[str]:
    """Say what is left to do; nothing if that holds for one horizon, before and after everything has been looked at."""
    log, operations = app.log, app.operations
    horizon = operations.horizon()
    if operations.holders():
        return ["  a transaction that has recorded is still open"]
    with log.own.lend() as connection:
        due = log.run(next_due(log), connection)
        ticks = log.run(missed(log, tuple(app.declarations.schedules.values())), connection)
    left = ["  a timer is due"] if due is not None and due <= 0 else []
    left += [f"  schedule {name} has a tick that is not recorded" for name in ticks]
    standings = standings_of(app).found
    retries = _due_again(app) if any(each.retrying for each in standings) else {}
    for each in standings:
        if each.behind or each.subscription in retries:
            paused = ", paused" if each.paused else ""
            held = f", held: {each.held.reason}" if each.held is not None else ""
            failed = f", failed last: {retries[each.subscription]}" if each.subscription in retries else ""
            left.append(f"  {each.subscription}: {each.behind} behind{paused}{held}{failed}")
    return left or ([] if operations.horizon() == horizon else ["  something has just been recorded"])


def _due_again(app: App) -> dict[str, str]:
    """Return by subscription why something failed that is due for another try."""
    now = datetime.now(UTC)
    letters = app.operations.dead_letters(Filter(waiting_only=False))
    return {each.subscription: each.reason for each in letters if each.due_at is not None and each.due_at <= now}


class Since:
    """What has been recorded since the test began."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._after = app.operations.horizon()

    def __call__(self, *types: type[Event]) -> list[Any]:
        """Return the events of these types, or all, in the order of the log."""
        return [each.event for each in self.whole(*types)]

    def whole(self, *types: type[Event]) -> Sequence[Recorded[Any]]:
        """Return them with their metadata, position and time."""
        return list(self._app.read(after=self._after, types=types))
