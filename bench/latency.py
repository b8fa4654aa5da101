"""From commit to handler while nothing else happens."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import psycopg

from bench.events import SignedUp, rows, sign_ups
from bench.harness import Figure, Room, Side, Target, absolute, ratio
from bench.stores import Pair, pair

Commit = Callable[[], Awaitable[float]]
"""Writes, and returns the milliseconds from just before the commit until somebody else knew."""


def figures(room: Room) -> Iterator[Figure]:
    """Compare the handler's call with a bare LISTEN that hears the NOTIFY of an insert's transaction."""
    title, samples = "PostgreSQL, idle: from commit to handler, median", room.sized(40, 3)
    slow: dict[str, list[float]] = {"handler": [], "bare NOTIFY": []}
    with pair(room.postgres) as made, asyncio.Runner() as runner:

        def side(name: str, opened: Callable[[Pair], Any]) -> Side:
            def measure() -> float:
                taken = runner.run(_sample(opened(made), samples))
                slow[name].append(sorted(taken)[int(len(taken) * 0.95)])
                return median(taken)

            return Side(name, measure)

        ours, base = room.interleave(title, (side("handler", _ensue), side("bare NOTIFY", _bare)))
    yield ratio(room.group, title, "ms", ours, base, target=Target(4, most=True))
    yield absolute(
        room.group,
        "PostgreSQL, idle: from commit to handler, 95 of 100 are faster",
        "ms",
        ours.also(slow[ours.name]),
        base.also(slow[base.name]),
    )


async def _sample(opened: Any, samples: int) -> list[float]:
    async with opened as commit:
        await commit()
        found: list[float] = []
        for _ in range(samples):
            await asyncio.sleep(random.uniform(0.08, 0.12))  # so long that everybody sleeps again
            found.append(await commit())
        return found


@asynccontextmanager
async def _bare(made: Pair) -> AsyncGenerator[Commit]:
    heard: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    insert, notify = made.insert().encode(), f"notify {made.twin}".encode()

    async def listen(connection: psycopg.AsyncConnection[Any]) -> None:
        async for _ in connection.notifies():
            heard.set_result(time.perf_counter())

    async def commit() -> float:
        nonlocal heard
        heard = asyncio.get_running_loop().create_future()
        (row,) = rows(1)
        await writer.execute(insert, row)
        await writer.execute(notify)
        start = time.perf_counter()
        await writer.commit()
        return (await heard - start) * 1000

    async with (
        await psycopg.AsyncConnection.connect(made.url) as writer,
        await psycopg.AsyncConnection.connect(made.url, autocommit=True) as listener,
    ):
        await listener.execute(f"listen {made.twin}".encode())
        listening = asyncio.create_task(listen(listener))
        try:
            yield commit
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


@asynccontextmanager
async def _ensue(made: Pair) -> AsyncGenerator[Commit]:
    heard: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    app = made.app()

    @app.on(SignedUp, start="now")
    async def hear(_: SignedUp) -> None:
        if not heard.done():
            heard.set_result(time.perf_counter())

    async def commit() -> float:
        nonlocal heard
        heard = asyncio.get_running_loop().create_future()
        (event,) = sign_ups(1)
        await app.record(event, via=writer)
        start = time.perf_counter()
        await writer.commit()
        return (await heard - start) * 1000

    async with await psycopg.AsyncConnection.connect(made.url) as writer, app.running():
        yield commit
