"""Every kind of connection that a record can ride on, as the contract suite uses it."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from inspect import isawaitable
from typing import Any, Protocol

import aiosqlite
import asyncpg
import psycopg
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as async_sqlalchemy

from ensue import App
from ensue.testing.suite import NOTHING, Ability, Connection, Keeper


async def settle(made: Any) -> Any:
    """Return what was made, awaited if the driver is async."""
    return await made if isawaitable(made) else made


@asynccontextmanager
async def entered(block: Any) -> AsyncGenerator[Any]:
    """Enter a context manager of either colour."""
    if hasattr(block, "__aenter__"):
        async with block as found:
            yield found
    else:
        with block as found:
            yield found


# ------------------------------------------------------------------------------------------------ how they are used


class Plain:
    """A connection that begins by itself, or by `begin` in SQL; commits and rolls back by its methods."""

    def __init__(self, via: Any, *, begin: str = "") -> None:
        self.via = via
        self._begin = begin

    async def begin(self) -> None:
        if self._begin:
            await settle(self.via.execute(self._begin))

    async def commit(self) -> None:
        await settle(self.via.commit())

    async def rollback(self) -> None:
        await settle(self.via.rollback())

    async def close(self) -> None:
        await settle(self.via.close())

    async def execute(self, sql: str) -> Sequence[Any]:
        cursor = await settle(self.via.execute(sql))
        rows: Sequence[Any] = await settle(cursor.fetchall()) if cursor.description else ()
        return rows

    def savepoint(self) -> AbstractAsyncContextManager[object]:
        return self._savepoint()

    @asynccontextmanager
    async def _savepoint(self) -> AsyncGenerator[None]:
        await self.execute("savepoint suite")
        try:
            yield
        except BaseException:
            await self.execute("rollback to savepoint suite")
            raise
        await self.execute("release savepoint suite")


class BySql(Plain):
    """A connection of which the methods to commit and to roll back do nothing: SQLite's with `autocommit=True`."""

    async def commit(self) -> None:
        await settle(self.via.execute("commit"))

    async def rollback(self) -> None:
        if self.via.in_transaction:
            await settle(self.via.execute("rollback"))


class InBlocks(Plain):
    """A connection whose transactions and savepoints are blocks: `with connection.transaction(): …`."""

    def __init__(self, via: Any, block: Callable[[], Any]) -> None:
        super().__init__(via)
        self._make = block
        self._block: Any = None

    async def begin(self) -> None:
        self._block = self._make()
        await settle(self._block.__aenter__() if hasattr(self._block, "__aenter__") else self._block.__enter__())

    async def commit(self) -> None:
        await self._leave(None)

    async def rollback(self) -> None:
        if self._block is not None:
            await self._leave(LookupError("something in the block"))

    async def _leave(self, error: Exception | None) -> None:
        block, self._block = self._block, None
        leave = getattr(block, "__aexit__", None) or block.__exit__
        await settle(leave(type(error) if error else None, error, None))

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        async with entered(self._make()):
            yield


class Asyncpg(InBlocks):
    def __init__(self, via: Any, close: Callable[[], Any]) -> None:
        super().__init__(via, via.transaction)
        self._close = close

    async def execute(self, sql: str) -> Sequence[Any]:
        return [*await self.via.fetch(sql)]

    async def close(self) -> None:
        await self._close()


class Sqlalchemy(Plain):
    """A connection or a session, in either colour."""

    async def execute(self, sql: str) -> Sequence[Any]:
        result = await settle(self.via.execute(sqlalchemy.text(sql)))
        return result.fetchall() if result.returns_rows else ()

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        async with entered(self.via.begin_nested()):
            yield


class SqlalchemySession(Sqlalchemy):
    """A session, which keeps entities."""

    def keeper(self, app: App) -> Keeper:
        from tests.orders import SqlalchemyKeeper

        return SqlalchemyKeeper(self.via, app)


class Django(InBlocks):
    """One of `django.db.connections`, in `transaction.atomic()`."""

    def keeper(self, app: App) -> Keeper:
        from tests.orders import DjangoKeeper

        return DjangoKeeper(self.via.alias, app)

    async def execute(self, sql: str) -> Sequence[Any]:
        with self.via.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else ()


class DjangoByHand(Django):
    """The same with autocommit switched off, and no `atomic()` around."""

    async def begin(self) -> None:
        self.via.set_autocommit(False)

    async def commit(self) -> None:
        self.via.commit()

    async def rollback(self) -> None:
        self.via.rollback()


# ------------------------------------------------------------------------------------------------ how they are made


