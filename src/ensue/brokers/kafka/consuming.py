"""Reading from Kafka as a member of a group: what is in hand of each partition, and how far it is done."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ensue.brokers.broker import Incoming
from ensue.brokers.kafka.client import abc, aiokafka, errors
from ensue.brokers.kafka.failing import failure_of
from ensue.brokers.kafka.link import CLOSES_WITHIN, connecting, in_our_words, leave, whole
from ensue.brokers.kafka.settings import Settings
from ensue.brokers.kafka.topics import make_topics
from ensue.errors import BrokerError

_PROOF_EVERY = 5.0  # seconds without a message after which a consumer asks whether there is still a broker

_RETRY_AFTER = 0.1  # seconds after a commit that has failed and may pass


class _Place(NamedTuple):
    """Where a message came from."""

    partition: Any
    offset: int


@dataclass
class _Held:
    """A partition that is ours: what of it is in hand."""

    next: int
    """The offset after the last one that came."""
    back: deque[Incoming] = field(default_factory=deque[Incoming])
    """Released: to be fetched again before anything new."""
    taken: dict[int, Incoming] = field(default_factory=dict[int, Incoming])
    """Fetched, by offset and in that order."""
    done: set[int] = field(default_factory=set[int])
    """Acknowledged, while one before them is not."""

    def take_back(self, first: int) -> None:
        """Put everything from this offset on before what is fetched next."""
        back = [message for offset, message in self.taken.items() if offset >= first]
        for message in back:
            del self.taken[message.handle.offset]
        self.done = {offset for offset in self.done if offset < first}
        self.back.extendleft(reversed(back))


class KafkaConsumer:
    """A member of a group. Kafka gives it partitions and takes them away; what is lost is not acknowledged any more."""

    def __init__(self, settings: Settings, topics: Sequence[str], group: str) -> None:
        self._settings = settings
        self._topics = list(topics)
        self._group = group
        self._consumer: Any | None = None
        self._held: dict[Any, _Held] = {}
        self._to_commit: dict[Any, int] = {}
        self._committing = asyncio.Lock()
        self._last_heard = 0.0

    async def prepare(self) -> list[str]:
        """Make the topics: a group begins with the earliest message, unless its URL says otherwise."""
        async with in_our_words(self._settings):
            return [f"topic {name}" for name in await make_topics(self._settings, self._topics)]

    async def open(self) -> None:
        """Join the group, whose first assignment may take seconds; a member takes back all that is in hand."""
        if self._consumer is None:
            await self._join()
            return
        for held in self._held.values():
            held.take_back(0)

    async def _join(self) -> Any:
        async with in_our_words(self._settings):
            await make_topics(self._settings, self._topics)
            consumer = aiokafka.AIOKafkaConsumer(
                **connecting(self._settings),
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset=self._settings.start,
                isolation_level="read_committed",
            )
            whole(consumer._client)  # noqa: SLF001
            consumer.subscribe(self._topics, listener=_Rebalance(self))
            self._forget()
            self._consumer = consumer
            try:
                await consumer.start()
            except BaseException:
                await self._drop()
                raise
        self._last_heard = asyncio.get_running_loop().time()
        return consumer

    async def fetch(self, most: int, wait: float) -> list[Incoming]:
        consumer = self._consumer or await self._join()
        await self._commit(within=max(0.1, min(wait, 1.0)))
        if found := self._again(most):
            return found
        records: dict[Any, list[Any]] = {}
        try:
            async with asyncio.timeout(wait + 1):  # a rebalance under way may take longer than it may wait
                records = await consumer.getmany(timeout_ms=max(1, int(wait * 1000)), max_records=most)
        except TimeoutError:
            return []
        except (errors.KafkaError, errors.ConsumerStoppedError) as error:
            await self._drop()
            raise failure_of(self._settings.address, error) from error
        found = [self._take(partition, record) for partition, some in records.items() for record in some]
        if found:
            self._last_heard = asyncio.get_running_loop().time()
        else:
            await self._prove()
        return found

    async def acknowledge(self, messages: Sequence[Incoming]) -> None:
        """Commit offsets, of each partition up to the first message that is not done."""
        for message in messages:
            partition, offset = message.handle
            held = self._held.get(partition)
            if held is not None and offset in held.taken:
                held.done.add(offset)
        for partition in {message.handle.partition for message in messages}:
            if (held := self._held.get(partition)) is None:
                continue
            last: int | None = None
            for offset in list(held.taken):
                if offset not in held.done:
                    break
                held.done.discard(offset)
                del held.taken[offset]
                last = offset
            if last is not None:
                self._to_commit[partition] = last + 1
        await self._commit(within=self._settings.address.timeout)

    async def release(self, messages: Sequence[Incoming]) -> None:
        """Put messages back into the hand, of each partition all from the first one on."""
        for partition in {message.handle.partition for message in messages}:
            if (held := self._held.get(partition)) is None:
                continue
            offsets = [message.handle.offset for message in messages if message.handle.partition == partition]
            first = min((offset for offset in offsets if offset in held.taken), default=None)
            if first is None:
                continue
            held.take_back(first)

    async def close(self) -> None:
        await self._commit(within=CLOSES_WITHIN)
        await self._drop()

    def assigned(self, partitions: Iterable[Any]) -> None:
        """Keep what is in hand of partitions that stay ours, and go on behind it; forget the others."""
        now = set(partitions)
        consumer = self._consumer
        for partition in list(self._held):
            if partition not in now or consumer is None:
                del self._held[partition]
                self._to_commit.pop(partition, None)
            else:
                consumer.seek(partition, self._held[partition].next)

    def _again(self, most: int) -> list[Incoming]:
        """Return what was released."""
        found: list[Incoming] = []
        for held in self._held.values():
            while held.back and len(found) < most:
                message = held.back.popleft()
                held.taken[message.handle.offset] = message
                found.append(message)
        return found

    def _take(self, partition: Any, record: Any) -> Incoming:
        held = self._held.setdefault(partition, _Held(record.offset))
        held.next = record.offset + 1
        message = Incoming(
            topic=record.topic,
            key=None if record.key is None else record.key.decode(errors="replace"),
            content_type=None,
            headers=record.headers,
            body=record.value or b"",
            handle=_Place(partition, record.offset),
        )
        held.taken[record.offset] = message
        return message

    async def _commit(self, *, within: float) -> None:
        """Commit what is done; if that is not possible now, the next call does, or it is delivered again."""
        try:
            async with asyncio.timeout(within), self._committing:  # an older offset never goes behind a newer one
                await self._commit_now()
        except (errors.KafkaError, TimeoutError):  # among them that a rebalance is under way
            return

    async def _commit_now(self) -> None:
        if not self._to_commit or self._consumer is None:
            return
        ours = self._consumer.assignment()
        offsets = {partition: offset for partition, offset in self._to_commit.items() if partition in ours}
        if not offsets:
            return
        await _commit(self._consumer, offsets)
        for partition, offset in offsets.items():
            if self._to_commit.get(partition) == offset:
                del self._to_commit[partition]

    async def _prove(self) -> None:
        """Ask, when nothing has come for a while, whether there is still a broker: aiokafka would wait for ever."""
        now = asyncio.get_running_loop().time()
        if now - self._last_heard < _PROOF_EVERY:
            return
        if self._consumer is None:
            return
        try:
            async with in_our_words(self._settings):
                await self._consumer.topics()
        except BrokerError:
            await self._drop()
            raise
        self._last_heard = now

    def _forget(self) -> None:
        self._held.clear()
        self._to_commit.clear()

    async def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._forget()
        if consumer is not None:
            await leave(consumer._client, consumer.stop)  # noqa: SLF001


async def _commit(consumer: Any, offsets: dict[Any, int]) -> None:
    """Commit, again and again while it may pass.

    `consumer.commit` leaves a request behind when it is cancelled, and nobody looks at how that one fails.
    """
    coordinator = consumer._coordinator  # noqa: SLF001
    assignment = consumer._subscription.subscription.assignment  # noqa: SLF001
    chosen = {partition: aiokafka.structs.OffsetAndMetadata(offset, "") for partition, offset in offsets.items()}
    while True:
        await coordinator.ensure_coordinator_known()
        try:
            async with coordinator._commit_lock:  # noqa: SLF001
                await coordinator._do_commit_offsets(assignment, chosen)  # noqa: SLF001
        except errors.KafkaError as error:
            if not error.retriable:
                raise
        else:
            return
        await asyncio.sleep(_RETRY_AFTER)


@abc.ConsumerRebalanceListener.register
class _Rebalance:
    """Tells the consumer which partitions it has."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        """Do nothing: at each rebalance Kafka takes all, and gives most of them back."""

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._consumer.assigned(assigned)
