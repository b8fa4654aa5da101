"""Webhooks into an inbox: what is sent to a service is taken in once, in one transaction with its effect."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from ensue import App, Backoff, IntegrationEvent
from ensue.brokers import sweeping
from ensue.brokers.webhooks import Secrets, new_secret
from ensue.contracts.cloudevents import JSON, STRUCTURED
from ensue.errors import DeclarationError, NotMigrated
from ensue.subscriptions.operating import Filter
from tests.patience import until
from tests.servers import free_port

SOURCE = "https://shipping.example/hooks?secret_env=HOOK_SECRET"


class Billed(IntegrationEvent, version=1, key="order", name="test.doors.billed"):
    order: str
    n: int


class Refunded(IntegrationEvent, version=1, key="order", name="test.doors.refunded"):
    order: str


Place = Callable[[str], App]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return what makes an application with a log of its own, and a table for effects."""
    monkeypatch.setenv("HOOK_SECRET", new_secret())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def make(name: str) -> App:
        if request.param == "sqlite":
            app = App(name, f"sqlite:///{tmp_path / name}.db")
        else:
            app = App(name, request.getfixturevalue("postgres_url"), schema=f"{schema}_{name}")
        numbered = "integer primary key" if request.param == "sqlite" else "bigserial primary key"
        with app.transaction() as connection:
            connection.execute("drop table if exists effects")
            connection.execute(f"create table effects (number {numbered}, what text, n integer)")
        return app

    return make


def insert(app: App) -> str:
    mark = "?" if app.log.place.url.startswith("sqlite") else "%s"
    return f"insert into effects (what, n) values ({mark}, {mark})"


def effects(app: App) -> list[tuple[Any, ...]]:
    with app.log.own.lend() as connection:
        return [tuple(row) for row in connection.execute("select what, n from effects order by number").fetchall()]


def body_of(id: str, order: str, n: object, type: str = "test.doors.billed.v1") -> bytes:
    event = {"specversion": "1.0", "id": id, "source": "/partner", "type": type, "partitionkey": order}
    return json.dumps({**event, "datacontenttype": JSON, "data": {"order": order, "n": n}}).encode()