@dataclass(frozen=True)
class Wanted:
    """Which connection is asked for; `url` is that of a log."""

    url: str
    autocommit: bool = False
    dict_rows: bool = False

    @property
    def source(self) -> str:
        """The file, as sqlite3 takes it."""
        scheme, _, rest = self.url.partition("://")
        return f"file:/{rest}?vfs=memdb" if scheme == "memory" else f"file:{rest.removeprefix('/')}"

    def sqlalchemy(self, driver: str) -> str:
        if self.url.startswith("postgresql"):
            return self.url.replace("postgresql://", f"postgresql+{driver}://")
        return f"sqlite+{driver}:///{self.source}{'&' if '?' in self.source else '?'}uri=true"


class Open(Protocol):
    """Opens a connection and closes it at the end, whatever was done with it."""

    def __call__(self, wanted: Wanted, /) -> AbstractAsyncContextManager[Connection]: ...


def _as_dictionary(cursor: Any, row: Sequence[Any]) -> dict[str, Any]:
    return {about[0]: value for about, value in zip(cursor.description, row, strict=True)}


@asynccontextmanager
async def open_sqlite(wanted: Wanted, begin: str = "", **how: Any) -> AsyncGenerator[Connection]:
    connection = sqlite3.connect(wanted.source, uri=True, **how)
    connection.row_factory = _as_dictionary if wanted.dict_rows else None
    try:
        yield (BySql if how.get("autocommit") is True else Plain)(connection, begin=begin)
    finally:
        connection.close()


@asynccontextmanager
async def open_aiosqlite(wanted: Wanted, begin: str = "", **how: Any) -> AsyncGenerator[Connection]:
    connection: Any = await aiosqlite.connect(wanted.source, uri=True, **how)
    connection.row_factory = _as_dictionary if wanted.dict_rows else None
    try:
        yield (BySql if how.get("autocommit") is True else Plain)(connection, begin=begin)
    finally:
        with suppress(ValueError):  # it is closed
            await connection.close()


@asynccontextmanager
async def open_psycopg(wanted: Wanted, connect: Any, *, blocks: bool = False) -> AsyncGenerator[Connection]:
    factory = {"row_factory": dict_row} if wanted.dict_rows else {}
    connection = await settle(connect(wanted.url, autocommit=blocks or wanted.autocommit, **factory))
    try:
        yield InBlocks(connection, connection.transaction) if blocks else Plain(connection)
    finally:
        await settle(connection.close())


@asynccontextmanager
async def open_asyncpg(wanted: Wanted) -> AsyncGenerator[Connection]:
    connection = await asyncpg.connect(wanted.url)
    try:
        yield Asyncpg(connection, connection.close)
    finally:
        await connection.close()


@asynccontextmanager
async def open_asyncpg_pool(wanted: Wanted) -> AsyncGenerator[Connection]:
    async with asyncpg.create_pool(wanted.url, min_size=1, max_size=1) as pool:
        connection = await pool.acquire()
        try:
            yield Asyncpg(connection, partial(pool.release, connection))
        finally:
            await pool.release(connection)


def engine_for(wanted: Wanted, driver: str, **how: Any) -> Any:
    asynchronous = driver in ("asyncpg", "psycopg_async", "aiosqlite")
    create: Any = async_sqlalchemy.create_async_engine if asynchronous else sqlalchemy.create_engine
    level = {"isolation_level": "AUTOCOMMIT"} if wanted.autocommit else {}
    return create(wanted.sqlalchemy(driver), **level, **how)


def _session(kind: Any, engine: Any) -> Any:
    if kind is orm.scoped_session:
        return orm.scoped_session(orm.sessionmaker(engine))
    if kind is async_sqlalchemy.async_scoped_session:
        return kind(async_sqlalchemy.async_sessionmaker(engine), scopefunc=lambda: None)
    return kind(engine)


@asynccontextmanager
async def open_sqlalchemy(wanted: Wanted, driver: str, kind: Any = None) -> AsyncGenerator[Connection]:
    engine = engine_for(wanted, driver)
    connection = await settle(engine.connect()) if kind is None else _session(kind, engine)
    try:
        yield Sqlalchemy(connection) if kind is None else SqlalchemySession(connection)
    finally:
        await settle(connection.close())
        await settle(engine.dispose())


@asynccontextmanager
async def open_django(wanted: Wanted, *, by_hand: bool = False) -> AsyncGenerator[Connection]:
    from tests.django_settings import connection_to

    with connection_to(wanted.url) as (connection, atomic):
        yield DjangoByHand(connection, atomic) if by_hand else Django(connection, atomic)


# ----------------------------------------------------------------------------------------------------- all the kinds


@dataclass(frozen=True)
class Kind:
    """A kind of connection, and what it can do."""

    name: str
    open: Open
    abilities: Ability = NOTHING
    asynchronous: bool = False

    def __str__(self) -> str:
        return self.name


