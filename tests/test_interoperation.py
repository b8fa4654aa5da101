"""Services written with FastStream read what a relay publishes, and a receiver reads what they publish.

Their code is that of docs/how-to/brokers/faststream.md, on servers of the tests' own.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from faststream.nats import DiscardPolicy, JStream, NatsBroker, PullSub
from faststream.redis import RedisBroker, RedisStreamMessage, StreamSub
from redis import Redis as PlainRedis
from redis.asyncio import Redis

from ensue import App, Backoff, IntegrationEvent
from ensue.brokers import broker_at
from ensue.brokers.relays import Mode
from ensue.contracts.cloudevents import STRUCTURED, parse
from tests.broker_servers import OwnNats, OwnRedis
from tests.own_kafka import OwnKafka
from tests.own_rabbitmq import OwnRabbitMQ
from tests.patience import until
from tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "brokers" / "faststream.md"
NUMBERS = range(30)


class Placed(IntegrationEvent, version=1, key="customer", name="test.interoperation.placed"):
    customer: str
    amount: int


class Earned(IntegrationEvent, version=1, key="customer", name="test.interoperation.earned"):
    customer: str
    points: int


@dataclass
class Site:
    """A broker, a service of ours beside it, and the page's code for it."""

    url: str
    module: str
    theirs_first: bool = False
    """RabbitMQ keeps nothing for whom it does not know; of the others FastStream wants to find stream or topic."""


