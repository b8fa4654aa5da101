"""Kafka: the suite on a server that speaks its protocol, and errors of brokers from librdkafka's mock cluster.

With ENSUE_TEST_KAFKA=host:port everything that needs no errors on demand runs on a real cluster.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from ensue.brokers import Incoming, Outgoing, Refused, broker_at
from ensue.brokers.kafka import Kafka
from ensue.brokers.kafka.partitioning import partition_of
from ensue.contracts.cloudevents import parse
from ensue.errors import BrokerRefused, BrokerUnavailable, DeclarationError
from tests.broker_suite import Ability, Behaviour, Own, Wanted, behaviours
from tests.mock_kafka import DISCONNECT, JOIN_GROUP, OFFSET_COMMIT, PRODUCE, MockKafka
from tests.own_kafka import OwnKafka, shared_kafka

ABILITIES = (
    Ability.READS
    | Ability.KEEPS
    | Ability.GROUPS
    | Ability.KEYS
    | Ability.PASSWORD
    | Ability.TLS
    | Ability.RESTARTS
    | Ability.RECONNECTS
    | Ability.PROXIED
)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with shared_kafka() as where:
        yield where


@pytest.fixture(scope="session")
def mock() -> Iterator[MockKafka]:
    with MockKafka(3) as cluster:
        yield cluster


class Site:
    """Kafka, as the suite meets it."""

    abilities = ABILITIES

    def __init__(self, server: str) -> None:
        self.server = server
        self.url = f"kafka://{server}?timeout=10&partitions=4"

    def own(self, wanted: Wanted) -> AbstractAsyncContextManager[Own]:
        return OwnKafka(wanted)

    async def forget(self, url: str, topics: Sequence[str], groups: Sequence[str]) -> None:
        """Remove topics from a real cluster; the wheel's server ends with the tests."""
        if "ENSUE_TEST_KAFKA" not in os.environ:
            return
        client = AIOKafkaAdminClient(bootstrap_servers=self.server)
        await client.start()
        try:
            there = set(await client.list_topics())
            if mine := [topic for topic in topics if topic in there]:
                await client.delete_topics(mine)
            await client.delete_consumer_groups(list(groups))
        finally:
            await client.close()


@pytest.mark.parametrize("behaviour", behaviours(ABILITIES), ids=str)
async def test_kafka(behaviour: Behaviour, server: str) -> None:
    await behaviour.check(Site(server))


# --- Kafka's own


def message(number: int, topic: str, key: str | None = None, body: bytes = b"{}") -> Outgoing:
    id = f"id-{number}"
    return Outgoing(topic, key or f"key-{number}", id, "application/json", {"ce_id": id}, body)


def ids(messages: Sequence[Incoming]) -> list[int]:
    return [int(dict(message.headers)["ce_id"].decode().removeprefix("id-")) for message in messages]


async def fetch(consumer: Any, count: int, within: float = 15) -> list[Incoming]:
    found: list[Incoming] = []
    async with asyncio.timeout(within):
        while len(found) < count:
            found += await consumer.fetch(count - len(found), 1)
    return found


@pytest.fixture
def topic() -> str:
    return f"t_{secrets.token_hex(5)}"


@pytest.fixture
async def opened() -> AsyncIterator[list[Any]]:
    """Close what a test puts here."""
    opened: list[Any] = []
    yield opened
    for each in reversed(opened):
        await each.close()


@pytest.mark.parametrize(
    "url, what",
    [
        ("kafka://h?compression=rar", "one of none, gzip"),
        ("kafka://u:p@h?sasl=GSSAPI", "one of PLAIN, SCRAM"),
        ("kafka://h?sasl=PLAIN", "needs a user"),
        ("kafka://h?partitions=0", "a number from 1 on"),
        ("kafka://h?start=yesterday", "earliest, latest"),
        ("kafka://h/topic", "has no path"),
        ("kafka://h?colour=red", "unknown option colour"),
    ],
)
def test_an_option_that_cannot_be_is_refused(url: str, what: str) -> None:
    with pytest.raises(DeclarationError, match=what):
        broker_at(url)


