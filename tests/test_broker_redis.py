"""Redis Streams: the suite, and what only Redis has."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis import exceptions
from redis.asyncio import Redis as PlainRedis

from ensue.brokers import Address, broker_at
from ensue.brokers.redis.consuming import before
from ensue.brokers.redis.link import Link
from ensue.brokers.redis.settings import Settings
from ensue.errors import BrokerRefused, BrokerUnavailable, DeclarationError
from tests.broker_servers import OwnRedis, shared_redis
from tests.broker_suite import Ability, Behaviour, Case, Own, Wanted, behaviours
from tests.broker_suite.case import fetched, published, with_options, with_password

ABILITIES = ~Ability.DEDUPLICATES


class RedisSite:
    """Streams of a case's own on the shared server; every server of a test's own is from the wheel."""

    abilities = ABILITIES

    def __init__(self, where: str) -> None:
        self.url = f"redis://{where}/0?timeout=10"

    @asynccontextmanager
    async def own(self, wanted: Wanted) -> AsyncGenerator[Own]:
        async with OwnRedis(wanted) as server:
            yield server

    async def forget(self, url: str, topics: Sequence[str], groups: Sequence[str]) -> None:
        async with plain(url) as client:
            await client.delete(*topics)


@pytest.fixture(scope="module")
def site() -> Iterator[RedisSite]:
    with shared_redis() as where:
        yield RedisSite(where)


@pytest.fixture
async def case(site: RedisSite) -> AsyncGenerator[Case]:
    case = Case(site)
    yield case
    await site.forget(case.url, case.topics, case.groups)


@pytest.mark.parametrize("behaviour", behaviours(ABILITIES), ids=str)
async def test_redis(behaviour: Behaviour, site: RedisSite) -> None:
    await behaviour.check(site)


# ------------------------------------------------------------------------------------------------ the server


@asynccontextmanager
async def plain(url: str) -> AsyncGenerator[Any]:
    """Connect as a plain user of redis-py."""
    client = PlainRedis.from_url(url.partition("?")[0])
    try:
        yield client
    finally:
        await client.aclose()


async def test_replicas_have_to_have_it(case: Case) -> None:
    async with OwnRedis(Wanted(), "--repl-diskless-sync-delay", "0") as master:
        url = with_options(master.url, replicas=1, timeout=1)
        async with case.publisher(url) as publisher:
            (refused,) = await publisher.publish(case.messages(range(1)))
            assert refused is not None
            assert not refused.permanent
            assert refused.reason == "0 replicas have it, and 1 have to"
            async with OwnRedis(Wanted(), "--replicaof", "127.0.0.1", str(master.port)):
                await published(publisher, case.messages(range(1)))
                assert await publisher.publish(case.messages(range(1, 100))) == [None] * 99


async def test_a_replica_takes_nothing(case: Case) -> None:
    async with (
        OwnRedis() as master,
        OwnRedis() as other,
        case.publisher(other.url) as publisher,
        plain(other.url) as client,
    ):
        await published(publisher, case.messages(range(1)))
        await client.replicaof("127.0.0.1", master.port)
        (refused,) = await publisher.publish(case.messages(range(1, 2)))
        assert refused is not None
        assert not refused.permanent
        with pytest.raises(BrokerUnavailable, match="is a replica"):
            await case.broker(other.url).publisher().open([case.topic])
        await client.replicaof("no", "one")
        await published(publisher, case.messages(range(1, 2)))


async def test_a_cluster_is_refused(case: Case) -> None:
    async with OwnRedis(Wanted(), "--cluster-enabled", "yes") as server:
        with pytest.raises(BrokerRefused, match="cluster"):
            await case.broker(server.url).publisher().open([case.topic])


async def test_what_is_not_permitted_is_said(case: Case) -> None:
    async with OwnRedis() as server, plain(server.url) as client:
        await client.acl_setuser("reader", enabled=True, passwords=["+word"], categories=["+@all"], keys=["none*"])
        url = with_password(server.url, "reader", "word")
        with pytest.raises(BrokerRefused, match=r"(?i)no permissions"):
            await case.broker(url).publisher().open([case.topic])


async def test_a_server_that_is_loading_or_cannot_write_comes_back(case: Case) -> None:
    link = Link(Settings.of(Address(case.url)))
    for error in (exceptions.BusyLoadingError("LOADING"), exceptions.ResponseError("MISCONF no disk")):
        assert isinstance(link.failure(error), BrokerUnavailable)
    assert isinstance(link.failure(exceptions.AuthenticationError("NOAUTH")), BrokerRefused)
    await link.close()


# ------------------------------------------------------------------------------------------------ the streams


async def test_something_else_of_that_name_is_refused(case: Case) -> None:
    async with plain(case.url) as client, case.publisher() as publisher:
        await client.set(case.topic, "text")
        (refused,) = await publisher.publish(case.messages(range(1)))
        assert refused is not None
        assert refused.permanent
        for end in (case.broker().publisher().open([case.topic]), case.broker().consumer([case.topic], "g").open()):
            with pytest.raises(BrokerRefused, match="it is a string, and has to be a stream"):
                await end


async def test_a_stream_may_be_kept_short(case: Case) -> None:
    async with case.publisher(maxlen=100) as publisher, plain(case.url) as client:
        await published(publisher, case.messages(range(1000)))
        assert 100 <= await client.xlen(case.topic) < 400


async def test_a_server_that_was_flushed_is_begun_with_again(case: Case) -> None:
    async with (
        OwnRedis() as server,
        plain(server.url) as client,
        case.publisher(server.url) as publisher,
        case.consumer(server.url) as consumer,
    ):
        await published(publisher, case.messages(range(3)))
        await fetched(consumer, 2)
        await client.flushall()
        with pytest.raises(BrokerUnavailable, match="open it again"):
            await consumer.fetch(10, 5)
        await published(publisher, case.messages(range(3, 5)))
        await consumer.open()
        assert case.numbers(await fetched(consumer, 2)) == [3, 4]


async def test_how_far_behind_a_group_is_can_be_seen(case: Case) -> None:
    async with case.publisher() as publisher, plain(case.url) as client:
        await published(publisher, case.messages(range(10)))
        for lag in (10, 7, 4):
            async with case.consumer() as consumer:
                (group,) = await client.xinfo_groups(case.topic)
                assert group["lag"] == lag
                await consumer.acknowledge(await fetched(consumer, 3, most=3))
                await consumer.fetch(2, 1)


def test_ids_have_predecessors() -> None:
    assert [before(b"5-3"), before(b"5-0"), before(b"0-1")] == [b"5-2", b"4-18446744073709551615", b"0-0"]


# ------------------------------------------------------------------------------------- with plain redis-py


async def test_a_plain_client_reads_fields_and_is_read(case: Case) -> None:
    async with case.publisher() as publisher, case.consumer() as consumer, plain(case.url) as client:
        await published(publisher, [case.message(1, "customer-7")])
        ((_, fields),) = await client.xrange(case.topic)
        assert fields[b"data"] == b'{"number":1}'
        assert fields[b"key"] == b"customer-7"
        assert (fields[b"ce_type"], fields[b"ce_source"]) == (b"OrderPlaced", b"urn:ensue:suite")
        assert fields[b"content-type"] == b"application/json"
        event = {"ce_specversion": "1.0", "ce_id": "x-2", "ce_source": "/plain", "ce_type": "T", "data": "{}"}
        await client.xadd(case.topic, event)
        await client.xadd(case.topic, {"anything": b"\xff"})
        came = await fetched(consumer, 3)
        assert (case.event(came[1]).source, came[1].key, came[1].body) == ("/plain", None, b"{}")
        assert (came[2].headers, came[2].body) == ({"anything": b"\xff"}, b"")


@pytest.mark.parametrize(
    "url",
    ["redis://one,two", "redis://host/shop", "redis://host?maxlen=-1", "redis://host?replicas=x", "redis://host?x=1"],
)
def test_an_address_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(DeclarationError):
        broker_at(url)
