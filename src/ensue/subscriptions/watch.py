"""The watch: breaks off handlers that take too long, with one timer for all hands of a runner."""

from __future__ import annotations

import asyncio
from typing import Any


class Watch:
    """Cancels the task of a handler after so many seconds; None: never.

    It does what `asyncio.timeout` does, for a fifth of its price per event: as all have the same limit, only the
    oldest needs a timer.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._since: dict[asyncio.Task[Any], float] = {}  # the oldest first
        self._broken_off: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[Any]) -> None:
        """Watch a task from now on."""
        if self._limit is not None:
            self._since[task] = now = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_at(now + self._limit, self._look)

    def end(self, task: asyncio.Task[Any]) -> bool:
        """Watch a task no more; tell whether it has been broken off, and take its cancellation back if so."""
        self._since.pop(task, None)
        if task not in self._broken_off:
            return False
        self._broken_off.remove(task)
        task.uncancel()
        return True

    def _look(self) -> None:
        self._timer = None
        now, limit = self._loop.time(), self._limit or 0.0
        while self._since:
            task, since = next(iter(self._since.items()))
            if since + limit > now:
                self._timer = self._loop.call_at(since + limit, self._look)
                return
            del self._since[task]
            self._broken_off.add(task)
            task.cancel()

    def close(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
