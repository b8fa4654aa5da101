"""Beside faststream-outbox: emptying a backlog, and recording through SQLAlchemy's AsyncSession."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from sqlalchemy import MetaData, Table, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from bench.delivering import deliver
from bench.events import json_in_sql, rows, sign_ups
from bench.harness import Figure, Room, Side, Target
from bench.stores import Pair, fill, pair

if TYPE_CHECKING:
    from faststream_outbox import OutboxBroker

PEER = "faststream-outbox"
QUEUE = "sign-ups"


@dataclass(frozen=True)
class Tuning:
    """The settings of its subscriber that decide how fast it is."""

    max_workers: int
    fetch_batch_size: int
    terminal_flush_batch_size: int

    def __str__(self) -> str:
        return f"{self.max_workers} workers, fetch {self.fetch_batch_size}, flush {self.terminal_flush_batch_size}"


DOCUMENTED = Tuning(1, 100, 100)
"""What its page on performance measures with."""
BEST = Tuning(2, 1000, 1000)
"""The fastest found here; its defaults (1, 10, 1) gave a tenth of it."""


def figures(room: Room) -> Iterator[Figure]:
    """Compare on the same PostgreSQL; the peer uses asyncpg, as it recommends, and does not write a log."""
    with pair(room.postgres) as made, asyncio.Runner() as runner:
        peer = Peer(made)
        runner.run(peer.create())
        try:
            yield _backlog(room, made, peer, runner)
            yield _publishing(room, made, peer, runner)
        finally:
            runner.run(peer.engine.dispose())


class Peer:
    """Its table, in the schema of the twin, and its broker."""

    def __init__(self, made: Pair) -> None:
        from faststream_outbox import make_outbox_table

        self.engine: AsyncEngine = create_async_engine(sqlalchemy_url(made), pool_size=20)
        self.metadata = MetaData(schema=made.twin)
        self.table: Table = make_outbox_table(self.metadata)
        self.url = made.url

    async def create(self) -> None:
        from faststream_outbox import outbox_autovacuum_ddl

        async with self.engine.begin() as connection:
            await connection.run_sync(self.metadata.create_all)
            await connection.execute(text(outbox_autovacuum_ddl("outbox", schema=self.table.schema)))

    def broker(self) -> OutboxBroker:
        from faststream_outbox import OutboxBroker

        return OutboxBroker(self.engine, outbox_table=self.table, logger=None)

    def fill(self, count: int) -> None:
        """Put a backlog into the table, as `publish` would have written it."""
        name = self.table.fullname
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"truncate {name}".encode())
            connection.execute(
                f"""insert into {name} (queue, payload, headers)
                select '{QUEUE}', convert_to({json_in_sql("u.id")}, 'UTF8'), json_build_object(
                    'content-type', 'application/json', 'correlation_id', u.id)::jsonb
                from (select gen_random_uuid()::text as id from generate_series(1, {count})) as u""".encode()
            )
            connection.execute(f"vacuum analyze {name}".encode())

    async def deliver(self, count: int, tuning: Tuning) -> float:
        """Return events per second, from the start of the broker until the handler has been called for all."""
        handled = 0
        done = asyncio.Event()

        async def handle(_: dict[str, Any]) -> None:
            nonlocal handled
            handled += 1
            if handled == count:
                done.set()

        broker = self.broker()
        broker.subscriber(
            QUEUE,
            max_workers=tuning.max_workers,
            fetch_batch_size=tuning.fetch_batch_size,
            terminal_flush_batch_size=tuning.terminal_flush_batch_size,
            min_fetch_interval=0.001,
            max_fetch_interval=0.001,
        )(handle)
        begin = time.perf_counter()
        await broker.start()
        await done.wait()
        taken = time.perf_counter() - begin
        await broker.stop()
        return count / taken


def sqlalchemy_url(made: Pair) -> str:
    """Return the URL for SQLAlchemy over asyncpg."""
    return make_url(made.url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def _backlog(room: Room, made: Pair, peer: Peer, runner: asyncio.Runner) -> Figure:
    count, numbers = room.sized(100_000, 500), itertools.count()
    with room.steps("filling the log", count) as step:
        fill(made, count, step)

    def ours() -> float:
        return runner.run(deliver(made.app(), count, name=f"backlog-{next(numbers)}", start=0))

    def theirs(tuning: Tuning) -> Side:
        def measure() -> float:
            peer.fill(count)
            return runner.run(peer.deliver(count, tuning))

        return Side(f"{PEER}, {tuning}", measure)

    return room.compare(
        f"PostgreSQL, from a backlog of {count:,} to an empty async handler",
        "/s",
        Side("ensue, as it comes", ours),
        theirs(BEST),
        theirs(DOCUMENTED),
        target=Target(8),
        note="the peer: asyncpg, fetch interval 1 ms, no logger",
        runs=5,
    )


def _publishing(room: Room, made: Pair, peer: Peer, runner: asyncio.Runner) -> Figure:
    count, app, broker = room.sized(500, 20), made.app(), peer.broker()
    sessions = async_sessionmaker(peer.engine, expire_on_commit=False)
    insert = text(
        f"insert into {made.twin}.events (position, id, type, kind, key, data, recorded_at) "
        f"values (nextval('{made.twin}.positions'), :id, :type, :kind, :key, :data, clock_timestamp())"
    )

    nothing = text("select 1")

    async def record() -> float:
        events = sign_ups(count)
        begin = time.perf_counter()
        for event in events:
            async with sessions() as session, session.begin():
                await app.record(event, via=session)
        return count / (time.perf_counter() - begin)

    async def publish() -> float:
        bodies: list[Any] = [msgspec.to_builtins(event) for event in sign_ups(count)]
        begin = time.perf_counter()
        for body in bodies:
            async with sessions() as session, session.begin():
                await broker.publish(body, queue=QUEUE, session=session)
        return count / (time.perf_counter() - begin)

    async def execute() -> float:
        names = ("id", "type", "kind", "key", "data")
        ready: list[dict[str, str]] = [dict(zip(names, row, strict=True)) for row in rows(count)]
        begin = time.perf_counter()
        for row in ready:
            async with sessions() as session, session.begin():
                await session.execute(insert, row)
        return count / (time.perf_counter() - begin)

    async def say_nothing() -> float:
        begin = time.perf_counter()
        for _ in range(count):
            async with sessions() as session, session.begin():
                await session.execute(nothing)
        return count / (time.perf_counter() - begin)

    return room.compare(
        "PostgreSQL, record one per commit through AsyncSession, asyncpg",
        "/s",
        Side("record", lambda: runner.run(record())),
        Side(f"{PEER}, publish", lambda: runner.run(publish())),
        Side("bare insert through the session", lambda: runner.run(execute())),
        Side("select 1 through the session, nothing written", lambda: runner.run(say_nothing())),
        target=Target(1.5),
    )
