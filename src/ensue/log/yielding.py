"""SQLite has room for one writer, and who waits for it looks again every 1 to 100 ms, in no order.

A worker that writes one transaction after the other would leave the others only the moments in between: a web process
might look for seconds and find none, until its driver says "database is locked". So a long run of transactions pauses
now and then for longer than anybody waits between two looks, and more often while others do write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from ensue.log.place import Place
from ensue.log.sqlite import Sqlite

PAUSE = 0.11
"""Seconds; SQLite's busy handler sleeps 100 ms at most."""
_SELDOM = 2.0
"""Seconds of writing between two pauses if nobody else writes: with the pause that is half of the 5 s for which
Python's `sqlite3`, Django and SQLAlchemy wait."""
_OFTEN = 0.25
_BUSY = 0.5
"""A run that holds the file for less than this share of its time needs no pauses: others find room in between."""


class Turns:
    """Whose turn it is to write to a file: the transactions of one process, together, leave room for others."""

    def __init__(self, place: Place) -> None:
        self._log_file = Path(f"{place.database}-wal")
        self._needed = isinstance(place.dialect, Sqlite) and not place.in_memory
        self._every = _SELDOM / 4
        self._began = self._ended = self._paused_until = 0.0
        self._held = 0.0
        self._written: int | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait, if it is time to pause, before the transaction in the block is begun."""
        if not self._needed:
            yield
            return
        await self._wait()
        began = time.monotonic()
        try:
            yield
        finally:
            self._ended = time.monotonic()
            self._held += self._ended - began
            if self._paused_until:  # another one's, which had begun before the pause
                self._pause()

    async def _wait(self) -> None:
        now = time.monotonic()
        if self._paused_until == 0.0:
            if now - self._ended >= PAUSE:
                self._begin(now)
            elif now - self._began >= self._every:
                if self._held < _BUSY * (now - self._began):
                    self._begin(now)
                else:
                    self._pause()
        while (left := self._paused_until - time.monotonic()) > 0:  # noqa: ASYNC110 it is put off meanwhile
            await asyncio.sleep(left)
        if self._paused_until:
            others = self._last_write() != self._written
            self._every = max(_OFTEN, self._every / 4) if others else min(_SELDOM, self._every * 2)
            self._paused_until = 0.0
            self._begin(time.monotonic())

    def _begin(self, now: float) -> None:
        self._began, self._held = now, 0.0

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + PAUSE
        self._written = self._last_write()

    def _last_write(self) -> int | None:
        try:
            return self._log_file.stat().st_mtime_ns
        except FileNotFoundError:
            return None