AUTOCOMMIT, DICT_ROWS, CLOSED, ENTITIES = Ability.AUTOCOMMIT, Ability.DICT_ROWS, Ability.CLOSED, Ability.ENTITIES


def _sqlite3(name: str, abilities: Ability = NOTHING, **how: Any) -> Kind:
    return Kind(f"sqlite3{name}", partial(open_sqlite, **how), abilities | DICT_ROWS | CLOSED)


def _aiosqlite(name: str, abilities: Ability = NOTHING, **how: Any) -> Kind:
    return Kind(f"aiosqlite{name}", partial(open_aiosqlite, **how), abilities | DICT_ROWS | CLOSED, asynchronous=True)


def _sqlalchemy(driver: str, kind: Any = None) -> Kind:
    asynchronous = driver in ("asyncpg", "psycopg_async", "aiosqlite")
    name = ("AsyncConnection" if asynchronous else "Connection") if kind is None else kind.__name__
    return Kind(
        f"sqlalchemy-{name}-{driver}",
        partial(open_sqlalchemy, driver=driver, kind=kind),
        AUTOCOMMIT | (CLOSED if kind is None else ENTITIES),
        asynchronous=asynchronous,
    )


SYNC_SQLALCHEMY = (None, orm.Session, orm.scoped_session)
ASYNC_SQLALCHEMY = (None, async_sqlalchemy.AsyncSession, async_sqlalchemy.async_scoped_session)

PLAIN_SQLITE: list[Kind] = [
    _sqlite3(""),
    _sqlite3("-no-isolation-level", AUTOCOMMIT, isolation_level=None, begin="begin"),
    _aiosqlite(""),
    _aiosqlite("-no-isolation-level", AUTOCOMMIT, isolation_level=None, begin="begin"),
]
if sys.version_info >= (3, 12):
    PLAIN_SQLITE += [
        _sqlite3("-autocommit-off", autocommit=False),
        _sqlite3("-autocommit-on", AUTOCOMMIT, autocommit=True, begin="begin"),
        _aiosqlite("-autocommit-off", autocommit=False),
        _aiosqlite("-autocommit-on", AUTOCOMMIT, autocommit=True, begin="begin"),
    ]

SQLITE: list[Kind] = [
    *PLAIN_SQLITE,
    *(_sqlalchemy("pysqlite", kind) for kind in SYNC_SQLALCHEMY),
    *(_sqlalchemy("aiosqlite", kind) for kind in ASYNC_SQLALCHEMY),
    Kind("django", open_django, AUTOCOMMIT | ENTITIES),
    Kind("django-by-hand", partial(open_django, by_hand=True), ENTITIES),
]

MEMORY: list[Kind] = [
    *PLAIN_SQLITE,
    _sqlalchemy("pysqlite", orm.Session),
    Kind("django", open_django, AUTOCOMMIT | ENTITIES),
]

POSTGRES: list[Kind] = [
    Kind("psycopg", partial(open_psycopg, connect=psycopg.connect), AUTOCOMMIT | DICT_ROWS | CLOSED),
    Kind("psycopg-blocks", partial(open_psycopg, connect=psycopg.connect, blocks=True), AUTOCOMMIT | CLOSED),
    Kind(
        "psycopg-async",
        partial(open_psycopg, connect=psycopg.AsyncConnection.connect),
        AUTOCOMMIT | DICT_ROWS | CLOSED,
        asynchronous=True,
    ),
    Kind("asyncpg", open_asyncpg, AUTOCOMMIT | CLOSED, asynchronous=True),
    Kind("asyncpg-pool", open_asyncpg_pool, AUTOCOMMIT | CLOSED, asynchronous=True),
    *(_sqlalchemy("psycopg", kind) for kind in SYNC_SQLALCHEMY),
    *(_sqlalchemy("psycopg_async", kind) for kind in ASYNC_SQLALCHEMY[:2]),
    *(_sqlalchemy("asyncpg", kind) for kind in ASYNC_SQLALCHEMY),
    Kind("django", open_django, AUTOCOMMIT | ENTITIES),
    Kind("django-by-hand", partial(open_django, by_hand=True), ENTITIES),
]
POSTGRES = [replace(kind, abilities=kind.abilities | Ability.FAILED) for kind in POSTGRES]


def connect(
    kind: Kind,
    here: str,
    there: str,
    *,
    autocommit: bool = False,
    dict_rows: bool = False,
    elsewhere: bool = False,
) -> AbstractAsyncContextManager[Connection]:
    """Open a connection as the suite asks for it; with the URLs bound, this is a `Connect`."""
    return kind.open(Wanted(there if elsewhere else here, autocommit=autocommit, dict_rows=dict_rows))
