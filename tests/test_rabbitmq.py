"""RabbitMQ: what the adapter promises, on a node of its own that is filled, starved, stopped and crashed."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import aio_pika
import pytest

from ensue.brokers import Incoming, Outgoing, Refused, broker_at
from ensue.brokers.rabbitmq import RabbitMQ
from ensue.contracts.cloudevents import parse
from ensue.errors import BrokerRefused, BrokerUnavailable, DeclarationError
from tests.broker_servers import Certificates
from tests.broker_suite import SECRET, Ability, Behaviour, Own, Wanted, behaviours
from tests.own_rabbitmq import OwnRabbitMQ, permission, user

LARGEST = 1_000_000
KEPT = "ensue-kept"
"""An exchange that keeps what nobody reads: it has an alternate one."""

ABILITIES = (
    Ability.READS
    | Ability.GROUPS
    | Ability.MERGES
    | Ability.DURABLE
    | Ability.REMEMBERS
    | Ability.LARGEST
    | Ability.FILLS
    | Ability.PASSWORD
    | Ability.TLS
    | Ability.RESTARTS
    | Ability.PROXIED
)

_REST = {"name": f"{KEPT}-rest", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}
DEFINITIONS = {
    "vhosts": [{"name": "/"}],
    "users": [user("tests", "tests"), user("ensue", SECRET)],
    "permissions": [permission("tests"), permission("ensue")],
    "policies": [
        {
            "vhost": "/",
            "name": KEPT,
            "pattern": f"^{KEPT}$",
            "apply-to": "exchanges",
            "priority": 0,
            "definition": {"alternate-exchange": f"{KEPT}-rest"},
        }
    ],
    "exchanges": [{**_REST, "type": "fanout", "internal": False}],
    "queues": [_REST],
    "bindings": [
        {
            "source": f"{KEPT}-rest",
            "vhost": "/",
            "destination": f"{KEPT}-rest",
            "destination_type": "queue",
            "routing_key": "",
            "arguments": {},
        }
    ],
}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("rabbitmq"))


@pytest.fixture(scope="session")
def node(certificates: Certificates) -> Iterator[OwnRabbitMQ]:
    with OwnRabbitMQ(f"max_message_size = {LARGEST}", (certificates.chain, certificates.key), DEFINITIONS) as server:
        yield server


class Lent:
    """The node, handed out as a test's own: it is started again if the test has ended it."""

    def __init__(self, node: OwnRabbitMQ, wanted: Wanted, certificates: Certificates) -> None:
        self._node = node
        self._wanted = wanted
        self._ended = False
        self._limited = False
        if wanted.proxy is not None:
            wanted.proxy.target = node.port
        who = f"ensue:{quote(SECRET, safe='')}" if wanted.password else "tests:tests"
        port = wanted.proxy.port if wanted.proxy else node.tls_port if wanted.tls else node.port
        scheme, more = ("amqps", f"&ca={certificates.ca}") if wanted.tls else ("amqp", "")
        self.url = f"{scheme}://{who}@127.0.0.1:{port}/?timeout=5&exchange={KEPT}{more}"

    async def __aenter__(self) -> Self:
        if self._wanted.room:
            await self._limit(self._wanted.room)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ended:
            await self.start()
        await self.make_room()

    async def stop(self) -> None:
        self._ended = True
        await asyncio.to_thread(self._node.stop)

    async def kill(self) -> None:
        self._ended = True
        await asyncio.to_thread(self._node.crash)

    async def start(self) -> None:
        await asyncio.to_thread(self._node.start)
        self._ended = False

    async def make_room(self) -> None:
        if self._limited:
            await asyncio.to_thread(self._node.ctl, "clear_policy", "full")
            self._limited = False

    async def _limit(self, room: int) -> None:
        limits = f'{{"max-length-bytes":{room},"overflow":"reject-publish"}}'
        await asyncio.to_thread(self._node.ctl, "set_policy", "--apply-to", "queues", "full", f"^{KEPT}-rest$", limits)
        self._limited = True