@given(st.binary(max_size=80), st.integers(1, 64))
def test_a_key_goes_to_the_partition_that_other_clients_choose(key: bytes, partitions: int) -> None:
    numbers = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, numbers, numbers)


async def test_what_is_published_is_what_other_clients_expect(server: str, topic: str, opened: list[Any]) -> None:
    publisher = broker_at(f"kafka://{server}?partitions=5&compression=gzip").publisher()
    opened.append(publisher)
    await publisher.open([topic])
    assert await publisher.publish([message(number, topic) for number in range(50)]) == [None] * 50
    producer = AIOKafkaProducer(bootstrap_servers=server)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=server, auto_offset_reset="earliest")
    await producer.start()
    await consumer.start()
    try:
        assert consumer.partitions_for_topic(topic) == set(range(5))
        sent = {}
        for number in range(50):
            key = f"key-{number}".encode()
            sent[key] = (await producer.send_and_wait(topic, b"theirs", key=key)).partition
        found = [await consumer.getone() for _ in range(100)]
        assert all(record.partition == sent[record.key] for record in found), "the same key, another partition"
        ours = next(record for record in found if record.key == b"key-7" and record.value == b"{}")
        assert ours.headers == (("ce_id", b"id-7"),)
    finally:
        await consumer.stop()
        await producer.stop()


async def test_events_that_others_publish_are_read(server: str, topic: str, opened: list[Any]) -> None:
    consumer = broker_at(f"kafka://{server}").consumer([topic], topic)
    opened.append(consumer)
    await consumer.open()
    producer = AIOKafkaProducer(bootstrap_servers=server)
    await producer.start()
    try:
        attributes = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "Paid"}
        headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
        await producer.send_and_wait(topic, b'{"a":1}', headers=[*headers, ("content-type", b"application/json")])
    finally:
        await producer.stop()
    (found,) = await fetch(consumer, 1)
    assert found.key is None
    event = parse(found.headers, found.body, content_type=found.content_type, binding=Kafka.binding)
    assert (event.id, event.type, event.data, event.datacontenttype) == ("7", "Paid", b'{"a":1}', "application/json")


async def test_one_that_is_too_large_is_refused_for_good_and_others_are_taken(
    server: str, topic: str, opened: list[Any]
) -> None:
    broker = broker_at(f"kafka://{server}?partitions=1")
    publisher, consumer = broker.publisher(), broker.consumer([topic], topic)
    opened += [publisher, consumer]
    await consumer.open()
    outcomes = await publisher.publish(
        [message(0, topic), message(1, topic, body=b"x" * 2_000_000), message(2, topic), message(3, topic)]
    )
    assert [outcome is None for outcome in outcomes] == [True, False, True, True]
    assert isinstance(outcomes[1], Refused)
    assert outcomes[1].permanent
    assert ids(await fetch(consumer, 3)) == [0, 2, 3]
    assert await publisher.publish([message(4, topic)]) == [None]


async def test_a_group_divides_the_partitions_and_loses_nothing_when_it_grows(
    server: str, topic: str, opened: list[Any]
) -> None:
    """A second member comes while the first has messages in hand that it has not acknowledged."""
    broker = broker_at(f"kafka://{server}?partitions=4&timeout=20")
    publisher, first, second = broker.publisher(), broker.consumer([topic], topic), broker.consumer([topic], topic)
    opened += [publisher, first, second]
    await first.open()
    sent = [message(number, topic, f"key-{number % 20}") for number in range(400)]

    async def publish(numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, 20):
            assert await publisher.publish(sent[start : start + 20]) == [None] * 20

    await publish(range(200))
    in_hand = await fetch(first, 100)
    await first.acknowledge(in_hand[:50])
    joining = asyncio.create_task(second.open())
    found = {"first": list(in_hand), "second": list[Incoming]()}
    while not joining.done():
        found["first"] += await first.fetch(1, 0.1)
    await joining
    await publish(range(200, 400))
    await first.acknowledge(in_hand[50:])  # of some of these another member has the partition by now
    async with asyncio.timeout(20):
        while {id for each in found.values() for id in ids(each)} != set(range(400)):
            for name, consumer in (("first", first), ("second", second)):
                came = await consumer.fetch(50, 0.1)
                found[name] += came
                await consumer.acknowledge(came)
    assert found["second"], "it has partitions of its own"
    for each in found.values():
        assert len(ids(each)) == len(set(ids(each))), "one consumer never returns a message twice"
        for key in {message.key for message in each}:
            of_key = [number for number in ids(each) if f"key-{number % 20}" == key]
            assert of_key == sorted(of_key)


