"""Publishing to Kafka: an idempotent producer, and batches of our own for each partition."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ensue.brokers.broker import Outgoing, Refused
from ensue.brokers.kafka.client import aiokafka, errors
from ensue.brokers.kafka.failing import failure_of, refuses, words
from ensue.brokers.kafka.link import connecting, in_our_words, leave, whole
from ensue.brokers.kafka.partitioning import partition_of
from ensue.brokers.kafka.settings import Settings
from ensue.brokers.kafka.topics import make_topics

_BATCH = 524_288  # bytes; half of what Kafka takes at most by default


class KafkaPublisher:
    """Publishes to the partition of a message's key, in large batches, one after the other for each partition."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Any = None
        self._known: set[str] = set()  # topics that are there
        self._spoiled = False  # a batch has failed for good: what Kafka expects next of this producer is not what comes
        self._readying = asyncio.Lock()

    async def open(self, topics: Sequence[str]) -> None:
        async with in_our_words(self._settings):
            await self._ready(topics)

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | None]:
        """As the protocol says; where Kafka takes longer, because replicas or a leader are missing, it is refused."""
        results: dict[int, _Outcome] = {}
        records: dict[int, _Record] = {}
        for number, message in enumerate(messages):
            written = _written(message)
            if isinstance(written, Refused):
                results[number] = written
            else:
                records[number] = written
        try:
            async with asyncio.timeout(self._settings.address.timeout):
                async with in_our_words(self._settings):
                    await self._ready({record.topic for record in records.values()})
                groups = deque([list(records)])
                while groups:
                    groups.extend(await self._send(records, groups.popleft(), results))
        except TimeoutError:
            await self._abandon()
        except BaseException:
            await self._abandon()
            raise
        return [self._result(results.get(number, _LATE)) for number in range(len(messages))]

    async def close(self) -> None:
        await self._abandon()

    async def _ready(self, topics: Iterable[str]) -> None:
        async with self._readying:
            await self._make_ready(topics)

    async def _make_ready(self, topics: Iterable[str]) -> None:
        if new := set(topics) - self._known:
            await make_topics(self._settings, new)
            self._known |= new
        if self._spoiled:
            await self._abandon()
        if self._producer is None:
            compression = self._settings.compression
            producer = aiokafka.AIOKafkaProducer(
                **connecting(self._settings),
                acks="all",
                enable_idempotence=True,
                compression_type=None if compression == "none" else compression,
                max_batch_size=_BATCH,
            )
            whole(producer.client)
            self._producer = producer
            try:
                await producer.start()
            except BaseException:
                await self._abandon()
                raise

    async def _send(
        self, records: dict[int, _Record], chosen: Sequence[int], results: dict[int, _Outcome]
    ) -> list[list[int]]:
        """Publish, each partition on its own; return in groups what is to be sent again, by another producer."""
        async with in_our_words(self._settings):
            await self._ready(())
        producer = self._producer
        there: dict[str, list[int] | Exception] = {}
        for topic in {records[number].topic for number in chosen}:
            try:
                there[topic] = sorted(await producer.partitions_for(topic))
            except errors.KafkaError as error:
                self._known.discard(topic)
                there[topic] = error
        partitions: dict[tuple[str, int], list[int]] = {}
        for number in chosen:
            record = records[number]
            found = there[record.topic]
            if isinstance(found, Exception):
                results[number] = found
            else:
                partition = found[partition_of(record.key, len(found))]
                partitions.setdefault((record.topic, partition), []).append(number)
        again: list[list[int]] = []
        async with asyncio.TaskGroup() as group:
            for (topic, partition), numbers in partitions.items():
                group.create_task(_send_to(producer, topic, partition, records, numbers, results, again))
        if again or any(isinstance(results.get(number), Exception) for number in chosen):
            self._spoiled = True
        return again

    def _result(self, outcome: _Outcome) -> Refused | None:
        address = self._settings.address
        match outcome:
            case None | Refused():
                return outcome
            case Exception() if isinstance(outcome, (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)):
                return Refused("it is larger than the broker or the topic allows (max.message.bytes)", permanent=True)
            case Exception() if refuses(outcome) or isinstance(outcome, _STRANGERS):
                raise failure_of(address, outcome) from outcome
            case Exception():
                return Refused(words(outcome))
            case _:
                return Refused(
                    f"not acknowledged within {address.timeout:g} s: no leader, not enough replicas in sync, or no "
                    "connection; the broker may have it all the same"
                )

    async def _abandon(self) -> None:
        """Close the producer."""
        producer, self._producer, self._spoiled = self._producer, None, False
        if producer is not None:
            await leave(producer.client, lambda: _end(producer))


