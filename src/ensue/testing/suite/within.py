"""Handlers that run inside the recording transaction."""

from __future__ import annotations

from typing import Any

import pytest

from ensue.errors import DeclarationError
from ensue.testing.suite.case import Case
from ensue.testing.suite.events import Counted, Noted


async def a_handler_within_is_called_while_its_event_is_recorded(case: Case) -> None:
    app, called = case.same_app(), list[Any]()

    @app.within(Noted)
    def first(event: Noted, connection: Any) -> None:
        called.append((event.text, connection))

    @app.within(Noted, Counted)
    def second(event: Noted | Counted) -> None:
        called.append(type(event).__name__)

    async with case.transaction() as connection:
        await case.record(connection, Noted(text="1"), Counted(place=case.name("p"), number=2), app=app)
        assert called == [("1", connection.via), "Noted", "Counted"]
        duplicates = [await case.record(connection, Noted(text="2"), app=app, dedupe=case.name("d")) for _ in range(2)]
    assert [each.duplicate for each in duplicates] == [False, True]
    assert len(called) == 5, "what is not recorded again is not handled again"
    assert len(case.recorded()) == 3


async def what_a_handler_within_raises_undoes_the_recording(case: Case) -> None:
    app, row = case.same_app(), case.name("row")

    @app.within(Noted)
    def guard(event: Noted) -> None:
        if event.text == "forbidden":
            raise PermissionError(event.text)

    async with case.transaction() as connection:
        await case.record(connection, Noted(text="allowed"), app=app)
        with pytest.raises(PermissionError):
            await case.record(connection, Counted(place=row, number=1), Noted(text="forbidden"), app=app)
        await case.record(connection, Noted(text="allowed too"), app=app)
    assert [each.event for each in case.recorded()] == [Noted(text="allowed"), Noted(text="allowed too")]


async def what_a_handler_within_records_is_caused_by_its_event(case: Case) -> None:
    app = case.same_app()

    def follow(event: Noted, connection: Any) -> None:
        if event.text == "cause":
            app.record(Noted(text="effect"), via=connection)

    async def follow_async(event: Noted, connection: Any) -> None:
        if event.text == "cause":
            await app.record(Noted(text="effect"), via=connection)

    if case.asynchronous:
        app.within(Noted)(follow_async)
    else:
        app.within(Noted)(follow)
    async with case.transaction() as connection:
        await case.record(connection, Noted(text="other"), Noted(text="cause"), app=app)
    _, cause, effect = case.recorded()
    assert effect.event == Noted(text="effect")
    assert (effect.causation_id, effect.correlation_id) == (cause.id_text, cause.id_text)


async def an_async_handler_within_needs_an_async_connection(case: Case) -> None:
    app, called = case.same_app(), list[str]()

    @app.within(Noted)
    async def later(event: Noted) -> None:
        called.append(event.text)

    async with case.transaction() as connection:
        if case.asynchronous:
            await case.record(connection, Noted(text="1"), app=app)
        else:
            with pytest.raises(DeclarationError, match="this connection is sync"):
                await case.record(connection, Noted(text="1"), app=app)
    assert called == (["1"] if case.asynchronous else [])
    assert len(case.recorded()) == len(called)


async def what_a_handler_within_leaves_to_be_awaited_is_not_forgotten(case: Case) -> None:
    app, called = case.same_app(), list[str]()

    async def guarding(event: Noted) -> None:
        called.append(event.text)
        if event.text == "forbidden":
            raise PermissionError(event.text)

    @app.within(Noted)
    def wrapped(event: Noted, _: object) -> Any:
        return guarding(event)

    async with case.transaction() as connection:
        if case.asynchronous:
            await case.record(connection, Noted(text="allowed"), app=app)
        with pytest.raises(PermissionError if case.asynchronous else DeclarationError, match=r"forbidden|'wrapped'"):
            await case.record(connection, Noted(text="forbidden"), app=app)
    assert called == (["allowed", "forbidden"] if case.asynchronous else [])
    assert len(case.recorded()) == (1 if case.asynchronous else 0)