class Site:
    """RabbitMQ, as the suite meets it."""

    abilities = ABILITIES

    def __init__(self, node: OwnRabbitMQ, certificates: Certificates) -> None:
        self._node = node
        self._certificates = certificates
        self.url = f"{node.url}?exchange={KEPT}&timeout=10"

    def own(self, wanted: Wanted) -> AbstractAsyncContextManager[Own]:
        return Lent(self._node, wanted, self._certificates)

    async def forget(self, url: str, topics: Sequence[str], groups: Sequence[str]) -> None:
        connection = await aio_pika.connect(self._node.url)
        async with connection, connection.channel() as channel:
            for group in groups:
                await channel.queue_delete(group)


def _marked(behaviour: Behaviour) -> Any:
    """Mark what starts the node many times, which takes it some seconds each."""
    slow = str(behaviour) == "order_by_key_survives_any_number_of_outages"
    return pytest.param(behaviour, marks=[pytest.mark.slow, pytest.mark.timeout(240)] if slow else [])


@pytest.mark.parametrize("behaviour", [_marked(each) for each in behaviours(ABILITIES)], ids=str)
async def test_rabbitmq(behaviour: Behaviour, node: OwnRabbitMQ, certificates: Certificates) -> None:
    await behaviour.check(Site(node, certificates))


@dataclass
class Place:
    """A broker with names of its own, and all that was opened on it."""

    url: str
    name: str = field(default_factory=lambda: f"t_{secrets.token_hex(5)}")
    opened: list[Any] = field(default_factory=list[Any])

    def broker(self, **options: object) -> RabbitMQ:
        chosen = {"exchange": self.name, "timeout": 10, **options}
        query = "&".join(f"{name}={value}" for name, value in chosen.items())
        broker = broker_at(f"{self.url}?{query}")
        assert isinstance(broker, RabbitMQ)
        return broker

    async def publisher(self, **options: object) -> Any:
        publisher = self.broker(**options).publisher()
        self.opened.append(publisher)
        await publisher.open(["orders"])
        return publisher

    async def consumer(self, *topics: str, **options: object) -> Any:
        consumer = self.broker(**options).consumer(topics or ("orders",), self.name)
        self.opened.append(consumer)
        await consumer.open()
        return consumer


@pytest.fixture
async def place(node: OwnRabbitMQ) -> AsyncIterator[Place]:
    place = Place(node.url)
    yield place
    for opened in place.opened:
        await opened.close()


def message(number: int, topic: str = "orders", body: bytes = b"{}", **headers: str) -> Outgoing:
    id = f"id-{number}"
    return Outgoing(topic, f"key-{number}", id, "application/json", {"cloudEvents_id": id, **headers}, body)


def ids(messages: Sequence[Incoming]) -> list[int]:
    found = [dict(message.headers)["cloudEvents_id"] for message in messages]
    return [int(id.removeprefix("id-")) for id in found]


async def fetch(consumer: Any, count: int, within: float = 10) -> list[Incoming]:
    found: list[Incoming] = []
    async with asyncio.timeout(within):
        while len(found) < count:
            found += await consumer.fetch(count - len(found), 1)
    return found


# --- the address


@pytest.mark.parametrize(
    "url, what",
    [
        ("amqp://localhost/?queue_type=stream", "quorum or classic"),
        ("amqp://localhost/?prefetch=0", "1 to 65535"),
        ("amqp://localhost/?exchange=", "needs a name"),
        ("amqp://localhost/?colour=red", "unknown option colour"),
    ],
)
def test_an_option_that_cannot_be_is_refused(url: str, what: str) -> None:
    with pytest.raises(DeclarationError, match=what):
        broker_at(url)


# --- out


async def test_what_is_published_is_persistent_and_has_its_id(place: Place) -> None:
    consumer = await place.consumer()
    await consumer.close()
    publisher = await place.publisher()
    assert await publisher.publish([message(1, body=b'{"a":1}', cloudEvents_type="Paid")]) == [None]
    connection = await aio_pika.connect(place.url)
    async with connection, connection.channel() as channel:
        queue = await channel.get_queue(place.name)
        async with queue.iterator() as delivered:
            found = await anext(delivered)
        assert (found.message_id, found.content_type, found.routing_key) == ("id-1", "application/json", "orders")
        assert found.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        assert found.headers == {"cloudEvents_id": "id-1", "cloudEvents_type": "Paid"}
        assert found.body == b'{"a":1}'


