"""Reading from streams of Redis as a group that has one reader at a time.

Whoever opens makes the group anew from behind what is acknowledged (`_begin`), in one transaction. So what a reader
that has died left behind comes again, in order and before anything newer; and one that is not dead after all, but waits
at the server over a connection that nobody hears of, gets nothing any more. Claiming its entries (XAUTOCLAIM) would
leave it waiting, and what came to it then would be missing. If it comes back later and reads, that shows (XPENDING).
"""

from __future__ import annotations

import contextlib
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis import exceptions

from ensue.brokers.broker import Incoming
from ensue.brokers.redis.link import Command, Link
from ensue.brokers.redis.publishing import BODY, KEY, check_server
from ensue.brokers.redis.settings import Settings
from ensue.errors import BrokerError, BrokerUnavailable

_LAST_SEQUENCE = 2**64 - 1
_Order = tuple[int, str, int]


class _Names(dict[bytes, str]):
    """Names of fields as text; there are few."""

    def __missing__(self, name: bytes) -> str:
        text = name.decode("utf-8", "backslashreplace")
        if len(self) < 1000:
            self[name] = text
        return text


_NAMES = _Names()


class _Handle(NamedTuple):
    order: _Order
    """When it was published: milliseconds, the publisher's sequence, the number within the millisecond."""
    number: int
    """Counts what was fetched."""
    topic: str
    id: bytes
    life: int


class _Group(NamedTuple):
    info: dict[str, Any]
    made: bool
    """It was not there before."""


