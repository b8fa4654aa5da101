"""Versions side by side: the older one is recorded beside the newer one, exactly once, while somebody reads it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ensue import App, Backoff, Delivery, DomainEvent, IntegrationEvent, PastEvent, Retry, upcast
from ensue.contracts import Service
from ensue.contracts.folder import manifest_of
from ensue.errors import DeclarationError, DuplicateName
from tests.patience import until

ID = "019b0000-0000-7000-8000-000000000001"


class Paid1(IntegrationEvent, version=1, name="test.downcasts.Paid", key="order"):
    order: int
    cents: int


class Paid2(IntegrationEvent, version=2, name="test.downcasts.Paid", key="order"):
    order: int
    amount: str


class Paid3(IntegrationEvent, version=3, name="test.downcasts.Paid", key="order"):
    order: int
    amount: str
    currency: str = "EUR"


class Sent1(IntegrationEvent, version=1, name="test.downcasts.Sent"):
    order: int


class Noted(DomainEvent, name="test.downcasts.Noted"):
    order: int


class Booked2(IntegrationEvent, version=2, name="test.downcasts.Booked", service="elsewhere"):
    total: int


class Booked1(PastEvent, name="test.downcasts.Booked.v1"):
    net: int
    tax: int


@upcast
def booked(old: Booked1) -> Booked2:
    return Booked2(total=old.net + old.tax)


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return App("downcasts", url, schema=schema, migrate=True)


def record(app: App, *events: Any) -> None:
    with app.transaction() as connection:
        app.record(*events, via=connection)


def handled(app: App) -> bool:
    return not any(each.behind or each.retrying for each in app.operations.standings())


async def test_each_older_version_is_recorded_once_beside_the_newer_one(app: App) -> None:
    @app.downcast(Paid3, Paid2)
    def without_currency(new: Paid3) -> Paid2 | None:
        return Paid2(order=new.order, amount=new.amount) if new.currency == "EUR" else None

    @app.downcast(Paid2, Paid1, retry=Backoff(first=0.01))
    async def in_cents(new: Paid2, delivery: Delivery) -> Paid1:
        return Paid1(order=new.order, cents=int(new.amount) * 100)

    declared = app.declarations.subscriptions["in_cents"]
    deliver = declared.handle
    assert deliver is not None

    async def twice(delivery: Delivery) -> object:  # as if the worker had died behind the recording
        await deliver(delivery)
        return Retry(0.01) if delivery.attempt == 1 else await deliver(delivery)

    object.__setattr__(declared, "handle", twice)
    async with app.running():
        await asyncio.to_thread(record, app, *[Paid3(order=each, amount=str(each)) for each in range(3)])
        await asyncio.to_thread(record, app, Paid3(order=7, amount="7", currency="USD"))
        await until(lambda: len(list(app.read(types=[Paid1]))) == 3 and handled(app))
    new = {each.event.order: each for each in app.read(types=[Paid3])}
    middle = {each.event.order: each for each in app.read(types=[Paid2])}
    old = list(app.read(types=[Paid1]))
    assert sorted((each.event.order, each.event.cents) for each in old) == [(0, 0), (1, 100), (2, 200)]
    assert all(each.causation_id == middle[each.event.order].id_text for each in old)
    assert all(each.correlation_id == new[each.event.order].correlation_id for each in old)
    assert all(each.key == str(each.event.order) for each in old)


async def test_what_is_not_the_old_version_is_parked(tmp_path: Path) -> None:
    app = App("wrong", f"sqlite:///{tmp_path}/log.db", migrate=True)

    @app.downcast(Paid2, Paid1)
    def wrong(new: Paid2) -> Any:
        return Sent1(order=new.order)

    async with app.running():
        await asyncio.to_thread(record, app, Paid2(order=1, amount="1"))
        await until(lambda: any(each.dead for each in app.operations.standings()))
    assert not list(app.read(types=[Sent1]))
    (letter,) = app.operations.dead_letters()
    assert "wrong returned Sent1(order=1): this downcast makes Paid1, or None" in (letter.reason or "")


def test_it_is_on_the_map(tmp_path: Path) -> None:
    app = App("mapped", "memory://mapped")
    module = app.module("billing")

    @module.downcast(Paid2, Paid1, name="old one")
    def unannotated(new):  # type: ignore[no-untyped-def]
        return None

    (part,) = app.map().parts
    assert (part.name, part.how, part.module, part.takes, part.emits) == (
        "old one",
        "downcast",
        "billing",
        (Paid2.__type__,),
        (Paid1.__type__,),
    )


@pytest.mark.parametrize(
    "new, old, said",
    [
        (Paid1, Paid2, r"downcast\(Paid1, Paid2\): test.downcasts.Paid.v2 is not older than test.downcasts.Paid.v1"),
        (Paid2, Paid2, r"is not older than"),
        (Paid2, Sent1, r"these are different events, test.downcasts.Paid.v2 and test.downcasts.Sent.v1"),
        (Noted, Paid1, r"Noted'> is not an integration event, and has no versions"),
        (Paid2, IntegrationEvent, r"is not an integration event"),
    ],
)
def test_versions_that_do_not_belong_together(new: Any, old: Any, said: str) -> None:
    app = App("refused", "memory://refused")
    with pytest.raises(DeclarationError, match=said):
        app.downcast(new, old)


def test_one_downcast_makes_an_old_version() -> None:
    app = App("twice", "memory://twice")
    app.downcast(Paid2, Paid1)(lambda new: None)
    with pytest.raises(DeclarationError, match=r"'<lambda>' makes test.downcasts.Paid.v1 already"):
        app.downcast(Paid3, Paid1)
    with pytest.raises(DuplicateName):
        app.downcast(Paid3, Paid2, name="<lambda>")(lambda new: None)


async def test_a_reader_upcasts_the_older_version_that_came_in(app: App, schema: str) -> None:
    """What its inbox has recorded in the publisher's older version comes to the handler as the newer one."""
    seen: list[Booked2] = []

    @app.on(Booked2, start="beginning")
    def book(event: Booked2) -> None:
        seen.append(event)

    app.migrate()
    values = (ID, Booked1.__type__, "integration", '{"net":2,"tax":3}')
    with app.transaction() as connection:
        if isinstance(connection, sqlite3.Connection):
            connection.execute(
                f"insert into {schema}_events (id, type, kind, data, recorded_at) "
                "values (?, ?, ?, ?, '2020-01-01T00:00:00.000000Z')",
                values,
            )
        else:
            assert isinstance(connection, psycopg.Connection)
            connection.execute(
                f"insert into {schema}.events (position, id, type, kind, data, recorded_at) "
                f"values (nextval('{schema}.positions'), %s, %s, %s, %s, '2020-01-01')".encode(),
                values,
            )
    async with app.running():
        await until(lambda: len(seen) == 1 and handled(app))
    assert seen == [Booked2(total=5)]
    assert [each.event for each in app.read(types=[Booked2])] == [Booked2(total=5)]
    (reading,) = app.service().reads
    assert [each.type for each in manifest_of(Service(name="x", reads=(reading,))).reads] == [
        "test.downcasts.Booked.v1",
        "test.downcasts.Booked.v2",
    ]