async def test_a_message_for_nobody_is_refused_and_others_are_taken(place: Place) -> None:
    publisher = await place.publisher()
    alone = await publisher.publish([message(0)])
    assert isinstance(alone[0], Refused)
    assert "no queue is bound to 'orders'" in alone[0].reason
    assert not alone[0].permanent, "somebody may bind one"
    consumer = await place.consumer()
    first, second, third = await publisher.publish([message(1), message(2, "nobody"), message(3)])
    assert (first, third) == (None, None)
    assert isinstance(second, Refused)
    assert ids(await fetch(consumer, 2)) == [1, 3]


async def test_a_message_that_is_too_large_is_refused_for_good_and_others_are_taken(place: Place) -> None:
    consumer = await place.consumer()
    publisher = await place.publisher()
    for _ in range(2):  # the first time RabbitMQ closes the channel; then it is known how much it takes
        results = await publisher.publish([message(1), message(2, body=b"x" * (LARGEST + 1)), message(3)])
        assert results[0] is None is results[2]
        assert results[1] == Refused(f"its body has {LARGEST + 1} bytes; the broker takes {LARGEST}", permanent=True)
    assert set(ids(await fetch(consumer, 4))) == {1, 3}


async def test_what_the_protocol_has_no_room_for_is_refused_for_good(place: Place) -> None:
    await place.consumer()
    publisher = await place.publisher()
    results = await publisher.publish(
        [message(1, "o" * 256), message(2, cloudEvents_more="x" * 140_000), message(3), message(4, "ö" * 128)]
    )
    assert results[2] is None
    for number, why in ((0, "topic is longer"), (1, "headers have"), (3, "topic is longer")):
        assert isinstance(results[number], Refused)
        assert results[number].permanent
        assert why in results[number].reason


async def test_a_full_queue_refuses_for_now(place: Place) -> None:
    publisher = await place.publisher()
    connection = await aio_pika.connect(place.url)
    async with connection, connection.channel() as channel:
        limits: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = await channel.declare_queue(f"{place.name}.full", durable=True, arguments=limits)
        await queue.bind(place.name, "orders")
        results = [(await publisher.publish([message(number)]))[0] for number in range(4)]
        assert results[0] is None
        assert isinstance(results[-1], Refused)
        assert "full" in results[-1].reason
        assert not results[-1].permanent


async def test_a_broker_short_of_memory_takes_nothing_and_then_goes_on(place: Place, node: OwnRabbitMQ) -> None:
    consumer = await place.consumer()
    publisher = await place.publisher(timeout=1)
    assert await publisher.publish([message(1)]) == [None]
    node.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        began = asyncio.get_running_loop().time()
        blocked = [(await publisher.publish([message(2)]))[0] for _ in range(2)]
        assert asyncio.get_running_loop().time() - began < 4
        assert all(isinstance(result, Refused) and not result.permanent for result in blocked)
        assert "short of memory or disk" in blocked[1].reason
        await asyncio.wait_for((await place.publisher(timeout=1)).close(), 5)
    finally:
        node.ctl("set_vm_memory_high_watermark", "0.4")
    assert await publisher.publish([message(3)]) == [None]
    found: list[int] = []
    async with asyncio.timeout(10):
        while 3 not in found:
            found += ids(await consumer.fetch(10, 1))
    assert list(dict.fromkeys(found)) == [1, 2, 3], "what was refused may have been taken all the same"


async def test_a_publisher_whose_exchange_is_deleted_makes_it_again(place: Place) -> None:
    publisher = await place.publisher()
    connection = await aio_pika.connect(place.url)
    async with connection, connection.channel() as channel:
        await channel.exchange_delete(place.name)
    with pytest.raises(BrokerUnavailable, match="NOT_FOUND"):
        await publisher.publish([message(1)])
    await place.consumer()
    assert await publisher.publish([message(1)]) == [None]


