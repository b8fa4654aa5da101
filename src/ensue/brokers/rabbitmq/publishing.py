"""Publishing to the exchange: persistent and mandatory, with confirms, all messages of a call at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import cast

from aiormq import exceptions, spec
from aiormq.channel import Channel

from ensue.brokers.broker import Outgoing, Refused
from ensue.brokers.rabbitmq.declaring import declare_exchange
from ensue.brokers.rabbitmq.failing import failure_of
from ensue.brokers.rabbitmq.link import Link
from ensue.brokers.rabbitmq.settings import SHORT, Settings
from ensue.errors import BrokerRefused

_LARGE = 16_384  # bytes; a body of more waits until the socket has taken it


class RabbitMQPublisher:
    """Publishes to the exchange, persistent and mandatory, with confirms."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._link = Link(settings.address)
        self._largest: int | None = None  # bytes of a body; known when one was too large
        self._proven = 65_536  # bytes of a body that the broker takes, as far as is known
        self._readying = asyncio.Lock()

    async def open(self, topics: Sequence[str] = ()) -> None:
        """Connect and declare the exchange; topics need nothing but a queue, and queues belong to those who read."""
        async with self._link.within_time():
            await self._ready()

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | None]:
        deadline = asyncio.get_running_loop().time() + self._settings.address.timeout
        async with self._link.within_time():
            await self._ready()
        results = [self._unfit(message) for message in messages]
        waiting = [number for number, result in enumerate(results) if result is None]
        while waiting:
            if not await self._link.unblocked(deadline):
                return self._all_refused(results, waiting)
            now = self._together(messages, waiting)
            outcomes = await self._send([messages[number] for number in now], deadline)
            unknown: list[int] = []
            for number, outcome in zip(now, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    unknown.append(number)
                else:
                    results[number] = outcome
                    self._proven = max(self._proven, len(messages[number].body) if outcome is None else 0)
            again = await self._sort_out(messages, results, unknown, outcomes)
            left = [number for number in waiting if number not in set(now)]
            waiting = [number for number in again + left if not self._refuse_too_large(messages, results, number)]
        return results

    async def close(self) -> None:
        await self._link.drop()

    async def _ready(self) -> None:
        async with self._readying:
            if not self._link.open:
                channel = await self._link.connect()
                await declare_exchange(self._link, channel, self._settings)

    def _unfit(self, message: Outgoing) -> Refused | None:
        """Say why the protocol has no room for a message."""
        try:
            for what, text in (("topic", message.topic), ("id", message.id), ("content type", message.content_type)):
                if len(text.encode()) > SHORT:
                    return Refused(f"its {what} is longer than the {SHORT} bytes that AMQP allows", permanent=True)
            size = sum(len(name.encode()) + len(value.encode()) + 6 for name, value in message.headers.items())
        except UnicodeEncodeError as error:
            return Refused(f"it holds text that is no Unicode: {error}", permanent=True)
        if any(len(name.encode()) > SHORT for name in message.headers):
            return Refused(f"a header's name is longer than the {SHORT} bytes that AMQP allows", permanent=True)
        if size > self._link.frame - 1024:
            return Refused(
                f"its headers have {size} bytes; a frame has room for {self._link.frame - 1024}", permanent=True
            )
        if self._largest is not None and len(message.body) > self._largest:
            return self._too_large(message)
        return None

    def _together(self, messages: Sequence[Outgoing], waiting: Sequence[int]) -> Sequence[int]:
        """Choose what is sent now: over a body that is too large the channel is closed, under all that is in flight.

        So the largest goes alone, and last, until one of its size has been taken.
        """
        proven = [number for number in waiting if len(messages[number].body) <= self._proven]
        return proven or [max(waiting, key=lambda number: len(messages[number].body))]

    def _refuse_too_large(self, messages: Sequence[Outgoing], results: list[Refused | None], number: int) -> bool:
        if self._largest is None or len(messages[number].body) <= self._largest:
            return False
        results[number] = self._too_large(messages[number])
        return True

    def _too_large(self, message: Outgoing) -> Refused:
        return Refused(f"its body has {len(message.body)} bytes; the broker takes {self._largest}", permanent=True)

    def _all_refused(self, results: list[Refused | None], waiting: list[int]) -> list[Refused | None]:
        for number in waiting:
            results[number] = Refused("the broker takes no messages: it is short of memory or disk")
        return results

    async def _send(self, messages: Sequence[Outgoing], deadline: float) -> list[Refused | BaseException | None]:
        """Publish all at once; return for each what became of it, an error if that is not known."""
        channel = self._link.channel
        exchange = self._settings.exchange
        tasks = [asyncio.ensure_future(_publish(channel, exchange, message)) for message in messages]
        try:
            await asyncio.wait(tasks, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
            late = [not task.done() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=0.1)
        outcomes = [self._late() if late[number] else _outcome(task) for number, task in enumerate(tasks)]
        if all(late) and await self._link.unblocked(0):
            self._link.leave()  # nothing at all has been heard: begin with a new connection
        return outcomes

    def _late(self) -> Refused:
        return Refused(
            f"not confirmed within {self._settings.address.timeout:g} s; the broker may have it all the same"
        )

    async def _sort_out(
        self,
        messages: Sequence[Outgoing],
        results: list[Refused | None],
        unknown: list[int],
        outcomes: list[Refused | BaseException | None],
    ) -> list[int]:
        """Return which are to be sent again at once: RabbitMQ closes the channel over one that is too large."""
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if not errors:
            return []
        limits = [match for error in errors if (match := _TOO_LARGE.search(str(error)))]
        if limits:
            self._largest = self._proven = int(limits[0][1])
            again = [number for number in unknown if not self._refuse_too_large(messages, results, number)]
            if len(again) < len(unknown):
                async with self._link.within_time():
                    await self._ready()
                return again
        await self._link.drop()
        failures = [failure_of(self._settings.address, error) for error in errors]
        raise next((failure for failure in failures if isinstance(failure, BrokerRefused)), failures[0])


_TOO_LARGE = re.compile(r"message size \d+ is larger than configured max size (\d+)")


async def _publish(channel: Channel, exchange: str, message: Outgoing) -> None:
    await channel.basic_publish(
        message.body,
        exchange=exchange,
        routing_key=message.topic,
        properties=spec.Basic.Properties(
            content_type=message.content_type,
            headers=dict(message.headers),
            delivery_mode=2,
            message_id=message.id,
        ),
        mandatory=True,
        wait=len(message.body) > _LARGE,
    )


def _outcome(task: asyncio.Future[None]) -> Refused | BaseException | None:
    if task.cancelled():  # by the client, whose connection is gone
        return exceptions.ChannelInvalidStateError("the connection is gone")
    error = task.exception() if task.done() else TimeoutError()
    match error:
        case None:
            return None
        case exceptions.PublishError():
            returned = cast("spec.Basic.Return", error.frame)
            return Refused(
                f"no queue is bound to {returned.routing_key!r} in exchange {returned.exchange!r}: "
                f"nobody would receive it ({returned.reply_text})"
            )
        case exceptions.DeliveryError():
            return Refused("a queue refuses it: it is full, or has lost its leader (basic.nack)")
        case _:
            return error
