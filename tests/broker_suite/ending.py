"""What is cancelled or closed."""

from __future__ import annotations

import asyncio
import gc
import random
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ensue.brokers import Consumer, Publisher
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
)
from tests.patience import PATIENCE, until
from tests.tcp_proxy import Proxy

MOMENTS = 300
LONGEST = 0.03  # seconds until an opening is cancelled; most take about as long

# --- cancelled


@needs(R | Ability.PROXIED)
async def what_is_cancelled_leaves_both_ends_usable(case: Case) -> None:
    async with (
        Proxy(0) as proxy,
        case.site.own(Wanted(proxy=proxy)) as server,
        case.publisher(server.url) as publisher,
        case.consumer(server.url) as consumer,
    ):
        await published(publisher, case.messages(range(1)))
        assert case.numbers(await fetched(consumer, 1)) == [0]
        proxy.swallow_answers()
        sent = proxy.sent
        publishing = asyncio.ensure_future(publisher.publish(case.messages(range(1, 5))))
        await until(lambda: proxy.sent > sent, "it publishes")
        await cancelled(publishing)
        proxy.resume()
        await published(publisher, case.messages(range(1, 5)))
        for _ in range(5):
            fetching = asyncio.ensure_future(consumer.fetch(10, PATIENCE))
            await asyncio.sleep(0)
            await cancelled(fetching)
        await again(consumer.open)  # what a cancelled fetch had in hand is found again
        assert set(case.numbers(await case.rest(consumer))) == set(range(5))


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.done()


@needs()
async def opening_that_is_cancelled_at_any_moment_leaves_nothing_open(case: Case) -> None:
    """A client, or a transport, warns when it is collected and nobody has closed it."""
    moments = random.Random(case.mark)
    async with case.publisher():  # so that what is opened is there
        pass
    others = asyncio.all_tasks()
    with watching() as left_open:
        for number in range(MOMENTS):
            end: Consumer | Publisher
            if R in case.site.abilities and number % 2:
                end = case.broker().consumer([case.topic], case.new_group("left"))
                opening = asyncio.ensure_future(end.open())
            else:
                end = case.broker().publisher()
                opening = asyncio.ensure_future(end.open([case.topic]))
            await asyncio.sleep(moments.random() * LONGEST)
            await cancelled(opening)
            await soon(end.close())
            del end, opening
        await until(lambda: asyncio.all_tasks() <= others, "nothing is under way any more")
        gc.collect()
        await asyncio.sleep(0)
    assert left_open == []


@contextmanager
def watching() -> Generator[list[str]]:
    """Collect what is said of connections and tasks that were left alone."""
    said: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: said.append(str(context)))
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ResourceWarning)
            yield said
            said += [str(each.message) for each in warned if issubclass(each.category, ResourceWarning)]
    finally:
        loop.set_exception_handler(None)


# --- closing


@needs()
async def closing_twice_or_before_opening_is_nothing(case: Case) -> None:
    publisher = case.broker().publisher()
    await soon(publisher.close())
    await publisher.open([case.topic])
    assert await publisher.publish([case.message(1)]) == [None]
    await soon(publisher.close())
    await soon(publisher.close())
    if R in case.site.abilities:
        consumer = case.broker().consumer([case.topic], case.group)
        await soon(consumer.close())
        await consumer.open()
        await soon(consumer.close())
        await soon(consumer.close())
