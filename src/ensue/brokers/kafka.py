"""Kafka, over aiokafka: an idempotent producer with acks=all, and a consumer group whose offsets follow the effects.

A message counts as published when all replicas in sync have it. Kafka divides the partitions of a topic among the
consumers of a group; the key decides on the partition, by the same function as in Kafka's own clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from ensue.brokers.address import Address
from ensue.brokers.broker import Incoming, Outgoing, Refused
from ensue.contracts.cloudevents import KAFKA, Binding
from ensue.errors import BrokerError, BrokerRefused, BrokerUnavailable, DeclarationError

aiokafka: Any = import_module("aiokafka")  # it has no types
abc: Any = import_module("aiokafka.abc")
admin: Any = import_module("aiokafka.admin")
conn: Any = import_module("aiokafka.conn")
errors: Any = import_module("aiokafka.errors")
metadata: Any = import_module("aiokafka.protocol.metadata")
partitioner: Any = import_module("aiokafka.partitioner")

_BATCH = 524_288  # bytes; half of what Kafka takes at most by default
_CLOSES_WITHIN = 2.0  # seconds; a broker that does not answer is left
_PROOF_EVERY = 5.0  # seconds without a message after which a consumer asks whether there is still a broker
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


class Kafka:
    """Kafka at `kafka://host:9092,host:9092`, or `kafkas://user:password@host:9093` with TLS."""

    protocol: ClassVar[str] = "kafka"
    binding: ClassVar[Binding] = KAFKA
    shares: ClassVar[bool] = True

    def __init__(self, address: Address) -> None:
        """Raise `DeclarationError` for an option that does not exist, or a value that it cannot have."""
        address.check_options("compression", "partitions", "replication", "sasl", "start")
        self.address = address
        self.compression = _one_of(address, "compression", _COMPRESSIONS)
        self.sasl = _one_of(address, "sasl", _MECHANISMS)
        self.start = _one_of(address, "start", ("earliest", "latest"))
        self.partitions = _count(address, "partitions", 8)
        self.replication = _count(address, "replication", 0)
        if "sasl" in address.options and address.user is None:
            raise DeclarationError(f"{address}: sasl= needs a user and a password in the URL")
        if address.path:
            raise DeclarationError(f"{address}: the URL of Kafka has no path")

    def publisher(self) -> KafkaPublisher:
        return KafkaPublisher(self)

    def consumer(self, topics: Sequence[str], group: str) -> KafkaConsumer:
        return KafkaConsumer(self, topics, group)

    def settings(self) -> dict[str, Any]:
        """Return what producer, consumer and administration need to connect."""
        address = self.address
        secure = address.scheme == "kafkas"
        settings: dict[str, Any] = {
            "bootstrap_servers": [
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._places
            ],
            "client_id": "ensue",
            "request_timeout_ms": max(1000, int(min(address.timeout, 40) * 1000)),
            "security_protocol": ("SASL_" if address.user else "") + ("SSL" if secure else "PLAINTEXT"),
        }
        if secure:
            settings["ssl_context"] = address.tls()
        if address.user:
            settings["sasl_mechanism"] = self.sasl
            settings["sasl_plain_username"] = address.user
            settings["sasl_plain_password"] = address.password or ""
        return settings

    @property
    def _places(self) -> list[tuple[str, int]]:
        return self.address.places(9092)

    @contextlib.asynccontextmanager
    async def in_our_words(self) -> AsyncGenerator[None]:
        """Bound what is done by the timeout, and say how it failed."""
        try:
            async with asyncio.timeout(self.address.timeout):
                yield
        except BrokerError:
            raise
        except (errors.KafkaError, errors.IllegalOperation, OSError, TimeoutError, RuntimeError) as error:
            if isinstance(error, errors.KafkaConnectionError) and (why := await self._why_not()) is not None:
                raise _failure(self.address, why) from error
            raise _failure(self.address, error) from error

    async def _why_not(self) -> Exception | None:
        """Connect once more, by hand: aiokafka only logs why it could not."""
        settings = self.settings()
        names = ("client_id", "request_timeout_ms", "security_protocol", "ssl_context", "sasl_mechanism")
        chosen = {name: settings[name] for name in settings if name in names or name.startswith("sasl_plain")}
        why: Exception | None = None
        for host, port in self._places:
            try:
                async with asyncio.timeout(_CLOSES_WITHIN):
                    connection = await conn.create_conn(host, port, **chosen)
            except (errors.KafkaError, OSError, TimeoutError) as error:
                if why is None or _refuses(error):
                    why = error
            else:
                why = why or await self._cold_shoulder(connection)
        return why

    async def _cold_shoulder(self, connection: Any) -> Exception | None:
        """Tell whether the broker lets us in and then will not talk, as one does that wants users to log in."""
        try:
            async with asyncio.timeout(_CLOSES_WITHIN):
                await connection.send(metadata.MetadataRequest([]))
        except errors.KafkaConnectionError:
            wanting: Exception = errors.IllegalSaslStateError(
                "it breaks off the connection: it may want a user and a password"
            )
            return wanting
        except (errors.KafkaError, OSError, TimeoutError):
            return None
        finally:
            connection.close()
        return None

    async def make_topics(self, topics: Iterable[str]) -> None:
        """Make the topics that are missing; raise as `Publisher.open`."""
        client = admin.AIOKafkaAdminClient(**self.settings())
        try:
            await client.start()
            missing = sorted(set(topics) - set(await client.list_topics()))
            if missing:
                answer = await client.create_topics(await self._new(client, missing))
                self._check(answer.topic_errors)
        finally:
            await _leave(client.close())

    async def _new(self, client: Any, names: list[str]) -> list[Any]:
        replication = self.replication or min(3, len((await client.describe_cluster())["brokers"]))
        durable = {"min.insync.replicas": str(replication - 1)} if replication > 2 else {}
        return [admin.NewTopic(name, self.partitions, replication, topic_configs=durable) for name in names]

    def _check(self, answers: Iterable[Any]) -> None:
        for topic, code, *text in answers:
            error = errors.for_code(code)
            if error in (errors.NoError, errors.TopicAlreadyExistsError):
                continue
            told = next((part for part in text if part), error.description)
            kind = BrokerUnavailable if error.retriable else BrokerRefused
            raise kind(f"{self.address}: topic {topic!r} is missing and cannot be made: {told}")

    async def redelivers_for(self, topics: Sequence[str]) -> float | None:
        """Return the longest retention of the topics: who sets a group back reads all that is there.

        None if one is kept without end, or only compacted. Kafka removes whole segments, so some a little later.
        """
        resource, topic_kind = admin.config_resource.ConfigResource, admin.config_resource.ConfigResourceType.TOPIC
        wanted = dict.fromkeys(("retention.ms", "cleanup.policy"))
        client = admin.AIOKafkaAdminClient(**self.settings())
        try:
            async with self.in_our_words():
                await client.start()
                answers = await client.describe_configs([resource(topic_kind, topic, wanted) for topic in topics])
        finally:
            await _leave(client.close())
        longest: float | None = None
        for _, _, _, _, entries in (found for answer in answers for found in answer.resources if found[0] == 0):
            told = {entry[0]: entry[1] for entry in entries}
            retention = int(told.get("retention.ms", -1))
            if retention < 0 or "delete" not in told.get("cleanup.policy", "delete"):
                return None
            longest = max(longest or 0.0, retention / 1000)
        return longest


def _one_of(address: Address, option: str, known: Sequence[str]) -> str:
    value = address.options.get(option, known[0])
    if value not in known:
        raise DeclarationError(f"{address}: {option}={value!r}: one of {', '.join(known)}")
    return value


def _count(address: Address, option: str, usual: int) -> int:
    value = address.options.get(option, str(usual))
    if not value.isdecimal() or (option in address.options and int(value) < 1):
        raise DeclarationError(f"{address}: {option}={value!r}: a number from 1 on")
    return int(value)


# --- out


class KafkaPublisher:
    """Publishes to the partition of a message's key, in large batches, one after the other for each partition."""

    def __init__(self, broker: Kafka) -> None:
        self._broker = broker
        self._producer: Any = None
        self._known: set[str] = set()  # topics that are there
        self._spoiled = False  # a batch has failed for good: what Kafka expects next of this producer is not what comes
        self._choose = partitioner.DefaultPartitioner()
        self._readying = asyncio.Lock()

    async def open(self, topics: Sequence[str]) -> None:
        async with self._broker.in_our_words():
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
            async with asyncio.timeout(self._broker.address.timeout):
                async with self._broker.in_our_words():
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
            await self._broker.make_topics(new)
            self._known |= new
        if self._spoiled:
            await self._abandon()
        if self._producer is None:
            compression = self._broker.compression
            producer = aiokafka.AIOKafkaProducer(
                **self._broker.settings(),
                acks="all",
                enable_idempotence=True,
                compression_type=None if compression == "none" else compression,
                max_batch_size=_BATCH,
            )
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
        async with self._broker.in_our_words():
            await self._ready(())
        producer = self._producer
        partitions: dict[tuple[str, int], list[int]] = {}
        for number in chosen:
            record = records[number]
            try:
                there = sorted(await producer.partitions_for(record.topic))
            except errors.KafkaError as error:
                self._known.discard(record.topic)
                results[number] = error
                continue
            partition = self._choose(record.key, there, there)
            partitions.setdefault((record.topic, partition), []).append(number)
        again: list[list[int]] = []
        async with asyncio.TaskGroup() as group:
            for (topic, partition), numbers in partitions.items():
                group.create_task(_send_to(producer, topic, partition, records, numbers, results, again))
        if again or any(isinstance(results.get(number), Exception) for number in chosen):
            self._spoiled = True
        return again

    def _result(self, outcome: _Outcome) -> Refused | None:
        address = self._broker.address
        match outcome:
            case None | Refused():
                return outcome
            case Exception() if isinstance(outcome, (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)):
                return Refused("it is larger than the broker or the topic allows (max.message.bytes)", permanent=True)
            case Exception() if _refuses(outcome) or isinstance(outcome, _STRANGERS):
                raise _failure(address, outcome) from outcome
            case Exception():
                return Refused(_words(outcome))
            case _:
                return Refused(
                    f"not acknowledged within {address.timeout:g} s: no leader, not enough replicas in sync, or no "
                    "connection; the broker may have it all the same"
                )

    async def _abandon(self) -> None:
        """Close the producer without waiting for what it would send for ever, as an idempotent one does."""
        producer, self._producer, self._spoiled = self._producer, None, False
        if producer is None:
            return
        accumulator, sender = producer._message_accumulator, producer._sender  # noqa: SLF001  # it has no other way
        waiting = [batch for batches in accumulator._batches.values() for batch in batches]  # noqa: SLF001
        if waiting or accumulator._pending_batches:  # noqa: SLF001
            if sender.sender_task is not None:
                sender.sender_task.cancel()
            await producer.client.close()
            for batch in [*waiting, *accumulator._pending_batches]:  # noqa: SLF001
                batch.done_noack()
        await _leave(producer.stop())


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


