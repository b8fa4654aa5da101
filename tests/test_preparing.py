"""Receivers are prepared at their brokers: by the application, and by `ensue migrate` after the tables."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ensue import App, IntegrationEvent
from ensue.errors import NotPrepared
from tests.broker_servers import shared_nats
from tests.patience import until
from tests.servers import free_port
from tests.shop import MODULE, Shop, open_shop


class Sent(IntegrationEvent, version=1, key="order", name="test.preparing.sent"):
    order: str


class Kept(IntegrationEvent, version=1, key="order", name="test.preparing.kept"):
    order: str


@pytest.fixture(scope="module")
def where() -> Iterator[str]:
    with shared_nats() as found:
        yield found


@pytest.fixture
def broker(where: str) -> Iterator[str]:
    """Return the URL of a stream of the test's own."""
    stream = f"ensue-preparing-{secrets.token_hex(4)}"
    yield f"nats://{where}/{stream}"
    asyncio.run(_forget(where, stream))


async def _forget(where: str, stream: str) -> None:
    import nats
    from nats.js.errors import NotFoundError

    client = await nats.connect(f"nats://{where}")
    try:
        await client.jetstream().delete_stream(stream)
    except NotFoundError:
        pass
    finally:
        await client.close()


@pytest.fixture
def nowhere() -> str:
    """Return the URL of a broker that is not there."""
    return f"redis://user:word@127.0.0.1:{free_port()}/0?timeout=5"


# --- the application


async def test_every_receiver_is_prepared_each_of_its_partitions_too(broker: str) -> None:
    app = App("preparing", "memory://preparing")
    app.inbox(broker, Sent, partitions=2)

    @app.receive(Sent, Kept, source=broker, group="other")
    def ship(event: Sent | Kept) -> None: ...

    stream = broker.rpartition("/")[2]
    assert await app.prepare_receivers() == {
        "inbox": [
            f"stream {stream}",
            f"consumer preparing=2Einbox=2Ep0 of stream {stream}",
            f"consumer preparing=2Einbox=2Ep1 of stream {stream}",
        ],
        "ship": [f"consumer other of stream {stream}"],
    }
    assert await app.prepare_receivers() == {"inbox": [], "ship": []}


async def test_what_a_broker_refuses_or_does_not_answer_hinders_no_other_receiver(broker: str, nowhere: str) -> None:
    app = App("preparing", "memory://preparing")
    app.inbox(nowhere, Sent, name="away")
    app.inbox(nowhere, Sent, name="away too")
    app.inbox(broker, Sent, group="x" * 300, name="refused")
    app.inbox(broker, Sent, name="well")
    with pytest.raises(NotPrepared) as raised:
        await app.prepare_receivers()
    error = raised.value
    assert error.failures.keys() == {"away", "away too", "refused"}
    assert error.made.keys() == {"well"}
    assert "word" not in str(error)
    assert f"receiver away is not prepared: {nowhere.replace(':word', '').partition('?')[0]}" in str(error)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_neither_migrating_nor_recording_goes_to_a_broker(
    kind: str, tmp_path: Path, schema: str, nowhere: str, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/log.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    app = App("preparing", url, schema=schema, migrate=True)
    app.inbox(nowhere, Sent)
    app.relay(nowhere, Kept)
    with app.transaction() as connection:
        app.record(Kept(order="a"), via=connection)
    assert app.migrate() == []
    async with app.running():
        with app.transaction() as connection:
            app.record(Kept(order="b"), via=connection)
    assert len(list(app.read(types=[Kept]))) == 2


# --- the command line


@pytest.fixture
def shop(
    tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shop]:
    yield from open_shop(tmp_path, f"sqlite:///{tmp_path}/shop.db", schema, monkeypatch, capsys)


def receiving(shop: Shop, *sources: str) -> None:
    """Let the shop have an inbox for each source."""
    lines = [f"app.inbox({source!r}, Placed, name='from_{n}')" for n, source in enumerate(sources)]
    shop.write(MODULE.format(url=shop.url, schema=shop.schema) + "\n".join(lines))


def test_migrate_prepares_receivers_and_says_so(shop: Shop, broker: str) -> None:
    receiving(shop, broker)
    stream = broker.rpartition("/")[2]
    before = shop.good("migrate", "--dry-run").out
    assert "would prepare receiver from_0, if that has not been done" in before
    first = shop.good("migrate").out
    assert f"prepared receiver from_0: made consumer shop=2Efrom_0 of stream {stream}" in first
    assert "nothing to do" in shop.good("migrate").out
    again: dict[str, Any] = shop.good("migrate", "--json").json
    assert (again["prepared"], again["unprepared"]) == ({"from_0": []}, {})


def test_a_broker_that_is_away_is_named_after_the_tables_are_migrated(shop: Shop, broker: str, nowhere: str) -> None:
    receiving(shop, nowhere, broker)
    done = shop("migrate")
    assert done.code == 1
    assert "applied migration" in done.out
    assert "prepared receiver from_1" in done.out
    place = nowhere.rpartition("@")[2].partition("/")[0]
    assert "error: receiver from_0 is not prepared: redis://" in done.err
    assert place in done.err
    assert "word" not in done.err
    assert "--no-brokers leaves receivers out" in done.err
    assert shop.app.operations.pending_migrations() == []
    assert "registered" not in shop("migrate").out

    told = shop("migrate", "--json")
    assert told.code == 1
    assert place in told.json["unprepared"]["from_0"]
    assert told.json["prepared"] == {"from_1": []}

    left_out = shop.good("migrate", "--no-brokers")
    assert "nothing to do" in left_out.out
    assert "would prepare" not in shop.good("migrate", "--no-brokers", "--dry-run").out


def test_what_is_published_before_the_first_start_is_handled(shop: Shop, broker: str) -> None:
    receiving(shop, broker)
    shop.good("migrate")

    async def publish_then_work() -> None:
        sender = App("sender", "memory://sender", migrate=True)
        sender.relay(broker, shop.module.Placed)
        with sender.transaction() as connection:
            sender.record(shop.module.Placed(order="early", n=1), via=connection)
        async with sender.running():
            await until(lambda: sender.operations.standings()[0].behind == 0)
        async with shop.app.running():
            await until(lambda: [each.key for each in shop.app.read(types=[shop.module.Placed])] == ["early"])

    asyncio.run(publish_then_work())