@asynccontextmanager
async def sending(app: App, source: str = SOURCE) -> AsyncGenerator[Callable[..., Awaitable[int]]]:
    """Lend what posts a signed body, and returns the status."""
    endpoint: Any = app.webhooks(source)
    signing = Secrets(os.environ["HOOK_SECRET"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(endpoint), base_url="http://shipping") as client:

        async def post(body: bytes, kind: str = STRUCTURED) -> int:
            headers = {"content-type": kind, **signing.sign("any", datetime.now(UTC), body)}
            return (await client.post("/", content=body, headers=headers)).status_code

        yield post


@asynccontextmanager
async def served(endpoint: Any) -> AsyncGenerator[str]:
    """Serve it by a web server, below a path, and yield the URL."""
    port = free_port()
    host = Starlette(routes=[Mount("/hooks", endpoint)])
    server = uvicorn.Server(uvicorn.Config(host, port=port, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{port}/hooks/"
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_event_is_posted_and_has_its_effect_in_another_service(place: Place, asynchronous: bool) -> None:
    billing, shipping = place("billing"), place("shipping")
    if asynchronous:

        @shipping.receive(Billed, source=SOURCE)
        async def ship(event: Billed, connection: Any) -> None:
            await connection.execute(insert(shipping), (event.order, event.n))

    else:

        @shipping.receive(Billed, source=SOURCE)
        def ship_in_line(event: Billed, connection: Any) -> None:
            connection.execute(insert(shipping), (event.order, event.n))

    shipping.migrate()
    async with served(shipping.webhooks(SOURCE)) as url:
        billing.relay(f"{url}?secret_env=HOOK_SECRET", Billed)
        billing.migrate()
        async with billing.running():
            with billing.transaction() as connection:
                billing.record(*(Billed(order=order, n=n) for n in range(5) for order in "ab"), via=connection)
            await until(lambda: len(effects(shipping)) == 10)
    assert [n for order, n in effects(shipping) if order == "a"] == [0, 1, 2, 3, 4]
    assert not billing.operations.dead_letters(Filter())


async def test_one_that_is_sent_again_has_its_effect_once_in_each_receiver(place: Place) -> None:
    shipping = place("shipping")

    @shipping.receive(Billed, source=SOURCE)
    def ship(event: Billed, connection: Any) -> None:
        connection.execute(insert(shipping), (f"ship {event.order}", event.n))

    @shipping.receive(Billed, Refunded, source=SOURCE)
    def count(event: Billed | Refunded, connection: Any) -> None:
        connection.execute(insert(shipping), (f"count {event.order}", 0))

    shipping.migrate()
    async with sending(shipping) as post:
        for _ in range(2):
            assert await post(body_of("1", "a", 1)) == 204
        assert await asyncio.gather(*(post(body_of("2", "b", 1)) for _ in range(3))) == [204] * 3
        assert await post(body_of("3", "a", 1, type="test.doors.refunded.v1")) == 204
    assert sorted(effects(shipping)) == [("count a", 0), ("count a", 0), ("count b", 0), ("ship a", 1), ("ship b", 1)]


async def test_the_log_can_come_first(place: Place) -> None:
    shipping = place("shipping")
    shipping.inbox(SOURCE, Billed)
    shipping.migrate()
    async with sending(shipping) as post:
        assert [await post(body_of("1", "a", 1)) for _ in range(2)] == [204, 204]
    (recorded,) = shipping.read(types=[Billed])
    assert (recorded.event, recorded.key, recorded.causation_id) == (Billed(order="a", n=1), "a", "1")


async def test_a_handler_that_fails_holds_back_its_key_only(place: Place) -> None:
    shipping, healed = place("shipping"), False

    @shipping.receive(Billed, source=SOURCE, retry=Backoff(first=0.01, most=0.02))
    def ship(event: Billed, connection: Any) -> None:
        if event.order == "a" and not healed:
            raise ValueError("no such street")
        connection.execute(insert(shipping), (event.order, event.n))

    shipping.migrate()
    async with sending(shipping) as post:
        for n, order in enumerate("aab"):
            assert await post(body_of(str(n), order, n)) == 204
    assert effects(shipping) == [("b", 2)]
    healed = True
    async with shipping.running():
        await until(lambda: len(effects(shipping)) == 3)
    assert effects(shipping)[1:] == [("a", 0), ("a", 1)]


async def test_what_cannot_be_read_is_kept_and_what_is_not_signed_is_not(place: Place) -> None:
    shipping = place("shipping")

    @shipping.receive(Billed, source=SOURCE)
    def ship(event: Billed, connection: Any) -> None:
        connection.execute(insert(shipping), (event.order, event.n))

    shipping.migrate()
    async with sending(shipping) as post, shipping.running():
        assert await post(body_of("1", "a", "no number")) == 204
        assert await post(body_of("2", "b", 1, type="test.doors.unheard-of.v1")) == 204
        assert await post(b'{"specversion": "1.0"}') == 204
        assert await post(b"{}", kind=JSON) == 400  # its attributes would be headers, which nobody has signed
        await until(lambda: len(shipping.operations.dead_letters(Filter())) == 3)
    os.environ["HOOK_SECRET"] = new_secret()
    async with sending(shipping) as post:
        assert await post(body_of("3", "c", 1)) == 401
    reasons = " ".join(each.reason for each in shipping.operations.dead_letters(Filter()))
    assert "does not fit its class" in reasons
    assert "unheard-of" in reasons
    assert "the message has no id" in reasons
    assert effects(shipping) == []


async def test_what_is_sent_during_a_pause_is_handled_afterwards_in_its_order(place: Place) -> None:
    shipping = place("shipping")

    @shipping.receive(Billed, source=SOURCE)
    def ship(event: Billed, connection: Any) -> None:
        connection.execute(insert(shipping), (event.order, event.n))

    shipping.migrate()
    async with sending(shipping) as post:
        shipping.operations.pause("ship", actor="test", reason="stocktaking")
        assert [await post(body_of(str(n), "a", n)) for n in (0, 1, 1)] == [204] * 3
        assert effects(shipping) == []
        shipping.operations.resume("ship", actor="test", reason="done")
        assert await post(body_of("2", "a", 2)) == 204  # behind what waits
        assert effects(shipping) == []
        async with shipping.running():
            await until(lambda: effects(shipping) == [("a", 0), ("a", 1), ("a", 2)])


async def test_nothing_is_taken_before_there_is_a_receiver_in_the_log(place: Place) -> None:
    shipping = place("shipping")
    shipping.migrate()

    @shipping.receive(Billed, source=SOURCE)
    def ship(event: Billed, connection: Any) -> None:
        connection.execute(insert(shipping), (event.order, event.n))

    async with sending(shipping) as post:
        with pytest.raises(NotMigrated, match="'ship' is not registered"):  # the server answers 500
            await post(body_of("1", "a", 1))
        shipping.migrate()
        assert await shipping.prepare_receivers() == {"ship": []}
        assert await post(body_of("1", "a", 1)) == 204
    assert effects(shipping) == [("a", 1)]


async def test_marks_are_forgotten_after_their_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "FORGET_EVERY", 0.01)
    shipping = place("shipping")
    shipping.inbox(SOURCE, Billed, keep="1h")
    shipping.migrate()

    def marks() -> int:
        with shipping.transaction() as connection:
            (found,) = connection.execute(f"select count(*) from {table}").fetchone()
        return int(found)

    sqlite = shipping.log.place.url.startswith("sqlite")
    table = "ensue_inbox" if sqlite else f"{shipping.log.place.schema}.inbox"
    long_ago = "'2020-01-01T00:00:00.000Z'" if sqlite else "now() - interval '2 hours'"
    async with sending(shipping) as post:
        assert await post(body_of("1", "a", 1)) == 204
    assert marks() == 1
    with shipping.transaction() as connection:
        connection.execute(f"update {table} set received_at = {long_ago}")
    async with shipping.running():
        await until(lambda: marks() == 0)


def test_only_a_receiver_that_is_declared_takes_webhooks(place: Place) -> None:
    shipping = place("shipping")
    shipping.inbox("memory://doors", Billed)
    with pytest.raises(DeclarationError, match=r"from https://shipping\.example/hooks.*declare it before"):
        shipping.webhooks(SOURCE)
    with pytest.raises(DeclarationError, match="only http and https"):
        shipping.webhooks("memory://doors")