@pytest.fixture(params=["nats", "kafka", "rabbitmq", "redis"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    makes: dict[str, Callable[[], OwnNats | OwnRedis | OwnKafka]] = {
        "nats": OwnNats,
        "redis": OwnRedis,
        "kafka": OwnKafka,
    }
    if request.param == "rabbitmq":
        with OwnRabbitMQ() as node:
            yield Site(node.url, "with_rabbitmq", theirs_first=True)
        return
    with closing(makes[request.param]()) as server:
        server.start_now()
        url = server.url.partition("?")[0]
        yield Site(url.replace("ensue-suite", "shop"), f"with_{request.param}")


@pytest.fixture
def page(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Yield the page's module for this broker; only where the broker is and what the events are called differs."""
    where = site.url.partition("://")[2].rpartition("@")[2].partition("/")[0]
    usual = {"with_nats": 4222, "with_kafka": 9092, "with_rabbitmq": 5672, "with_redis": 6379}[site.module]
    for block in blocks(PAGE.read_text()):
        if block.file in ("loyalty.py", f"{site.module}.py"):
            code = "\n".join(block.code).replace(f"localhost:{usual}", where)
            code = code.replace('"OrderPlaced.v1"', f'"{Placed.__type__}"')
            code = code.replace('"PointsEarned.v1"', f'"{Earned.__type__}"')
            (tmp_path / block.file).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(site.module)
    for name in (site.module, "loyalty"):
        del sys.modules[name]


def shop(url: str, folder: Path, mode: Mode = "binary") -> App:
    """Return the service of ours."""
    app = App("shop", f"sqlite:///{folder / 'shop.db'}", migrate=True)
    app.relay(url, Placed, retry=Backoff(first=0.05, most=0.5), mode=mode)

    @app.receive(Earned, source=url)
    def add(event: Earned, connection: Any) -> None:
        connection.execute("insert into points (customer, points) values (?, ?)", (event.customer, event.points))

    app.migrate()
    with app.transaction() as connection:
        connection.execute("create table points (n integer primary key, customer text, points integer)")
    return app


async def place(app: App, numbers: range) -> None:
    def record() -> None:
        with app.transaction() as connection:
            app.record(*(Placed(customer=f"Zoë {n % 3}%", amount=10 * n) for n in numbers), via=connection)

    await asyncio.to_thread(record)


def points(app: App) -> list[tuple[str, int]]:
    with app.transaction() as connection:
        return [(row[0], row[1]) for row in connection.execute("select customer, points from points order by n")]


def published(app: App) -> bool:
    (relay,) = [each for each in app.operations.standings() if each.subscription == "relay"]
    return relay.behind == 0


@asynccontextmanager
async def working(site: Site, app: App, broker: Any) -> AsyncIterator[None]:
    """Run both services, each of which finds what it needs when it starts."""
    if site.theirs_first:
        async with broker, app.running():
            await broker.start()
            await place(app, NUMBERS)
            yield
        return
    if site.module == "with_redis":
        async with Redis.from_url(site.url) as client:
            await client.xgroup_create(Placed.__type__, "loyalty", "0", mkstream=True)
    async with app.running():
        await place(app, NUMBERS)
        await until(lambda: published(app))
        async with broker:
            await broker.start()
            yield


async def test_faststream_reads_and_is_read(site: Site, page: ModuleType, tmp_path: Path) -> None:
    app = shop(site.url, tmp_path)
    async with working(site, app, page.broker):
        await until(lambda: len(points(app)) == len(NUMBERS))
        again = page.OrderPlaced(customer="Zoë 1%", amount=990)
        for id in ("one", "one", "two"):
            await page.count(again, id)
        await until(lambda: len(points(app)) == len(NUMBERS) + 2)
    found = points(app)
    for customer in range(3):
        wanted = [n for n in NUMBERS if n % 3 == customer] + [99, 99] * (customer == 1)
        # FastStream may call its function for the next message before it has published for the last one
        assert sorted(n for name, n in found if name == f"Zoë {customer}%") == wanted
    assert app.operations.dead_letters() == []


# ------------------------------------------------------------------------------------------- what the page warns of


async def test_a_structured_event_is_bytes_for_faststream(tmp_path: Path) -> None:
    found: list[bytes] = []
    with closing(OwnNats()) as server:
        server.start_now()
        app = shop(server.url, tmp_path, mode="structured")
        broker = NatsBroker(f"nats://127.0.0.1:{server.port}")

        @broker.subscriber(Placed.__type__, stream=JStream("ensue-suite", declare=False), pull_sub=PullSub())
        async def read(message: Any) -> None:
            found.append(message)

        async with app.running(), broker:
            await place(app, range(1))
            await until(lambda: published(app))
            await broker.start()
            await until(lambda: found)
    assert parse({}, found[0], content_type=STRUCTURED).events == (Placed(customer="Zoë 0%", amount=0),)


async def test_faststream_changes_a_stream_that_it_may_declare() -> None:
    with closing(OwnNats()) as server:
        server.start_now()
        publisher = broker_at(server.url).publisher()
        await publisher.open([Placed.__type__])
        await publisher.close()
        async with NatsBroker(f"nats://127.0.0.1:{server.port}") as broker:
            streams = (await broker.connect()).jetstream()
            assert (await streams.stream_info("ensue-suite")).config.discard == DiscardPolicy.NEW

            @broker.subscriber(Placed.__type__, stream=JStream("ensue-suite"), pull_sub=PullSub())
            async def read(message: Any) -> None: ...

            await broker.start()
            assert (await streams.stream_info("ensue-suite")).config.discard == DiscardPolicy.OLD


@pytest.fixture
def redis_url() -> Iterator[str]:
    with closing(OwnRedis()) as server:
        server.start_now()
        yield server.url.partition("?")[0]


async def test_faststream_reads_an_entry_without_its_headers(redis_url: str, tmp_path: Path) -> None:
    app = shop(redis_url, tmp_path)
    broker = RedisBroker(redis_url)
    found: list[tuple[Any, Any]] = []

    @broker.subscriber(stream=StreamSub(Placed.__type__, last_id="0"))
    async def read(body: Any, message: RedisStreamMessage) -> None:
        found.append((body, message.headers))

    async with app.running(), broker:
        await place(app, range(1))
        await broker.start()
        await until(lambda: found)
    assert found == [({"customer": "Zoë 0%", "amount": 0}, {})]


async def test_what_faststream_publishes_to_a_stream_of_redis_is_a_dead_letter(redis_url: str, tmp_path: Path) -> None:
    app = shop(redis_url, tmp_path)
    headers = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/loyalty", "ce_type": Earned.__type__}
    async with RedisBroker(redis_url) as broker, app.running():
        await broker.publish({"customer": "a", "points": 1}, stream=Earned.__type__, headers=headers)
        await until(lambda: app.operations.dead_letters())
    (letter,) = app.operations.dead_letters()
    assert "the message is no CloudEvent" in letter.reason
    assert letter.data is not None
    assert "__data__" in letter.data


async def test_faststream_goes_on_where_it_was_unless_it_is_told_to_begin(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        plain = PlainRedis.from_url(redis_url)

        def reads() -> int:
            statistics: Any = plain.info("commandstats")
            return int(statistics.get("cmdstat_xreadgroup", {"calls": 0})["calls"])

        async def come(last_id: str | None, wanted: list[int]) -> None:
            found: list[int] = []
            async with RedisBroker(redis_url) as broker:

                @broker.subscriber(stream=StreamSub("numbers", group=f"from {last_id}", consumer="1", last_id=last_id))
                async def read(number: int) -> None:
                    found.append(number)

                before = reads()
                await broker.start()
                await until(lambda: reads() >= before + 2 and len(found) == len(wanted))
            assert found == wanted

        await client.xadd("numbers", {"data": "1"})
        await client.xgroup_create("numbers", "from None", "0")
        await come(None, [1])
        await come("0", [1])
        await client.xadd("numbers", {"data": "2"})
        await come(None, [2])
        await come("0", [])
