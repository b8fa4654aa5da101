"""Reading from the queue of a group, which has one reader at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from ensue.brokers.broker import Incoming
from ensue.brokers.rabbitmq.declaring import declare_exchange, declare_queue, has_queue
from ensue.brokers.rabbitmq.failing import GONE
from ensue.brokers.rabbitmq.link import Link, ending
from ensue.brokers.rabbitmq.settings import SHORT, Settings
from ensue.errors import BrokerUnavailable, DeclarationError


class _Place(NamedTuple):
    """Where a message came from: a delivery tag counts for its channel only."""

    channel: object
    tag: int


class RabbitMQConsumer:
    """Reads the queue that is named like the group, one process at a time; another one waits and takes over.

    One queue is bound to all topics, so that they keep one order.
    """

    def __init__(self, settings: Settings, topics: Sequence[str], group: str) -> None:
        """Raise `DeclarationError` if a queue's name would be too long for AMQP."""
        self._settings = settings
        self._topics = list(topics)
        self._queue = group
        for name in (group, *topics):
            if not 0 < len(name.encode()) <= SHORT:
                raise DeclarationError(f"{settings.address}: {name!r} is no name of 1 to {SHORT} bytes")
        self._link = Link(settings.address)
        self._tag = ""
        self._arrived: deque[Incoming] = deque()
        self._taken: dict[int, Incoming] = {}  # by delivery tag, in the order in which they were fetched
        self._news = asyncio.Event()

    async def prepare(self) -> list[str]:
        """Make the queue, and bind it to the topics: RabbitMQ keeps a message for those queues only that it has."""
        async with self._link.within_time():
            there = await has_queue(await self._link.connect(), self._queue)
            await self._declare(await self._link.fresh_channel())
        await self._link.drop()
        return [] if there else [f"queue {self._queue}"]

    async def open(self) -> None:
        """Connect, declare and consume; one that is open takes back all that is in hand."""
        if self._link.open and self._intact():
            self._take_back(0)
        else:
            await self._link.drop()
            await self._begin()

    async def _begin(self) -> None:
        async with self._link.within_time():
            channel = await self._link.connect()
            self._arrived.clear()
            self._taken.clear()
            self._news.clear()
            channel = await self._declare(channel)
            await channel.basic_qos(prefetch_count=self._settings.prefetch)
            consumed = await channel.basic_consume(self._queue, self._arrive)
            self._tag = str(consumed.consumer_tag)
            ending(channel).add_done_callback(lambda _: self._news.set())

    async def _declare(self, channel: Channel) -> Channel:
        channel = await declare_exchange(self._link, channel, self._settings)
        return await declare_queue(self._link, channel, self._settings, self._queue, self._topics)

    async def fetch(self, most: int, wait: float) -> list[Incoming]:
        if not self._link.open:
            await self._begin()
        if not self._arrived:
            self._news.clear()
            if self._intact():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._news.wait()
        await asyncio.sleep(0)  # what has come in at once is taken at once
        if not self._intact():
            await self._lost()
        found = [self._arrived.popleft() for _ in range(min(most, len(self._arrived)))]
        for message in found:
            self._taken[message.handle.tag] = message
        return found

    async def acknowledge(self, messages: Sequence[Incoming]) -> None:
        channel = self._link.channel_if_open
        tags = [tag for place in messages for (whence, tag) in [place.handle] if whence is channel]
        tags = [tag for tag in tags if tag in self._taken]
        if channel is None or not tags:
            return
        done = set(tags)
        together = all(tag in done for tag, _ in zip(self._taken, tags, strict=False))
        with contextlib.suppress(*GONE, TimeoutError):
            async with asyncio.timeout(self._settings.address.timeout):
                if together:
                    await channel.basic_ack(max(tags), multiple=True)
                else:
                    for tag in tags:
                        await channel.basic_ack(tag, wait=False)
                await channel.basic_qos(prefetch_count=self._settings.prefetch)  # its answer says that it has got there
        if self._link.channel_if_open is channel:  # on another one the tags begin anew
            for tag in tags:
                self._taken.pop(tag, None)

    async def release(self, messages: Sequence[Incoming]) -> None:
        """Put messages back into the hand, not into the queue: a quorum queue would put them behind all others."""
        channel = self._link.channel_if_open
        tags = [message.handle.tag for message in messages if message.handle.channel is channel]
        first = min((tag for tag in tags if tag in self._taken), default=None)
        if first is not None:
            self._take_back(first)

    def _take_back(self, first: int) -> None:
        back = [message for tag, message in self._taken.items() if tag >= first]
        for message in back:
            del self._taken[message.handle.tag]
        self._arrived.extendleft(reversed(back))
        self._news.set()

    async def close(self) -> None:
        self._arrived.clear()
        self._taken.clear()
        await self._link.drop()

    async def _arrive(self, message: DeliveredMessage) -> None:
        properties = message.header.properties
        self._arrived.append(
            Incoming(
                topic=message.routing_key or "",
                key=None,
                content_type=properties.content_type,
                headers=properties.headers or {},
                body=message.body,
                handle=_Place(message.channel, message.delivery_tag or 0),
            )
        )
        self._news.set()

    def _intact(self) -> bool:
        """Tell whether the queue is still consumed: RabbitMQ cancels a consumer whose queue is deleted."""
        channel = self._link.channel_if_open
        return channel is not None and self._tag in channel.consumers

    async def _lost(self) -> None:
        reason = (
            self._link.reason() or "the broker has cancelled the consumer: the queue was deleted, or its node is down"
        )
        await self._link.drop()
        self._arrived.clear()
        self._taken.clear()
        raise BrokerUnavailable(f"{self._settings.address}: {reason}")
