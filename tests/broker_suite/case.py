"""What a broker's behaviour is checked against: a server of it, topics and groups of one's own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from ensue.brokers import Broker, Consumer, Incoming, Outgoing, Publisher, broker_at
from ensue.contracts.cloudevents import JSON, CloudEvent, parse
from ensue.errors import BrokerRefused, BrokerUnavailable
from tests.patience import BOUND, PATIENCE
from tests.tcp_proxy import Proxy

SECRET = "pass%word:5@x"
"""The password of servers that want one, as it is: in a URL it has to be quoted."""


# ----------------------------------------------------------------------------------------- what a broker is here


class Ability(Flag):
    """What not every broker can do, or not every server of it that tests can have."""

    READS = auto()
    """It has consumers."""
    KEEPS = auto()
    """What was published is kept for groups that are made later."""
    GROUPS = auto()
    """Several groups each get every message."""
    DURABLE = auto()
    """What it has acknowledged is there after the server was killed and started again."""
    REMEMBERS = auto()
    """What consumers have acknowledged is not forgotten by a server that is killed at the same moment."""
    DEDUPLICATES = auto()
    """It drops a second message of the same id."""
    MERGES = auto()
    """Messages of several topics come in the order in which they were published."""
    NOTICES = auto()
    """A reader notices that another one, who should be dead, has read from its partition."""
    KEYS = auto()
    """`Incoming.key` is the key that was published."""
    LARGEST = auto()
    """A server can be had that takes messages up to some size: `Wanted.largest`."""
    FILLS = auto()
    """A server can be had that is full after some messages: `Wanted.room`, and emptied: `Own.make_room`."""
    PASSWORD = auto()
    """A server can be had that wants a password: `Wanted.password`."""
    TLS = auto()
    """A server can be had that speaks TLS: `Wanted.tls`."""
    RESTARTS = auto()
    """A server can be had that stops and starts: `Own.stop`, `Own.kill`, `Own.start`."""
    RECONNECTS = auto()
    """Its client connects again and repeats by itself: a lost connection shows as lateness, if it shows at all."""
    PROXIED = auto()
    """A server can be had that clients reach only through a proxy: `Wanted.proxy`."""


NOTHING = Ability(0)


@dataclass(frozen=True)
class Wanted:
    """What a server of a test's own is to be like."""

    password: bool = False
    """Its URL names a user whose password is `SECRET`; nobody else may do anything."""
    tls: bool = False
    """It speaks TLS only; its URL names the CA that has signed its certificate in the option `ca`."""
    largest: int | None = None
    """The bytes of the largest message that it takes, about."""
    room: int | None = None
    """The bytes that it has room for, about."""
    proxy: Proxy | None = None
    """What its URL leads to, instead of to the server, which sets `Proxy.target` to its own port."""


class Own(Protocol):
    """A server of a test's own, running. The port stays the same across restarts."""

    @property
    def url(self) -> str: ...

    async def stop(self) -> None:
        """Stop it as an operator would, and wait until it has ended."""
        ...

    async def kill(self) -> None:
        """Kill it with SIGKILL, and wait until it has ended."""
        ...

    async def start(self) -> None:
        """Start it on the data it had, and wait until it answers."""
        ...

    async def make_room(self) -> None:
        """Remove what fills it, or give it more room."""
        ...


class Site(Protocol):
    """A broker as the suite meets it."""

    @property
    def abilities(self) -> Ability: ...

    @property
    def url(self) -> str:
        """Where a server is that is shared with other tests and others; with all options that every case needs."""
        ...

    def own(self, wanted: Wanted) -> AbstractAsyncContextManager[Own]:
        """Start a server, or hand out one that is as good as new; end it behind the block."""
        ...

    async def forget(self, url: str, topics: Sequence[str], groups: Sequence[str]) -> None:
        """Remove what a case has made on the shared server."""
        ...


