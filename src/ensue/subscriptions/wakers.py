"""What a tail does while there is nothing to read: it waits for news, and asks for a call where one can be had."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import Protocol

from ensue.log import Call, Log, Steps, open_sqlite
from ensue.log.statements import Query
from ensue.subscriptions.stations import PostgresStation

POLL = 2.0
"""Seconds after which a sleeping tail looks again, should a call have been missed."""
_ASK = 6
"""Seconds for which a call is asked."""
_BUSY = 3
"""Readings in a row that found something, after which the log counts as busy."""
_LINGER = 0.02
"""Seconds without anything new after which a busy log counts as quiet again."""
_GLANCE = 0.002
"""Seconds between two looks at a busy log while there is nothing new."""
_GLANCE_AT_OTHERS = 0.01
"""As `_GLANCE`, where nobody here wants what was new last: what is not for us may be looked at less often."""


class Waker(Protocol):
    """Waits for something new in the log."""

    async def busy(self, *, wanted: bool) -> None:
        """There was something new. `wanted`: there was something to read among it."""
        ...

    async def idle(self, *, writers: bool) -> None:
        """There was nothing to read: return when it is worth looking again. `writers`: somebody is recording."""
        ...

    async def close(self) -> None: ...


class PostgresWaker:
    """Sleeps on LISTEN. Asks for a call first, and looks once more after that, so that no call is missed.

    A recording transaction that did not see the request had taken its position before it was made: the look after it
    sees that transaction's lock, and waits for it with short polls. While there is always something to read, or was a
    moment ago, the request is withdrawn, and nobody pays for NOTIFY. That withdraws it for other workers too: they read
    the same log and are busy as well; one that had just fallen asleep looks again after its poll.
    """

    def __init__(self, log: Log, station: PostgresStation) -> None:
        self._log = log
        self._station = station
        self._generation = 0
        self._asked_until = 0.0
        self._streak = 0
        self._busy_at = 0.0
        self._patience = 0.0
        self._glance = _GLANCE

    async def busy(self, *, wanted: bool) -> None:
        self._streak += 1
        self._glance = _GLANCE if wanted else _GLANCE_AT_OTHERS
        self._busy_at = time.monotonic()
        self._patience = 0.0
        if self._streak == _BUSY and self._asked_until:
            self._asked_until = 0.0
            await self._station.do(self._withdraw())

    async def idle(self, *, writers: bool) -> None:
        if time.monotonic() > self._busy_at + _LINGER:
            self._streak = 0
        elif self._streak >= _BUSY:
            await asyncio.sleep(self._glance)
            return
        await self._station.connect()
        if self._generation != self._station.generation:
            await self._station.do(self._listen())
            self._generation, self._asked_until = self._station.generation, 0.0
        if self._asked_until < time.monotonic() + POLL:
            await self._station.do(self._ask())
            self._asked_until = time.monotonic() + _ASK - 1  # the request holds whole seconds
            return
        self._patience = min(0.25, self._patience * 2 or 0.005) if writers else POLL
        await self._station.listen(self._patience)

    def _listen(self) -> Steps[None]:
        yield Call(Query(f"listen {self._log.place.schema}"))

    def _ask(self) -> Steps[None]:
        yield self._log.dialect.sql["sleep"](seconds=_ASK)

    def _withdraw(self) -> Steps[None]:
        yield self._log.dialect.sql["withdraw"]()

    async def close(self) -> None:
        """Nothing: other workers may sleep, and the request runs out by itself."""


class SqliteWaker:
    """Asks SQLite, every few milliseconds, whether another connection has committed: that costs microseconds."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._connection: sqlite3.Connection | None = None
        self._seen = -1
        self._pause = 0.0

    async def busy(self, *, wanted: bool) -> None:
        if wanted:
            self._pause = 0.0

    async def idle(self, *, writers: bool) -> None:
        if self._connection is None:
            self._connection = open_sqlite(self._log.place)
            self._connection.execute("pragma busy_timeout = 0")
        deadline = time.monotonic() + POLL
        while True:  # not at once, whatever has changed: a projection that catches up commits all the time
            self._pause = min(0.02, self._pause + 0.001)
            await asyncio.sleep(self._pause)
            changes = self._changes(self._connection)
            if changes != self._seen or time.monotonic() > deadline:
                break
        self._seen = changes

    def _changes(self, connection: sqlite3.Connection) -> int:
        try:
            found: int = connection.execute("pragma data_version").fetchone()[0]
        except sqlite3.OperationalError:  # locked by a writer: ask again
            return self._seen
        return found

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
