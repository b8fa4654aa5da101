"""Receiving: the loop that fetches from a broker for one partition, and acknowledges what is committed."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from ensue.brokers.broker import Broker, Consumer, Incoming, partition_topic
from ensue.brokers.inbox import Inbox, forget_all
from ensue.brokers.messages import Received, read
from ensue.brokers.witnessing import taking_in
from ensue.errors import BrokerError, BrokerRefused, BrokerUnavailable, DeclarationError, EnsueError
from ensue.log import Log
from ensue.subscriptions import Condition, edges

logger = logging.getLogger("ensue")

_WAIT = 1.0
"""Seconds after which a fetch without a message is begun again."""
_BREATH = 20
"""Messages that are read in one go, while what waits in the event loop waits."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
FORGET_EVERY = 60.0
WELL = Condition(None, 0.0)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a receiver's messages come from."""

    broker: Broker
    address: str
    topics: tuple[str, ...]
    group: str
    wanted: frozenset[str]
    """Wire types."""
    partitions: int
    batch: int
    keep: float
    """Seconds for which a message is known to have been taken in."""

    def held(self, first_slot: int, last_slot: int) -> list[tuple[list[str], str]]:
        """Return what is read by who holds these slots: the topics and the group of each partition.

        A partition of a topic is a topic of its own, read by a group of its own: groups have one cursor.
        """
        if self.broker.shares or self.partitions == 1:
            return [(list(self.topics), self.group)] if self.broker.shares or first_slot == 0 else []
        found: list[tuple[list[str], str]] = []
        for part, slot in enumerate(edges(self.partitions)[:-1]):
            if first_slot <= slot <= last_slot:
                topics = [partition_topic(topic, part, self.partitions) for topic in self.topics]
                found.append((topics, partition_topic(self.group, part, self.partitions)))
        return found


