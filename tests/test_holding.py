"""What operators see of a subscription that is held, since what it needs is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ensue import App, Delivery, DomainEvent, Hold, Retry
from ensue.app import judging
from ensue.events import Recorded
from ensue.log import Selection
from ensue.subscriptions import Outcome, Subscription
from ensue.subscriptions.declared import SLOTS
from ensue.subscriptions.leasing import Claimed, Lease
from ensue.subscriptions.runner import Runner
from ensue.subscriptions.standings import Held, Standing
from tests.broker_servers import OwnRedis
from tests.patience import PATIENCE, until, until_sync
from tests.shop import Shop, open_shop


class Rung(DomainEvent, key="key", name="test.holding.rung"):
    key: str


# --- a relay whose broker is down


@pytest.fixture
def shop(
    url: str, tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shop]:
    yield from open_shop(tmp_path, url, schema, monkeypatch, capsys)


@pytest.fixture
def redis() -> Iterator[OwnRedis]:
    """Return a server that is not started."""
    server = OwnRedis()
    try:
        yield server
    finally:
        server.close()


def standing(shop: Shop, name: str) -> dict[str, Any]:
    return next(row for row in shop.good("lag", "--json").json if row["subscription"] == name)


def test_a_relay_whose_broker_is_down_is_seen_until_it_is_back(
    shop: Shop, redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(f"{shop.text}\napp.relay({redis.url!r}, Placed, start='beginning')\n")
    shop.good("migrate")
    shop.record("good", "good", "fine")
    shop.start("run", "shop:app")
    until_sync(lambda: standing(shop, "relay")["state"] == "held")
    first = standing(shop, "relay")["held"]
    assert f"127.0.0.1:{redis.port}" in first["reason"]
    assert first["since"] < first["again_at"]
    until_sync(lambda: standing(shop, "relay")["held"]["again_at"] > first["again_at"])
    assert standing(shop, "relay")["held"]["since"] == first["since"]
    assert standing(shop, "relay")["partitions"][0]["held"] == standing(shop, "relay")["held"]
    assert standing(shop, "mail")["held"] is None

    lines = [line.split() for line in shop.good("lag").out.splitlines()]
    assert ["relay", "held", "3"] in [line[:3] for line in lines]
    assert ["held", "since", "next", "try", "waits", "for"] in lines
    monkeypatch.setattr(judging, "PATIENCE", 3600.0)
    found = [each for each in shop("doctor", "--json").json["findings"] if each["check"] == "held"]
    assert [each["level"] for each in found] == ["note"]
    monkeypatch.setattr(judging, "PATIENCE", 0.0)
    done = shop("doctor")
    assert done.code == 1
    assert "relay has been held for" in done.out
    assert "and 3 events wait" in done.out
    assert "goes on by itself (next try: " in done.out

    redis.start_now()
    until_sync(lambda: standing(shop, "relay")["state"] == "up to date")
    assert standing(shop, "relay")["held"] is None
    assert "waits for" not in shop.good("lag").out
    assert not [each for each in shop("doctor", "--json").json["findings"] if each["check"] == "held"]


# --- a receiver whose broker is down


def test_a_receiver_whose_broker_is_down_is_seen_until_it_is_back(
    shop: Shop, redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(f"{shop.text}\napp.inbox({redis.url!r}, Placed)\n")
    shop.good("migrate", "--no-brokers")
    worker = shop.start("run", "shop:app")
    until_sync(lambda: standing(shop, "inbox")["state"] == "held")
    first = standing(shop, "inbox")["held"]
    assert first["reason"].startswith(f"its broker cannot be reached: redis://127.0.0.1:{redis.port}")
    assert "Connect" in first["reason"]
    until_sync(lambda: standing(shop, "inbox")["held"]["again_at"] > first["again_at"])
    assert standing(shop, "inbox")["held"]["since"] == first["since"]

    assert "its broker cannot be reached" in shop.good("lag").out
    monkeypatch.setattr(judging, "PATIENCE", 0.0)
    done = shop("doctor")
    assert done.code == 1
    assert "inbox has been held for" in done.out
    assert "its broker cannot be reached" in done.out
    assert "0 events wait" not in done.out

    worker.terminate()
    worker.communicate(timeout=PATIENCE)
    redis.start_now()
    assert standing(shop, "inbox")["held"]["since"] == first["since"]
    shop.start("run", "shop:app")
    until_sync(lambda: standing(shop, "inbox")["held"] is None)
    assert standing(shop, "inbox")["state"] == "up to date"


# --- any handler


class Behind:
    """What stands behind a partition: it is away for some of the keys."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.wait = 0.01
        self.calls = 0
        self.done: list[str] = []

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome | Exception | None]:
        await asyncio.sleep(0)
        self.calls += 1
        keys = [each.recorded.key for each in deliveries]
        self.done += [key for key in keys if key not in self.away]
        return [Hold(self.wait, "the bell is away") if key in self.away else None for key in keys]

    async def close(self) -> None: ...


