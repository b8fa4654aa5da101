"""Brokers that are down, restarted, killed or silent, and connections that break."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ensue.brokers import Consumer
from ensue.errors import BrokerUnavailable
from tests.broker_suite.case import (
    Ability,
    Case,
    R,
    Wanted,
    again,
    fetched,
    needs,
    published,
    soon,
    unavailable,
)
from tests.patience import PATIENCE, until
from tests.tcp_proxy import Proxy

# --- outages


@needs(Ability.RESTARTS)
async def a_broker_that_is_down_can_be_opened_later(case: Case) -> None:
    async with case.site.own(Wanted()) as server:
        await server.stop()
        publisher = case.broker(server.url).publisher()
        await unavailable(lambda: publisher.open([case.topic]))
        await server.start()
        await again(lambda: publisher.open([case.topic]))
        await published(publisher, case.messages(range(3)))
        await soon(publisher.close())


@needs(R | Ability.RESTARTS)
async def a_consumer_can_be_opened_when_the_broker_is_there_again(case: Case) -> None:
    async with case.site.own(Wanted()) as server:
        await server.stop()
        consumer = case.broker(server.url).consumer([case.topic], case.group)
        await unavailable(consumer.prepare)
        await unavailable(consumer.open)
        await server.start()
        await again(consumer.prepare)
        await again(consumer.open)
        assert await consumer.fetch(1, 0.1) == []
        await server.stop()
        await soon(consumer.close())


@needs(R | Ability.RESTARTS | Ability.DURABLE)
async def what_was_acknowledged_survives_a_killed_server(case: Case) -> None:
    """Publishing goes on while the server is killed; whatever it has acknowledged is there afterwards."""
    taken: set[int] = set()
    async with case.site.own(Wanted()) as server, case.publisher(server.url) as publisher:
        async with case.consumer(server.url) as consumer:
            await published(publisher, case.messages(range(100)))
            early = await fetched(consumer, 50)
            await consumer.acknowledge(early)

            async def keep_publishing() -> None:
                for first in range(100, 100_000, 50):
                    outcomes = await publisher.publish(case.messages(range(first, first + 50)))
                    taken.update(first + n for n, outcome in enumerate(outcomes) if outcome is None)

            publishing = asyncio.ensure_future(keep_publishing())
            await until(lambda: len(taken) >= 500, "500 are published")
            await server.kill()
            with contextlib.suppress(BrokerUnavailable):
                await soon(publishing)
        await server.start()
        async with again_open(case, server.url) as consumer:
            expected = taken | (set(range(100)) - set(case.numbers(early)))
            found: set[int] = set()
            deadline = time.monotonic() + PATIENCE
            while not expected <= found:
                assert time.monotonic() < deadline, f"{len(expected - found)} of {len(expected)} are lost"
                came = await consumer.fetch(200, 1)
                found.update(case.numbers(came))
                await consumer.acknowledge(came)
            if Ability.REMEMBERS in case.site.abilities:
                assert not found & set(case.numbers(early)), "acknowledgements were forgotten"
        await published(publisher, case.messages(range(200_000, 200_010)))


@asynccontextmanager
async def again_open(case: Case, url: str) -> AsyncGenerator[Consumer]:
    """Open a consumer as soon as the broker lets it."""
    consumer = case.broker(url).consumer([case.topic], case.group)
    try:
        await again(consumer.open)
        yield consumer
    finally:
        await soon(consumer.close())


@needs(R | Ability.RESTARTS | Ability.DURABLE)
async def a_restart_loses_nothing_and_both_ends_go_on(case: Case) -> None:
    async with (
        case.site.own(Wanted()) as server,
        case.publisher(server.url) as publisher,
        case.consumer(server.url) as consumer,
    ):
        await published(publisher, [case.message(0, "one key")])
        await published(publisher, [case.message(1, "one key")])
        came = await fetched(consumer, 2)
        await consumer.acknowledge(came[:1])
        waiting = asyncio.ensure_future(consumer.fetch(10, PATIENCE))
        await asyncio.sleep(0)
        await server.stop()
        await unavailable(lambda: waiting)
        await soon(consumer.acknowledge(came[1:]))  # is no error, and has no effect
        await unavailable(lambda: publisher.publish([case.message(2, "one key")]))
        await server.start()
        await published(publisher, [case.message(2, "one key")])
        await again(consumer.open)
        assert case.numbers(await fetched(consumer, 2)) == [1, 2]


@needs(R | Ability.PROXIED)
async def a_connection_lost_between_publish_and_acknowledgement(case: Case) -> None:
    async with (
        Proxy(0) as proxy,
        case.site.own(Wanted(proxy=proxy)) as server,
        case.publisher(server.url) as publisher,
        case.consumer(server.url) as consumer,
    ):
        await published(publisher, case.messages(range(1)))
        proxy.swallow_answers()
        sent = proxy.received
        publishing = asyncio.ensure_future(publisher.publish(case.messages(range(1, 20))))
        await until(lambda: proxy.received > sent, "the server acknowledges")
        proxy.cut()
        if Ability.RECONNECTS in case.site.abilities:
            with contextlib.suppress(BrokerUnavailable):
                outcomes = await soon(publishing)
                assert not [outcome for outcome in outcomes if outcome is not None and outcome.permanent]
        else:
            await unavailable(lambda: publishing)
        proxy.resume()
        await published(publisher, case.messages(range(1, 20)))
        await again(consumer.open)
        numbers = case.numbers(await case.rest(consumer))
        assert set(numbers) == set(range(20))
        if Ability.DEDUPLICATES in case.site.abilities:
            assert len(numbers) == 20


@needs(R | Ability.PROXIED)
async def a_slow_broker_is_waited_for_with_many_in_flight(case: Case) -> None:
    async with (
        Proxy(0) as proxy,
        case.site.own(Wanted(proxy=proxy)) as server,
        case.publisher(server.url) as publisher,
        case.consumer(server.url) as consumer,
    ):
        await published(publisher, case.messages(range(1)))
        proxy.delay = 0.05
        began = time.monotonic()
        assert await publisher.publish(case.messages(range(1, 300))) == [None] * 299
        came = await fetched(consumer, 300)
        await consumer.acknowledge(came)
        assert time.monotonic() - began < PATIENCE / 2  # one after the other they would take half a minute
        proxy.delay = 0.0
        assert sorted(case.numbers(came)) == list(range(300))
        assert await consumer.fetch(10, 0.1) == []


@needs(Ability.PROXIED)
async def a_broker_that_falls_silent_is_not_waited_for_longer_than_the_timeout(case: Case) -> None:
    async with (
        Proxy(0) as proxy,
        case.site.own(Wanted(proxy=proxy)) as server,
        case.publisher(server.url, timeout=1) as publisher,
    ):
        await published(publisher, case.messages(range(1)))
        proxy.stall()
        for messages in (case.messages(range(1, 4)), case.messages(range(1, 4))):
            began = time.monotonic()
            with contextlib.suppress(BrokerUnavailable):
                outcomes = await soon(publisher.publish(messages))
                assert all(outcome is not None and not outcome.permanent for outcome in outcomes)
            assert time.monotonic() - began < 2.5
        proxy.resume()
        await published(publisher, case.messages(range(1, 4)))
        proxy.stall()
        began = time.monotonic()
        await soon(publisher.close())
        assert time.monotonic() - began < 2.5


@needs(Ability.PROXIED)
async def opening_at_a_silent_broker_ends(case: Case) -> None:
    async with Proxy(0) as proxy, case.site.own(Wanted(proxy=proxy)) as server:
        proxy.stall()
        publisher = case.broker(server.url, timeout=1).publisher()
        began = time.monotonic()
        await unavailable(lambda: publisher.open([case.topic]))
        assert time.monotonic() - began < 2.5
        await soon(publisher.close())


@needs(R | Ability.PROXIED)
async def a_consumer_at_a_silent_broker_does_not_hang(case: Case) -> None:
    async with (
        Proxy(0) as proxy,
        case.site.own(Wanted(proxy=proxy)) as server,
        case.publisher(server.url) as publisher,
        case.consumer(server.url, timeout=1) as consumer,
    ):
        for number in range(3):
            await published(publisher, [case.message(number, "one key")])
        came = await fetched(consumer, 2)
        await consumer.acknowledge(came[:1])
        proxy.stall()
        began = time.monotonic()
        with contextlib.suppress(BrokerUnavailable):
            assert case.numbers(await soon(consumer.fetch(10, 0.2))) in ([], [2])  # it may have been there already
        await soon(consumer.acknowledge(came[1:]))
        assert time.monotonic() - began < 4
        proxy.cut()
        proxy.resume()
        await again(consumer.open)
        assert case.numbers(await fetched(consumer, 1))[0] in (1, 2)  # the acknowledgement may have got through


@needs(R | Ability.PROXIED)
async def a_connection_lost_while_fetching_loses_nothing(case: Case) -> None:
    async with (
        Proxy(0) as proxy,
        case.site.own(Wanted(proxy=proxy)) as server,
        case.publisher(server.url) as publisher,
        case.consumer(server.url) as consumer,
    ):
        for number in range(3):
            await published(publisher, [case.message(number, "one key")])
        came = await fetched(consumer, 3)
        await consumer.acknowledge(came[:1])
        sent = proxy.sent
        fetching = asyncio.ensure_future(consumer.fetch(10, PATIENCE))
        with contextlib.suppress(AssertionError):  # it asks for more, unless its broker sends without being asked
            await until(lambda: proxy.sent > sent, seconds=1)
        proxy.cut()
        if Ability.RECONNECTS in case.site.abilities:
            fetching.cancel()
            await asyncio.wait([fetching])
        else:
            await unavailable(lambda: fetching)
        await soon(consumer.acknowledge(came[1:2]))  # no error; whether it has an effect is the adapter's affair
        await again(consumer.open)
        await published(publisher, [case.message(3, "one key")])
        assert case.numbers(await case.rest(consumer)) in ([1, 2, 3], [2, 3])


@needs(R | Ability.PROXIED)
async def the_next_consumer_takes_over_from_one_that_vanished(case: Case) -> None:
    async with (
        Proxy(0) as proxy,
        case.site.own(Wanted(proxy=proxy)) as server,
        case.publisher(server.url) as publisher,
        case.consumer(server.url) as first,
    ):
        for number in range(6):
            await published(publisher, [case.message(number, "one key")])
        came = await fetched(first, 6)
        await first.acknowledge(came[:2])
        proxy.cut()  # it never says that it closes
        await published(publisher, [case.message(6, "one key")])
        async with case.consumer(server.url) as second:
            taken = await fetched(second, 5)
            assert case.numbers(taken) == [2, 3, 4, 5, 6]
            await second.acknowledge(taken)
            assert await second.fetch(10, 0.1) == []


@needs(R | Ability.RESTARTS | Ability.DURABLE)
async def order_by_key_survives_any_number_of_outages(case: Case) -> None:
    """A relay and an inbox, reduced to what they make of the two ends, while the server is stopped and killed."""
    keys, rounds = 5, 40
    first_seen: list[tuple[str, int]] = []
    seen: set[tuple[str, int]] = set()
    async with case.site.own(Wanted()) as server:
        publisher = case.broker(server.url).publisher()
        consumer = case.broker(server.url).consumer([case.topic], case.group)
        await again(lambda: publisher.open([case.topic]))
        if Ability.KEEPS not in case.site.abilities:
            await again(consumer.open)
        progress = 0

        async def relay() -> None:
            nonlocal progress
            for number in range(rounds):
                await published(publisher, [case.message(number * keys + n, f"k{n}") for n in range(keys)])
                progress = number

        async def inbox() -> None:
            await again(consumer.open)
            while len(seen) < keys * rounds:
                try:
                    came = await consumer.fetch(7, 1)
                except BrokerUnavailable:
                    await again(consumer.open)
                    continue
                for each in came:
                    mark = (case.event(each).key or "", case.number(each))
                    if mark not in seen:
                        seen.add(mark)
                        first_seen.append(mark)
                await consumer.acknowledge(came)

        async def outages() -> None:
            for number in range(4):  # killed and stopped, each twice, one after the other
                await until(lambda number=number: progress >= number * 10, "it goes on")  # type: ignore[misc]
                await (server.stop() if number % 2 else server.kill())
                await server.start()

        async with asyncio.timeout(10 * PATIENCE):  # some brokers take ten seconds to be there again
            await asyncio.gather(relay(), inbox(), outages())
        await soon(publisher.close())
        await soon(consumer.close())
    for n in range(keys):
        assert [number for key, number in first_seen if key == f"k{n}"] == list(range(n, keys * rounds, keys))
