"""Gathering through a real NATS: gatherers are killed, and nothing is missing, and nothing is there twice."""

from __future__ import annotations

import asyncio
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import nats
import pytest
from nats.js.errors import NotFoundError

from ensue import App
from ensue.lake import Gatherer, Lake, compare, source_of
from tests.broker_servers import shared_nats
from tests.lake_gathering import Sold
from tests.patience import PATIENCE

TOPIC = Sold.__type__
SOURCE = source_of("tills")


@pytest.fixture
async def broker() -> AsyncIterator[str]:
    """Return the URL of a stream of the test's own."""
    with shared_nats() as where:
        stream = f"ensue-gathering-{secrets.token_hex(4)}"
        yield f"nats://{where}/{stream}?timeout=10"
        client = await nats.connect(f"nats://{where}")
        with suppress(NotFoundError):
            await client.jetstream().delete_stream(stream)
        await client.close()


def _sell(app: App, numbers: range) -> None:
    with app.transaction() as connection:
        app.record(*(Sold(shop=f"s{each % 7}", number=each) for each in numbers), via=connection)


def _gathered(lake: Lake) -> int:
    return sum(each.events for each in lake.sources()) if lake.events.exists() else 0


def _start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.lake_gathering", *map(str, arguments)])


async def _at_the_broker(broker: str) -> tuple[int, int]:
    """Return how many messages it has, and how many have been delivered to the gatherers and not acknowledged."""
    parts = urlsplit(broker)
    client = await nats.connect(f"nats://{parts.netloc}")
    try:
        stream = client.jetstream()
        there = await stream.stream_info(parts.path.strip("/"))
        groups = await stream.consumers_info(parts.path.strip("/"))
        return there.state.messages, sum(each.num_ack_pending or 0 for each in groups)
    except NotFoundError:  # the relay makes it
        return 0, 0
    finally:
        await client.close()


async def test_gatherers_that_are_killed_neither_lose_nor_double(tmp_path: Path, broker: str) -> None:
    lake, place = Lake(tmp_path / "lake"), tmp_path / "lake"
    tills = App("tills", f"sqlite:///{tmp_path}/tills.db", migrate=True)
    tills.relay(broker, Sold, start="beginning")
    tills.migrate()
    await asyncio.to_thread(_sell, tills, range(200))
    async with tills.running():
        deadline = time.monotonic() + PATIENCE
        while (await _at_the_broker(broker))[0] < 200:
            assert time.monotonic() < deadline
        dies = _start(place, broker, TOPIC, "dies")
        assert await asyncio.to_thread(dies.wait) == -signal.SIGKILL
        assert _gathered(lake) == 200
        assert await _at_the_broker(broker) == (200, 200)  # committed, and not acknowledged
        assert "lake_gathering_sold_v1" not in lake.address.names()
        assert await Gatherer(lake, broker, [TOPIC]).gather(quiet=0.5) == 0
        assert _numbers(lake) == list(range(200))

        killed, sold = _start(place, broker, TOPIC), 200
        while _gathered(lake) < 500:
            assert killed.poll() is None
            assert sold < 20_000
            await asyncio.to_thread(_sell, tills, range(sold, sold + 50))
            sold += 50
        killed.kill()
        await asyncio.to_thread(killed.wait)
        await asyncio.to_thread(_sell, tills, range(sold, sold + 50))
        sold += 50
        while _gathered(lake) < sold:
            await Gatherer(lake, broker, [TOPIC]).gather(quiet=0.5)

    assert lake.check() == []
    (standing,) = lake.sources()
    assert (standing.source, standing.events) == (SOURCE, sold)
    assert compare(lake.events, SOURCE, tills.log, ("integration",)) == []
    assert _numbers(lake) == list(range(sold))
    again = Gatherer(lake, broker, [TOPIC], group="another")  # all of it once more
    assert await again.gather(quiet=0.5) == 0


def _numbers(lake: Lake) -> list[int]:
    found: list[int] = lake.sql("select number from lake_gathering_sold_v1 order by 1")["number"].to_pylist()
    return found
