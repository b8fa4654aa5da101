"""From a log over a broker: relays and inboxes beside the broker's bare client."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import psycopg

from bench import relaying_peer
from bench.broker_clients import Bare, BareKafka, BareNats, BareRabbitMQ, BareRedis
from bench.events import SignedUp
from bench.harness import Figure, Room, Side, Target
from bench.stores import Pair, fill, pair
from ensue.brokers import Outgoing, broker_at
from ensue.contracts.cloudevents import binary, source_of

WINDOW = 500
_LOOK_EVERY = 0.05
"""Seconds; who looks shares the processor with what is measured."""


_SUBSTITUTE = (
    "on the substitute server of the wheel noida-db, which is no Kafka: it burns a core, and answers a fetch at once "
    "where Kafka waits for news, so who is slower asks more often"
)


@contextmanager
def servers() -> Iterator[list[Bare]]:
    """Lend the bare clients of the brokers: of NATS, Redis and Kafka as the tests find them, a RabbitMQ of its own."""
    from tests.broker_servers import shared_nats, shared_redis
    from tests.own_kafka import shared_kafka
    from tests.own_rabbitmq import OwnRabbitMQ

    with ExitStack() as stack:
        substitute = "" if os.environ.get("ENSUE_TEST_KAFKA") else _SUBSTITUTE
        yield [
            BareNats(stack.enter_context(shared_nats())),
            BareRedis(stack.enter_context(shared_redis())),
            BareRabbitMQ(stack.enter_context(OwnRabbitMQ()).url),
            BareKafka(stack.enter_context(shared_kafka()), substitute),
        ]


def figures(room: Room) -> Iterator[Figure]:
    """Compare a relay with the client publishing the same messages, an inbox with one that writes them to a table."""
    from tests.broker_servers import shared_nats

    count = room.sized(100_000, 500)
    with servers() as clients, asyncio.Runner() as runner, pair(room.postgres) as made:
        with room.steps("filling the log", count) as step:
            fill(made, count, step)
        for bare in clients:
            for figure, size in ((_relay, count), (_inbox, count // 5)):
                runner.run(bare.open())
                try:
                    yield figure(room, made, bare, runner, size)
                finally:
                    runner.run(bare.close())
    with shared_nats() as where:
        yield from relaying_peer.figures(room, where)


def _messages(made: Pair, bare: Bare, topic: str, count: int) -> list[Outgoing]:
    """Return what a relay publishes of the log's first events."""
    binding, source = broker_at(bare.url).binding, source_of("elsewhere")
    found: list[Outgoing] = []
    for recorded in made.app().read(types=[SignedUp], limit=count):
        content_type, headers, body = binary(recorded, source, binding)
        found.append(Outgoing(topic, recorded.key, recorded.id_text, content_type, headers, body))
    return found


async def _publish(bare: Bare, messages: Sequence[Outgoing]) -> None:
    for first in range(0, len(messages), WINDOW):
        await bare.publish(messages[first : first + WINDOW])


def _relay(room: Room, made: Pair, bare: Bare, runner: asyncio.Runner, count: int) -> Figure:
    messages = _messages(made, bare, "", count)
    numbers = iter(range(1000))

    async def relay() -> float:
        name = f"relay-{bare.name}-{next(numbers)}"
        topic = await bare.topic(name)
        app = made.app()
        app.relay(bare.url, SignedUp, name=name, topic=lambda _: topic, window=WINDOW, start="beginning")
        app.migrate()
        async with app.running():
            found = await _pace(
                made, f"select min(checkpoint) from {made.schema}.partitions where subscription = '{name}'", count
            )
        await asyncio.to_thread(app.operations.retire, name, actor="bench", reason="measured")
        return found

    async def publish() -> float:
        begin = time.perf_counter()
        await _publish(bare, messages)
        return count / (time.perf_counter() - begin)

    return room.compare(
        f"{bare.name}, relay from a backlog of {count:,} in PostgreSQL",
        "/s",
        Side("relay", lambda: runner.run(relay())),
        Side(f"bare {bare.name}", lambda: runner.run(publish())),
        target=Target(0.6),
        note=_noted(f"windows of {WINDOW}, the same messages and acknowledgements", bare),
        runs=5,
    )


def _noted(note: str, bare: Bare) -> str:
    return f"{note}; {bare.note}" if bare.note else note


def _inbox(room: Room, made: Pair, bare: Bare, runner: asyncio.Runner, count: int) -> Figure:
    numbers = iter(range(1000))
    batch = room.sized(200, 20)

    async def inbox() -> float:
        name = f"inbox-{next(numbers)}"
        topic = await bare.topic(f"bench.{name}")
        publisher = broker_at(bare.url).publisher()
        await publisher.open([topic])
        messages = _messages(made, bare, topic, count)
        for first in range(0, count, WINDOW):
            await publisher.publish(messages[first : first + WINDOW])
        await publisher.close()
        del messages  # the collector would look through them again and again, which the bare side is spared
        with pair(room.postgres) as other:
            app = other.app()
            app.inbox(bare.url, SignedUp, name=name, topic=lambda _: topic, batch=batch)
            app.migrate()
            async with app.running():
                return await _pace(other, f"select max(position) from {other.schema}.events", count)

    async def consume() -> float:
        await _publish(bare, _messages(made, bare, "", count))
        with psycopg.connect(room.postgres, autocommit=True) as connection:
            connection.execute(
                "create table if not exists bench_consumed "
                "(number bigserial primary key, user_id text not null, data json not null)"
            )
            try:
                first, begin, taken = 0, 0.0, 0
                while taken < count:
                    bodies = await bare.fetch(batch)
                    with connection.transaction():
                        rows = [(json.loads(body)["user_id"], body.decode()) for body in bodies]
                        with connection.cursor() as cursor:
                            cursor.executemany("insert into bench_consumed (user_id, data) values (%s, %s)", rows)
                    await bare.acknowledge()
                    taken += len(bodies)
                    if not begin:
                        first, begin = taken, time.perf_counter()
                return (taken - first) / (time.perf_counter() - begin)
            finally:
                connection.execute("drop table bench_consumed")
                await bare.rest()

    return room.compare(
        f"{bare.name}, inbox of {count:,} messages into PostgreSQL",
        "/s",
        Side("inbox", lambda: runner.run(inbox())),
        Side(f"bare {bare.name}, one row per message", lambda: runner.run(consume())),
        target=Target(0.5),
        note=_noted(f"from the first batch of {batch} to the last, committed before they are acknowledged", bare),
        runs=5,
    )


async def _pace(made: Pair, reached: str, count: int) -> float:
    """Wait until something has reached a count; return how much it did in a second, once it had begun."""
    begin, first = time.perf_counter(), 0
    async with await psycopg.AsyncConnection.connect(made.url, autocommit=True) as connection:
        while True:
            row = await (await connection.execute(reached.encode())).fetchone()
            there, now = (row[0] or 0) if row is not None else 0, time.perf_counter()
            if there >= count:
                return (count - first) / (now - begin)
            if there and not first:
                begin, first = now, there
            await asyncio.sleep(_LOOK_EVERY)
