"""What is cancelled or closed."""

from __future__ import annotations

import asyncio
from typing import Any

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
