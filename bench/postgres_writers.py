"""Many writers at once whose transactions stay open for a while after recording."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

import psycopg

from bench.events import rows, sign_ups
from bench.harness import Figure, Room, Side, Target
from bench.stores import Pair, pair

WRITERS = 32
HOLD = 0.005
"""Seconds that a transaction stays open after recording."""


class Writer(Protocol):
    """A connection of one of the drivers."""

    connection: Any

    def transaction(self) -> AbstractAsyncContextManager[Any]: ...

    async def execute(self, insert: str, row: Sequence[Any] = ()) -> None: ...


class PsycopgWriter:
    """psycopg begins a transaction by itself."""

    numbered = False

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    @classmethod
    async def opened(cls, url: str, stack: AsyncExitStack) -> Writer:
        connection = await psycopg.AsyncConnection.connect(url)
        stack.push_async_callback(connection.close)
        return cls(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        yield
        await self.connection.commit()

    async def execute(self, insert: str, row: Sequence[Any] = ()) -> None:
        await self.connection.execute(insert.encode(), row)


class AsyncpgWriter:
    """asyncpg has a block for it."""

    numbered = True

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @classmethod
    async def opened(cls, url: str, stack: AsyncExitStack) -> Writer:
        import asyncpg

        connection = await asyncpg.connect(url)
        stack.push_async_callback(connection.close)
        return cls(connection)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        block: AbstractAsyncContextManager[Any] = self.connection.transaction()
        return block

    async def execute(self, insert: str, row: Sequence[Any] = ()) -> None:
        await self.connection.execute(insert, *row)


def figures(room: Room) -> Iterator[Figure]:
    """Compare with bare inserts, and show what a lock that serialises the writers would do to them."""
    for driver in (PsycopgWriter, AsyncpgWriter):
        with pair(room.postgres) as made, asyncio.Runner() as runner:
            stack = AsyncExitStack()
            try:
                writers = runner.run(_opened(driver, made.url, stack))
                yield _figure(room, made, driver, writers, runner)
            finally:
                runner.run(stack.aclose())


async def _opened(driver: type[PsycopgWriter | AsyncpgWriter], url: str, stack: AsyncExitStack) -> list[Writer]:
    return [await driver.opened(url, stack) for _ in range(WRITERS)]


def _figure(
    room: Room,
    made: Pair,
    driver: type[PsycopgWriter | AsyncpgWriter],
    writers: list[Writer],
    runner: asyncio.Runner,
) -> Figure:
    app, insert = made.app(), made.insert(numbered=driver.numbered)
    lock = f"lock table {made.twin}.events in exclusive mode"
    seconds = 2.0 if not room.quick else 0.3
    enough = int(seconds * WRITERS / HOLD)

    def record() -> float:
        events = itertools.cycle(sign_ups(1000))

        async def write(writer: Writer) -> None:
            await app.record(next(events), via=writer.connection)

        return runner.run(_hold(writers, write, seconds))

    def execute() -> float:
        ready = iter(rows(enough))

        async def write(writer: Writer) -> None:
            await writer.execute(insert, next(ready))

        return runner.run(_hold(writers, write, seconds))

    def execute_locked() -> float:
        ready = iter(rows(enough))

        async def write(writer: Writer) -> None:
            await writer.execute(lock)
            await writer.execute(insert, next(ready))

        return runner.run(_hold(writers, write, seconds))

    name = "psycopg" if driver is PsycopgWriter else "asyncpg"
    return room.compare(
        f"PostgreSQL, {WRITERS} writers that hold for 5 ms, {name}",
        "/s",
        Side("record", record),
        Side("bare inserts", execute),
        Side("bare, with an exclusive table lock", execute_locked),
        target=Target(0.8),
    )


async def _hold(writers: list[Writer], write: Callable[[Writer], Awaitable[None]], seconds: float) -> float:
    """Let all writers write, hold and commit until the time is over; return commits per second."""
    start = time.perf_counter()
    committed = 0

    async def go_on(writer: Writer) -> None:
        nonlocal committed
        while time.perf_counter() - start < seconds:
            async with writer.transaction():
                await write(writer)
                await asyncio.sleep(HOLD)
            committed += 1

    await asyncio.gather(*(go_on(writer) for writer in writers))
    return committed / (time.perf_counter() - start)
