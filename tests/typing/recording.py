"""What type checkers must see of recording and reading. It is checked, never run: mypy and pyright must accept it.

A line that must be an error says so to both; each of them complains if it finds none.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Coroutine, Sequence
from datetime import datetime
from typing import Any, assert_type
from uuid import UUID

import aiosqlite
import asyncpg
import psycopg
from asyncpg.pool import PoolConnectionProxy
from django.db import connection as django_connection
from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from ensue import (
    ANY,
    NO_STREAM,
    App,
    DomainEvent,
    IntegrationEvent,
    Metadata,
    Receipt,
    Recorded,
    SourcedEvent,
    context,
)


class Noted(DomainEvent, key="text", name="test.typing.noted"):
    text: str
    number: int = 0


class Announced(IntegrationEvent, version=1, name="test.typing.announced"):
    place: str


class Deposited(SourcedEvent, name="test.typing.deposited"):
    amount: int


def a_sync_connection_gives_a_receipt(
    app: App,
    one: sqlite3.Connection,
    two: psycopg.Connection[Any],
    three: psycopg.Connection[dict[str, Any]],
    four: Connection,
    five: Session,
    six: scoped_session[Session],
) -> None:
    event = Noted(text="a")
    assert_type(app.record(event, via=one), Receipt)
    assert_type(app.record(event, via=two), Receipt)
    assert_type(app.record(event, via=three), Receipt)
    assert_type(app.record(event, via=four), Receipt)
    assert_type(app.record(event, via=five), Receipt)
    assert_type(app.record(event, via=six), Receipt)
    assert_type(app.record(event, via=django_connection), Receipt)
    with app.transaction() as own:
        assert_type(app.record(event, via=own), Receipt)


async def an_async_connection_gives_an_awaitable(
    app: App,
    one: aiosqlite.Connection,
    two: psycopg.AsyncConnection[Any],
    three: asyncpg.Connection[Any],
    four: PoolConnectionProxy[Any],
    five: AsyncConnection,
    six: AsyncSession,
    seven: async_scoped_session[AsyncSession],
) -> None:
    event = Noted(text="a")
    assert_type(await app.record(event, via=one), Receipt)
    assert_type(await app.record(event, via=two), Receipt)
    assert_type(await app.record(event, via=three), Receipt)
    assert_type(await app.record(event, via=four), Receipt)
    assert_type(await app.record(event, via=five), Receipt)
    assert_type(await app.record(event, via=six), Receipt)
    assert_type(await app.record(event, via=seven), Receipt)
    async with app.transaction() as own:
        assert_type(await app.record(event, via=own), Receipt)
    later = assert_type(app.record(event, via=six), Coroutine[Any, Any, Receipt])
    awaitable: Awaitable[Receipt] = later
    await awaitable


async def an_awaitable_must_be_awaited(app: App, session: AsyncSession, connection: asyncpg.Connection[Any]) -> None:
    app.record(Noted(text="a"), via=session)  # type: ignore[unused-coroutine]
    _ = app.record(Noted(text="a"), via=session).position  # type: ignore[attr-defined]


async def a_receipt_must_not_be_awaited(app: App, session: Session) -> None:
    await app.record(Noted(text="a"), via=session)  # type: ignore[misc]


def what_may_be_recorded(app: App, session: Session) -> None:
    app.record(Noted(text="a"), Announced(place="b"), via=session)
    app.record(Deposited(amount=1), via=session, stream="s", expected=3, dedupe="k")
    app.record(Deposited(amount=1), via=session, stream="s", expected=NO_STREAM)
    app.record(Deposited(amount=1), via=session, stream="s", expected=ANY)


def what_may_not(app: App, session: Session, engine: Engine, maker: sessionmaker[Session], late: AsyncEngine) -> None:
    app.record(Noted(text="a"))  # type: ignore[call-overload]
    app.record(via=session)  # type: ignore[call-overload]
    app.record("a", via=session)  # type: ignore[call-overload]
    app.record(Noted, via=session)  # type: ignore[call-overload]
    app.record([Noted(text="a")], via=session)  # type: ignore[call-overload]
    app.record(Noted(text="a"), session)  # type: ignore[call-overload]
    app.record(Noted(text="a"), via=engine)  # type: ignore[call-overload]
    app.record(Noted(text="a"), via=late)  # type: ignore[call-overload]
    app.record(Noted(text="a"), via=maker)  # type: ignore[call-overload]
    app.record(Noted(text="a"), via="sqlite:///log.db")  # type: ignore[call-overload]
    app.record(Noted(text="a"), via=None)  # type: ignore[call-overload]
    app.record(Noted(text="a"), via=session, stream=7)  # type: ignore[call-overload]
    app.record(Noted(text="a"), via=session, stream="s", expected="1")  # type: ignore[call-overload]
    app.record(Noted(text="a"), via=session, stream="s", expected=None)  # type: ignore[call-overload]
    app.record(Noted(text="a"), via=session, dedupe=7)  # type: ignore[call-overload]


def events_are_frozen_and_their_fields_are_named() -> None:
    assert_type(Noted(text="a").number, int)
    Noted("a")  # type: ignore[call-arg]
    Noted()  # type: ignore[call-arg]
    Noted(text=7)  # type: ignore[arg-type]
    Noted(text="a", other=1)  # type: ignore[call-arg]
    Noted(text="a").text = "b"  # type: ignore[misc]


def a_receipt_has_types(receipt: Receipt) -> None:
    assert_type(receipt.ids, tuple[UUID, ...])
    assert_type(receipt.id, UUID)
    assert_type(receipt.positions, tuple[int, ...])
    assert_type(receipt.position, int)
    assert_type(receipt.stream, str | None)
    assert_type(receipt.version, int | None)
    assert_type(receipt.recorded_at, datetime)
    assert_type(receipt.duplicate, bool)


def reading_has_types(app: App, session: Session, moment: datetime) -> None:
    for recorded in app.read(after=1, until=2, since=moment, before=moment, types=(Noted, "x"), limit=3, via=session):
        assert_type(recorded.position, int)
        assert_type(recorded.id, UUID)
        assert_type(recorded.stream, str | None)
        assert_type(recorded.key, str)
        assert_type(recorded.recorded_at, datetime)
        assert_type(recorded.metadata, Metadata)
    app.read(1)  # type: ignore[call-arg]
    app.read(after="1")  # type: ignore[arg-type]
    app.read(since="2026-03-01")  # type: ignore[arg-type]
    app.read(types=Noted)  # type: ignore[arg-type]
    app.read(types=(7,))  # type: ignore[arg-type]
    app.read(via=7)  # type: ignore[arg-type]


async def reading_is_async_too(app: App, session: AsyncSession) -> None:
    found = [recorded async for recorded in app.read(stream="s", via=session)]
    assert_type(found, list[Recorded[Any]])


def an_event_that_was_read_has_its_type(
    recorded: Recorded[Noted], others: Sequence[Recorded[Noted | Announced]]
) -> None:
    assert_type(recorded.event, Noted)
    assert_type(recorded.event.text, str)
    assert_type(others[0].event, Noted | Announced)


def a_context_takes_text() -> None:
    with context(correlation_id="a", causation_id="b", actor="c", traceparent="d", headers={"e": "f"}) as metadata:
        assert_type(metadata, Metadata)
    context(actor=7)  # type: ignore[arg-type]
    context(headers={"a": 1})  # type: ignore[dict-item]
    context(user="a")  # type: ignore[call-arg]
