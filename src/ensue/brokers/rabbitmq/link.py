"""A connection to RabbitMQ, and the one channel on it that is used."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, cast

import aio_pika
import aiormq
from aiormq import exceptions
from aiormq.channel import Channel

from ensue.brokers.address import Address
from ensue.brokers.rabbitmq.failing import GONE, failure_of, words
from ensue.errors import BrokerError, BrokerRefused

_HEARTBEAT = 20  # seconds; a peer that is silent for three times as long is gone
_CLOSES_WITHIN = 1.0  # seconds; a broker that takes nothing does not say goodbye either


class Link:
    """A connection and its one channel."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._channel: Channel | None = None
        self._leaving: set[asyncio.Future[None]] = set()
        self.frame = 131_072
        """The largest frame, in bytes, that the broker takes."""

    @property
    def open(self) -> bool:
        return self._channel is not None and not self._channel.is_closed

    @property
    def channel(self) -> Channel:
        if self._channel is None:
            raise exceptions.ChannelInvalidStateError("there is no connection")
        return self._channel

    @property
    def channel_if_open(self) -> Channel | None:
        return self._channel if self.open else None

    @contextlib.asynccontextmanager
    async def within_time(self) -> AsyncGenerator[None]:
        """Bound what is done on the connection by the timeout, and say in our words how it failed."""
        try:
            async with asyncio.timeout(self._address.timeout):
                yield
        except BrokerError:
            await self.drop()
            raise
        except (*GONE, TimeoutError) as error:
            self.leave()
            raise failure_of(self._address, error) from error
        except BaseException:
            self.leave()
            raise

    async def connect(self) -> Channel:
        """Connect to the first server that answers, if need be, and open a channel."""
        if self._connection is not None and self._transport().is_closed:
            await self.drop()
        if self._connection is None:
            self._connection = await self._connect_anywhere()
        return await self.fresh_channel()

    async def fresh_channel(self) -> Channel:
        """Open another channel: after an error RabbitMQ closes the one it occurred on."""
        if self._connection is None:
            raise exceptions.ChannelInvalidStateError("there is no connection")
        channel = self._connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize()
        self._channel = cast("Channel", await channel.get_underlay_channel())
        return self._channel

    async def _connect_anywhere(self) -> aio_pika.abc.AbstractConnection:
        address = self._address
        secure = address.scheme == "amqps"
        context = address.tls() if secure else None
        places = address.places(5671 if secure else 5672)
        for number, (host, port) in enumerate(places, 1):
            try:
                connection = await self._whole(
                    aio_pika.connect(
                        host=host,
                        port=port,
                        login=address.user or "guest",
                        password=address.password if address.password is not None else "guest",
                        virtualhost=address.path or "/",
                        ssl=secure,
                        ssl_context=context,
                        client_properties={"connection_name": "ensue"},
                        heartbeat=_HEARTBEAT,
                    )
                )
            except GONE as error:
                failure = failure_of(address, error)
                if number == len(places) or isinstance(failure, BrokerRefused):
                    raise failure from error
            else:
                self.frame = _under(connection).connection_tune.frame_max or self.frame
                return connection
        raise AssertionError("an address names a server")

    async def _whole(
        self, connect: Coroutine[Any, Any, aio_pika.abc.AbstractConnection]
    ) -> aio_pika.abc.AbstractConnection:
        """Connect; who is cancelled meanwhile goes at once, and the connection is closed as soon as it is there."""
        connecting = asyncio.ensure_future(connect)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            self._in_background(_close_when_there(connecting, self._address.timeout))
            raise

    async def unblocked(self, deadline: float) -> bool:
        """Wait until RabbitMQ takes messages, as it does not while it is short of memory or disk."""
        if self._connection is None:
            return True
        transport = self._transport()
        ready = asyncio.ensure_future(transport.ready())
        closing = ending(transport)
        try:
            await asyncio.sleep(0)
            if not ready.done():
                timeout = max(0.0, deadline - asyncio.get_running_loop().time())
                await asyncio.wait((ready, closing), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return ready.done() or closing.done()
        finally:
            ready.cancel()
            closing.cancel()

    def reason(self) -> str | None:
        """Say why the channel was closed, None if it is open."""
        if self._channel is None or not self._channel.is_closed:
            return None
        closing = ending(self._channel)
        error = None if closing.cancelled() else closing.exception()
        return words(error) if error is not None else "the connection is gone"

    async def drop(self) -> None:
        """Say goodbye and close, and wait for what is being closed; a broker that does not answer is left."""
        self.leave()
        if self._leaving:
            await asyncio.wait(set(self._leaving), timeout=_CLOSES_WITHIN)

    def leave(self) -> None:
        """Close without waiting for it."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            self._in_background(connection.close())

    def _in_background(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(closing)
        for tasks in (self._leaving, _leaving):
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        task.add_done_callback(_left)

    def _transport(self) -> aiormq.abc.AbstractConnection:
        return _under(self._connection)


def _under(connection: aio_pika.abc.AbstractConnection | None) -> aiormq.abc.AbstractConnection:
    if connection is None or connection.transport is None:
        raise exceptions.ChannelInvalidStateError("there is no connection")
    return connection.transport.connection


def ending(what: Any) -> asyncio.Future[Any]:
    """Return what ends with a channel or a connection; its error says why."""
    closing: asyncio.Future[Any] = what.closing
    return closing


_leaving: set[asyncio.Future[None]] = set()
"""Of all links: one that is forgotten still closes."""


async def _close_when_there(connecting: asyncio.Future[aio_pika.abc.AbstractConnection], seconds: float) -> None:
    await asyncio.wait([connecting], timeout=seconds)
    if connecting.cancel() or connecting.cancelled() or connecting.exception() is not None:
        return
    await connecting.result().close()


def _left(closing: asyncio.Future[None]) -> None:
    if not closing.cancelled():
        closing.exception()
