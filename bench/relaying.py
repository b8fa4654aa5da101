"""From a log over a broker: relays and inboxes beside the broker's bare client."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from bench import relaying_peer
from bench.broker_clients import Bare, BareKafka, BareNats, BareRabbitMQ, BareRedis
from bench.events import SignedUp
from bench.harness import Figure, Room, Side, Target
from bench.stores import Pair, fill, pair
from ensue import App
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
            runner.run(bare.open())
            try:
                yield _relay(room, made, bare, runner, count)
                yield _inbox(room, made, bare, runner, count // 5)
            finally:
                runner.run(bare.close())
    with shared_nats() as where:
        yield from relaying_peer.figures(room, where)


def _relay(room: Room, made: Pair, bare: Bare, runner: asyncio.Runner, count: int) -> Figure:
    app = made.app()
    broker = broker_at(bare.url)
    messages: list[Outgoing] = []
    for recorded in app.read(types=[SignedUp], limit=count):
        content_type, headers, body = binary(recorded, source_of("bench"), broker.binding)
        messages.append(Outgoing("", recorded.key, recorded.id_text, content_type, headers, body))
    numbers = iter(range(1000))

    async def relay() -> float:
        name = f"relay-{bare.name}-{next(numbers)}"
        topic = await bare.topic(name)
        app = made.app()
        app.relay(bare.url, SignedUp, name=name, topic=lambda _: topic, window=WINDOW, start="beginning")
        app.migrate()
        begin = time.perf_counter()
        async with app.running():
            while _reached(app, name) < count:  # noqa: ASYNC110 it is the database that is asked
                await asyncio.sleep(_LOOK_EVERY)
            taken = time.perf_counter() - begin
        await asyncio.to_thread(app.operations.retire, name, actor="bench", reason="measured")
        return count / taken

    async def publish() -> float:
        begin = time.perf_counter()
        for first in range(0, count, WINDOW):
            await bare.publish(messages[first : first + WINDOW])
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


def _reached(app: App, name: str) -> int:
    """Return up to which position a subscription has finished everything."""
    return next(each.checkpoint for each in app.operations.standings() if each.subscription == name)


def _inbox(room: Room, made: Pair, bare: Bare, runner: asyncio.Runner, count: int) -> Figure:
    numbers = iter(range(1000))
    batch = 200

    async def filled(topic: str) -> None:
        broker = broker_at(bare.url)
        publisher = broker.publisher()
        await publisher.open([topic])
        app = made.app()
        window: list[Outgoing] = []
        for recorded in app.read(types=[SignedUp], limit=count):
            content_type, headers, body = binary(recorded, source_of("elsewhere"), broker.binding)
            window.append(Outgoing(topic, recorded.key, recorded.id_text, content_type, headers, body))
            if len(window) == WINDOW:
                await publisher.publish(window)
                window.clear()
        await publisher.publish(window)
        await publisher.close()

    async def inbox() -> float:
        name = f"inbox-{next(numbers)}"
        topic = await bare.topic(f"bench.{name}")
        await filled(topic)
        with pair(room.postgres) as other:
            app = other.app()
            app.inbox(bare.url, SignedUp, name=name, topic=lambda _: topic, batch=batch)
            app.migrate()
            begin = time.perf_counter()
            async with app.running():
                await _until(other, count)
                return count / (time.perf_counter() - begin)

    async def consume() -> float:
        messages = [(each.id_text, each.data) for each in made.app().read(types=[SignedUp], limit=count)]
        window = [Outgoing("", id, id, "application/json", {"ce-id": id}, data.encode()) for id, data in messages]
        for first in range(0, count, WINDOW):
            await bare.publish(window[first : first + WINDOW])
        with psycopg.connect(room.postgres, autocommit=True) as connection:
            connection.execute(
                "create table if not exists bench_consumed "
                "(number bigserial primary key, user_id text not null, data json not null)"
            )
            try:
                begin = time.perf_counter()
                taken = 0
                while taken < count:
                    bodies = await bare.fetch(batch)
                    with connection.transaction():
                        rows = [(json.loads(body)["user_id"], body.decode()) for body in bodies]
                        with connection.cursor() as cursor:
                            cursor.executemany("insert into bench_consumed (user_id, data) values (%s, %s)", rows)
                    await bare.acknowledge()
                    taken += len(bodies)
                return count / (time.perf_counter() - begin)
            finally:
                connection.execute("drop table bench_consumed")

    return room.compare(
        f"{bare.name}, inbox of {count:,} messages into PostgreSQL",
        "/s",
        Side("inbox", lambda: runner.run(inbox())),
        Side(f"bare {bare.name}, one row per message", lambda: runner.run(consume())),
        target=Target(0.5),
        note=_noted(f"batches of {batch}, committed before they are acknowledged", bare),
        runs=5,
    )


async def _until(made: Pair, count: int) -> None:
    """Wait until so many events are in a log; to ask for the last one costs the server next to nothing."""
    last = f"select max(position) from {made.schema}.events".encode()
    async with await psycopg.AsyncConnection.connect(made.url, autocommit=True) as connection:
        while True:
            row = await (await connection.execute(last)).fetchone()
            if row is not None and (row[0] or 0) >= count:
                return
            await asyncio.sleep(_LOOK_EVERY)
