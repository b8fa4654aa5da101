"""What is prepared, fetched, acknowledged and released."""

from __future__ import annotations

import asyncio
import contextlib
import time

from ensue.errors import BrokerUnavailable
from tests.broker_suite.case import (
    Ability,
    Case,
    R,
    fetched,
    needs,
    published,
    soon,
)
from tests.patience import PATIENCE

# --- preparing


@needs(R)
async def what_was_published_before_a_prepared_reader_starts_is_read(case: Case) -> None:
    await soon(case.broker().consumer([case.topic], case.group).prepare())
    async with case.publisher() as publisher:
        await published(publisher, case.messages(range(3)))
        async with case.consumer() as consumer:
            assert sorted(case.numbers(await fetched(consumer, 3))) == [0, 1, 2]


@needs(R)
async def what_was_prepared_is_told_once(case: Case) -> None:
    reader = case.broker().consumer([case.topic], case.group)
    made = " ".join(await soon(reader.prepare()))
    assert case.topic in made or case.group in made
    assert await soon(reader.prepare()) == []


@needs(R)
async def preparing_disturbs_nobody(case: Case) -> None:
    async with case.publisher() as publisher, case.consumer() as consumer:
        for number in range(3):
            await published(publisher, [case.message(number, "one key")])
        came = await fetched(consumer, 2)
        assert await soon(case.broker().consumer([case.topic], case.group).prepare()) == []
        await published(publisher, [case.message(3, "one key")])
        await consumer.acknowledge(came)
        assert case.numbers(await fetched(consumer, 2)) == [2, 3]


# --- fetching


@needs(R)
async def fetching_waits_for_the_first_and_no_longer(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher() as publisher:
        waiting = asyncio.ensure_future(consumer.fetch(10, PATIENCE))
        await asyncio.sleep(0)
        await published(publisher, case.messages(range(1)))
        began = time.monotonic()
        assert case.numbers(await soon(waiting)) == [0]
        assert time.monotonic() - began < PATIENCE / 4


@needs(R)
async def fetching_nothing_ends_after_its_wait(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher():
        await consumer.fetch(1, 0.1)  # a group may take its time to form
        began = time.monotonic()
        assert await consumer.fetch(10, 0.2) == []
        assert 0.15 < time.monotonic() - began < 3


@needs(R)
async def no_more_is_fetched_than_wanted(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher() as publisher:
        await published(publisher, case.messages(range(20)))
        numbers: list[int] = []
        while len(numbers) < 20:
            came = await consumer.fetch(3, 5)
            assert 1 <= len(came) <= 3
            numbers += case.numbers(came)
        assert sorted(numbers) == list(range(20))
        assert await consumer.fetch(1, 0.1) == []  # not again


# --- acknowledging


@needs(R)
async def what_was_acknowledged_does_not_come_again(case: Case) -> None:
    async with case.publisher() as publisher:
        async with case.consumer() as consumer:
            for number in range(10):
                await published(publisher, [case.message(number, "one key")])
            came = await fetched(consumer, 10)
            await consumer.acknowledge(came[:3])
            await consumer.acknowledge(came[3:6])
        async with case.consumer() as consumer:  # the rest comes again, in its order, before anything new
            await published(publisher, [case.message(10, "one key")])
            came = await fetched(consumer, 5)
            assert case.numbers(came) == [6, 7, 8, 9, 10]
            await consumer.acknowledge(came)
        async with case.consumer() as consumer:
            assert await consumer.fetch(10, 0.3) == []


@needs(R)
async def acknowledging_nothing_is_nothing(case: Case) -> None:
    async with case.consumer() as consumer:
        await consumer.acknowledge([])
        await consumer.release([])


@needs(R)
async def what_was_released_comes_again_in_order(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher() as publisher:
        for number in range(10):
            await published(publisher, [case.message(number, "one key")])
        came = await fetched(consumer, 8)
        await consumer.acknowledge(came[:2])
        await consumer.release(came[2:])
        assert case.numbers(await fetched(consumer, 8)) == [2, 3, 4, 5, 6, 7, 8, 9]


@needs(R)
async def all_that_was_fetched_after_a_released_one_comes_again(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher() as publisher:
        for number in range(10):
            await published(publisher, [case.message(number, "one key")])
        first = await fetched(consumer, 4)
        await fetched(consumer, 3)
        await consumer.acknowledge(first[:1])
        await consumer.release(first[1:])
        again = await fetched(consumer, 9)
        assert case.numbers(again) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        await consumer.release(again[4:])
        await consumer.release(again[4:])  # twice is once
        assert case.numbers(await fetched(consumer, 5)) == [5, 6, 7, 8, 9]
        await consumer.acknowledge(again[:4])


@needs(R)
async def acknowledging_does_not_wait_for_a_fetch(case: Case) -> None:
    async with case.consumer() as consumer, case.publisher() as publisher:
        await published(publisher, case.messages(range(1)))
        came = await fetched(consumer, 1)
        waiting = asyncio.ensure_future(consumer.fetch(10, PATIENCE))
        await asyncio.sleep(0)
        began = time.monotonic()
        await consumer.acknowledge(came)
        assert time.monotonic() - began < PATIENCE / 4
        assert not waiting.done()
        await published(publisher, case.messages(range(1, 2)))
        assert case.numbers(await soon(waiting)) == [1]


@needs(R | Ability.NOTICES)
async def one_that_should_be_dead_and_reads_is_noticed(case: Case) -> None:
    async with case.publisher() as publisher, case.consumer() as old, case.consumer() as new:
        await published(publisher, [case.message(0, "one key")])
        with contextlib.suppress(BrokerUnavailable):
            await old.fetch(10, 0.1)
        await published(publisher, [case.message(1, "one key")])
        numbers: list[int] = []
        for _ in range(10):
            try:
                numbers += case.numbers(await new.fetch(10, 0.1))
            except BrokerUnavailable:
                await new.open()
                numbers.clear()
            if len(numbers) == 2:
                break
        assert numbers == [0, 1]
