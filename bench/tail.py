"""What many subscriptions cost the database while they are up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg

from bench.events import SignedUp, sign_ups
from bench.harness import Figure, Room, Side, Target, ratio
from bench.stores import pair

MANY = 200


def sent_by_tail(worker: Any) -> int:
    """Return how many statements the worker has sent to read the head of the log."""
    sent: int = worker.tail_statements
    return sent


def sent_by_worker(worker: Any) -> int:
    """Return how many statements the worker has sent altogether: with those for leases and checkpoints."""
    sent: int = worker.statements
    return sent


def figures(room: Room) -> Iterator[Figure]:
    """Compare the statements of a worker with 200 subscriptions with those of a worker with one."""
    window = 1.0 if room.quick else 4.0
    title = f"PostgreSQL, {window:g} s with 20 events: statements of the tail"
    altogether: dict[int, list[float]] = {MANY: [], 1: []}

    def side(subscriptions: int) -> Side:
        def measure() -> float:
            with pair(room.postgres) as made:
                tail, worker = asyncio.run(_count(made.app(), made.url, subscriptions, window))
            altogether[subscriptions].append(worker)
            return tail

        return Side(f"{subscriptions} subscription{'s' if subscriptions > 1 else ''}", measure)

    many, one = room.interleave(title, (side(MANY), side(1)), runs=5)
    yield ratio(room.group, title, "statements", many, one, target=Target(1.1, most=True))
    yield ratio(
        room.group,
        f"PostgreSQL, {window:g} s with 20 events: all statements of the worker",
        "statements",
        many.also(altogether[MANY]),
        one.also(altogether[1]),
    )


async def _count(app: Any, url: str, subscriptions: int, window: float) -> tuple[int, int]:
    """Record twenty events one by one, each handled by all before the next; wait for the rest of the window."""
    handled = 0
    all_handled = asyncio.Event()

    async def handle(_: SignedUp) -> None:
        nonlocal handled
        handled += 1
        if handled == subscriptions:
            all_handled.set()

    for number in range(subscriptions):
        app.on(SignedUp, name=f"subscription-{number}", start="now")(handle)

    async def record(connection: psycopg.AsyncConnection[Any]) -> None:
        nonlocal handled
        handled = 0
        all_handled.clear()
        await app.record(*sign_ups(1), via=connection)
        await connection.commit()
        await all_handled.wait()

    loop = asyncio.get_running_loop()
    async with await psycopg.AsyncConnection.connect(url) as connection, app.running() as worker:
        for _ in range(5):  # until everybody has caught up
            await record(connection)
            await asyncio.sleep(0.2)
        before, end = (sent_by_tail(worker), sent_by_worker(worker)), loop.time() + window
        for _ in range(20):
            await record(connection)
            await asyncio.sleep(window / 40)
        await asyncio.sleep(end - loop.time())
        return sent_by_tail(worker) - before[0], sent_by_worker(worker) - before[1]
