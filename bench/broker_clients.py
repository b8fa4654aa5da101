"""Brokers' bare clients: they publish the same messages in the same windows, and wait for the same acknowledgements."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Protocol

from ensue.brokers import Outgoing


class Bare(Protocol):
    """A broker's client as its documentation shows it, in the fastest way that waits for what ensue waits for."""

    name: str
    url: str
    """For ensue: a place of its own on the same server."""
    note: str
    """What has to be known about the server."""

    async def topic(self, group: str) -> str:
        """Return a topic of ensue's own, and see to it that a group will get what is published to it."""
        ...

    async def open(self) -> None: ...

    async def publish(self, window: Sequence[Outgoing]) -> None:
        """Publish, and wait until the broker has all of it for good."""
        ...

    async def fetch(self, most: int) -> list[bytes]:
        """Return the next bodies, and acknowledge them with `acknowledge`."""
        ...

    async def acknowledge(self) -> None: ...

    async def rest(self) -> None:
        """Read no more until the next `fetch`: a reader that waits must cost nothing while others are measured."""
        ...

    async def close(self) -> None:
        """Remove what was made, and disconnect."""
        ...


class BareNats:
    """nats-py: `publish` of JetStream, a window of them gathered; a durable pull consumer."""

    name = "nats-py"
    note = ""

    def __init__(self, where: str) -> None:
        self._where = where
        self._stream = f"bench-{secrets.token_hex(4)}"
        self.url = f"nats://{where}/{self._stream}-relay"
        self._client: Any = None
        self._js: Any = None
        self._reader: Any = None
        self._fetched: list[Any] = []
        self._windows = itertools.count()

    async def topic(self, group: str) -> str:
        return _a_topic()

    async def open(self) -> None:
        import nats

        self._client = await nats.connect(f"nats://{self._where}")
        self._js = self._client.jetstream()
        await self._js.add_stream(name=self._stream, subjects=[f"{self._stream}.>"])

    async def publish(self, window: Sequence[Outgoing]) -> None:
        subject, number = f"{self._stream}.a", next(self._windows)  # another run's messages are no duplicates
        ready = [(each.body, {**each.headers, "Nats-Msg-Id": f"{number}-{each.id}"}) for each in window]
        await asyncio.gather(*(self._js.publish(subject, body, headers=headers) for body, headers in ready))

    async def fetch(self, most: int) -> list[bytes]:
        if self._reader is None:
            self._reader = await self._js.pull_subscribe(f"{self._stream}.>", durable="bare")
        self._fetched = await self._reader.fetch(most, timeout=10)
        return [each.data for each in self._fetched]

    async def acknowledge(self) -> None:
        await asyncio.gather(*(each.ack() for each in self._fetched))
        await self._client.flush()

    async def rest(self) -> None:
        reader, self._reader = self._reader, None
        await reader.unsubscribe()

    async def close(self) -> None:
        for stream in (self._stream, f"{self._stream}-relay"):
            with suppress(Exception):  # it may never have been made
                await self._js.delete_stream(stream)
        await self._client.close()


class BareRedis:
    """redis-py: a pipeline of XADD; a consumer group."""

    name = "redis-py"
    note = ""

    def __init__(self, where: str) -> None:
        self._where = where
        self._stream = f"bench-{secrets.token_hex(4)}"
        self.url = f"redis://{where}/0"
        self._client: Any = None
        self._ids: list[Any] = []
        self._topics: list[str] = []

    async def topic(self, group: str) -> str:
        self._topics.append(_a_topic())
        return self._topics[-1]

    async def open(self) -> None:
        from redis.asyncio import Redis

        self._client = Redis.from_url(self.url)
        await self._client.xgroup_create(self._stream, "bare", id="0", mkstream=True)

    async def publish(self, window: Sequence[Outgoing]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for each in window:
            pipeline.xadd(self._stream, {**each.headers, "data": each.body})
        await pipeline.execute()

    async def fetch(self, most: int) -> list[bytes]:
        found = await self._client.xreadgroup("bare", "bench", {self._stream: ">"}, count=most, block=10_000)
        entries = found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]
        self._ids = [id for id, _ in entries]
        return [fields[b"data"] for _, fields in entries]

    async def acknowledge(self) -> None:
        await self._client.xack(self._stream, "bare", *self._ids)

    async def rest(self) -> None:
        """Nothing: it reads only when it is asked to."""

    async def close(self) -> None:
        await self._client.delete(self._stream, *self._topics)
        await self._client.aclose()


