"""Publishing to JetStream: all messages at once, one subscription for all acknowledgements.

The client's own `publish` waits with a future and a task for each message, and takes twice the time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import msgspec
import nats.errors
from nats.aio.msg import Msg

from ensue.brokers.broker import Outgoing, Refused
from ensue.brokers.nats.link import Fault, Link, status, told
from ensue.brokers.nats.settings import Settings
from ensue.brokers.nats.stream import ensure_stream, is_subject
from ensue.errors import BrokerUnavailable

_TOO_LARGE = {10054, 10097}  # the message, its headers
_ALREADY_UNDER_WAY = 10158


class NatsPublisher:
    """Publishes to one stream."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics: set[str] = set()
        self._link: Link | None = None
        self._opening = asyncio.Lock()

    async def open(self, topics: Sequence[str]) -> None:
        self._topics.update(topics)
        await self._linked(afresh=True)

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | None]:
        if not messages:
            return []
        batch = _Batch(len(messages))
        link: Link | None = None
        try:
            async with asyncio.timeout(self._settings.address.timeout):
                link = await self._linked()
                await batch.publish(link, messages)
        except TimeoutError:
            await self._abandon(link)
            if link is None or link.is_lost:
                raise BrokerUnavailable(f"{self._settings.address}: no connection in time") from None
            return batch.overdue(self._settings.address.timeout, link.denied)
        except (nats.errors.Error, OSError) as error:
            await self._abandon(link)
            raise BrokerUnavailable(f"{self._settings.address}: {told(error)}") from error
        finally:
            if link is not None:
                batch.end(link)
        if batch.homeless:  # somebody has deleted the stream, or changed it: look again with the next call
            await self._let_go()
        return batch.outcomes()

    async def close(self) -> None:
        await self._let_go()

    # -- the connection

    async def _linked(self, *, afresh: bool = False) -> Link:
        async with self._opening:
            if self._link is not None and not self._link.is_lost:
                if afresh:
                    await ensure_stream(self._link, sorted(self._topics))
                return self._link
            await self._let_go()
            link = await Link.open(self._settings)
            try:
                await ensure_stream(link, sorted(self._topics))
            except BaseException:
                await link.abandon()
                raise
            self._link = link
            return link

    async def _let_go(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()

    async def _abandon(self, link: Link | None) -> None:
        """Drop a connection over which nothing comes any more; the next call makes another one."""
        if link is not None:
            if self._link is link:
                self._link = None
            await link.abandon()


class _Batch:
    """The messages of one call, and what has become of them."""

    def __init__(self, size: int) -> None:
        self.homeless = False
        """A message had no stream that takes it."""
        self._outcomes: list[Refused | None] = [None] * size
        self._open = [False] * size
        self._left = 0
        self._done = asyncio.Event()
        self._name: str | None = None

    async def publish(self, link: Link, messages: Sequence[Outgoing]) -> None:
        """Publish all that can be carried, and wait for the acknowledgements."""
        self._name = link.name(self._acknowledged)
        reply = f"{link.inbox}.{self._name}."
        client, largest = link.client, link.client.max_payload
        self._left = 1  # so that it is not done before everything is sent
        for index, message in enumerate(messages):
            if (refused := _unfit(message, largest)) is not None:
                self._outcomes[index] = refused
                continue
            self._open[index] = True
            self._left += 1
            headers = {**message.headers, "Nats-Msg-Id": _identity(message)}
            await client.publish(message.topic, message.body, reply + str(index), headers)
        self._settle()
        await link.unless_lost(self._done.wait())

    def end(self, link: Link) -> None:
        if self._name is not None:
            link.forget(self._name)

    def outcomes(self) -> list[Refused | None]:
        return self._outcomes

    def overdue(self, seconds: float, denied: str | None) -> list[Refused | None]:
        """Return the outcomes; what is still open is refused."""
        late = Refused(denied or f"not acknowledged within {seconds:g} s: the broker may have it, or not")
        return [late if open else outcome for open, outcome in zip(self._open, self._outcomes, strict=True)]

    def _acknowledged(self, token: str, message: Msg) -> None:
        index = int(token)
        if not self._open[index]:
            return
        self._open[index] = False
        data: bytes = message.data
        if b'"error"' in data or not data.startswith(b"{"):
            self._outcomes[index] = self._refusal(message)
        self._settle()

    def _refusal(self, message: Msg) -> Refused | None:
        if status(message) == "503":
            self.homeless = True
            return Refused("no stream takes this subject, or its servers are electing a leader")
        try:
            answer = msgspec.json.decode(message.data, type=_Answer)
        except msgspec.MsgspecError:
            return Refused(f"what answered is no stream: {bytes(message.data[:100])!r}")
        if answer.error is None:
            return None
        return Refused(str(answer.error), permanent=answer.error.err_code in _TOO_LARGE)

    def _settle(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._done.set()


class _Answer(msgspec.Struct):
    error: Fault | None = None


_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_BREAKS = re.compile(r"[\r\n]").search


def _identity(message: Outgoing) -> str:
    """Return the id by which the stream drops a second message: an event may go to several subjects of one stream."""
    return f"{message.topic}/{message.id}"


def _unfit(message: Outgoing, largest: int) -> Refused | None:
    """Say why NATS would not take a message, close the connection over it, or the client alter it."""
    if not is_subject(message.topic):
        return Refused(f"{message.topic!r} cannot be a subject of NATS", permanent=True)
    size = len(message.body) + 40
    for name, value in (*message.headers.items(), ("Nats-Msg-Id", _identity(message))):
        if _NAME(name) is None:
            return Refused(f"{name!r} cannot be a header's name in NATS", permanent=True)
        if _BREAKS(value) is not None or value.strip() != value:
            return Refused(f"header {name}: NATS carries neither line breaks nor spaces around it", permanent=True)
        try:
            size += len(name) + 4 + (len(value) if value.isascii() else len(value.encode()))
        except UnicodeEncodeError as error:
            return Refused(f"header {name} cannot be written as UTF-8: {error.reason}", permanent=True)
    if not message.id:
        return Refused("it has no id", permanent=True)
    if size > largest:
        return Refused(f"it has {size} bytes with its headers, and the server takes {largest}", permanent=True)
    return None