async def _end(producer: Any) -> None:
    """Close a producer without waiting for what it would send for ever, as an idempotent one does."""
    accumulator, sender = producer._message_accumulator, producer._sender  # noqa: SLF001  # it has no other way
    waiting = [batch for batches in accumulator._batches.values() for batch in batches]  # noqa: SLF001
    if waiting or accumulator._pending_batches:  # noqa: SLF001
        if sender.sender_task is not None:
            sender.sender_task.cancel()
        await producer.client.close()
        for batch in [*waiting, *accumulator._pending_batches]:  # noqa: SLF001
            batch.done_noack()
    await producer.stop()


class _Record(NamedTuple):
    """A message as Kafka takes it."""

    topic: str
    key: bytes
    headers: list[tuple[str, bytes]]
    body: bytes


def _written(message: Outgoing) -> _Record | Refused:
    """Write a message as a record, or say why it cannot be one."""
    if _TOPIC(message.topic) is None or message.topic in (".", ".."):
        return Refused("its topic has a name that Kafka does not allow", permanent=True)
    try:
        headers = [(name, value.encode()) for name, value in message.headers.items()]
        return _Record(message.topic, message.key.encode(), headers, message.body)
    except UnicodeEncodeError as error:
        return Refused(f"it holds text that is no Unicode: {error}", permanent=True)


_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}").fullmatch


class _Late(NamedTuple):
    pass


_STRANGERS = (
    errors.OutOfOrderSequenceNumber,
    errors.UnknownProducerId,
    errors.InvalidProducerEpoch,
    errors.InvalidProducerIdMapping,
    errors.ProducerFenced,
    errors.ProducerClosed,
)
"""Kafka does not know the producer any more, or not as it is: another one has to send everything again."""

_LATE = _Late()
_Outcome = Exception | Refused | _Late | None


async def _send_to(
    producer: Any,
    topic: str,
    partition: int,
    records: dict[int, _Record],
    numbers: list[int],
    results: dict[int, _Outcome],
    again: list[list[int]],
) -> None:
    """Publish messages of one partition, batch by batch, until one fails.

    Kafka takes nothing more of this producer then, since the numbers of its batches have a gap: the rest is added to
    `again`, and what was too large together as well, each message by itself.
    """
    done = 0
    while done < len(numbers):
        batch = producer.create_batch()
        begun = done
        while done < len(numbers) and _append(batch, records[numbers[done]]):
            done += 1
        batch.close()
        sent = numbers[begun:done]
        try:
            written = await (await producer.send_batch(batch, topic, partition=partition))
            if written is None:  # another call has abandoned the producer
                raise errors.ProducerClosed
        except errors.KafkaError as error:
            if isinstance(error, errors.MessageSizeTooLargeError) and len(sent) > 1:
                again.extend([number] for number in sent)
            else:
                results.update(dict.fromkeys(sent, error))
            if done < len(numbers):
                again.append(numbers[done:])
            return
        results.update(dict.fromkeys(sent))


def _append(batch: Any, record: _Record) -> bool:
    appended = batch.append(key=record.key, value=record.body, timestamp=None, headers=record.headers)
    return appended is not None
