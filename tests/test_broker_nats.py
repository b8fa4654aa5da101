"""NATS JetStream: the suite, on the machine's server and on the newest one, and what only NATS has."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from ensue.brokers import broker_at
from ensue.brokers.nats.consuming import counts
from ensue.brokers.nats.link import Link
from ensue.brokers.nats.stream import common_pattern, covers, ensure_stream, is_subject
from ensue.errors import BrokerRefused, BrokerUnavailable, DeclarationError
from tests.broker_servers import OwnNats, shared_nats
from tests.broker_suite import Ability, Behaviour, Case, Own, Wanted, behaviours
from tests.broker_suite.case import fetched, published

# Order is kept by the stream: there is no key of the broker's own. A consumer's acknowledgements are written to the
# disk a moment after they are answered.
ABILITIES = ~(Ability.KEYS | Ability.REMEMBERS)

OWN = Ability.LARGEST | Ability.FILLS | Ability.PASSWORD | Ability.TLS | Ability.RESTARTS | Ability.PROXIED


class NatsSite:
    """A stream of this run's own on a server that is shared; every server of a test's own is from the wheel."""

    abilities = ABILITIES

    def __init__(self, where: str) -> None:
        self.where = where
        self.stream = f"ensue-suite-{secrets.token_hex(4)}"

    @property
    def url(self) -> str:
        return f"nats://{self.where}/{self.stream}?timeout=10"

    @asynccontextmanager
    async def own(self, wanted: Wanted) -> AsyncGenerator[Own]:
        async with OwnNats(wanted) as server:
            yield server

    async def forget(self, url: str, topics: Sequence[str], groups: Sequence[str]) -> None:
        async with jetstream(url) as streams:
            with suppress(NotFoundError):
                await streams.delete_stream(self.stream)


@asynccontextmanager
async def jetstream(url: str) -> AsyncGenerator[JetStreamContext]:
    """Connect as a plain user of nats-py."""
    client = await nats.connect(f"nats://{urlsplit(url).netloc}")
    try:
        yield client.jetstream()
    finally:
        await client.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[NatsSite]:
    with shared_nats() as where:
        yield NatsSite(where)


@pytest.fixture(scope="module")
def newest() -> Iterator[NatsSite]:
    server = OwnNats()
    with closing(server):
        server.start_now()
        yield NatsSite(f"127.0.0.1:{server.port}")


@pytest.fixture(params=["shared", "newest"])
async def case(request: pytest.FixtureRequest, shared: NatsSite, newest: NatsSite) -> AsyncGenerator[Case]:
    """Yield topics and a group of one's own, on each of the servers, in a stream of one's own."""
    case = Case(NatsSite((shared if request.param == "shared" else newest).where))
    yield case
    await case.site.forget(case.url, case.topics, case.groups)


@pytest.mark.parametrize("behaviour", behaviours(ABILITIES), ids=str)
async def test_nats(behaviour: Behaviour, shared: NatsSite) -> None:
    await behaviour.check(shared)


@pytest.mark.parametrize("behaviour", behaviours(ABILITIES & ~OWN), ids=str)
async def test_newest_nats(behaviour: Behaviour, newest: NatsSite) -> None:
    await behaviour.check(newest)


# ------------------------------------------------------------------------------------------------- the stream


@pytest.mark.parametrize(
    ("how", "options", "told"),
    [
        ({"storage": "memory"}, {}, "its storage is memory, and has to be file"),
        ({"retention": "workqueue"}, {}, "its retention is workqueue, and has to be limits"),
        ({"no_ack": True}, {}, "acknowledges nothing"),
        ({"duplicate_window": 60}, {"duplicates": 300}, "its duplicate window is 60 s, and has to be 300 s"),
        ({}, {"replicas": 3}, "it has 1 replicas, and has to have 3"),
    ],
)
async def test_a_stream_that_does_not_fit_is_refused(
    case: Case, how: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    async with jetstream(case.url) as streams:
        await streams.add_stream(name=stream_of(case), subjects=[case.topic], **how)
    with pytest.raises(BrokerRefused, match=told):
        await case.broker(**options).publisher().open([case.topic])


def stream_of(case: Case) -> str:
    return urlsplit(case.url).path[1:]


async def test_a_subject_that_another_stream_has_is_refused(case: Case) -> None:
    async with jetstream(case.url) as streams:
        name = f"other-{case.mark}"
        await streams.add_stream(name=name, subjects=[f"taken-{case.mark}"])
        try:
            with pytest.raises(BrokerRefused, match="overlap"):
                await case.broker().publisher().open([f"taken-{case.mark}"])
        finally:
            await streams.delete_stream(name)


async def test_subjects_are_added_and_what_others_have_set_stays(case: Case) -> None:
    async with jetstream(case.url) as streams:
        await streams.add_stream(name=stream_of(case), subjects=[f"{case.mark}.>"], max_msg_size=1000)
        async with case.publisher(topics=[f"{case.mark}.a", case.topic]) as publisher:
            config = (await streams.stream_info(stream_of(case))).config
            assert config.subjects == [f"{case.mark}.>", case.topic]
            assert config.max_msg_size == 1000
            assert await publisher.publish([case.message(1, topic=f"{case.mark}.a")]) == [None]
            (refused,) = await publisher.publish([case.message(2, body=b"x" * 2000)])
            assert refused is not None
            assert refused.permanent  # it is larger than the stream allows


async def test_a_subject_that_another_process_overwrites_at_that_moment_is_added_again(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that add subjects at once know of their own only. Older servers then refuse the consumer of the first."""
    theirs = f"theirs-{case.mark}"
    overwritten = False

    async def ensure_and_overwrite(link: Link, topics: Sequence[str]) -> bool:
        nonlocal overwritten
        made = await ensure_stream(link, topics)
        if not overwritten:
            overwritten = True
            async with jetstream(case.url) as streams:
                await streams.update_stream(name=stream_of(case), subjects=[theirs])
        return made

    async with case.publisher(topics=[theirs]):
        monkeypatch.setattr("ensue.brokers.nats.consuming.ensure_stream", ensure_and_overwrite)
        await case.broker().consumer([case.topic], case.group).prepare()
    async with case.publisher() as publisher, case.consumer() as consumer:
        await published(publisher, case.messages(range(1)))
        assert case.numbers(await fetched(consumer, 1)) == [0]


