"""Handlers that take several events together, and handlers that ask to be held: what a partition's runner does."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ensue import App, Backoff, Delivery, DomainEvent
from ensue.errors import Permanent
from ensue.subscriptions import Done, Hold, Outcome, Park, Subscription
from ensue.subscriptions.operating import Filter
from tests.patience import until


class Noted(DomainEvent, key="key", name="test.handled-together.noted"):
    key: str
    n: int


class Book:
    """What stands behind a partition: it notes what it is given, and answers as it is told."""

    def __init__(self, answer: Callable[[Delivery], Outcome | Exception | None] = lambda _: None) -> None:
        self.answer = answer
        self.sizes: list[int] = []
        self.by_key: dict[str, list[int]] = defaultdict(list)
        self.total = 0
        self.closed = 0

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome | Exception | None]:
        await asyncio.sleep(0)
        keys = [each.recorded.key for each in deliveries]
        assert len(set(keys)) == len(keys), "a key is in it once"
        self.sizes.append(len(deliveries))
        answers = [self.answer(each) for each in deliveries]
        for each, answer in zip(deliveries, answers, strict=True):
            if answer is None or isinstance(answer, Done):
                self.by_key[each.recorded.key].append(each.recorded.event.n)
                self.total += 1
        return answers

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path / 'log.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return App("together", url, schema=schema)


def declare(app: App, book: Book, **options: Any) -> None:
    """Declare a subscription behind which the book stands."""
    settings: dict[str, Any] = {"batch": 10, "concurrency": 2, "start": "beginning", "name": "book", "timeout": 5.0}
    app.declarations.subscribe(Subscription(types=(Noted.__type__,), opens=lambda: book, **settings | options))
    app.migrate()


def record(app: App, keys: int, numbers: range) -> None:
    with app.transaction() as connection:
        app.record(*(Noted(key=f"k{key}", n=n) for n in numbers for key in range(keys)), via=connection)


def parked(app: App) -> dict[str, str]:
    return {each.key: each.reason for each in app.operations.dead_letters(Filter(waiting_only=False))}


async def test_events_of_different_keys_are_handled_together_and_those_of_one_in_order(app: App) -> None:
    book = Book()
    declare(app, book)
    record(app, 25, range(6))
    async with app.running():
        await until(lambda: book.total == 150)
    assert dict(book.by_key) == {f"k{key}": list(range(6)) for key in range(25)}
    assert max(book.sizes) == 10
    assert book.closed == 1


async def test_each_has_an_outcome_of_its_own(app: App) -> None:
    failed: set[int] = set()

    def answer(delivery: Delivery) -> Outcome | Exception | None:
        event = delivery.recorded.event
        if event.key == "k1" and event.n == 1 and delivery.attempt < 3:
            failed.add(delivery.attempt)
            return ValueError("not yet")
        return Park("never") if event.key == "k2" and event.n == 2 else Done()

    book = Book(answer)
    declare(app, book, retry=Backoff(first=0.01, most=0.02))
    record(app, 5, range(4))
    async with app.running():
        await until(lambda: book.total == 5 * 4 - 2)
        await until(lambda: parked(app) == {"k2": "never"})
    assert failed == {1, 2}
    assert dict(book.by_key) == {f"k{key}": list(range(2 if key == 2 else 4)) for key in range(5)}


@pytest.mark.parametrize(("error", "waits"), [(OSError("no answer"), False), (Permanent("never"), True)])
async def test_an_error_is_the_outcome_of_all_of_them(app: App, error: Exception, waits: bool) -> None:
    calls = 0

    class Failing(Book):
        async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome | Exception | None]:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise error
            return await super().handle(deliveries)

    book = Failing()
    declare(app, book, retry=Backoff(first=0.01, most=0.02), concurrency=1)
    record(app, 3, range(1))
    async with app.running():
        await until(lambda: len(parked(app)) == 3 if waits else book.total == 3)
        if not waits:
            await until(lambda: not parked(app))
    assert set(parked(app).values()) <= {"Permanent: never"}


async def test_too_few_answers_lose_nothing(app: App) -> None:
    class Short(Book):
        async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome | Exception | None]:
            found = await super().handle(deliveries)
            return found[:-1] if len(found) > 1 else found

    book = Short()
    declare(app, book, retry=Backoff(first=0.01, most=0.02), concurrency=1)
    record(app, 3, range(1))
    async with app.running():
        await until(lambda: book.total == 3 + 3 and not parked(app))  # together, and one by one after that
    assert book.sizes == [3, 1, 1, 1]


async def test_what_is_held_waits_in_order_and_counts_as_no_attempt(app: App) -> None:
    away = True
    attempts: list[int] = []

    def answer(delivery: Delivery) -> Outcome | None:
        attempts.append(delivery.attempt)
        return Hold(0.02, "it is away") if away else None

    book = Book(answer)
    declare(app, book)
    record(app, 25, range(4))
    async with app.running():
        await until(lambda: len(attempts) > 40)
        assert not parked(app)
        assert book.total == 0
        away = False
        await until(lambda: book.total == 100)
    assert set(attempts) == {1}
    assert dict(book.by_key) == {f"k{key}": list(range(4)) for key in range(25)}


async def test_a_plain_handler_may_ask_to_be_held(app: App) -> None:
    seen: list[int] = []
    calls = 0

    @app.on(Noted, start="beginning")
    async def handle(event: Noted) -> Hold | None:
        nonlocal calls
        calls += 1
        if calls < 4:
            return Hold("0.01s", "the service is away")
        seen.append(event.n)
        return None

    app.migrate()
    record(app, 1, range(5))
    async with app.running():
        await until(lambda: len(seen) == 5)
    assert seen == list(range(5))
    assert not parked(app)


async def test_a_parked_event_is_held_too(app: App) -> None:
    answers: list[Outcome | Exception | None] = [ValueError("first"), Hold(0.01), Hold(0.01), None]

    def answer(delivery: Delivery) -> Outcome | Exception | None:
        return answers.pop(0) if delivery.recorded.event.n == 0 and answers else None

    book = Book(answer)
    declare(app, book, retry=Backoff(first=0.01, most=0.02))
    record(app, 1, range(3))
    async with app.running():
        await until(lambda: book.total == 3 and not parked(app))
    assert book.by_key["k0"] == [0, 1, 2]


async def test_it_stops_at_once_while_it_is_held(app: App) -> None:
    book = Book(lambda _: Hold(600, "it is away"))
    declare(app, book)
    record(app, 25, range(2))
    async with app.running():
        await until(lambda: bool(book.sizes))
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert not parked(app)
    assert book.closed == 1
    again = Book()
    app.declarations.subscriptions.clear()
    declare(app, again)
    async with app.running():
        await until(lambda: again.total == 50)
    assert dict(again.by_key) == {f"k{key}": [0, 1] for key in range(25)}