class Case:
    """One behaviour's own topics and groups on a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.mark = secrets.token_hex(5)
        """What tells this case's names from those of others that share the server."""
        self.url = site.url
        self.topics: list[str] = []
        self.groups: list[str] = []
        self.topic = self.new_topic("orders")
        self.group = self.new_group("billing")

    def new_topic(self, word: str) -> str:
        self.topics.append(f"{word}-{self.mark}")
        return self.topics[-1]

    def new_group(self, word: str) -> str:
        self.groups.append(f"{word}-{self.mark}")
        return self.groups[-1]

    # --- the two ends

    def broker(self, url: str | None = None, **options: object) -> Broker:
        return broker_at(with_options(url or self.url, **options))

    @asynccontextmanager
    async def publisher(
        self, url: str | None = None, topics: Sequence[str] | None = None, **options: object
    ) -> AsyncGenerator[Publisher]:
        """Open a publisher, and close it behind the block."""
        publisher = self.broker(url, **options).publisher()
        try:
            await publisher.open(topics or [self.topic])
            yield publisher
        finally:
            await soon(publisher.close())

    @asynccontextmanager
    async def consumer(
        self,
        url: str | None = None,
        topics: Sequence[str] | None = None,
        group: str | None = None,
        **options: object,
    ) -> AsyncGenerator[Consumer]:
        """Open a consumer, and close it behind the block."""
        consumer = self.broker(url, **options).consumer(topics or [self.topic], group or self.group)
        try:
            await consumer.open()
            yield consumer
        finally:
            await soon(consumer.close())

    # --- messages

    def message(
        self,
        number: int,
        key: str | None = None,
        *,
        topic: str | None = None,
        body: bytes | None = None,
        more: dict[str, str] | None = None,
    ) -> Outgoing:
        """Make a message as a relay would. Without a key, it has one of its own."""
        binding = self.broker().binding
        key = f"k{number}" if key is None else key
        attributes = {
            "specversion": "1.0",
            "id": f"{self.mark}-{number}",
            "source": "urn:ensue:suite",
            "type": "OrderPlaced",
            "time": "2026-03-01T09:30:00.123456Z",
            "partitionkey": key,
            **(more or {}),
        }
        headers = {
            binding.prefix + name: quote(value, safe="-._~:/@") if binding.percent else value
            for name, value in attributes.items()
        }
        if binding.content_type is not None:
            headers[binding.content_type] = JSON
        return Outgoing(
            topic=topic or self.topic,
            key=key,
            id=attributes["id"],
            content_type=JSON,
            headers=headers,
            body=b'{"number":%d}' % number if body is None else body,
        )

    def messages(self, numbers: range) -> list[Outgoing]:
        return [self.message(number) for number in numbers]

    def event(self, incoming: Incoming) -> CloudEvent:
        """Read what came as the inbox would."""
        return parse(
            cast("Any", incoming.headers),
            incoming.body,
            content_type=incoming.content_type,
            binding=self.broker().binding,
        )

    def number(self, incoming: Incoming) -> int:
        return int(self.event(incoming).id.rpartition("-")[2])

    def numbers(self, messages: Sequence[Incoming]) -> list[int]:
        return [self.number(each) for each in messages]

    async def rest(self, consumer: Consumer) -> list[Incoming]:
        """Fetch whatever there is; with nothing for half a second, there is nothing."""
        found: list[Incoming] = []
        while fetched := await consumer.fetch(100, 0.5):
            found += fetched
        return found


def with_options(url: str, **options: object) -> str:
    """Return the URL with options in its query, beside those that are there."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {name: str(value) for name, value in options.items()}
    return parts._replace(query=urlencode(query)).geturl()


def with_password(url: str, user: str, password: str) -> str:
    """Return the URL with this user and password instead."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{where}").geturl()


def without_password(url: str) -> str:
    """Return the URL with nobody named in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


async def fetched(consumer: Consumer, count: int, *, most: int = 100) -> list[Incoming]:
    """Fetch until there are so many messages; with a deadline."""
    found: list[Incoming] = []
    deadline = time.monotonic() + BOUND
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} messages came"
        found += await consumer.fetch(min(most, count - len(found)), 1)
    return found


async def soon(outcome: Awaitable[Any], seconds: float = PATIENCE) -> Any:
    """Await, and fail if it hangs."""
    async with asyncio.timeout(seconds):
        return await outcome


async def again(what: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat until the broker is there again."""
    deadline = time.monotonic() + BOUND
    while True:
        try:
            return await soon(what())
        except BrokerUnavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


async def unavailable(what: Callable[[], Awaitable[Any]]) -> None:
    try:
        await soon(what())
    except BrokerUnavailable:
        return
    raise AssertionError("it was not unavailable")


async def refused(opening: Callable[[], Awaitable[None]]) -> BrokerRefused:
    try:
        await soon(opening())
    except BrokerRefused as error:
        return error
    raise AssertionError("it was not refused")


async def published(publisher: Publisher, messages: Sequence[Outgoing]) -> None:
    """Publish as a relay does, again and again until the broker has them all."""
    deadline = time.monotonic() + BOUND
    left = list(messages)
    while left:
        assert time.monotonic() < deadline, f"{len(left)} messages were never taken"
        outcomes = await again(lambda: publisher.publish(left))
        assert not [each for each in outcomes if each is not None and each.permanent], outcomes
        left = [each for each, outcome in zip(left, outcomes, strict=True) if outcome is not None]


def assert_carried(sent: Outgoing, came: Incoming) -> None:
    """Nothing that was sent is missing or altered."""
    pairs = came.headers.items() if hasattr(came.headers, "items") else came.headers
    headers = {text(name).lower(): text(value) for name, value in pairs}
    for name, value in sent.headers.items():
        assert headers.get(name.lower()) == value, name
    assert came.body == sent.body
    if came.key is not None:
        assert came.key == sent.key
    if came.content_type is not None:
        assert came.content_type == sent.content_type


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Behaviour:
    """One thing that must hold."""

    steps: Callable[[Case], Awaitable[None]]
    needs: Ability

    def __str__(self) -> str:
        return self.steps.__name__

    async def check(self, site: Site) -> None:
        """Raise `AssertionError` if it does not hold."""
        case = Case(site)
        try:
            await self.steps(case)
        finally:
            await soon(site.forget(case.url, case.topics, case.groups))


def needs(abilities: Ability = NOTHING) -> Callable[[Callable[[Case], Awaitable[None]]], Behaviour]:
    """Declare a behaviour that says nothing about a broker without these abilities."""
    return lambda steps: Behaviour(steps, abilities)


def behaviours_of(members: Mapping[str, object]) -> list[Behaviour]:
    """Return those of a module, in their order."""
    return [member for member in members.values() if isinstance(member, Behaviour)]


R = Ability.READS
