"""In SQLite a function that makes tables is called with an empty database in memory, to learn what it makes.

There it may do what it likes, `executescript` and `commit` too, and the tables that readers see are not in its way. The
connection is of the kind that the projection's function gets.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Any

from ensue.errors import DeclarationError
from ensue.handlers.projections.placing import named
from ensue.handlers.projections.projection import Projection

_MADE = """
select type, name, tbl_name, sql from sqlite_master
where sql is not null and name not like 'sqlite!_%' escape '!' order by rowid
"""
_Rows = Sequence[Sequence[Any]]


def draft(projection: Projection, function: Callable[[Any], Any], via: object) -> str | Awaitable[str]:
    """Return the SQL of what a function makes, given a connection of the kind of `via`; awaited if that is async.

    Raises `DeclarationError` for what makes anything but the projection's tables, or puts rows into them, and for a
    kind that has no database in memory.
    """
    for cls in type(via).__mro__:
        match cls.__module__.partition(".")[0], cls.__name__:
            case "sqlite3", "Connection":
                with closing(sqlite3.connect(":memory:")) as connection:
                    function(connection)
                    return _sql(projection, lambda sql: connection.execute(sql).fetchall())
            case "aiosqlite", "Connection":
                return _by_aiosqlite(projection, function)
            case "sqlalchemy", "Connection" | "Session" | "scoped_session":
                return _by_sqlalchemy(projection, function, in_session=cls.__name__ != "Connection")
            case "sqlalchemy", "AsyncConnection" | "AsyncSession" | "async_scoped_session":
                return _by_async_sqlalchemy(projection, function, in_session=cls.__name__ != "AsyncConnection")
            case _:
                pass
    raise DeclarationError(
        f"projection {projection.name!r}: in SQLite a set_up that is a function works with sqlite3, aiosqlite and "
        f"SQLAlchemy, not with {type(via).__module__}.{type(via).__qualname__}: make the tables with your migrations"
    )


def _by_sqlalchemy(projection: Projection, function: Callable[[Any], Any], *, in_session: bool) -> str:
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", poolclass=StaticPool)
    try:
        if in_session:
            with Session(engine) as session:
                function(session)
                session.commit()
        else:
            with engine.connect() as connection:
                function(connection)
                connection.commit()
        with engine.connect() as connection:
            return _sql(projection, lambda sql: connection.exec_driver_sql(sql).fetchall())
    finally:
        engine.dispose()


async def _by_async_sqlalchemy(projection: Projection, function: Callable[[Any], Any], *, in_session: bool) -> str:
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
    from sqlalchemy.pool import StaticPool

    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    try:
        if in_session:
            async with AsyncSession(engine) as session:
                await function(session)
                await session.commit()
        else:
            async with engine.connect() as connection:
                await function(connection)
                await connection.commit()
        async with engine.connect() as connection:
            return await connection.run_sync(
                lambda plain: _sql(projection, lambda sql: plain.exec_driver_sql(sql).fetchall())
            )
    finally:
        await engine.dispose()


async def _by_aiosqlite(projection: Projection, function: Callable[[Any], Any]) -> str:
    import aiosqlite

    async with aiosqlite.connect(":memory:") as connection:
        await function(connection)
        await connection.commit()
        with closing(sqlite3.connect(":memory:", check_same_thread=False)) as copy:
            await connection.backup(copy)
            return _sql(projection, lambda sql: copy.execute(sql).fetchall())


def _sql(projection: Projection, fetch: Callable[[str], _Rows]) -> str:
    """Return what stands in the database in memory as SQL."""
    where = f"projection {projection.name!r}: its set_up"
    found = fetch(_MADE)
    made = [name for kind, name, *_ in found if kind in ("table", "view")]
    wanted = {each.lower() for each in projection.tables}
    for table in projection.tables:
        if table.lower() not in {each.lower() for each in made}:
            raise DeclarationError(f"{where} does not make the table {table!r}")
        if fetch(f"select 1 from {named(table)} limit 1"):
            raise DeclarationError(f"{where} puts rows into {table!r}: it makes tables, rows come from events")
    if more := [each for each in made if each.lower() not in wanted]:
        raise DeclarationError(f"{where} also makes {', '.join(more)}: name it in tables=, or leave it out")
    return "".join(f"{sql};\n" for _, _, _, sql in found)