async def test_a_stream_that_is_full_refuses_for_now(case: Case) -> None:
    async with case.publisher(max_bytes=100_000) as publisher:
        outcomes = await publisher.publish([case.message(n, body=b"x" * 30_000) for n in range(6)])
        assert outcomes[:2] == [None, None]
        assert outcomes[-1] is not None
        assert not outcomes[-1].permanent
        assert "maximum bytes exceeded" in outcomes[-1].reason


async def test_a_stream_that_was_deleted_is_made_again(case: Case) -> None:
    async with case.publisher() as publisher, jetstream(case.url) as streams:
        await published(publisher, case.messages(range(1)))
        await streams.delete_stream(stream_of(case))
        (refused,) = await publisher.publish(case.messages(range(1, 2)))
        assert refused is not None
        assert not refused.permanent
        assert await publisher.publish(case.messages(range(1, 2))) == [None]


async def test_a_subject_that_no_stream_takes_is_refused(case: Case) -> None:
    async with case.publisher() as publisher:
        outcomes = await publisher.publish([case.message(1), case.message(2, topic=f"nowhere-{case.mark}")])
        assert outcomes[0] is None
        assert outcomes[1] is not None
        assert "no stream takes this subject" in outcomes[1].reason


async def test_a_server_without_jetstream_is_refused() -> None:
    async with OwnNats(Wanted(), jetstream=False) as server:
        with pytest.raises((BrokerRefused, BrokerUnavailable), match="JetStream"):
            await broker_at(server.url).publisher().open(["orders"])


