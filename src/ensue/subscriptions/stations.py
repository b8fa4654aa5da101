"""The worker's own connections: each carries one operation at a time and comes back after an outage."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from ensue.errors import DatabaseUnavailable
from ensue.log import Log, Postgres, Steps, open_postgres_async, open_sqlite
from ensue.log.outages import PASSING
from ensue.log.statements import Query, T

_PATIENCE = 2.0
"""Seconds to wait for the end of an operation before its connection is given up."""
_LONGEST = 600.0
_LATE = 0.25
"""Seconds after which a timer that comes late tells that the event loop was held up, not the database."""


class Station(Protocol):
    """One connection of the worker."""

    statements: int
    """How many statements it has carried."""
    generation: int
    """Grows with every new connection: what was known only in memory may then be wrong, see `Worker`."""

    async def connect(self) -> None:
        """Connect if it is not connected."""
        ...

    async def do(self, steps: Steps[T], generation: int | None = None) -> T:
        """Carry an operation out; raise `DatabaseUnavailable` if it may succeed later.

        It reconnects by itself, unless a generation is given: then only that connection will do.
        """
        ...

    def still(self) -> AbstractAsyncContextManager[None]:
        """Keep it from beginning anything: who is cancelled meanwhile does not lose the connection by it."""
        ...

    async def close(self) -> None: ...


def station(log: Log, limit: float) -> Station:
    """Return a new, still unconnected station; in PostgreSQL it counts as lost after so many seconds of silence."""
    return PostgresStation(log, limit) if isinstance(log.dialect, Postgres) else SqliteStation(log)


class PostgresStation:
    """A psycopg connection of the worker.

    An operation that takes longer than the limit is broken off with its connection, as the network may be silent for
    ever. The next may take twice as long, in case it is only slow.
    """

    def __init__(self, log: Log, limit: float) -> None:
        self._log = log
        self._least = self._limit = max(_PATIENCE, limit)
        self._busy = asyncio.Lock()
        self._connection: Any = None
        self.statements = 0
        self.generation = 0

    async def connect(self) -> None:
        async with self._busy:
            await self.connected()

    async def do(self, steps: Steps[T], generation: int | None = None) -> T:
        async with self._busy:
            connection = await self.connected()
            if generation not in (None, self.generation):
                raise DatabaseUnavailable("the connection was lost in between")
            try:
                return await self._carry(steps, connection)
            except BaseException:
                await self.drop()  # its transaction may be open, its connection lost, its statement half carried
                raise

    async def _carry(self, steps: Steps[T], connection: Any) -> T:
        silence = _Silence(connection, self._limit)
        try:
            result: T = await self._log.run(_counted(steps, self), connection)
        except Exception as error:
            if silence.broken:
                limit, self._limit = self._limit, min(2 * self._limit, max(_LONGEST, self._least))
                raise DatabaseUnavailable(f"PostgreSQL has not answered within {limit:g} s") from error
            if (getattr(error, "sqlstate", None) or "").startswith(PASSING):
                raise DatabaseUnavailable(f"PostgreSQL: {str(error).strip()}") from error
            raise
        finally:
            silence.end()
        self._limit = self._least
        return result

    async def connected(self) -> Any:
        """Return the psycopg connection, a new one after an outage."""
        if self._connection is None or self._connection.closed:
            connection = await open_postgres_async(self._log.place)
            try:
                await self._carry(_settle(self._least), connection)
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
            self.generation += 1
        return self._connection

    async def listen(self, seconds: float) -> None:
        """Wait until PostgreSQL calls on a channel that the connection listens to, at most so long."""
        async with self._busy:
            connection = await self.connected()
            try:
                async for _ in connection.notifies(timeout=seconds, stop_after=1):
                    pass
            except BaseException as error:
                await self.drop()
                if isinstance(error, Exception):
                    raise DatabaseUnavailable(f"PostgreSQL: {str(error).strip()}") from error
                raise

    @asynccontextmanager
    async def still(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._busy.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            self._busy.release()

    async def drop(self) -> None:
        """Close the connection; the next operation opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def close(self) -> None:
        async with self._busy:
            await self.drop()


class _Silence:
    """Breaks a connection after so many seconds, so that who waits for an answer over it is told that there is none.

    Cancelling who waits would not do: psycopg then waits for the server to confirm that.
    """

    def __init__(self, connection: Any, limit: float) -> None:
        self.broken = False
        self._connection = connection
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._timer = self._begin()

    def _begin(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._limit, self._look)

    def _look(self) -> None:
        if self._loop.time() > self._timer.when() + _LATE:  # the answer may long be here
            self._timer = self._begin()
            return
        self.broken = True
        line = socket.socket(fileno=self._connection.pgconn.socket)
        try:
            line.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has just been lost
        finally:
            line.detach()  # it stays the connection's

    def end(self) -> None:
        self._timer.cancel()


class SqliteStation:
    """An SQLite connection of the worker, in a thread of its own: waiting for a writer must not stop the loop."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ensue-sqlite")
        self._connection: sqlite3.Connection | None = None
        self.statements = 0
        self.generation = 1

    async def connect(self) -> None:
        """Nothing: what another process has committed to a file does not go away."""

    async def do(self, steps: Steps[T], generation: int | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, steps)

    def _do(self, steps: Steps[T]) -> T:
        if self._connection is None:
            self._connection = open_sqlite(self._log.place)
        try:
            result: T = self._log.run(_counted(steps, self), self._connection)
        except sqlite3.OperationalError as error:
            self._drop()
            raise DatabaseUnavailable(f"SQLite, {self._log.place.database}: {error}") from error
        return result

    @asynccontextmanager
    async def still(self) -> AsyncGenerator[None]:
        yield  # what is cancelled goes on to its end in the thread

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown()


_SETTINGS = Query(
    "select set_config('synchronous_commit', 'on', false), "
    "set_config('idle_in_transaction_session_timeout', cast(:idle as text), false)"
)


def _settle(idle: float) -> Steps[None]:
    """Let checkpoints survive what they count, and let no transaction of a frozen process lock rows for ever."""
    yield _SETTINGS(idle=f"{min(idle, _LONGEST) * 1000:.0f}ms")


def _counted(steps: Steps[T], counter: Station) -> Steps[T]:
    try:
        step = next(steps)
        while True:
            counter.statements += 1
            try:
                rows = yield step
            except Exception as error:  # noqa: BLE001 handed on to the operation
                step = steps.throw(error)
            else:
                step = steps.send(rows)
    except StopIteration as done:
        result: T = done.value
        return result
