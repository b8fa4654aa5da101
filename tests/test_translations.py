"""Translations: what leaves a service is recorded exactly once."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from ensue import App, Backoff, Delivery, DomainEvent, IntegrationEvent, Retry
from ensue.errors import DeclarationError
from ensue.handlers import translates_to
from tests.patience import until


class Placed(DomainEvent, key="order", name="test.translations.placed"):
    order: int


class Accepted(IntegrationEvent, version=1, key="order", name="test.translations.accepted"):
    order: int


class Billed(IntegrationEvent, version=2, key="order", name="test.translations.billed"):
    order: int


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return App("translations", url, schema=schema, migrate=True)


def place(app: App, *orders: int) -> None:
    with app.transaction() as connection:
        app.record(*[Placed(order=order) for order in orders], via=connection)


def handled(app: App) -> bool:
    return not any(each.behind or each.retrying for each in app.operations.standings())


async def test_what_is_returned_is_recorded_with_its_cause(app: App) -> None:
    @app.translate(Placed)
    def accept(event: Placed) -> Accepted | None:
        return Accepted(order=event.order) if event.order != 2 else None

    @app.translate(Placed)
    async def both(event: Placed, delivery: Delivery) -> tuple[Accepted, Billed]:
        return Accepted(order=-event.order), Billed(order=event.order)

    async with app.running():
        await asyncio.to_thread(place, app, 1, 2, 3)
        await until(lambda: len(list(app.read(types=[Billed]))) == 3 and handled(app))
    placed = {each.event.order: each for each in app.read(types=[Placed])}
    accepted = list(app.read(types=[Accepted]))
    assert sorted(each.event.order for each in accepted) == [-3, -2, -1, 1, 3]
    assert all(each.causation_id == placed[abs(each.event.order)].id_text for each in accepted)
    assert sorted(each.event.order for each in app.read(types=[Billed])) == [1, 2, 3]


async def test_a_second_delivery_records_nothing(app: App) -> None:
    calls: list[int] = []

    @app.translate(Placed, retry=Backoff(first=0.01))
    def accept(event: Placed, delivery: Delivery) -> Accepted:
        calls.append(delivery.attempt)
        return Accepted(order=event.order)

    (declared,) = app.subscriptions.values()
    handle = declared.handle
    assert handle is not None

    async def twice(delivery: Delivery) -> object:  # as if the worker had died behind the recording
        await handle(delivery)
        return Retry(0.01) if delivery.attempt == 1 else await handle(delivery)

    object.__setattr__(app.declarations.subscriptions["accept"], "handle", twice)
    async with app.running():
        await asyncio.to_thread(place, app, 1)
        await until(lambda: len(calls) == 3 and handled(app))
    assert [each.event.order for each in app.read(types=[Accepted])] == [1]


async def test_what_is_no_integration_event_waits_for_a_person(app: App) -> None:
    @app.translate(Placed)
    def wrong(event: Placed) -> Accepted:
        return event  # type: ignore[return-value]

    async with app.running():
        await asyncio.to_thread(place, app, 1)
        await until(app.operations.dead_letters)
    (letter,) = app.operations.dead_letters()
    assert "a translation returns integration events" in letter.reason


def test_a_translation_takes_the_event_and_its_delivery(app: App) -> None:
    with pytest.raises(DeclarationError, match="takes 3 arguments"):

        @app.translate(Placed)  # type: ignore[arg-type]
        def many(event: Placed, delivery: Delivery, more: int) -> Accepted:
            return Accepted(order=1)


class Translator:
    answer: Accepted

    def __call__(self, event: Placed) -> Billed | None: ...

    async def method(self, event: Placed) -> tuple[Accepted, ...]:
        return ()


@functools.wraps(Translator.method)
def wrapped(*arguments: Any) -> Any: ...


def one(event: Unheard) -> Accepted | None: ...  # type: ignore[name-defined]  # noqa: F821 only the answer counts
def several(event: Placed) -> Iterable[Accepted | Billed] | list[Accepted] | None: ...
async def stream(event: Placed) -> AsyncIterator[Billed] | None: ...
def silent(event: Placed): ...  # type: ignore[no-untyped-def]
def vague(event: Placed) -> IntegrationEvent | None: ...
def nothing(event: Placed) -> None: ...
def unknown(event: Placed) -> Accepted | Unheard: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    "function, expected",
    [
        (one, (Accepted,)),
        (several, (Accepted, Billed)),
        (stream, (Billed,)),
        (Translator(), (Billed,)),
        (Translator().method, (Accepted,)),
        (wrapped, (Accepted,)),
        *((each, ()) for each in (silent, vague, nothing, unknown, functools.partial(one))),
    ],
)
def test_what_a_translation_makes_is_told_by_its_annotation(function: Any, expected: tuple[type, ...]) -> None:
    assert translates_to(function) == expected