def bells(url: str, schema: str, behind: Behind) -> App:
    app = App("bells", url, schema=schema)
    app.declarations.subscribe(
        Subscription(
            name="bells", types=(Rung.__type__,), opens=lambda: behind, batch=10, concurrency=2, start="beginning"
        )
    )
    app.migrate()
    return app


def ring(app: App, *keys: str) -> None:
    with app.transaction() as connection:
        app.record(*(Rung(key=key) for key in keys), via=connection)


def held(app: App) -> Held | None:
    (found,) = app.operations.standings()
    assert isinstance(found, Standing)
    return found.held


async def test_it_is_held_while_only_a_part_of_what_was_handled_together_is(url: str, schema: str) -> None:
    behind = Behind()
    app = bells(url, schema, behind)
    behind.away, behind.wait = {"b"}, 600
    ring(app, "a", "b", "c")
    async with app.running():
        await until(lambda: app.operations.standings()[0].checkpoint == 1)
        await until(lambda: held(app))
        found = held(app)
    assert behind.done == ["a", "c"]
    assert found is not None
    assert found.reason == "the bell is away"
    assert 590 < (found.again_at - found.since).total_seconds() < 610


async def test_it_has_been_held_since_it_was_first_whoever_works_on_it(url: str, schema: str) -> None:
    behind = Behind()
    behind.away = {"a"}
    app = bells(url, schema, behind)
    ring(app, "a")
    seen: list[Held] = []
    for _ in range(2):
        async with app.running():
            await until(lambda: (found := held(app)) is not None and (not seen or found.again_at > seen[-1].again_at))
            found = held(app)
            assert found is not None
            seen.append(found)
    assert seen[0].since == seen[1].since
    behind.away = set()
    async with app.running():
        await until(lambda: held(app) is None)
        behind.away = {"b"}
        await asyncio.to_thread(ring, app, "b")
        await until(lambda: held(app) is not None)
        again = held(app)
    assert again is not None
    assert again.since > seen[1].since


async def test_a_parked_key_that_is_held_is_seen_too(url: str, schema: str) -> None:
    app = App("bells", url, schema=schema)
    answers: list[Outcome | Exception] = [ValueError("first"), Hold(600, "the bell is away")]

    @app.on(Rung, start="beginning")
    async def bell(event: Rung) -> Outcome | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    app.migrate()
    ring(app, "a")
    async with app.running():
        await until(lambda: held(app))
    (standing,) = app.operations.standings()
    assert (standing.behind, standing.retrying) == (0, 1)


async def test_others_do_not_wait_for_the_many_due_keys_of_one_that_is_held(url: str, schema: str) -> None:
    app, done = App("holding", url, schema=schema, migrate=True), list[str]()

    @app.on(Rung)
    async def away(event: Rung, delivery: Delivery) -> Outcome | None:
        return Retry(0.0) if delivery.attempt == 1 else Hold(3600.0)

    @app.on(Rung)
    async def here(event: Rung, delivery: Delivery) -> Outcome | None:
        if event.key == "last" and delivery.attempt == 1:
            return Retry(0.0)
        done.append(event.key)
        return None

    async with app.running():
        with app.transaction() as connection:
            app.record(*(Rung(key=f"k{number}") for number in range(1100)), via=connection)
        await until(lambda: len(done) == 1100)
        await until(
            lambda: next(each for each in app.operations.standings() if each.subscription == "away").retrying == 1100
        )
        with app.transaction() as connection:
            app.record(Rung(key="last"), via=connection)
        await until(lambda: "last" in done)


async def test_it_is_written_when_it_changes_and_not_with_every_event() -> None:
    behind = Behind()
    behind.away = {"k3"}
    rows = [recorded(n) for n in range(1, 8)]
    runner = runner_of(behind)
    runner.take(rows, 7)
    await until(lambda: len(behind.done) == 6)
    checkpoint, _ = runner.collect()
    assert checkpoint is not None
    assert (checkpoint.checkpoint, checkpoint.held) == (2, "the bell is away")
    runner.take((), 8)
    assert runner.collect() == (None, {})
    behind.away = set()
    await until(lambda: "k3" in behind.done)
    checkpoint, _ = runner.collect()
    assert checkpoint is not None
    assert (checkpoint.checkpoint, checkpoint.held) == (8, None)
    assert runner.collect() == (None, {})
    runner.take([recorded(9)], 9)
    await until(lambda: "k9" in behind.done)
    checkpoint, _ = runner.collect()
    assert checkpoint is not None
    assert (checkpoint.checkpoint, checkpoint.held) == (9, None)
    assert runner.collect() == (None, {})
    await runner.stop(1.0)


def runner_of(behind: Behind) -> Runner:
    async def read(selection: Selection, limit: int) -> list[Recorded[Any]]:
        return []

    subscription = Subscription(name="s", types=(Rung.__type__,), opens=lambda: behind, batch=10)
    return Runner(subscription, Claimed(Lease("s", 0, SLOTS - 1, 1), 0, (), {}), "w", read, lambda: None)


def recorded(n: int) -> Recorded[Any]:
    text = "2026-03-01T09:30:00Z"
    return Recorded(n, f"id{n}", Rung.__type__, "domain", None, None, f"k{n}", "{}", None, None, None, text)
