"""RabbitMQ, over aio-pika: a topic exchange to publish to, and a durable queue for each group to read from.

A message counts as published when RabbitMQ has confirmed it (quorum queues: by most of the nodes; classic ones: on
disk) and at least one queue has it. A connection is made anew by the next call after it is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import aio_pika
import aiormq
from aiormq import exceptions, spec
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from ensue.brokers.address import Address
from ensue.brokers.broker import Incoming, Outgoing, Refused
from ensue.contracts.cloudevents import AMQP, Binding
from ensue.errors import BrokerError, BrokerRefused, BrokerUnavailable, DeclarationError

_SHORT = 255  # bytes of a routing key, a message id and a content type in AMQP 0-9-1
_HEARTBEAT = 20  # seconds; a peer that is silent for three times as long is gone
_CLOSES_WITHIN = 1.0  # seconds; a broker that takes nothing does not say goodbye either
_LARGE = 16_384  # bytes; a body of more waits until the socket has taken it


class RabbitMQ:
    """RabbitMQ at `amqp://user:password@host:5672/vhost?exchange=ensue`; the whole path is the virtual host."""

    protocol: ClassVar[str] = "amqp"
    binding: ClassVar[Binding] = AMQP
    shares: ClassVar[bool] = False

    def __init__(self, address: Address) -> None:
        """Raise `DeclarationError` for an option that does not exist, or a value that it cannot have."""
        address.check_options("exchange", "queue_type", "prefetch")
        self.address = address
        self.exchange = address.options.get("exchange", "ensue")
        self.queue_type = address.options.get("queue_type", "quorum")
        prefetch = address.options.get("prefetch", "1000")
        if not self.exchange or len(self.exchange.encode()) > _SHORT:
            raise DeclarationError(f"{address}: exchange= needs a name of at most {_SHORT} bytes")
        if self.queue_type not in ("quorum", "classic"):
            raise DeclarationError(f"{address}: queue_type={self.queue_type!r}: quorum or classic")
        if not prefetch.isdecimal() or not 0 < int(prefetch) < 65536:
            raise DeclarationError(f"{address}: prefetch={prefetch!r}: a number of messages from 1 to 65535")
        self.prefetch = int(prefetch)

    def publisher(self) -> RabbitMQPublisher:
        return RabbitMQPublisher(self)

    def consumer(self, topics: Sequence[str], group: str) -> RabbitMQConsumer:
        return RabbitMQConsumer(self, topics, group)


# --- out


class RabbitMQPublisher:
    """Publishes to the exchange, persistent and mandatory, with confirms."""

    def __init__(self, broker: RabbitMQ) -> None:
        self._broker = broker
        self._link = _Link(broker.address)
        self._largest: int | None = None  # bytes of a body; known when one was too large
        self._proven = 65_536  # bytes of a body that the broker takes, as far as is known
        self._readying = asyncio.Lock()

    async def open(self, topics: Sequence[str] = ()) -> None:
        """Connect and declare the exchange; topics need nothing but a queue, and queues belong to those who read."""
        async with self._link.within_time():
            await self._ready()

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | None]:
        deadline = asyncio.get_running_loop().time() + self._broker.address.timeout
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
                await _declare_exchange(self._link, channel, self._broker)

    def _unfit(self, message: Outgoing) -> Refused | None:
        """Say why the protocol has no room for a message."""
        try:
            for what, text in (("topic", message.topic), ("id", message.id), ("content type", message.content_type)):
                if len(text.encode()) > _SHORT:
                    return Refused(f"its {what} is longer than the {_SHORT} bytes that AMQP allows", permanent=True)
            size = sum(len(name.encode()) + len(value.encode()) + 6 for name, value in message.headers.items())
        except UnicodeEncodeError as error:
            return Refused(f"it holds text that is no Unicode: {error}", permanent=True)
        if any(len(name.encode()) > _SHORT for name in message.headers):
            return Refused(f"a header's name is longer than the {_SHORT} bytes that AMQP allows", permanent=True)
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
        exchange = self._broker.exchange
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
        return Refused(f"not confirmed within {self._broker.address.timeout:g} s; the broker may have it all the same")

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
        failures = [_failure(self._broker.address, error) for error in errors]
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


# --- in


class _Place(NamedTuple):
    """Where a message came from: a delivery tag counts for its channel only."""

    channel: object
    tag: int


class RabbitMQConsumer:
    """Reads the queue that is named like the group, one process at a time; another one waits and takes over.

    One queue is bound to all topics, so that they keep one order.
    """

    def __init__(self, broker: RabbitMQ, topics: Sequence[str], group: str) -> None:
        """Raise `DeclarationError` if a queue's name would be too long for AMQP."""
        self._broker = broker
        self._topics = list(topics)
        self._queue = group
        for name in (group, *topics):
            if not 0 < len(name.encode()) <= _SHORT:
                raise DeclarationError(f"{broker.address}: {name!r} is no name of 1 to {_SHORT} bytes")
        self._link = _Link(broker.address)
        self._tag = ""
        self._arrived: deque[Incoming] = deque()
        self._taken: dict[int, Incoming] = {}  # by delivery tag, in the order in which they were fetched
        self._news = asyncio.Event()

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
            channel = await _declare_exchange(self._link, channel, self._broker)
            channel = await self._declare_queue(channel)
            for topic in self._topics:
                await channel.queue_bind(self._queue, self._broker.exchange, topic)
            await channel.basic_qos(prefetch_count=self._broker.prefetch)
            consumed = await channel.basic_consume(self._queue, self._arrive)
            self._tag = str(consumed.consumer_tag)
            _closing(channel).add_done_callback(lambda _: self._news.set())

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
        with contextlib.suppress(*_GONE, TimeoutError):
            async with asyncio.timeout(self._broker.address.timeout):
                if together:
                    await channel.basic_ack(max(tags), multiple=True)
                else:
                    for tag in tags:
                        await channel.basic_ack(tag, wait=False)
                await channel.basic_qos(prefetch_count=self._broker.prefetch)  # its answer says that it has got there
        for tag in tags:
            del self._taken[tag]

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

    async def _declare_queue(self, channel: Channel) -> Channel:
        arguments: dict[str, Any] = {
            "x-queue-type": self._broker.queue_type,
            "x-single-active-consumer": True,
        }
        return await _declare(
            self._link,
            channel,
            lambda there: there.queue_declare(self._queue, durable=True, arguments=arguments),
            lambda there: there.queue_declare(self._queue, passive=True),
        )

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
        raise BrokerUnavailable(f"{self._broker.address}: {reason}")