async def test_what_is_done_with_a_gap_is_committed_up_to_the_gap(server: str, topic: str, opened: list[Any]) -> None:
    broker = broker_at(f"kafka://{server}?partitions=1")
    publisher, consumer = broker.publisher(), broker.consumer([topic], topic)
    opened += [publisher, consumer]
    await consumer.open()
    assert await publisher.publish([message(number, topic) for number in range(6)]) == [None] * 6
    found = await fetch(consumer, 6)
    await consumer.acknowledge([found[0], found[1], found[4]])
    await consumer.close()
    await consumer.open()
    again = await fetch(consumer, 4)
    assert ids(again) == [2, 3, 4, 5]
    await consumer.acknowledge(again[1:])
    await consumer.acknowledge(again[:1])
    await consumer.close()
    await consumer.open()
    assert await consumer.fetch(10, 0.3) == []


# --- errors of brokers


@pytest.fixture
async def publisher(mock: MockKafka, topic: str, opened: list[Any]) -> Any:
    mock.topic(topic, 1, 3)
    publisher = broker_at(f"kafka://{mock.servers}?timeout=2").publisher()
    opened.append(publisher)
    await publisher.open([topic])
    yield publisher
    mock.fail_no_more(PRODUCE)


async def everything(mock: MockKafka, topic: str) -> list[int]:
    """Read all that is in a topic of one partition, with a bare client."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=mock.servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        (partition,) = consumer.assignment()
        end = (await consumer.end_offsets([partition]))[partition]
        records = [await consumer.getone() for _ in range(end)]
        return [int(dict(record.headers)["ce_id"].decode().removeprefix("id-")) for record in records]
    finally:
        await consumer.stop()


NOT_LEADER, TIMED_OUT, TOO_LARGE, TOO_FEW_REPLICAS, FORBIDDEN, OUT_OF_ORDER, UNKNOWN_PRODUCER = 6, 7, 10, 19, 29, 45, 59


@pytest.mark.parametrize("code", [NOT_LEADER, TIMED_OUT, TOO_FEW_REPLICAS, DISCONNECT])
async def test_what_passes_is_tried_again_and_is_there_once(
    mock: MockKafka, topic: str, publisher: Any, code: int
) -> None:
    mock.fail(PRODUCE, code, code)
    assert await publisher.publish([message(number, topic) for number in range(3)]) == [None] * 3
    assert await everything(mock, topic) == [0, 1, 2]


async def test_too_few_replicas_for_too_long_refuse_for_now(mock: MockKafka, topic: str, publisher: Any) -> None:
    mock.fail(PRODUCE, *[TOO_FEW_REPLICAS] * 200)
    began = asyncio.get_running_loop().time()
    (outcome,) = await publisher.publish([message(1, topic)])
    assert asyncio.get_running_loop().time() - began < 3
    assert isinstance(outcome, Refused)
    assert not outcome.permanent
    assert "not enough replicas" in outcome.reason
    mock.fail_no_more(PRODUCE)
    assert await publisher.publish([message(1, topic)]) == [None]
    assert await everything(mock, topic) == [1], "what was refused is not sent behind the caller's back"


async def test_too_large_together_is_tried_one_by_one(mock: MockKafka, topic: str, publisher: Any) -> None:
    mock.fail(PRODUCE, TOO_LARGE, 0, TOO_LARGE)
    first, second, third = await publisher.publish([message(number, topic) for number in range(3)])
    assert (first, third) == (None, None)
    assert isinstance(second, Refused)
    assert second.permanent
    assert await everything(mock, topic) == [0, 2]


async def test_a_topic_that_is_forbidden_is_refused(mock: MockKafka, topic: str, publisher: Any) -> None:
    mock.fail(PRODUCE, FORBIDDEN)
    with pytest.raises(BrokerRefused, match="TopicAuthorizationFailed"):
        await publisher.publish([message(1, topic)])
    assert await publisher.publish([message(1, topic)]) == [None]


@pytest.mark.parametrize("code", [OUT_OF_ORDER, UNKNOWN_PRODUCER])
async def test_a_producer_that_is_not_known_any_more_is_replaced(
    mock: MockKafka, topic: str, publisher: Any, code: int
) -> None:
    mock.fail(PRODUCE, code)
    with pytest.raises(BrokerUnavailable):
        await publisher.publish([message(1, topic), message(2, topic)])
    assert await publisher.publish([message(1, topic), message(2, topic)]) == [None, None]
    assert await everything(mock, topic) == [1, 2]


async def test_a_group_that_is_forbidden_is_refused(mock: MockKafka, topic: str, opened: list[Any]) -> None:
    mock.topic(topic, 1, 1)
    consumer = broker_at(f"kafka://{mock.servers}?timeout=5").consumer([topic], topic)
    opened.append(consumer)
    mock.fail(JOIN_GROUP, 30)
    with pytest.raises(BrokerRefused, match="GroupAuthorizationFailed"):
        await consumer.open()


async def test_a_commit_that_fails_is_made_up_for(mock: MockKafka, topic: str, opened: list[Any]) -> None:
    mock.topic(topic, 1, 1)
    broker = broker_at(f"kafka://{mock.servers}?timeout=10")
    publisher, consumer = broker.publisher(), broker.consumer([topic], topic)
    opened += [publisher, consumer]
    assert await publisher.publish([message(1, topic)]) == [None]
    await consumer.open()
    found = await fetch(consumer, 1)
    mock.fail(OFFSET_COMMIT, *[14] * 1000)  # the coordinator is loading
    acknowledging = asyncio.create_task(consumer.acknowledge(found))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(acknowledging, 0.3)
    mock.fail_no_more(OFFSET_COMMIT)
    assert await consumer.fetch(1, 0.2) == []
    bare = AIOKafkaConsumer(bootstrap_servers=mock.servers, group_id=topic)
    await bare.start()
    try:
        assert await bare.committed(TopicPartition(topic, 0)) == 1
    finally:
        await bare.stop()


async def test_a_consumer_says_when_no_broker_is_left(
    topic: str, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensue.brokers.kafka.consuming._PROOF_EVERY", 0.2)
    async with OwnKafka() as server:
        consumer = broker_at(server.url).consumer([topic], topic)
        opened.append(consumer)
        await consumer.open()
        await server.kill()
        with pytest.raises(BrokerUnavailable):
            async with asyncio.timeout(10):
                while True:
                    await consumer.fetch(1, 0.1)
        await server.start()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await consumer.fetch(1, 0.1) == []
                    break
                except BrokerUnavailable:
                    await asyncio.sleep(0.02)


async def test_nobody_there_is_unavailable_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        broker = broker_at(f"kafka://127.0.0.1:{closed.getsockname()[1]}")
        began = asyncio.get_running_loop().time()
        for opening in (broker.publisher().open(["t"]), broker.consumer(["t"], "g").open()):
            with pytest.raises(BrokerUnavailable):
                await opening
        assert asyncio.get_running_loop().time() - began < 3
