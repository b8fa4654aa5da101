"""How a receiver works through a backlog: it fetches ahead and acknowledges behind, and loses nothing by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from ensue import App, Backoff, IntegrationEvent
from ensue.brokers import Incoming, Outgoing, broker_at, receiving
from ensue.brokers.memory import MemoryConsumer, _all
from ensue.subscriptions.operating import Filter
from tests.patience import PATIENCE, until

BATCH = 2


class Counted(IntegrationEvent, version=1, key="counter", name="test.receiving.counted"):
    counter: str
    n: int


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> Iterator[App]:
    """Return a service with a log of its own."""
    if request.param == "sqlite":
        yield App("counting", f"sqlite:///{tmp_path / 'counting.db'}")
    else:
        yield App("counting", request.getfixturevalue("postgres_url"), schema=schema)
    _all.clear()


@pytest.fixture
def broker(schema: str) -> str:
    """Return the URL of a broker of the test's own."""
    return f"memory://{schema.replace('_', '-')}"


async def publish(url: str, numbers: range, counter: str = "one") -> None:
    """Publish events of one key."""
    publisher = broker_at(url).publisher()
    topic = Counted.__type__
    for n in numbers:
        headers = {"ce-specversion": "1.0", "ce-id": f"m{n}", "ce-source": "/elsewhere", "ce-type": topic}
        headers |= {"ce-partitionkey": f"of {counter[:3]}", "content-type": "application/json"}
        body = f'{{"counter":"{counter}","n":{n}}}'.encode()
        await publisher.publish([Outgoing(topic, counter, f"m{n}", "application/json", headers, body)])


@asynccontextmanager
async def received(app: App) -> AsyncGenerator[receiving.Receiving]:
    """Receive as a worker does that holds all slots."""
    beside = app.declarations.receivers[0].subscription.beside
    assert beside is not None
    found = beside(0, 65535)
    assert isinstance(found, receiving.Receiving)
    working = asyncio.ensure_future(found.work())
    try:
        yield found
    finally:
        await found.stop(PATIENCE)
        await working


class Watched:
    """Watches what is fetched from the broker in memory, and what is acknowledged."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._fetch, self._acknowledge = MemoryConsumer.fetch, MemoryConsumer.acknowledge
        self.fetched: list[int] = []
        self.acknowledged: list[int] = []
        self.early: list[int] = []
        """What was acknowledged before its mark was committed."""

    @property
    def patched(self) -> Any:
        return patch.multiple(MemoryConsumer, fetch=self._fetching(), acknowledge=self._acknowledging())

    def _fetching(self) -> Any:
        async def fetch(consumer: MemoryConsumer, most: int, wait: float) -> list[Incoming]:
            found = await self._fetch(consumer, most, wait)
            self.fetched.extend(each.handle for each in found)
            return found

        return fetch

    def _acknowledging(self) -> Any:
        async def acknowledge(consumer: MemoryConsumer, messages: Sequence[Incoming]) -> None:
            self.acknowledged.extend(each.handle for each in messages)
            if marks(self._app) < len(self.acknowledged):
                self.early.extend(each.handle for each in messages)
            await self._acknowledge(consumer, messages)

        return acknowledge


def marks(app: App) -> int:
    """Return how many messages are marked as taken in, and committed."""
    table = "ensue_inbox" if app.log.place.url.startswith("sqlite") else f"{app.log.place.schema}.inbox"
    with app.log.own.lend() as connection:
        (count,) = connection.execute(f"select count(*) from {table}").fetchone()
    return int(count)


async def test_the_next_batch_is_fetched_while_one_is_taken_in(app: App, broker: str) -> None:
    seen: list[int] = []
    go_on = threading.Event()

    @app.receive(Counted, source=broker, batch=BATCH)
    def count(event: Counted) -> None:
        assert go_on.wait(PATIENCE)
        seen.append(event.n)

    app.migrate()
    await publish(broker, range(1, 6))
    watched = Watched(app)
    with watched.patched:
        async with received(app):
            try:
                await until(lambda: watched.fetched == [1, 2, 3, 4], "the second batch is fetched, and no third one")
                assert not seen
            finally:
                go_on.set()
            await until(lambda: len(watched.acknowledged) == 5)
    assert seen == watched.acknowledged == [1, 2, 3, 4, 5]
    assert not watched.early


async def test_what_was_fetched_ahead_waits_for_what_comes_before_it(
    app: App, broker: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database refuses the first batch when the second one is there already: both come again, in their order."""
    seen: list[int] = []
    there = threading.Event()

    def transaction() -> Any:
        if "gone away" not in caplog.text:
            assert there.wait(PATIENCE)
            raise ConnectionError("the database has gone away")
        return app.transaction()

    @app.receive(Counted, source=broker, batch=BATCH, transaction=transaction)
    def count(event: Counted) -> None:
        seen.append(event.n)

    app.migrate()
    await publish(broker, range(1, 6))
    monkeypatch.setattr(receiving, "_FIRST_PAUSE", 0.01)
    watched = Watched(app)
    with watched.patched:
        async with received(app):
            await until(lambda: watched.fetched == [1, 2, 3, 4], "the second batch is fetched ahead")
            there.set()
            await until(lambda: len(watched.acknowledged) == 5)
    assert seen == watched.acknowledged == [1, 2, 3, 4, 5]
    assert not watched.early


