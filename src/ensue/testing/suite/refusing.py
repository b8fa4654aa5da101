# pyright: basic
"""What cannot be recorded is refused by a clear error, and nothing is written."""

from __future__ import annotations

from typing import Any

import pytest

from ensue.app import App
from ensue.errors import (
    EnsueError,
    EventValueError,
    NotInTransaction,
    NotMigrated,
    UnusableConnection,
    WrongDatabase,
)
from ensue.log import Postgres
from ensue.testing.suite.case import Ability, Case, Connection, needs
from ensue.testing.suite.events import Deposited, Noted


async def _execute_nonsense(connection: Connection) -> None:
    with pytest.raises(Exception, match="ensue_suite_nowhere"):
        await connection.execute("select * from ensue_suite_nowhere")


@needs(Ability.AUTOCOMMIT)
async def without_a_transaction_nothing_is_recorded(case: Case) -> None:
    async with case.connect(autocommit=True) as connection:
        with pytest.raises(NotInTransaction, match="nothing was recorded"):
            await case.record(connection, Noted(text="one"))
        with pytest.raises(NotInTransaction):
            await case.record(connection, Noted(text="one"), Noted(text="two"), dedupe=case.name("key"))
        with pytest.raises(NotInTransaction):
            await case.record(connection, Noted(text="one"), app=case.new_app(migrate=True))
        await case.write(connection, "the connection can still be used")
    assert case.recorded() == []
    assert case.written() == ["the connection can still be used"]


@needs(Ability.CLOSED)
async def a_closed_connection_is_refused(case: Case) -> None:
    async with case.connect() as connection:
        await connection.close()
        with pytest.raises(UnusableConnection):
            await case.record(connection, Noted(text="one"))
        with pytest.raises(UnusableConnection):
            await case.record(connection, Noted(text="one"), app=case.new_app(migrate=True))
        with pytest.raises(EnsueError):
            await case.read(connection)
    assert case.recorded() == []


@needs(Ability.FAILED)
async def a_failed_transaction_is_refused(case: Case) -> None:
    async with case.connect() as connection:
        await connection.begin()
        await case.record(connection, Noted(text="lost"))
        await _execute_nonsense(connection)
        with pytest.raises(UnusableConnection, match="failed earlier"):
            await case.record(connection, Noted(text="one"))
        await connection.rollback()
        await connection.begin()
        await case.record(connection, Noted(text="after the rollback"))
        await connection.commit()
    assert [each.event.text for each in case.recorded()] == ["after the rollback"]


async def a_connection_to_another_database_is_refused(case: Case) -> None:
    async with case.connect(elsewhere=True) as connection:
        await connection.begin()
        with pytest.raises(WrongDatabase, match="nothing was recorded"):
            await case.record(connection, Noted(text="one"))
        rows = await connection.execute(f"select count(*) from {case.table('events')}")
        assert [tuple(row) for row in rows] == [(0,)]
        await connection.rollback()
        await connection.begin()
        with pytest.raises(EnsueError):
            await case.record(connection, Noted(text="one"), app=case.new_app(migrate=True))
        await connection.rollback()
    assert case.recorded() == []


@needs(Ability.OWNER_KNOWN)
async def the_log_of_another_application_is_refused(case: Case) -> None:
    place = case.app.log.place
    stranger = App(place.app + " stranger", place.url, schema=place.schema)
    async with case.connect() as connection:
        await connection.begin()
        with pytest.raises(WrongDatabase, match="belongs to"):
            await case.record(connection, Noted(text="one"), app=stranger)
        await connection.rollback()
    assert case.recorded() == []


async def migrating_the_log_of_another_application_is_refused(case: Case) -> None:
    place = case.app.log.place
    stranger = App(place.app + " stranger", place.url, schema=place.schema)
    with pytest.raises(WrongDatabase, match="belongs to"):
        stranger.migrate()
    async with case.transaction() as connection:
        await case.record(connection, Noted(text="still ours"))
    assert len(case.recorded()) == 1


async def where_no_log_is_nothing_is_recorded(case: Case) -> None:
    app = case.new_app()
    async with case.connect() as connection:
        for how in ({}, {"stream": "s"}, {"dedupe": "d"}):
            await connection.begin()
            await case.write(connection, "row")
            with pytest.raises(NotMigrated, match="ensue migrate"):
                await case.record(connection, Noted(text="one"), app=app, **how)
            await connection.rollback()
    with pytest.raises(NotMigrated):
        list(app.read())
    assert case.written() == []


async def a_transaction_that_may_not_write_is_refused(case: Case) -> None:
    forbid, allow = (
        ("set transaction read only", "select 1")
        if isinstance(case.app.log.dialect, Postgres)
        else ("pragma query_only = on", "pragma query_only = off")
    )
    async with case.connect() as connection:
        await connection.begin()
        await connection.execute(forbid)
        with pytest.raises(UnusableConnection, match="may write"):
            await case.record(connection, Noted(text="one"))
        await connection.rollback()
        await connection.execute(allow)
        await connection.rollback()
    assert case.recorded() == []


async def what_is_no_version_or_name_is_refused_before_anything_is_written(case: Case) -> None:
    async with case.transaction() as connection:
        refused: tuple[dict[str, Any], ...] = (
            {"stream": ""},
            {"stream": "a\0b"},
            {"stream": 7},
            {"dedupe": ""},
            {"dedupe": "a\0b"},
            {"dedupe": 7},
            {"expected": 0},
            {"expected": None, "stream": "s"},
            {"expected": -1, "stream": "s"},
            {"expected": "1", "stream": "s"},
            {"expected": True, "stream": "s"},
        )
        for how in refused:
            with pytest.raises(EventValueError):
                await case.record(connection, Noted(text="one"), **how)
        with pytest.raises(EventValueError, match="belongs to a stream"):
            await case.record(connection, Deposited(amount=1))
        with pytest.raises(EventValueError, match="NUL"):
            await case.record(connection, Noted(text="fine"), Noted(text="a\0b"))
        await case.write(connection, "the transaction goes on")
    assert case.recorded() == []
    assert case.written() == ["the transaction goes on"]
