"""A relay that publishes to webhooks: what it does when the receiver asks to be asked later."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from ensue import App, Backoff, IntegrationEvent
from ensue.brokers.webhooks import Secrets, new_secret, receive
from ensue.contracts.cloudevents import CloudEvent, parse
from ensue.subscriptions.operating import Filter
from tests.http_server import Answer, HttpServer, Request
from tests.patience import until


class Billed(IntegrationEvent, version=1, key="order", name="test.hooks.billed"):
    order: str
    n: int


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setenv("HOOK_SECRET", new_secret())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return App("billing", url, schema=schema, migrate=True)


def record(app: App, *events: Billed) -> None:
    with app.transaction() as connection:
        app.record(*events, via=connection)


class Receiver:
    """Answers as it is told, and remembers what was asked when."""

    def __init__(self) -> None:
        self.refusing: set[str] = set()
        """Orders whose events are refused."""
        self.wait = 100
        self.as_date = False
        self.asked: list[tuple[str, int, float]] = []

    async def __call__(self, request: Request) -> Answer:
        event = parse(request.headers, request.body).events[0]
        assert isinstance(event, Billed)
        self.asked.append((event.order, event.n, asyncio.get_running_loop().time()))
        if event.order not in self.refusing:
            return Answer()
        moment = datetime.now(UTC) + timedelta(seconds=self.wait)
        return Answer(503, {"retry-after": format_datetime(moment, usegmt=True) if self.as_date else str(self.wait)})

    def about(self, order: str) -> list[int]:
        return [n for name, n, _ in self.asked if name == order]


@pytest.mark.parametrize("as_date", [False, True])
async def test_the_next_try_of_a_key_comes_when_the_receiver_wants_it(app: App, as_date: bool) -> None:
    receiver = Receiver()
    receiver.refusing, receiver.as_date, receiver.wait = {"a"}, as_date, 3
    async with HttpServer(receiver) as server:
        app.relay(f"{server.url}?secret_env=HOOK_SECRET", Billed, retry=Backoff(first=0.01, most=0.02))
        async with app.running():
            await asyncio.to_thread(record, app, Billed(order="a", n=1))
            await until(lambda: receiver.asked)
            receiver.refusing = set()
            await asyncio.to_thread(record, app, Billed(order="a", n=2), Billed(order="b", n=1))
            await until(lambda: receiver.about("a") == [1, 1, 2] and receiver.about("b") == [1])
    (_, _, first), (_, _, second), *_ = receiver.asked
    assert second - first >= (2.0 if as_date else 3.0)  # a date has no fractions of a second
    assert not app.operations.dead_letters(Filter(waiting_only=False))


async def test_everything_that_a_receiver_relies_on_is_signed(app: App) -> None:
    received: list[CloudEvent] = []

    async def answer(request: Request) -> Answer:
        received.append(receive(request.headers, request.body, Secrets(os.environ["HOOK_SECRET"])))
        assert not [name for name in request.headers if name.startswith("ce-")]
        return Answer()

    async with HttpServer(answer) as server:
        app.relay(f"{server.url}?secret_env=HOOK_SECRET", Billed)
        async with app.running():
            await asyncio.to_thread(record, app, Billed(order="a", n=1))
            await until(lambda: received)
    (recorded,) = app.read(types=[Billed])
    (event,) = received
    assert event.events == (Billed(order="a", n=1),)
    assert (event.type, event.source, event.key) == ("test.hooks.billed.v1", "urn:ensue:billing", "a")
    assert (event.uuid, event.metadata.correlation_id) == (recorded.id, recorded.correlation_id)


async def test_the_wait_is_kept_with_the_parked_key_and_nothing_else_counts_as_failed(app: App) -> None:
    receiver = Receiver()
    receiver.refusing = {"a"}
    async with HttpServer(receiver) as server:
        app.relay(f"{server.url}?secret_env=HOOK_SECRET", Billed, retry=Backoff(first=0.01, most=0.02))
        async with app.running():
            await asyncio.to_thread(record, app, Billed(order="a", n=1))
            await until(lambda: app.operations.dead_letters(Filter(waiting_only=False)))
            await asyncio.to_thread(record, app, Billed(order="a", n=2), Billed(order="b", n=1), Billed(order="c", n=1))
            await until(lambda: app.operations.standings()[0].behind == 2)
        (letter,) = app.operations.dead_letters(Filter(waiting_only=False))
    assert (letter.key, letter.attempt, letter.next_step) == ("a", 1, "retry")
    assert "asks to wait 100 s" in letter.reason
    assert letter.due_at is not None
    assert 95 < (letter.due_at - letter.failed_at).total_seconds() < 105
    assert receiver.about("b") == receiver.about("c") == []


async def test_a_receiver_that_always_asks_to_wait_is_given_up_like_any_other(app: App) -> None:
    receiver = Receiver()
    receiver.refusing = {"a"}
    receiver.wait = 0
    async with HttpServer(receiver) as server:
        app.relay(f"{server.url}?secret_env=HOOK_SECRET", Billed, retry=Backoff(first=0.01, most=0.02, attempts=3))
        async with app.running():
            await asyncio.to_thread(record, app, Billed(order="a", n=1), Billed(order="b", n=1))
            await until(lambda: app.operations.dead_letters(Filter()))
    assert receiver.about("a") == [1, 1, 1]
    assert receiver.about("b") == [1]
