"""Connections of ensue's own, kept open between two uses."""

from __future__ import annotations

import asyncio
import os
import select
import time
import weakref
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from ensue.events import Observer
from ensue.log.driving import drive, drive_async
from ensue.log.opening import connected_aiosqlite, open_postgres, open_postgres_async, open_sqlite
from ensue.log.place import Place
from ensue.log.postgres import Postgres
from ensue.log.riding.sqlite import OwnSqliteRide
from ensue.log.statements import Steps

T = TypeVar("T")

_MOST = 8
"""How many idle connections are kept, for threads and for each event loop."""


class Own:
    """Lends connections in autocommit mode, and takes them back if they are as they were.

    Any number of threads and event loops may borrow; a connection is kept for the thread or loop that comes next.
    What is idle is closed with the object, and at the end of the process.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.observer: Observer | None = None
        """Is told how long somebody has waited for a connection."""
        self._postgres = isinstance(place.dialect, Postgres)
        self._idle: list[tuple[Any, object]] = []
        self._idle_async: dict[asyncio.AbstractEventLoop, list[Any]] = {}
        weakref.finalize(self, _close, self._idle, self._idle_async)
        _all.add(self)

    @contextmanager
    def lend(self) -> Generator[Any]:
        """Lend a sync connection; one that comes back in a transaction is closed, which rolls it back."""
        connection, file = self._take() if self.observer is None else self._take_observed(self.observer)
        try:
            yield connection
        finally:
            self._give_back(connection, file)

    def _give_back(self, connection: Any, file: object) -> None:
        if self._as_it_was(connection) and len(self._idle) < _MOST:
            self._idle.append((connection, file))
        else:
            connection.close()

    def _take_observed(self, observer: Observer) -> tuple[Any, object]:
        began = time.perf_counter()
        taken = self._take()
        observer.waited(time.perf_counter() - began)
        return taken

    def _take(self) -> tuple[Any, object]:
        file = None if self._postgres or self._place.in_memory else _identity(self._place.database)
        while self._idle:
            try:
                connection, known = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if known == file and (not self._postgres or _open(connection)):
                return connection, file
            connection.close()
        if self._postgres:
            return open_postgres(self._place), None
        connection = open_sqlite(self._place)
        return connection, file or (None if self._place.in_memory else _identity(self._place.database))

    def _as_it_was(self, connection: Any) -> bool:
        if self._postgres:
            return _settled(connection)
        if connection.row_factory is not None or connection.isolation_level is not None:
            return False
        return not connection.in_transaction

    @asynccontextmanager
    async def lend_async(self) -> AsyncGenerator[Any]:
        """Lend an async connection; those of aiosqlite are threads, and not kept."""
        if not self._postgres:
            async with connected_aiosqlite(self._place) as connection:
                yield connection
            return
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        for other in [each for each in tuple(self._idle_async) if each.is_closed()]:  # other threads add theirs
            _finish(self._idle_async.pop(other, []))
        idle = self._idle_async.setdefault(loop, [])
        connection = None
        while idle and connection is None:
            candidate = idle.pop()
            if _open(candidate):
                connection = candidate
            else:
                await candidate.close()
        if connection is None:
            connection = await open_postgres_async(self._place)
        if self.observer is not None:
            self.observer.waited(time.perf_counter() - began)
        try:
            yield connection
        finally:
            if _settled(connection) and len(idle) < _MOST:
                idle.append(connection)
            else:
                await connection.close()

    # --- carrying operations out

    def run(self, steps: Steps[T]) -> T:
        """Carry an operation out; in PostgreSQL, one of a single statement is a transaction of its own."""
        connection, file = self._take() if self.observer is None else self._take_observed(self.observer)
        try:
            if not self._postgres:
                return drive(steps, OwnSqliteRide(connection), self._place)
            from ensue.log.riding.psycopg import OwnRide

            return drive(steps, OwnRide(connection), self._place)
        finally:
            self._give_back(connection, file)

    async def run_async(self, steps: Steps[T]) -> T:
        """As `run`, in an event loop; SQLite works in a thread meanwhile."""
        if not self._postgres:
            return await asyncio.to_thread(self.run, steps)
        from ensue.log.riding.psycopg import AsyncOwnRide

        async with self.lend_async() as connection:
            return await drive_async(steps, AsyncOwnRide(connection), self._place)

    def leave_to_the_parent(self) -> None:
        """After a fork: the connections are the parent's, to close them would harm it."""
        _left_to_the_parent.append((list(self._idle), dict(self._idle_async)))
        self._idle.clear()
        self._idle_async.clear()

    def close(self) -> None:
        """Close what is idle."""
        _close(self._idle, self._idle_async)


def _identity(path: str) -> tuple[int, int] | None:
    """Tell a file from another that was put in its place."""
    try:
        about = os.stat(path)  # noqa: PTH116 a third of the price of Path's
    except FileNotFoundError:
        return None
    return about.st_dev, about.st_ino


def _open(connection: Any) -> bool:
    """Tell whether an idle connection of psycopg is still good: the server has said nothing, not even farewell."""
    if connection.closed:
        return False
    readable, _, _ = select.select([connection.pgconn.socket], [], [], 0)
    return not readable


def _settled(connection: Any) -> bool:
    """Tell whether a connection of psycopg is as it was lent."""
    usual = connection.autocommit and connection.row_factory.__name__ == "tuple_row"
    return usual and not connection.closed and connection.pgconn.transaction_status == 0


def _finish(connections: list[Any]) -> None:
    """Close async connections whose event loop has ended."""
    while connections:
        connection = connections.pop()
        connection.pgconn.finish()  # while the variable keeps it alive


def _close(idle: list[tuple[Any, object]], idle_async: dict[asyncio.AbstractEventLoop, list[Any]]) -> None:
    while idle:
        idle.pop()[0].close()
    while idle_async:
        _finish(idle_async.popitem()[1])


_all: weakref.WeakSet[Own] = weakref.WeakSet()
_left_to_the_parent: list[object] = []


def _after_fork() -> None:
    for own in tuple(_all):
        own.leave_to_the_parent()


os.register_at_fork(after_in_child=_after_fork)