# --- in


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

    def __init__(self, broker: Kafka, topics: Sequence[str], group: str) -> None:
        self._broker = broker
        self._topics = list(topics)
        self._group = group
        self._consumer: Any | None = None
        self._held: dict[Any, _Held] = {}
        self._to_commit: dict[Any, int] = {}
        self._last_heard = 0.0

    async def open(self) -> None:
        """Join the group, whose first assignment may take seconds; a member takes back all that is in hand."""
        if self._consumer is None:
            await self._join()
            return
        for held in self._held.values():
            held.take_back(0)

    async def _join(self) -> Any:
        async with self._broker.in_our_words():
            await self._broker.make_topics(self._topics)
            consumer = aiokafka.AIOKafkaConsumer(
                **self._broker.settings(),
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset=self._broker.start,
                isolation_level="read_committed",
            )
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
            raise _failure(self._broker.address, error) from error
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
        await self._commit(within=self._broker.address.timeout)

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
        await self._commit(within=_CLOSES_WITHIN)
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
        if not self._to_commit or self._consumer is None:
            return
        ours = self._consumer.assignment()
        offsets = {partition: offset for partition, offset in self._to_commit.items() if partition in ours}
        if not offsets:
            return
        try:
            async with asyncio.timeout(within):
                await self._consumer.commit(offsets)
        except (errors.KafkaError, TimeoutError):  # among them that a rebalance is under way
            return
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
            async with self._broker.in_our_words():
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
            await _leave(consumer.stop())