class Receiving:
    """Receives for the holder of some slots: usually one partition, none or several after a repartition."""

    def __init__(self, lines: Sequence[Line], watch: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        """Take also what watches meanwhile, until all of them have ended."""
        self._lines = lines
        self._watch = watch

    async def work(self) -> None:
        """Work on all of them."""
        watching = None if self._watch is None else asyncio.ensure_future(self._watch())
        try:
            await asyncio.gather(*(line.work() for line in self._lines))
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.wait([watching])

    @property
    def condition(self) -> Condition | None:
        """Why one of them receives nothing; none of them is known to be well before all are."""
        found = [line.condition for line in self._lines]
        waiting = [each for each in found if each is not None and each.reason is not None]
        return waiting[0] if waiting else None if None in found else WELL

    def pause(self, paused: bool) -> None:
        """Fetch nothing more, or go on."""
        for line in self._lines:
            line.pause(paused)

    async def stop(self, grace: float) -> None:
        """Commit what is in hand, and leave the rest to the broker."""
        await asyncio.gather(*(line.stop(grace) for line in self._lines))


class _Batch(NamedTuple):
    """Messages as they came and as they were read, and who acknowledges them."""

    consumer: Consumer
    messages: list[Incoming]
    received: list[Received]


class Line:
    """Receives for one partition."""

    def __init__(self, source: Source, inbox: Inbox, log: Log, topics: Sequence[str], group: str) -> None:
        self._source = source
        self._inbox = inbox
        self._log = log
        self._topics = topics
        self._group = group
        self.condition: Condition | None = None
        """Why it receives nothing; None as long as it has not tried."""
        self._consumer: Consumer | None = None
        self._stopping = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()
        self._task: asyncio.Task[None] | None = None
        self._fetching: asyncio.Task[_Batch] | None = None
        """What is waited for, or was waited for last."""
        self._ahead: asyncio.Task[_Batch] | None = None
        """What is fetched while the batch before it is taken in."""
        self._acknowledging: asyncio.Task[None] | None = None
        """What is acknowledged while the batch behind it is taken in."""
        self._forgotten_at = time.monotonic()

    # --- working

    async def work(self) -> None:
        """Fetch, take in, acknowledge, until it is stopped; wait while the broker or the database is away."""
        self._task = asyncio.current_task()
        pause = _FIRST_PAUSE
        try:
            while await self._may_go_on():
                try:
                    await self._round()
                    pause, self.condition = _FIRST_PAUSE, WELL
                except (DeclarationError, asyncio.CancelledError):
                    raise
                except Exception as error:  # noqa: BLE001 said, and tried again: nothing was acknowledged
                    delay = pause * random.uniform(0.5, 1.0)
                    self.condition = Condition(_in_words(error), asyncio.get_running_loop().time() + delay)
                    logger.warning("%s: %s; again in %.1f s", self._inbox.name, self.condition.reason, delay)
                    await self._let_go()
                    await self._rest(delay)
                    pause = min(_LONGEST_PAUSE, pause * 2)
        finally:
            await self._let_go()

    async def _may_go_on(self) -> bool:
        if self._ahead is None:  # what has been fetched is committed first, before a pause too
            await self._going.wait()
        return not self._stopping.is_set()

    async def _round(self) -> None:
        """Take a batch in, then acknowledge it.

        As long as there seems to be more, the next one is fetched and the last one acknowledged meanwhile.
        """
        self._fetching, self._ahead = self._ahead or asyncio.ensure_future(self._fetch()), None
        try:
            batch = await self._fetching
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._stopping.is_set() or task is None or task.cancelling():
                raise
            return  # it was told to stop: what was on its way is not acknowledged, and goes to the next reader
        if batch.messages:
            if len(batch.messages) == self._source.batch and self._going.is_set():
                self._ahead = asyncio.ensure_future(self._fetch())
            with taking_in(self._log, self._inbox.name, self._source.broker.protocol, batch.received):
                await self._inbox.take(batch.received)
            await self._acknowledged()
            self._acknowledging = asyncio.ensure_future(batch.consumer.acknowledge(batch.messages))
            if self._ahead is None:
                await self._acknowledged()
        if time.monotonic() - self._forgotten_at > FORGET_EVERY:
            await self._forget()

    async def _fetch(self) -> _Batch:
        """Fetch, from a consumer that is opened if need be, and read what has come."""
        if self._consumer is None:
            consumer = self._source.broker.consumer(self._topics, self._group)
            try:
                await consumer.open()
            except BaseException:
                await consumer.close()
                raise
            self._consumer = consumer
        consumer = self._consumer
        messages = await consumer.fetch(self._source.batch, _WAIT)
        return _Batch(consumer, messages, await self._read(messages))

    async def _read(self, messages: Sequence[Incoming]) -> list[Received]:
        """Read messages, and let the batch before go on in between, as soon as the database has answered."""
        name, source, prepare = self._inbox.name, self._source, self._inbox.prepare
        found: list[Received] = []
        for each in messages:
            found.append(prepare(read(each, source.broker.binding, source.wanted, name)))
            if len(found) % _BREATH == 0:
                await asyncio.sleep(0)
        return found

    async def _acknowledged(self) -> None:
        acknowledging, self._acknowledging = self._acknowledging, None
        if acknowledging is not None:
            await acknowledging

    async def _forget(self) -> None:
        """Forget what the broker cannot deliver again any more."""
        self._forgotten_at = time.monotonic()
        await forget_all(self._log, self._inbox.name, self._source.keep, self._stopping.is_set)

    async def _rest(self, delay: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stopping.wait()

    async def _let_go(self) -> None:
        """Close the consumer; what is not acknowledged goes to the next one."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        try:
            await self._acknowledged()
        except BrokerError as error:
            logger.warning("%s: acknowledging: %s", self._inbox.name, error)
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                await consumer.close()
            except BrokerError as error:
                logger.warning("%s: closing: %s", self._inbox.name, error)

    # --- being told

    def pause(self, paused: bool) -> None:
        """Fetch nothing more, or go on."""
        if paused:
            self._going.clear()
        else:
            self._going.set()

    async def stop(self, grace: float) -> None:
        """Commit what is in hand, and leave the rest to the broker."""
        self._stopping.set()
        self._going.set()
        if self._fetching is not None:
            self._fetching.cancel()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=grace)
            if not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=5.0)


def _in_words(error: Exception) -> str:
    if isinstance(error, BrokerUnavailable):
        return f"its broker cannot be reached: {error}"
    if isinstance(error, BrokerRefused):
        return f"its broker refuses: {error}"
    return str(error) if isinstance(error, EnsueError) else f"{type(error).__name__}: {error}"
