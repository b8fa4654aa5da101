"""What has to be there: the exchange, and a reader's queue with its bindings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from aiormq import exceptions
from aiormq.channel import Channel

from ensue.brokers.rabbitmq.link import Link
from ensue.brokers.rabbitmq.settings import Settings


async def declare_exchange(link: Link, channel: Channel, settings: Settings) -> Channel:
    """Make the exchange. Return the channel to go on with, as all here: one that was refused something is closed."""
    return await _declare(
        link,
        channel,
        lambda there: there.exchange_declare(settings.exchange, exchange_type="topic", durable=True),
        lambda there: there.exchange_declare(settings.exchange, passive=True),
    )


async def has_queue(channel: Channel, queue: str) -> bool:
    """Tell whether there is such a queue; if not, RabbitMQ closes the channel."""
    try:
        await channel.queue_declare(queue, passive=True)
    except exceptions.ChannelNotFoundEntity:
        return False
    return True


async def declare_queue(link: Link, channel: Channel, settings: Settings, queue: str, topics: Sequence[str]) -> Channel:
    """Make the queue of a group, bound to all of its topics."""
    channel = await _declare(
        link,
        channel,
        lambda there: there.queue_declare(
            queue,
            durable=True,
            arguments={"x-queue-type": settings.queue_type, "x-single-active-consumer": True},
        ),
        lambda there: there.queue_declare(queue, passive=True),
    )
    for topic in topics:
        await channel.queue_bind(queue, settings.exchange, topic)
    return channel


async def _declare(
    link: Link,
    channel: Channel,
    make: Callable[[Channel], Awaitable[object]],
    look: Callable[[Channel], Awaitable[object]],
) -> Channel:
    """Make an exchange or queue; where that is not allowed, it is enough that somebody has made it."""
    try:
        await make(channel)
    except exceptions.ChannelAccessRefused as refusal:
        channel = await link.fresh_channel()
        try:
            await look(channel)
        except exceptions.ChannelNotFoundEntity:
            raise refusal from None
    return channel
