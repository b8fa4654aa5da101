"""Waking up whoever fires timers in this process for one that is due soon."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

SOON = 1.0
"""Seconds between two looks at the timers: one that another process has set is fired that late at most."""
_AFTER = 0.002
"""Seconds past its time at which a timer is looked for."""


class Sleeper:
    """Sleeps in an event loop, until it is time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    def due_in(self, seconds: float) -> None:
        """Wake up then; may be called by any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds + _AFTER, self._woken.set)

    async def sleep(self, most: float) -> None:
        """Sleep so many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most):
                await self._woken.wait()
        self._woken.clear()


class Alarm:
    """Tells the sleepers of an application about timers that it sets."""

    def __init__(self) -> None:
        self._sleepers: set[Sleeper] = set()
        self._lock = threading.Lock()

    def due_in(self, seconds: float) -> None:
        """Note that a timer is due then. What lies further ahead is found by looking."""
        if seconds < SOON:
            with self._lock:
                sleepers = tuple(self._sleepers)
            for each in sleepers:
                each.due_in(max(0.0, seconds))

    @contextmanager
    def sleeper(self) -> Generator[Sleeper]:
        """Yield somebody who is told as long as the block lasts."""
        sleeper = Sleeper()
        with self._lock:
            self._sleepers.add(sleeper)
        try:
            yield sleeper
        finally:
            with self._lock:
                self._sleepers.discard(sleeper)
