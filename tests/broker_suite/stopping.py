"""Receivers that stop: at once, and without losing what is on its way."""

from __future__ import annotations

import asyncio
import time
from unittest.mock import patch

from ensue import App, IntegrationEvent
from ensue.brokers import receiving
from tests.broker_suite.case import Case, R, needs, published
from tests.patience import PATIENCE, until


class Numbered(IntegrationEvent, version=1, name="test.suite.numbered"):
    number: int


async def service(case: Case) -> App:
    """Make a service that records what comes."""
    app = App("suite", f"memory://{case.mark}", migrate=True)
    app.inbox(case.url, Numbered, topic=lambda _: case.topic, group=case.group)
    app.migrate()
    await app.prepare_receivers()
    return app


def received(app: App) -> list[int]:
    return [each.event.number for each in app.read(types=[Numbered])]


async def send(case: Case, numbers: range) -> None:
    """Publish one after the other, so that they keep their order."""
    async with case.publisher() as publisher:
        for number in numbers:
            message = case.message(number, "one key", more={"type": Numbered.__type__})
            await published(publisher, [message])


@needs(R)
async def a_receiver_that_waits_for_messages_stops_at_once(case: Case) -> None:
    app = await service(case)
    with patch.object(receiving, "_WAIT", 2 * PATIENCE):
        async with app.running(grace=2 * PATIENCE):
            await send(case, range(1))
            await until(lambda: received(app) == [0])
            await until(lambda: any("Line._fetch" in repr(task) for task in asyncio.all_tasks()), "it fetches again")
            began = time.monotonic()
    assert time.monotonic() - began < PATIENCE / 4


@needs(R)
async def a_receiver_that_stops_at_any_moment_loses_nothing(case: Case) -> None:
    app = await service(case)
    sent = 0
    for moment in range(6):
        async with app.running():
            await until(lambda: len(received(app)) == sent)
            sending = asyncio.ensure_future(send(case, range(sent, sent + 10)))
            sent += 10
            await until(lambda: len(received(app)) > sent - 10 or sending.done())
            await asyncio.sleep(0.002 * moment)
        await sending
    async with app.running():
        await until(lambda: len(received(app)) == sent)
    assert received(app) == list(range(sent))
