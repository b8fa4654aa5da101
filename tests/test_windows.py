"""For how long brokers may deliver a message again, and what is said where a receiver forgets sooner."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ensue import App, IntegrationEvent
from ensue.brokers import broker_at
from ensue.brokers.broker import Redelivers
from ensue.errors import BrokerUnavailable
from tests.broker_servers import OwnNats, shared_nats
from tests.own_kafka import shared_kafka
from tests.patience import until
from tests.shop import Shop, open_shop

DAY = 86400.0


class Sent(IntegrationEvent, version=1, key="order", name="test.windows.sent"):
    order: str


async def make(url: str, *topics: str) -> None:
    """Make the topics, as a relay does."""
    publisher = broker_at(url).publisher()
    await publisher.open(topics)
    await publisher.close()


async def redelivers_for(url: str, *topics: str) -> float | None:
    broker = broker_at(url)
    assert isinstance(broker, Redelivers)
    return await broker.redelivers_for(topics)


# --- what brokers tell


@pytest.mark.parametrize(("option", "seconds"), [("&max_age=864000", 10 * DAY), ("", None)])
async def test_nats_keeps_a_message_for_as_long_as_the_stream_says(option: str, seconds: float | None) -> None:
    async with OwnNats() as server:
        url = f"{server.url}{option}"
        assert await redelivers_for(url, "a") is None  # there is no stream yet, and there is none by that
        assert await redelivers_for(url, "a") is None
        await make(url, "a")
        assert await redelivers_for(server.url, "a") == seconds


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    with shared_kafka() as where:
        yield where


async def test_kafka_keeps_messages_for_the_longest_retention_of_the_topics(kafka: str) -> None:
    short, long, ever, compacted = (f"windows-{secrets.token_hex(4)}" for _ in range(4))
    client: Any = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    settings = {
        short: {"retention.ms": "3600000"},
        long: {"retention.ms": "864000000"},
        ever: {"retention.ms": "-1"},
        compacted: {"retention.ms": "3600000", "cleanup.policy": "compact"},
    }
    try:
        await client.create_topics([NewTopic(name, 1, 1, topic_configs=each) for name, each in settings.items()])
        url = f"kafka://{kafka}?timeout=10"
        assert await redelivers_for(url, short) == 3600
        assert await redelivers_for(url, short, long) == 10 * DAY
        assert await redelivers_for(url, short, ever) is None
        assert await redelivers_for(url, compacted) is None
        assert await redelivers_for(url, f"{short}-missing") is None
        assert f"{short}-missing" not in await client.list_topics()
    finally:
        await client.delete_topics([short, long, ever, compacted])
        await client.close()


@pytest.mark.parametrize("scheme", ["nats", "kafka"])
async def test_a_broker_that_is_away_says_so(scheme: str) -> None:
    with pytest.raises(BrokerUnavailable):
        await redelivers_for(f"{scheme}://127.0.0.1:1?timeout=2", "a")


@pytest.mark.parametrize("scheme", ["amqp", "redis", "memory"])
def test_other_brokers_cannot_be_asked(scheme: str) -> None:
    assert not isinstance(broker_at(f"{scheme}://127.0.0.1"), Redelivers)


# --- what is said about it


@pytest.fixture(scope="module")
def nats() -> Iterator[str]:
    with shared_nats() as where:
        yield where


@pytest.fixture
def source(nats: str) -> str:
    """Return the URL of a stream of this test's own that keeps messages for ten days, once it is made."""
    return f"nats://{nats}/ensue-windows-{secrets.token_hex(4)}?timeout=5&max_age=864000"


async def remove(source: str) -> None:
    from nats import connect

    client = await connect(source.partition("?")[0].rpartition("/")[0])
    await client.jetstream().delete_stream(source.partition("?")[0].rpartition("/")[2])
    await client.close()


@pytest.mark.parametrize(("keep", "short"), [("7d", True), ("10d", False)])
async def test_a_receiver_that_forgets_too_soon_says_so_when_it_starts(
    url: str, schema: str, source: str, caplog: pytest.LogCaptureFixture, keep: str, short: bool
) -> None:
    topic = f"windows.{secrets.token_hex(4)}"
    await make(source, *(f"{topic}.p{part}" for part in range(2)))
    app = App("reader", url, schema=schema)
    app.inbox(source, Sent, keep=keep, partitions=2, topic=lambda _: topic)
    app.migrate()
    asked: list[float | None] = []
    real = type(broker_at(source)).redelivers_for  # type: ignore[attr-defined]

    async def ask(broker: Any, topics: list[str]) -> float | None:
        asked.append(await real(broker, topics))
        return asked[-1]

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, "ensue"):
        patch.setattr(type(broker_at(source)), "redelivers_for", ask)
        async with app.running():
            await until(lambda: asked)
            told = [each.getMessage() for each in caplog.records if "may deliver a message again" in each.getMessage()]
    assert asked == [10 * DAY]  # once for all of its partitions
    assert len(told) == (1 if short else 0)
    assert not short or "its marks are kept for 604800 s" in told[0]
    assert not short or "again for 864000 s" in told[0]
    await remove(source)


@pytest.fixture
def shop(
    url: str, tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shop]:
    yield from open_shop(tmp_path, url, schema, monkeypatch, capsys)


def findings(shop: Shop) -> list[dict[str, Any]]:
    return [each for each in shop("doctor", "--json").json["findings"] if each["check"] == "receivers"]


def test_the_doctor_compares_what_receivers_keep_with_what_their_brokers_do(shop: Shop, source: str) -> None:
    topic = f"windows.{secrets.token_hex(4)}"
    asyncio.run(make(source, topic))
    shop.good("migrate")
    assert findings(shop) == []
    shop.write(f"{shop.text}\napp.inbox({source!r}, Placed, keep='7d', topic=lambda _: {topic!r})\n")
    shop.good("migrate")
    (found,) = findings(shop)
    assert found["level"] == "wrong"
    assert (
        "inbox knows for 7 d that it has taken a message in, and its broker may deliver it again for 10 d"
        in (found["what"])
    )
    shop.change("keep='7d'", "keep='11d'")
    (found,) = findings(shop)
    assert (found["level"], found["what"][:14]) == ("ok", "1 receiver; 1 ")
    shop.change(source.partition("?")[0], "nats://127.0.0.1:1/none")
    (found,) = findings(shop)
    assert found["level"] == "note"
    assert "the broker of inbox cannot be asked from here: nats://127.0.0.1:1" in found["what"]
    asyncio.run(remove(source))
