"""Reading from JetStream: one durable pull consumer, whose cursor is its acknowledgement floor.

The consumer acknowledges all up to a message (`ack_policy: all`): that is one request for a batch, and order within a
partition is what it says. What was delivered and not acknowledged does not come again by itself, for an hour: it would
come out of order. What is released is kept here, and fetched again from here; what another process has left behind
comes again by going back (`_go_back`): the consumer is made anew, from behind its floor.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec
import nats.errors
from nats.aio.msg import Msg

from ensue.brokers.broker import Incoming
from ensue.brokers.nats.link import Fault, Link, status, told
from ensue.brokers.nats.settings import Settings
from ensue.brokers.nats.stream import TRIES, common_pattern, ensure_stream
from ensue.errors import BrokerError, BrokerRefused, BrokerUnavailable

_CONSUMER_NOT_FOUND = 10014
_SUBJECT_NOT_TAKEN = 10093  # by the stream
_HOUR = 3600 * 1_000_000_000
_GOING_BACK = "-going-back"
_ALONE = 5.0


class _Handle(NamedTuple):
    """How a message is acknowledged; only by the consumer that has fetched it, before it went back."""

    sequence: int
    delivered: int
    reply: str
    life: int


class _Found(NamedTuple):
    info: dict[str, Any] | None
    """The consumer, None if it was not there."""
    note: dict[str, Any] | None
    """Of one that is going back, or has died while it was."""


class NatsConsumer:
    """Reads some subjects of one stream."""

    def __init__(self, settings: Settings, topics: Sequence[str], group: str) -> None:
        self._settings = settings
        self._topics = frozenset(topics)
        self._name = re.sub(r"[^A-Za-z0-9_-]", lambda found: f"={ord(found[0]):02X}", group)
        self._link: Link | None = None
        self._life = 0
        """Counts how often it began at the floor."""
        self._waiting: deque[Incoming] = deque()
        """What has come and was not fetched yet."""
        self._last = 0
        """The stream's sequence of the last message that came."""
        self._delivered = 0
        """The consumer's own count of what it has delivered: without a gap, if it has delivered to us alone."""
        self._shared = False
        """There was a gap."""
        self._acknowledged = 0
        """Up to which of them the server has the acknowledgement."""
        self._has_room = asyncio.Event()
        self._alone_until = 0.0
        """Until when nobody looks again whether somebody else reads."""
        self._fetched: deque[Incoming] = deque()
        """What was fetched and not acknowledged yet."""
        self._skipped: _Handle | None = None
        """The last message that came, if its subject is not ours."""
        self._came = asyncio.Event()
        self._inbox = ""
        self._pull = 0
        self._over = ""
        """The status with which the current pull has ended; empty as long as it has not."""

    # -- life

    async def prepare(self) -> list[str]:
        """Make the stream, which keeps what is published, and the durable consumer."""
        link = await Link.open(self._settings)
        try:
            made = [f"stream {self._settings.stream}"] if await ensure_stream(link, sorted(self._topics)) else []
            if (await self._ensure(link)).info is None:
                made.append(f"consumer {self._name} of stream {self._settings.stream}")
        except BaseException:
            await link.abandon()
            raise
        await link.close()
        return made

    async def open(self) -> None:
        await self._let_go()
        link = await Link.open(self._settings)
        try:
            await ensure_stream(link, sorted(self._topics))
            await self._begin(link, await self._make(link))
        except BaseException:
            await link.abandon()
            raise
        self._link = link

    async def close(self) -> None:
        await self._let_go()

    async def _let_go(self) -> None:
        self._life += 1
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()

    async def _begin(self, link: Link, delivered: int) -> None:
        """Begin at the floor."""
        self._life += 1
        self._waiting.clear()
        self._fetched.clear()
        self._last = 0
        self._delivered, self._shared = delivered, False
        self._acknowledged, self._skipped = delivered, None
        self._inbox = link.client.new_inbox()
        await link.subscribe(f"{self._inbox}.*", self._arrived)

    # -- reading

    async def fetch(self, most: int, wait: float) -> list[Incoming]:
        link = self._link
        if link is None or link.is_lost:
            raise BrokerUnavailable(f"{self._settings.address}: the connection is lost: open it again")
        deadline = time.monotonic() + wait
        try:
            while not self._waiting and (room := await self._room(link, deadline)):
                await self._pulled(link, min(most, room), {"no_wait": True}, self._settings.address.timeout)
                if self._waiting or not self._over:
                    continue
                if (left := deadline - time.monotonic()) > 0:
                    expires = {"expires": int(left * 1_000_000_000)}
                    await self._pulled(link, 1, expires, left + self._settings.address.timeout)
                if self._over:
                    await self._check_alone(link)
                    break
        except (nats.errors.Error, OSError) as error:
            await link.abandon()
            raise BrokerUnavailable(f"{self._settings.address}: {told(error)}") from error
        found = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._fetched += found
        return found

    async def _room(self, link: Link, deadline: float) -> int:
        """Return for how many messages there is room before something is acknowledged; wait for it until the deadline.

        Beyond that the server delivers nothing, and does not say so.
        """
        while (room := self._settings.max_ack_pending - (self._delivered - self._acknowledged)) <= 0:
            if self._skipped is not None and not self._fetched and not self._waiting:
                await self._acknowledge(link, self._skipped)
                continue
            self._has_room.clear()
            try:
                async with asyncio.timeout(max(0, deadline - time.monotonic())):
                    await link.unless_lost(self._has_room.wait())
            except TimeoutError:
                return 0
        return room

    async def _pulled(self, link: Link, count: int, how: dict[str, Any], patience: float) -> None:
        """Ask for messages, and wait until so many have come or the server says that there are no more for now."""
        self._pull += 1
        enough = self._delivered + count
        self._over = ""
        try:
            async with asyncio.timeout(patience):
                await link.client.publish(
                    f"{self._api}.CONSUMER.MSG.NEXT.{self._settings.stream}.{self._name}",
                    msgspec.json.encode({"batch": count, **how}),
                    f"{self._inbox}.{self._pull}",
                )
                while self._delivered < enough and not self._over:
                    self._came.clear()
                    await link.unless_lost(self._came.wait())
        except TimeoutError:
            await link.abandon()
            raise BrokerUnavailable(f"{self._settings.address} did not answer a pull: open it again") from None
        if self._is_gone():
            await link.close()
            raise BrokerUnavailable(f"{self._settings.address}: consumer {self._name} is gone or moves: open it again")
        if self._shared:
            await self._leave(link)

    def _is_gone(self) -> bool:
        return self._over in ("503", "409")

    async def _check_alone(self, link: Link) -> None:
        """See whether somebody else has got what would have come to us; the next message would show it too."""
        if time.monotonic() < self._alone_until:
            return
        self._alone_until = time.monotonic() + _ALONE
        info = await self._info(link, self._name)
        if info is None or (not self._waiting and info["delivered"]["consumer_seq"] != self._delivered):
            await self._leave(link)

    async def _leave(self, link: Link) -> NoReturn:
        await link.close()
        raise BrokerUnavailable(f"{self._settings.address}: another process reads {self._name}: open it again")

    @property
    def _api(self) -> str:
        return f"$JS.{self._settings.domain}.API" if self._settings.domain else "$JS.API"

    async def _arrived(self, message: Msg) -> None:
        """Take what comes for any pull: what a fetch that was cancelled has asked for is not lost."""
        if not message.reply:
            ended = status(message)
            if ended is not None and ended != "100" and message.subject == f"{self._inbox}.{self._pull}":
                self._over = ended
                self._came.set()
            return
        sequence, delivered = counts(message.reply)
        if delivered != self._delivered + 1 or self._shared:
            self._shared = True
            self._over = "gap"
            self._came.set()
            return
        self._delivered = delivered
        if sequence <= self._last:  # fetched before, and still in work: an hour has passed
            return
        self._last = sequence
        handle = _Handle(sequence, delivered, message.reply, self._life)
        if message.subject in self._topics:
            self._waiting.append(
                Incoming(
                    topic=message.subject,
                    key=None,
                    content_type=None,
                    headers=message.headers or {},
                    body=message.data,
                    handle=handle,
                )
            )
            self._skipped = None
        else:
            self._skipped = handle
        self._came.set()

    # -- done, or not

    async def acknowledge(self, messages: Sequence[Incoming]) -> None:
        ours: list[_Handle] = [each.handle for each in messages if each.handle.life == self._life]
        if not ours or self._link is None:
            return
        last = max(ours)
        while self._fetched and self._fetched[0].handle.sequence <= last.sequence:
            self._fetched.popleft()
        with contextlib.suppress(BrokerError):
            await self._acknowledge(self._link, last)

    async def _acknowledge(self, link: Link, handle: _Handle) -> None:
        """Acknowledge all up to a message; the server answers when it has it."""
        await link.request(handle.reply, b"+ACK")
        self._acknowledged = max(self._acknowledged, handle.delivered)
        self._has_room.set()

    async def release(self, messages: Sequence[Incoming]) -> None:
        ours = [each.handle.sequence for each in messages if each.handle.life == self._life]
        while ours and self._fetched and self._fetched[-1].handle.sequence >= min(ours):
            self._waiting.appendleft(self._fetched.pop())

    # -- the durable consumer

    async def _make(self, link: Link) -> int:
        """Make the consumer, or find it as it should be, with everything behind its floor still to come.

        Return how many messages it has delivered.
        """
        info, note = await self._ensure(link)
        if note is not None:
            await self._delete(link, self._name + _GOING_BACK)
        if info is None:
            return 0
        if info["num_ack_pending"] or info["num_waiting"] or not self._fits(link, info["config"]):
            await self._go_back(link)
            return 0
        delivered: int = info["delivered"]["consumer_seq"]
        return delivered

    async def _ensure(self, link: Link) -> _Found:
        """Make the consumer if it is not there, and return what was found."""
        info = await self._info(link, self._name)
        note = await self._info(link, self._name + _GOING_BACK)
        if info is None:
            # A process may have been killed while it went back: the note says from where.
            await self._create(link, self._name, 1 if note is None else note["config"]["opt_start_seq"])
        elif (policy := info["config"]["ack_policy"]) != "all":
            raise BrokerRefused(
                f"{self._settings.address}: consumer {self._name} of stream {self._settings.stream} does not fit: "
                f"its ack_policy is {policy}, and has to be all"
            )
        return _Found(info, note)

    async def _go_back(self, link: Link) -> None:
        """Make the consumer anew from behind its floor; at every moment either it or a note of its floor is there."""
        info = await self._info(link, self._name)
        if info is None:
            raise BrokerUnavailable(f"{self._settings.address}: consumer {self._name} is gone: open it again")
        floor = max(info["ack_floor"]["stream_seq"], (info["config"].get("opt_start_seq") or 1) - 1)
        await self._create(link, self._name + _GOING_BACK, floor + 1)
        await self._delete(link, self._name)
        await self._create(link, self._name, floor + 1)
        await self._delete(link, self._name + _GOING_BACK)

    async def _info(self, link: Link, name: str) -> dict[str, Any] | None:
        found = await link.ask(f"CONSUMER.INFO.{self._settings.stream}.{name}")
        if isinstance(found, Fault):
            if found.err_code == _CONSUMER_NOT_FOUND:
                return None
            raise link.failure(f"consumer {name}", found)
        return found

    async def _create(self, link: Link, name: str, first: int) -> None:
        config = {
            "durable_name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "replay_policy": "instant",
            "ack_policy": "all",
            "ack_wait": _HOUR,
            "max_ack_pending": self._settings.max_ack_pending,
            **self._filter(link),
        }
        what = f"CONSUMER.DURABLE.CREATE.{self._settings.stream}.{name}"
        question = {"stream_name": self._settings.stream, "config": config}
        made = await link.ask(what, question)
        for _ in range(TRIES):
            if not isinstance(made, Fault) or made.err_code != _SUBJECT_NOT_TAKEN:
                break
            await ensure_stream(link, sorted(self._topics))  # others have changed it since, and knew of theirs only
            made = await link.ask(what, question)
        if isinstance(made, Fault):
            raise link.failure(f"consumer {name} cannot be made", made)

    async def _delete(self, link: Link, name: str) -> None:
        done = await link.ask(f"CONSUMER.DELETE.{self._settings.stream}.{name}")
        if isinstance(done, Fault) and done.err_code != _CONSUMER_NOT_FOUND:
            raise link.failure(f"consumer {name} cannot be deleted", done)

    def _filter(self, link: Link) -> dict[str, Any]:
        """Return the filter: servers before 2.10 have one subject, so others may come with it, and are passed over."""
        topics = sorted(self._topics)
        if len(topics) == 1:
            return {"filter_subject": topics[0]}
        version = link.client.connected_server_version
        if (version.major, version.minor) >= (2, 10):
            return {"filter_subjects": topics}
        return {"filter_subject": common_pattern(topics)}

    def _fits(self, link: Link, config: dict[str, Any]) -> bool:
        wanted = {"max_ack_pending": self._settings.max_ack_pending, **self._filter(link)}
        found: dict[str, Any] = {name: config.get(name) for name in wanted}
        if found.get("filter_subjects"):
            found["filter_subjects"] = sorted(found["filter_subjects"])
        return found == wanted


def counts(reply: str) -> tuple[int, int]:
    """Return the stream's sequence and the consumer's count from the subject that acknowledges a message.

    It is `$JS.ACK.stream.consumer.times.sequence.count.time.pending`; a domain and an account may stand before the
    stream, and something random behind all.
    """
    tokens = reply.split(".")
    first = 5 if len(tokens) == 9 else 7
    return int(tokens[first]), int(tokens[first + 1])