@abc.ConsumerRebalanceListener.register
class _Rebalance:
    """Tells the consumer which partitions it has."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        """Do nothing: at each rebalance Kafka takes all, and gives most of them back."""

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._consumer.assigned(assigned)


# --- how it ends


_leaving: set[asyncio.Future[None]] = set()


async def _leave(goodbye: Coroutine[Any, Any, None]) -> None:
    """Close something, and wait for it a little; a broker that is gone does not answer."""
    closing = asyncio.ensure_future(goodbye)
    _leaving.add(closing)
    closing.add_done_callback(_left)
    await asyncio.wait([closing], timeout=_CLOSES_WITHIN)


def _left(closing: asyncio.Future[None]) -> None:
    _leaving.discard(closing)
    if not closing.cancelled():
        closing.exception()


def _refuses(error: BaseException) -> bool:
    kinds = (
        errors.AuthenticationFailedError,
        errors.AuthenticationMethodNotSupported,
        errors.SaslAuthenticationFailed,
        errors.UnsupportedSaslMechanismError,
        errors.IllegalSaslStateError,
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
        errors.InvalidGroupIdError,
        errors.InvalidTopicError,
        ssl.SSLCertVerificationError,
    )
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, kinds):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _failure(address: Address, error: BaseException) -> BrokerError:
    if isinstance(error, TimeoutError):
        return BrokerUnavailable(f"{address}: no answer within {address.timeout:g} s")
    kind = BrokerRefused if _refuses(error) else BrokerUnavailable
    return kind(f"{address}: {_words(error)}")


def _words(error: BaseException) -> str:
    told = str(error) or type(error).__name__
    description = getattr(error, "description", "")
    return f"{told} ({description})" if description and description not in told else told