class RedisConsumer:
    """Reads some streams, in the order in which they were written to."""

    def __init__(self, settings: Settings, topics: Sequence[str], group: str) -> None:
        self._settings = settings
        self._topics = list(dict.fromkeys(topics))
        self._group = group
        self._name = f"ensue-{secrets.token_hex(4)}"
        self._link: Link | None = None
        self._life = 0
        """Counts how often it was opened."""
        self._numbers = 0
        self._held: list[Incoming] = []
        """What has come from some streams, and is newer than what may still come from others."""
        self._waiting: deque[Incoming] = deque()
        """What can be fetched without asking."""
        self._fetched: deque[Incoming] = deque()
        """What was fetched and not acknowledged yet."""

    # -- life

    async def prepare(self) -> list[str]:
        """Make the group of each stream: a group gets what comes to a stream, and all that is still there."""
        link = Link(self._settings)
        try:
            await check_server(link, self._topics)
            made = [topic for topic in self._topics if (await self._ensure(link, topic)).made]
        except exceptions.ResponseError as error:
            raise link.failure(error) from error
        finally:
            await link.close()
        return [f"group {self._group} of stream {topic}" for topic in made]

    async def open(self) -> None:
        await self.close()
        link = Link(self._settings)
        try:
            await check_server(link, self._topics)
            for topic in self._topics:
                await self._begin(link, topic)
        except exceptions.ResponseError as error:
            await link.close()
            raise link.failure(error) from error
        except BaseException:
            await link.close()
            raise
        self._link = link

    async def close(self) -> None:
        self._life += 1
        self._held.clear()
        self._waiting.clear()
        self._fetched.clear()
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()

    async def _begin(self, link: Link, topic: str) -> None:
        """Make the group, or make it anew from behind what is acknowledged."""
        client = link.client
        group, _ = await self._ensure(link, topic)
        if not group["consumers"]:
            return
        pending: list[dict[str, Any]] = await link.call(client.xpending_range(topic, self._group, "-", "+", 1))
        last = before(pending[0]["message_id"]) if pending else group["last-delivered-id"]
        read = group.get("entries-read")  # from Redis 7 on; without it, nobody could be told how far behind it is
        known = () if read is None else ("ENTRIESREAD", max(0, read - group["pending"]))
        pipeline = client.pipeline(transaction=True)
        pipeline.execute_command("XGROUP DESTROY", topic, self._group)
        pipeline.execute_command("XGROUP CREATE", topic, self._group, last, "MKSTREAM", *known)
        await link.run(pipeline)

    async def _ensure(self, link: Link, topic: str) -> _Group:
        """Make the group if it is not there."""
        refusal: exceptions.ResponseError | None = None
        try:
            await link.call(link.client.execute_command("XGROUP CREATE", topic, self._group, "0", "MKSTREAM"))
        except exceptions.ResponseError as error:  # it is there, or there is something else: that shows below
            refusal = error
        groups: list[dict[str, Any]] = await link.call(link.client.xinfo_groups(topic))
        for each in groups:
            if each["name"] == self._group.encode():
                return _Group(each, made=refusal is None)
        raise refusal or BrokerUnavailable(f"{self._settings.address}: somebody deletes group {self._group!r}")

    # -- reading

    async def fetch(self, most: int, wait: float) -> list[Incoming]:
        link = self._link
        if link is None:
            raise BrokerUnavailable(f"{self._settings.address}: the connection is lost: open it again")
        if not self._waiting:
            try:
                await self._read(link, most, wait)
            except BaseException as error:  # entries may have been on their way
                await self.close()
                if isinstance(error, exceptions.ResponseError):
                    raise self._gone(link, error) from error
                raise
        found = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._fetched += found
        return found

    async def _read(self, link: Link, most: int, wait: float) -> None:
        block = ("BLOCK", max(1, int(wait * 1000))) if wait > 0 and not self._held else ()
        read = ("XREADGROUP", "GROUP", self._group, self._name, "COUNT", most, *block, "STREAMS", *self._topics)
        commands: list[Command] = [(*read, *(">" for _ in self._topics))]
        commands += [("XPENDING", topic, self._group) for topic in self._topics]
        answers = await link.together(commands, wait + self._settings.address.timeout)
        for each in answers:
            if isinstance(each, exceptions.ResponseError):
                raise each
        answer, *pending = answers
        if any(name != self._name.encode() for _, _, _, consumers in pending for name, _ in consumers or ()):
            raise BrokerUnavailable(
                f"{self._settings.address}: another process reads as group {self._group!r}: open it again"
            )
        streams: list[Any] = list(answer or ())
        bound: _Order | None = None
        for name, entries in streams:
            topic = name.decode()
            came = [self._incoming(topic, id, fields) for id, fields in entries if fields is not None]
            self._held += came
            if len(entries) >= most and came:  # there may be more in this one
                newest = max(each.handle.order for each in came)
                bound = newest if bound is None else min(bound, newest)
        if len(self._topics) > 1:
            self._held.sort(key=lambda each: each.handle.order)
        if bound is None:
            self._waiting += self._held
            self._held.clear()
        else:
            self._waiting += [each for each in self._held if each.handle.order <= bound]
            self._held = [each for each in self._held if each.handle.order > bound]

    def _incoming(self, topic: str, id: bytes, fields: list[bytes]) -> Incoming:
        """Make a message of an entry, whose fields are names and values in turn."""
        headers = dict(zip(map(_NAMES.__getitem__, fields[::2]), fields[1::2], strict=True))
        key = headers.pop(KEY, None)
        body = headers.pop(BODY, b"")
        self._numbers += 1
        return Incoming(
            topic=topic,
            key=None if key is None else key.decode("utf-8", "replace"),
            content_type=None,
            headers=headers,
            body=body,
            handle=_Handle(self._order(id, headers), self._numbers, topic, id, self._life),
        )

    def _order(self, id: bytes, headers: dict[str, bytes]) -> _Order:
        if len(self._topics) == 1:  # a stream is in order
            return (0, "", self._numbers)
        milliseconds, _, number = id.partition(b"-")
        return (int(milliseconds), headers.get("ce_sequence", b"").decode("ascii", "replace"), int(number))

    def _gone(self, link: Link, error: exceptions.ResponseError) -> BrokerError:
        if str(error).startswith(("NOGROUP", "UNBLOCKED")):
            return BrokerUnavailable(
                f"{self._settings.address}: group {self._group!r} is gone, or another process reads it: open it again"
            )
        return link.failure(error)

    # -- done, or not

    async def acknowledge(self, messages: Sequence[Incoming]) -> None:
        ours: dict[str, list[bytes]] = {}
        for each in messages:
            if each.handle.life == self._life:
                ours.setdefault(each.handle.topic, []).append(each.handle.id)
        link = self._link
        if not ours or link is None:
            return
        done = {id for ids in ours.values() for id in ids}
        while self._fetched and self._fetched[0].handle.id in done:
            self._fetched.popleft()
        with contextlib.suppress(BrokerError):
            await link.together([("XACK", topic, self._group, *ids) for topic, ids in ours.items()])

    async def release(self, messages: Sequence[Incoming]) -> None:
        ours = [each.handle.number for each in messages if each.handle.life == self._life]
        while ours and self._fetched and self._fetched[-1].handle.number >= min(ours):
            self._waiting.appendleft(self._fetched.pop())


def before(id: bytes) -> bytes:
    """Return the greatest id that is smaller."""
    milliseconds, _, number = id.partition(b"-")
    if int(number) > 0:
        return b"%s-%d" % (milliseconds, int(number) - 1)
    return b"0" if int(milliseconds) == 0 else b"%d-%d" % (int(milliseconds) - 1, _LAST_SEQUENCE)