async def test_a_token_opens() -> None:
    async with OwnNats(Wanted(), token="t0k&n") as server:
        publisher = broker_at(f"{server.url}&token=t0k%26n").publisher()
        await publisher.open(["orders"])
        await publisher.close()
        with pytest.raises(BrokerRefused, match="refuses the user or the password") as caught:
            await broker_at(f"{server.url}&token=wrong").publisher().open(["orders"])
        assert "wrong" not in str(caught.value)


async def test_a_server_that_speaks_no_tls_gets_no_password() -> None:
    async with OwnNats(Wanted(password=True)) as server:
        with pytest.raises(BrokerRefused, match="speaks no TLS"):
            await broker_at(server.url.replace("nats://", "tls://")).publisher().open(["orders"])


async def test_any_server_of_a_cluster_will_do(case: Case) -> None:
    parts = urlsplit(case.url)
    url = parts._replace(netloc=f"127.0.0.1:1,{parts.netloc}").geturl()
    for _ in range(3):
        async with case.publisher(url) as publisher:
            await published(publisher, case.messages(range(1)))


# ----------------------------------------------------------------------------------------------- the consumer


@pytest.mark.parametrize("step", range(8))
async def test_a_reader_that_is_killed_while_it_goes_back_loses_nothing(
    case: Case, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two requests: the consumer or a note of its floor is there."""
    async with case.publisher() as publisher:
        for number in range(6):
            await published(publisher, [case.message(number, "one key")])
        async with case.consumer() as consumer:
            came = await fetched(consumer, 5)
            await consumer.acknowledge(came[:2])
        ask, asked = Link.ask, 0

        async def ask_some(link: Link, what: str, question: object = None) -> Any:
            nonlocal asked
            asked += what.startswith("CONSUMER.")
            if asked > step:
                raise BrokerUnavailable("killed")
            return await ask(link, what, question)

        with monkeypatch.context() as patched:
            patched.setattr(Link, "ask", ask_some)
            killed = case.broker().consumer([case.topic], case.group)
            try:
                await killed.open()
            except BrokerUnavailable:
                assert asked == step + 1
            await killed.close()
        async with case.consumer() as consumer:
            assert case.numbers(await fetched(consumer, 4)) == [2, 3, 4, 5]
        async with jetstream(case.url) as streams:
            assert [each.name for each in await streams.consumers_info(stream_of(case))] == [case.group]


async def test_one_that_has_taken_the_last_message_is_noticed(case: Case) -> None:
    async with case.publisher() as publisher, case.consumer() as old, case.consumer() as new:
        await published(publisher, case.messages(range(1)))
        assert len(await fetched(old, 1)) == 1
        with pytest.raises(BrokerUnavailable, match="another process reads"):
            await new.fetch(10, 0.05)
        await new.open()
        assert case.numbers(await fetched(new, 1)) == [0]


async def test_no_more_is_delivered_than_may_be_pending(case: Case) -> None:
    async with case.publisher() as publisher, case.consumer(max_ack_pending=10) as consumer:
        await published(publisher, case.messages(range(25)))
        came = await fetched(consumer, 10)
        assert await consumer.fetch(100, 0.2) == []
        await consumer.acknowledge(came[:5])
        came += await fetched(consumer, 5)
        await consumer.acknowledge(came)
        assert len(await fetched(consumer, 10)) == 10


async def test_what_is_not_ours_is_passed_over(case: Case) -> None:
    """A server before 2.10 delivers more than was asked for, where a consumer has several subjects."""
    topics = [case.topic, case.new_topic("payments")]
    other = case.new_topic("other")
    async with (
        case.publisher(topics=[*topics, other]) as publisher,
        case.consumer(topics=topics, max_ack_pending=100) as consumer,
    ):
        for first in range(0, 1000, 100):
            await published(publisher, [case.message(n, topic=other) for n in range(first, first + 100)])
            await published(publisher, [case.message(10_000 + first, topic=topics[1])])
            (came,) = await fetched(consumer, 1)
            assert case.number(came) == 10_000 + first
            await consumer.acknowledge([came])
        assert await consumer.fetch(10, 0.1) == []


async def test_topics_that_change_are_read_from_where_the_group_is(case: Case) -> None:
    more = case.new_topic("payments")
    async with case.publisher(topics=[case.topic, more]) as publisher:
        async with case.consumer() as consumer:
            await published(publisher, [case.message(0), case.message(1, topic=more)])
            await consumer.acknowledge(await fetched(consumer, 1))
        async with case.consumer(topics=[case.topic, more]) as consumer:
            await published(publisher, [case.message(2), case.message(3, topic=more)])
            assert case.numbers(await fetched(consumer, 3)) == [1, 2, 3]


async def test_a_consumer_of_that_name_that_does_not_fit_is_refused(case: Case) -> None:
    async with case.publisher(), jetstream(case.url) as streams:
        await streams.pull_subscribe(case.topic, durable=case.group, stream=stream_of(case))
        with pytest.raises(BrokerRefused, match="ack_policy is explicit"):
            await case.broker().consumer([case.topic], case.group).open()


async def test_a_group_may_have_any_name(case: Case) -> None:
    group = "shipping.orders * ä/>"
    async with case.publisher() as publisher, case.consumer(group=group) as consumer:
        await published(publisher, case.messages(range(1)))
        assert len(await fetched(consumer, 1)) == 1


# --------------------------------------------------------------------------------------- with plain nats-py


async def test_a_plain_client_reads_what_was_published_and_is_read(case: Case) -> None:
    async with case.publisher() as publisher, case.consumer() as consumer, jetstream(case.url) as streams:
        await published(publisher, [case.message(1)])
        subscription = await streams.pull_subscribe(case.topic, durable="plain", stream=stream_of(case))
        (message,) = await subscription.fetch(1)
        assert message.data == b'{"number":1}'
        assert message.headers is not None
        assert message.headers["ce-type"] == "OrderPlaced"
        headers = {"ce-specversion": "1.0", "ce-id": "x-2", "ce-source": "/plain", "ce-type": "T"}
        await streams.publish(case.topic, b"{}", headers=headers)
        await streams.publish(case.topic, b"no event at all")
        came = await fetched(consumer, 3)
        assert (case.event(came[1]).source, came[2].headers, came[2].body) == ("/plain", {}, b"no event at all")


# ------------------------------------------------------------------------------------------------- the words


@pytest.mark.parametrize(
    "url",
    [
        "nats://host:4222/a.b",
        "nats://host/a%20b",
        "nats://host?replicas=none",
        "nats://host?duplicates=-1",
        "nats://host?unknown=1",
        "nats://secret@host",
    ],
)
def test_an_address_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        broker_at(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("topics", "pattern"),
    [
        (["a.b", "a.c"], "a.*"),
        (["a.b.p3", "x.c.p3"], "*.*.p3"),
        (["a.b.c", "a.b"], "a.>"),
        (["a", "b.c"], ">"),
        (["a", "a.b"], ">"),
        (["a.b.c.d", "a.b.x"], "a.b.>"),
    ],
)
def test_one_pattern_takes_all_topics(topics: list[str], pattern: str) -> None:
    assert common_pattern(topics) == pattern
    assert all(covers(pattern, topic) for topic in topics)


@pytest.mark.parametrize("subject", ["", "a..b", ".a", "a b", "a\n", "a.*", ">", "$JS.API.x", "a\x00", "x" * 2000])
def test_what_is_no_subject(subject: str) -> None:
    assert not is_subject(subject)


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.shop.billing.1.17.12.1795871991766014430.2",
        "$JS.ACK.hub.hash.shop.billing.1.17.12.1795871991766014430.2",
        "$JS.ACK.hub.hash.shop.billing.1.17.12.1795871991766014430.2.random",
    ],
)
def test_what_an_acknowledgement_counts(reply: str) -> None:
    assert counts(reply) == (17, 12)


def test_what_a_pattern_takes() -> None:
    assert covers("a.*.c", "a.b.c")
    assert not covers("a.*", "a.b.c")
    assert not covers("a.>", "a")
    assert covers("a.b", "a.b")