async def test_a_cancelled_publish_leaves_the_publisher_as_it_was(place: Place) -> None:
    consumer = await place.consumer()
    publisher = await place.publisher()
    task = asyncio.create_task(publisher.publish([message(number) for number in range(500)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await publisher.publish([message(1000)]) == [None]
    found: list[int] = []
    async with asyncio.timeout(10):
        while 1000 not in found:
            found += ids(await consumer.fetch(1000, 1))
    assert found == sorted(found)


# --- somebody has to mend something


async def test_wrong_credentials_are_refused_and_not_shown(place: Place, node: OwnRabbitMQ) -> None:
    broker = broker_at(f"amqp://tests:sesame@127.0.0.1:{node.port}/")
    with pytest.raises(BrokerRefused, match="ACCESS_REFUSED") as told:
        await broker.publisher().open([])
    assert "sesame" not in str(told.value)
    with pytest.raises(BrokerRefused):
        await broker.consumer(["orders"], "g").open()


async def test_a_virtual_host_that_does_not_exist_is_refused(node: OwnRabbitMQ) -> None:
    broker = broker_at(f"amqp://tests:tests@127.0.0.1:{node.port}/nowhere?timeout=5")
    with pytest.raises(BrokerRefused, match="nowhere"):
        await broker.publisher().open([])


async def test_the_path_is_the_virtual_host(place: Place, node: OwnRabbitMQ) -> None:
    node.ctl("add_vhost", f"{place.name}/here")
    node.ctl("set_permissions", "-p", f"{place.name}/here", "tests", ".*", ".*", ".*")
    other = Place(f"{place.url}{place.name}%2Fhere")
    try:
        publisher = await other.publisher()
        consumer = await other.consumer()
        assert await publisher.publish([message(1)]) == [None]
        assert ids(await fetch(consumer, 1)) == [1]
    finally:
        for opened in other.opened:
            await opened.close()
        node.ctl("delete_vhost", f"{place.name}/here")


async def test_what_is_there_and_does_not_fit_is_refused_with_the_difference(place: Place) -> None:
    connection = await aio_pika.connect(place.url)
    async with connection, connection.channel() as channel:
        await channel.declare_exchange(place.name, aio_pika.ExchangeType.FANOUT, durable=True)
        with pytest.raises(BrokerRefused, match=r"inequivalent arg 'type'.*received 'topic' but current is 'fanout'"):
            await place.publisher()
        await channel.exchange_delete(place.name)
    await (await place.consumer(queue_type="classic")).close()
    with pytest.raises(BrokerRefused, match=r"inequivalent arg 'x-queue-type'.*'quorum' but current is 'classic'"):
        await place.consumer()


async def test_a_user_who_may_declare_nothing_uses_what_is_there(place: Place, node: OwnRabbitMQ) -> None:
    node.ctl("add_user", place.name, "word")
    node.ctl("set_permissions", place.name, "^$", f"^{place.name}.*", f"^{place.name}.*")
    humble = Place(f"amqp://{place.name}:word@127.0.0.1:{node.port}/", place.name, place.opened)
    with pytest.raises(BrokerRefused, match="ACCESS_REFUSED"):
        await humble.publisher()
    await (await place.consumer()).close()
    publisher, consumer = await humble.publisher(), await humble.consumer()
    assert await publisher.publish([message(1)]) == [None]
    assert ids(await fetch(consumer, 1)) == [1]
    node.ctl("set_permissions", place.name, "^$", "^$", ".*")
    connected = Place(f"amqp://{place.name}:word@127.0.0.1:{node.port}/", place.name, place.opened)
    with pytest.raises(BrokerRefused, match="ACCESS_REFUSED"):
        await (await connected.publisher()).publish([message(2)])


# --- in


async def test_a_second_consumer_waits_and_takes_over_in_order(place: Place) -> None:
    publisher = await place.publisher()
    first, second = await place.consumer(), await place.consumer()
    for start in range(0, 600, 100):
        assert not any(await publisher.publish([message(number) for number in range(start, start + 100)]))
    found = await fetch(first, 300)
    assert await second.fetch(10, 0.05) == []
    await first.acknowledge(found[:120])
    await first.close()
    assert ids(await fetch(second, 480)) == list(range(120, 600))


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_what_is_not_acknowledged_comes_again_in_order(place: Place, queue_type: str) -> None:
    publisher = await place.publisher()
    consumer = await place.consumer(queue_type=queue_type)
    assert not any(await publisher.publish([message(number) for number in range(400)]))
    for done in (0, 50, 100):
        found = await fetch(consumer, 200)
        assert ids(found) == list(range(done, done + 200))
        await consumer.acknowledge(found[:50])
        await consumer.close()
        await consumer.open()


async def test_what_is_released_comes_first_and_with_all_after_it(place: Place) -> None:
    publisher, consumer = await place.publisher(), await place.consumer()
    assert not any(await publisher.publish([message(number) for number in range(10)]))
    found = await fetch(consumer, 8)
    await consumer.acknowledge(found[:2])
    await consumer.release(found[4:5])
    assert ids(await fetch(consumer, 6)) == [4, 5, 6, 7, 8, 9]
    await consumer.acknowledge(found[2:4])


async def test_acknowledging_with_a_gap_leaves_what_is_in_the_gap(place: Place) -> None:
    publisher, consumer = await place.publisher(), await place.consumer()
    assert not any(await publisher.publish([message(number) for number in range(6)]))
    found = await fetch(consumer, 6)
    await consumer.acknowledge([found[0], found[1], found[4]])
    await consumer.close()
    await consumer.open()
    assert ids(await fetch(consumer, 3)) == [2, 3, 5]


async def test_no_more_than_the_prefetch_is_in_hand(place: Place) -> None:
    publisher, consumer = await place.publisher(), await place.consumer(prefetch=5)
    assert not any(await publisher.publish([message(number) for number in range(8)]))
    found = await fetch(consumer, 5)
    assert await consumer.fetch(5, 0.05) == []
    await consumer.acknowledge(found)
    assert ids(await fetch(consumer, 3)) == [5, 6, 7]


async def test_a_consumer_whose_queue_is_deleted_says_so_and_makes_it_again(place: Place) -> None:
    publisher, consumer = await place.publisher(), await place.consumer()
    connection = await aio_pika.connect(place.url)
    async with connection, connection.channel() as channel:
        await channel.queue_delete(place.name)
    with pytest.raises(BrokerUnavailable, match="the queue was deleted"):
        await fetch(consumer, 1)
    await consumer.open()
    assert await publisher.publish([message(1)]) == [None]
    assert ids(await fetch(consumer, 1)) == [1]


async def test_events_that_others_publish_are_read(place: Place) -> None:
    consumer = await place.consumer()
    connection = await aio_pika.connect(place.url)
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange(place.name)
        headers: Any = {"cloudEvents:specversion": "1.0", "cloudEvents:id": "7", "cloudEvents:source": "/shop"}
        headers["cloudEvents:type"] = "Paid"
        await exchange.publish(aio_pika.Message(b'{"a":1}', headers=headers, content_type="application/json"), "orders")
    (found,) = await fetch(consumer, 1)
    event = parse(found.headers, found.body, content_type=found.content_type, binding=RabbitMQ.binding)
    assert (event.id, event.type, event.data, event.datacontenttype) == ("7", "Paid", b'{"a":1}', "application/json")


# --- outages


async def test_a_connection_that_is_broken_off_comes_back(place: Place, node: OwnRabbitMQ) -> None:
    publisher, consumer = await place.publisher(), await place.consumer()
    assert not any(await publisher.publish([message(number) for number in range(4)]))
    found = await fetch(consumer, 4)
    await consumer.acknowledge(found[:2])
    node.ctl("close_all_connections", "test")
    with pytest.raises(BrokerUnavailable, match=r"test|gone|closed"):
        await fetch(consumer, 1)
    await consumer.acknowledge(found[2:])  # too late, and no error
    assert ids(await fetch(consumer, 2)) == [2, 3]
    async with asyncio.timeout(10):
        while True:
            try:
                assert await publisher.publish([message(5)]) == [None]
                break
            except BrokerUnavailable:
                pass


async def test_a_broker_that_does_not_answer_is_waited_for_no_longer_than_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        broker = broker_at(f"amqp://127.0.0.1:{silent.getsockname()[1]}/?timeout=0.3")
        began = asyncio.get_running_loop().time()
        with pytest.raises(BrokerUnavailable, match=r"0\.3 s"):
            await broker.publisher().publish([message(1)])
        with pytest.raises(BrokerUnavailable, match=r"0\.3 s"):
            await broker.consumer(["orders"], "g").fetch(1, 0.1)
        assert asyncio.get_running_loop().time() - began < 3


async def test_the_first_server_that_answers_is_used(place: Place) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{closed.getsockname()[1]},{urlsplit(place.url).netloc.rpartition('@')[2]}"
        await Place(f"amqp://tests:tests@{servers}/", place.name, place.opened).publisher()


def test_certificates_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    broker = broker_at(f"amqps://localhost/?ca={tmp_path / 'none.pem'}")
    with pytest.raises(DeclarationError, match="cannot be read"):
        asyncio.run(broker.publisher().open([]))
