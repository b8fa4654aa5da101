"""As a relay beside faststream-outbox: the same PostgreSQL, the same JetStream, a backlog and then single events."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from statistics import median, quantiles
from typing import Any

import msgspec
import psycopg
from sqlalchemy.ext.asyncio import async_sessionmaker

from bench.events import SignedUp, sign_ups
from bench.harness import Figure, Room, Side, Target, ratio
from bench.peer import PEER, QUEUE, Peer, Tuning
from bench.stores import Pair, fill, pair

FASTEST = Tuning(16, 1000, 1000)
"""The fastest from 2 to 28 workers; each of them waits for the acknowledgement of one message."""
_LOOK_EVERY = 0.02

Commit = Callable[[], Awaitable[float]]
"""Commits an event, and returns the moment just before that."""


def figures(room: Room, where: str) -> Iterator[Figure]:
    """Compare on the NATS at a place; both wait until JetStream has acknowledged a message."""
    with pair(room.postgres) as made, asyncio.Runner() as runner:
        peer = Peer(made)
        runner.run(peer.create())
        try:
            yield from _idle(room, made, peer, where, runner)
            yield _backlog(room, made, peer, where, runner)
        finally:
            runner.run(peer.engine.dispose())


class _Stream:
    """A stream of JetStream for one run, and a client that looks at it."""

    def __init__(self, where: str) -> None:
        self.name = f"bench-{secrets.token_hex(4)}"
        self.subject = f"{self.name}.events"
        self.url = f"nats://{where}"
        self.client: Any = None
        self._js: Any = None

    @asynccontextmanager
    async def there(self) -> AsyncGenerator[None]:
        import nats

        self.client = await nats.connect(self.url)
        self._js = self.client.jetstream()
        await self._js.add_stream(name=self.name, subjects=[self.subject])
        try:
            yield
        finally:
            await self._js.delete_stream(self.name)
            await self.client.close()

    async def has(self, count: int) -> None:
        """Wait until so many messages are in the stream."""
        while (await self._js.stream_info(self.name)).state.messages < count:  # noqa: ASYNC110 it is the server that is asked
            await asyncio.sleep(_LOOK_EVERY)


@asynccontextmanager
async def _ensue(made: Pair, stream: _Stream, name: str, start: Any) -> AsyncGenerator[None]:
    app = made.app()
    app.relay(f"{stream.url}/{stream.name}", SignedUp, name=name, topic=lambda _: stream.subject, start=start)
    app.migrate()
    async with app.running():
        yield
    await asyncio.to_thread(app.operations.retire, name, actor="bench", reason="measured")


@asynccontextmanager
async def _faststream(peer: Peer, stream: _Stream, tuning: Tuning) -> AsyncGenerator[None]:
    """Relay as its page on relays shows it: a publisher of the other broker around a subscriber of the outbox."""
    from faststream.nats import NatsBroker

    out, outbox = NatsBroker(stream.url, logger=None), peer.broker()

    @out.publisher(stream.subject, stream=stream.name, timeout=10)
    @outbox.subscriber(
        QUEUE,
        max_workers=tuning.max_workers,
        fetch_batch_size=tuning.fetch_batch_size,
        terminal_flush_batch_size=tuning.terminal_flush_batch_size,
        min_fetch_interval=0.001,
        max_fetch_interval=0.001,
    )
    async def _(body: dict[str, Any]) -> dict[str, Any]:
        return body

    await out.connect()
    await outbox.start()
    try:
        yield
    finally:
        await outbox.stop()
        await out.stop()


def _backlog(room: Room, made: Pair, peer: Peer, where: str, runner: asyncio.Runner) -> Figure:
    count, numbers = room.sized(20_000, 200), itertools.count()
    with room.steps("filling the log", count) as step:
        fill(made, count, step)

    async def emptied(relay: Callable[[_Stream], Any]) -> float:
        stream = _Stream(where)
        async with stream.there():
            begin = time.perf_counter()
            async with relay(stream):
                await stream.has(count)
                return count / (time.perf_counter() - begin)

    def ours() -> float:
        return runner.run(emptied(lambda stream: _ensue(made, stream, f"backlog-{next(numbers)}", "beginning")))

    def theirs() -> float:
        peer.fill(count)
        return runner.run(emptied(lambda stream: _faststream(peer, stream, FASTEST)))

    return room.compare(
        f"NATS, relay from a backlog of {count:,} in PostgreSQL",
        "/s",
        Side("relay", ours),
        Side(f"{PEER}, {FASTEST}", theirs),
        target=Target(3),
        note="until JetStream has them all; the peer: asyncpg, fetch interval 1 ms, no logger",
        runs=5,
    )


def _idle(room: Room, made: Pair, peer: Peer, where: str, runner: asyncio.Runner) -> Iterator[Figure]:
    title, samples, numbers = "NATS, idle: from commit to a subscriber of NATS", room.sized(100, 3), itertools.count()
    slow: dict[str, list[float]] = {}

    def side(name: str, run: Callable[[_Stream], Any]) -> Side:
        def measure() -> float:
            taken = runner.run(_sample(run, where, samples))
            slow.setdefault(name, []).append(quantiles(taken, n=100, method="inclusive")[98])
            return median(taken)

        return Side(name, measure)

    ours, theirs = room.interleave(
        title,
        (
            side("relay", lambda stream: _commits(made, stream, f"idle-{next(numbers)}")),
            side(f"{PEER}, {FASTEST}", lambda stream: _publishes(peer, stream)),
        ),
        runs=5,
    )
    note = "the peer: asyncpg, woken by NOTIFY, fetch interval 1 ms, no logger"
    for which, mine, other in (
        ("median", ours, theirs),
        ("99 of 100 are faster", ours.also(slow[ours.name]), theirs.also(slow[theirs.name])),
    ):
        yield ratio(room.group, f"{title}, {which}", "ms", mine, other, target=Target(1, most=True), note=note)


async def _sample(run: Callable[[_Stream], Any], where: str, samples: int) -> list[float]:
    stream = _Stream(where)
    async with stream.there():
        heard: asyncio.Queue[float] = asyncio.Queue()

        async def hear(_: Any) -> None:
            heard.put_nowait(time.perf_counter())

        await stream.client.subscribe(stream.subject, cb=hear)
        async with run(stream) as commit:
            found: list[float] = []
            for number in range(samples + 1):
                await asyncio.sleep(random.uniform(0.04, 0.06))  # so long that everybody sleeps again
                begin = await commit()
                taken = (await heard.get() - begin) * 1000
                if number > 0:  # the first one connects
                    found.append(taken)
            return found


@asynccontextmanager
async def _commits(made: Pair, stream: _Stream, name: str) -> AsyncGenerator[Commit]:
    app = made.app()

    async def commit() -> float:
        (event,) = sign_ups(1)
        await app.record(event, via=writer)
        begin = time.perf_counter()
        await writer.commit()
        return begin

    async with _ensue(made, stream, name, "now"), await psycopg.AsyncConnection.connect(made.url) as writer:
        yield commit


@asynccontextmanager
async def _publishes(peer: Peer, stream: _Stream) -> AsyncGenerator[Commit]:
    sessions, outbox = async_sessionmaker(peer.engine, expire_on_commit=False), peer.broker()

    async def commit() -> float:
        (event,) = sign_ups(1)
        async with sessions() as session:
            await outbox.publish(msgspec.to_builtins(event), queue=QUEUE, session=session)
            begin = time.perf_counter()
            await session.commit()
        return begin

    async with _faststream(peer, stream, FASTEST):
        yield commit