# --- the connection


class _Link:
    """A connection and its one channel."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._channel: Channel | None = None
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
        except (*_GONE, TimeoutError) as error:
            self.leave()
            raise _failure(self._address, error) from error
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
                connection = await aio_pika.connect(
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
            except _GONE as error:
                failure = _failure(address, error)
                if number == len(places) or isinstance(failure, BrokerRefused):
                    raise failure from error
            else:
                self.frame = _under(connection).connection_tune.frame_max or self.frame
                return connection
        raise AssertionError("an address names a server")

    async def unblocked(self, deadline: float) -> bool:
        """Wait until RabbitMQ takes messages, as it does not while it is short of memory or disk."""
        if self._connection is None:
            return True
        transport = self._transport()
        ready = asyncio.ensure_future(transport.ready())
        closing = _closing(transport)
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
        closing = _closing(self._channel)
        error = None if closing.cancelled() else closing.exception()
        return _words(error) if error is not None else "the connection is gone"

    async def drop(self) -> None:
        """Say goodbye and close; a broker that does not answer is left."""
        closing = self.leave()
        if closing is not None:
            await asyncio.wait([closing], timeout=_CLOSES_WITHIN)

    def leave(self) -> asyncio.Future[None] | None:
        """Close without waiting for it."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is None:
            return None
        closing = asyncio.ensure_future(connection.close())
        _leaving.add(closing)
        closing.add_done_callback(_left)
        return closing

    def _transport(self) -> aiormq.abc.AbstractConnection:
        return _under(self._connection)


def _under(connection: aio_pika.abc.AbstractConnection | None) -> aiormq.abc.AbstractConnection:
    if connection is None or connection.transport is None:
        raise exceptions.ChannelInvalidStateError("there is no connection")
    return connection.transport.connection


def _closing(what: Any) -> asyncio.Future[Any]:
    """Return what ends with a channel or a connection; its error says why."""
    closing: asyncio.Future[Any] = what.closing
    return closing


_leaving: set[asyncio.Future[None]] = set()


def _left(closing: asyncio.Future[None]) -> None:
    _leaving.discard(closing)
    if not closing.cancelled():
        closing.exception()


async def _declare_exchange(link: _Link, channel: Channel, broker: RabbitMQ) -> Channel:
    return await _declare(
        link,
        channel,
        lambda there: there.exchange_declare(broker.exchange, exchange_type="topic", durable=True),
        lambda there: there.exchange_declare(broker.exchange, passive=True),
    )


async def _declare(
    link: _Link,
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


# --- how it fails

_GONE = (exceptions.AMQPError, exceptions.ChannelInvalidStateError, ConnectionError, OSError, RuntimeError)
"""What aio-pika raises when something is wrong with a channel or a connection."""

_REFUSALS = (
    exceptions.AuthenticationError,
    exceptions.ProbableAuthenticationError,
    exceptions.ChannelAccessRefused,
    exceptions.ChannelPreconditionFailed,
    exceptions.ChannelLockedResource,
    exceptions.ConnectionNotAllowed,
)


def _failure(address: Address, error: BaseException) -> BrokerError:
    if isinstance(error, BrokerError):
        return error
    words = f"{address}: {_words(error)}"
    if isinstance(error, exceptions.InvalidFrameError) and "Connection.OpenOk" in words:  # it does not tell which frame
        vhost = address.path or "/"
        return BrokerRefused(f"{address}: there is no virtual host {vhost!r}, or the user has no access to it")
    if isinstance(error, _REFUSALS) or _is_certificate(error):
        return BrokerRefused(words)
    if isinstance(error, TimeoutError):
        return BrokerUnavailable(f"{address}: no answer within {address.timeout:g} s")
    return BrokerUnavailable(words)


def _words(error: BaseException) -> str:
    return " ".join(str(part) for part in error.args if part is not None) or type(error).__name__


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