class BareRabbitMQ:
    """aio-pika: confirms, a window of them gathered; a quorum queue, acknowledged together."""

    name = "aio-pika"
    note = ""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: Any = None
        self._channel: Any = None
        self._exchange: Any = None
        self._queue: Any = None
        self._last: Any = None
        self._arrived: asyncio.Queue[Any] | None = None
        self._tag = ""

    async def topic(self, group: str) -> str:
        import aio_pika

        topic = _a_topic()
        exchange = await self._channel.declare_exchange("ensue", aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await self._channel.declare_queue(
            group, durable=True, arguments={"x-queue-type": "quorum", "x-single-active-consumer": True}
        )
        await queue.bind(exchange, topic)
        return topic

    async def open(self) -> None:
        import aio_pika

        self._connection = await aio_pika.connect(self.url)
        self._channel = await self._connection.channel(publisher_confirms=True)
        await self._channel.set_qos(prefetch_count=1000)
        self._exchange = await self._channel.declare_exchange("bare", aio_pika.ExchangeType.TOPIC, durable=True)
        self._queue = await self._channel.declare_queue("bare", durable=True, arguments={"x-queue-type": "quorum"})
        await self._queue.bind(self._exchange, "a")

    async def publish(self, window: Sequence[Outgoing]) -> None:
        from aio_pika import DeliveryMode, Message

        messages = [
            Message(
                each.body,
                headers=dict(each.headers),
                content_type=each.content_type,
                delivery_mode=DeliveryMode.PERSISTENT,
                message_id=each.id,
            )
            for each in window
        ]
        await asyncio.gather(*(self._exchange.publish(message, "a") for message in messages))

    async def fetch(self, most: int) -> list[bytes]:
        if self._arrived is None:
            self._arrived = asyncio.Queue()
            self._tag = await self._queue.consume(self._arrived.put)
        found = [await self._arrived.get()]
        with suppress(TimeoutError):  # so many small transactions as messages come one by one would be slower
            async with asyncio.timeout(0.01):
                while len(found) < most:
                    found.append(await self._arrived.get())
        self._last = found[-1]
        return [each.body for each in found]

    async def acknowledge(self) -> None:
        await self._last.ack(multiple=True)

    async def rest(self) -> None:
        self._arrived = None
        await self._queue.cancel(self._tag)

    async def close(self) -> None:
        await self._queue.delete(if_unused=False, if_empty=False)
        await self._connection.close()


class BareKafka:
    """aiokafka: an idempotent producer with acks=all, a window of futures gathered; a group that commits."""

    name = "aiokafka"

    def __init__(self, where: str, note: str) -> None:
        self._where = where
        self.note = note
        self.url = f"kafka://{where}?partitions={_PARTITIONS}"
        self._topics: list[str] = []
        """The first one is the bare client's."""
        self._admin: Any = None
        self._producer: Any = None
        self._consumer: Any = None

    async def topic(self, group: str) -> str:
        self._topics.append(_a_topic())
        return self._topics[-1]

    async def open(self) -> None:
        aiokafka, admin = _module("aiokafka"), _module("aiokafka.admin")
        self._topics = [_a_topic()]
        self._admin = admin.AIOKafkaAdminClient(bootstrap_servers=self._where)
        await self._admin.start()
        await self._admin.create_topics([admin.NewTopic(self._topics[0], _PARTITIONS, 1)])
        self._producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=self._where, acks="all", enable_idempotence=True, max_batch_size=524_288
        )
        await self._producer.start()

    async def publish(self, window: Sequence[Outgoing]) -> None:
        await asyncio.gather(*[await self._send(each) for each in window])

    async def _send(self, message: Outgoing) -> Any:
        headers = [(name, value.encode()) for name, value in message.headers.items()]
        return await self._producer.send(self._topics[0], message.body, key=message.key.encode(), headers=headers)

    async def fetch(self, most: int) -> list[bytes]:
        if self._consumer is None:
            self._consumer = _module("aiokafka").AIOKafkaConsumer(
                self._topics[0],
                bootstrap_servers=self._where,
                group_id="bare",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
            )
            await self._consumer.start()
        found = await self._consumer.getmany(timeout_ms=10_000, max_records=most)
        return [each.value for records in found.values() for each in records]

    async def acknowledge(self) -> None:
        await self._consumer.commit()

    async def rest(self) -> None:
        consumer, self._consumer = self._consumer, None
        await consumer.stop()

    async def close(self) -> None:
        if self._consumer is not None:
            await self.rest()
        await self._producer.stop()
        with suppress(Exception):  # the last runs of a group may still hold one
            await self._admin.delete_topics(self._topics)
        await self._admin.close()


_PARTITIONS = 4


def _module(name: str) -> Any:
    return import_module(name)  # it has no types


def _a_topic() -> str:
    return f"bench.events.{secrets.token_hex(4)}"
