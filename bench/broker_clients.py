"""Brokers' bare clients: they publish the same messages in the same windows, and wait for the same acknowledgements."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from ensue.brokers import Address, Outgoing


class Bare(Protocol):
    """A broker's client as its documentation shows it, in the fastest way that waits for what ensue waits for."""

    name: str
    url: str
    """For ensue: a place of its own on the same server."""

    async def open(self) -> None: ...

    async def publish(self, window: Sequence[Outgoing]) -> None:
        """Publish, and wait until the broker has all of it for good."""
        ...

    async def fetch(self, most: int) -> list[bytes]:
        """Return the next bodies, and acknowledge them with `acknowledge`."""
        ...

    async def acknowledge(self) -> None: ...

    async def close(self) -> None:
        """Remove what was made, and disconnect."""
        ...


class BareNats:
    """nats-py: `publish` of JetStream, a window of them gathered; a durable pull consumer."""

    name = "nats-py"

    def __init__(self, where: str) -> None:
        self._where = where
        self._stream = f"bench-{secrets.token_hex(4)}"
        self.url = f"nats://{where}/{self._stream}-relay"
        self._client: Any = None
        self._js: Any = None
        self._reader: Any = None
        self._fetched: list[Any] = []

    async def open(self) -> None:
        import nats

        self._client = await nats.connect(f"nats://{self._where}")
        self._js = self._client.jetstream()
        await self._js.add_stream(name=self._stream, subjects=[f"{self._stream}.>"])

    async def publish(self, window: Sequence[Outgoing]) -> None:
        subject = f"{self._stream}.a"
        await asyncio.gather(
            *(self._js.publish(subject, each.body, headers={**each.headers, "Nats-Msg-Id": each.id}) for each in window)
        )

    async def fetch(self, most: int) -> list[bytes]:
        if self._reader is None:
            self._reader = await self._js.pull_subscribe(f"{self._stream}.>", durable="bare")
        self._fetched = await self._reader.fetch(most, timeout=10)
        return [each.data for each in self._fetched]

    async def acknowledge(self) -> None:
        await asyncio.gather(*(each.ack() for each in self._fetched))
        await self._client.flush()

    async def close(self) -> None:
        for stream in (self._stream, f"{self._stream}-relay"):
            with suppress(Exception):  # it may never have been made
                await self._js.delete_stream(stream)
        await self._client.close()


class BareRedis:
    """redis-py: a pipeline of XADD; a consumer group."""

    name = "redis-py"

    def __init__(self, where: str) -> None:
        self._where = where
        self._stream = f"bench-{secrets.token_hex(4)}"
        self.url = f"redis://{where}/0"
        self._client: Any = None
        self._ids: list[Any] = []

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

    async def close(self) -> None:
        await self._client.delete(self._stream)
        await self._client.aclose()


def topic_in(url: str) -> str:
    """Return a topic of one's own, for a broker whose topics are shared by all."""
    return f"bench.{Address(url).path.replace('/', '.') or 'events'}.{secrets.token_hex(4)}"