async def test_what_cannot_be_recorded_is_set_aside_alone(app: App, broker: str) -> None:
    """An event that no database could store is no reason to take in nothing else."""
    app.inbox(broker, Counted, name="inbox", batch=3, retry=Backoff(attempts=1))
    app.migrate()
    await publish(broker, range(1, 2), "one")
    await publish(broker, range(2, 3), "bad \\u0000")
    await publish(broker, range(3, 4), "two")
    async with app.running():
        await until(lambda: [each.event.n for each in app.read(types=[Counted])] == [1, 3])
        await until(lambda: app.operations.dead_letters(Filter(subscription="inbox")))
    (letter,) = app.operations.dead_letters(Filter(subscription="inbox"))
    assert "NUL" in letter.reason


async def test_one_that_is_paused_commits_what_it_has_fetched_and_fetches_nothing_more(app: App, broker: str) -> None:
    seen: list[int] = []
    go_on = threading.Event()

    @app.receive(Counted, source=broker, batch=BATCH)
    def count(event: Counted) -> None:
        assert go_on.wait(PATIENCE)
        seen.append(event.n)

    app.migrate()
    await publish(broker, range(1, 8))
    watched = Watched(app)
    with watched.patched:
        async with received(app) as found:
            await until(lambda: watched.fetched == [1, 2, 3, 4])
            found.pause(True)
            go_on.set()
            await until(lambda: watched.acknowledged == [1, 2, 3, 4])
            await until(lambda: not any("Line._fetch" in repr(task) for task in asyncio.all_tasks()))
            assert watched.fetched == seen == [1, 2, 3, 4]
            found.pause(False)
            await until(lambda: len(watched.acknowledged) == 7)
    assert seen == watched.fetched == [1, 2, 3, 4, 5, 6, 7]


async def test_one_that_stops_acknowledges_what_it_has_committed_and_leaves_the_rest(app: App, broker: str) -> None:
    seen: list[int] = []
    go_on = threading.Event()

    @app.receive(Counted, source=broker, batch=BATCH)
    def count(event: Counted) -> None:
        assert go_on.wait(PATIENCE)
        seen.append(event.n)

    app.migrate()
    await publish(broker, range(1, 6))
    watched = Watched(app)
    with watched.patched:
        async with received(app) as found:
            await until(lambda: watched.fetched == [1, 2, 3, 4])
            stopping = asyncio.ensure_future(found.stop(PATIENCE))
            await asyncio.sleep(0)
            go_on.set()
            await stopping
        assert watched.acknowledged == seen == [1, 2]
        async with received(app):
            await until(lambda: len(watched.acknowledged) == 5)
    assert seen == watched.acknowledged == [1, 2, 3, 4, 5]
    assert not watched.early
