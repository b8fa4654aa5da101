"""Riding on `sqlite3` and aiosqlite."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable
from typing import TYPE_CHECKING, ClassVar

from ensue.errors import NotInTransaction, UnusableConnection
from ensue.log.dialect import Fault
from ensue.log.driving import drive, drive_async
from ensue.log.place import Place
from ensue.log.sqlite import Sqlite
from ensue.log.statements import Call, Rows, Steps, T

if TYPE_CHECKING:
    import aiosqlite

DATABASE = "pragma database_list"
"""Its first row is the main database: number, name, file."""
PRIVATE = "a private database in memory"
BEGIN = Sqlite.begin.source
AUTOCOMMIT = (
    "this SQLite connection is in autocommit mode and has no open transaction: the event would not be part of "
    "anything. Begin one first (connection.execute('begin')); nothing was recorded"
)


def refuse_autocommit(isolation_level: str | None, autocommit: object) -> None:
    """Raise `NotInTransaction` if the driver, in no transaction now, would not begin one by itself."""
    if autocommit is True or (autocommit is not False and isolation_level is None):
        raise NotInTransaction(AUTOCOMMIT)


async def autocommit_of(connection: aiosqlite.Connection) -> object:
    """Return the `autocommit` that aiosqlite's connection was opened with, which only its own thread may ask for.

    None before Python 3.12, where there is none.
    """
    plain = connection._conn  # noqa: SLF001 it has no other way to it
    return await connection._execute(lambda: getattr(plain, "autocommit", None))  # type: ignore[no-untyped-call]  # noqa: SLF001


def _check_text(connection: sqlite3.Connection | aiosqlite.Connection) -> None:
    if connection.text_factory in (bytes, bytearray):
        raise UnusableConnection(
            "this SQLite connection gives text as bytes: set its text_factory to str, or use another connection; "
            "nothing was recorded"
        )


def sqlite_fault(error: Exception) -> Fault | None:
    """Return what SQLite said."""
    return Fault(None, str(error)) if isinstance(error, sqlite3.Error) else None


class SqliteRide:
    """A connection of `sqlite3`."""

    asynchronous: ClassVar[bool] = False
    kind = Sqlite.label

    def __init__(self, connection: sqlite3.Connection) -> None:
        _check_text(connection)
        self._connection = connection
        self._cursor: sqlite3.Cursor | None = None

    def run(self, steps: Steps[T], place: Place) -> T:
        return drive(steps, self, place)

    def begin(self, place: Place) -> None:
        connection = self._connection
        database = self._execute(DATABASE, ()).fetchone()[2]
        if database != place.database:
            place.confirm(database or PRIVATE)
        if not connection.in_transaction:
            refuse_autocommit(connection.isolation_level, getattr(connection, "autocommit", None))
            self._execute(BEGIN, ())

    def execute(self, call: Call) -> Rows:
        if call.many:
            self._connection.executemany(call.query.numbered, call.values)
            return ()
        return self._execute(call.query.numbered, call.values).fetchall()

    def _execute(self, sql: str, values: Rows | tuple[object, ...]) -> sqlite3.Cursor:
        cursor = self._cursor
        if cursor is None:
            try:
                cursor = self._cursor = self._connection.cursor(sqlite3.Cursor)
            except sqlite3.ProgrammingError as error:
                raise UnusableConnection(f"the SQLite connection cannot be used: {error}") from error
            cursor.row_factory = None
        return cursor.execute(sql, values)

    def fault(self, error: Exception) -> Fault | None:
        return sqlite_fault(error)


class OwnSqliteRide(SqliteRide):
    """A connection of ensue's own: it leads to the log, and whoever uses it has begun a transaction that may write."""

    def begin(self, place: Place) -> None:
        """Raise `NotInTransaction` unless one is open; where it leads need not be asked."""
        if not self._connection.in_transaction:
            raise NotInTransaction(AUTOCOMMIT)


class AiosqliteRide:
    """A connection of aiosqlite."""

    asynchronous: ClassVar[bool] = True
    kind = Sqlite.label

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    def run(self, steps: Steps[T], place: Place) -> Awaitable[T]:
        try:
            _ = self._connection.in_transaction
        except ValueError as error:  # it is closed
            raise UnusableConnection(f"the SQLite connection cannot be used: {error}") from error
        _check_text(self._connection)
        return drive_async(steps, self, place)

    async def begin(self, place: Place) -> None:
        connection = self._connection
        place.confirm((await self._fetch(DATABASE, ()))[0][2] or PRIVATE)
        if not connection.in_transaction:
            refuse_autocommit(connection.isolation_level, await autocommit_of(connection))
            await self._fetch(BEGIN, ())

    async def execute(self, call: Call) -> Rows:
        if call.many:
            await (await self._connection.executemany(call.query.numbered, call.values)).close()
            return ()
        return await self._fetch(call.query.numbered, call.values)

    async def _fetch(self, sql: str, values: Rows | tuple[object, ...]) -> Rows:
        if self._connection.row_factory is None:  # tuples, by one hop into the connection's thread
            return [*await self._connection.execute_fetchall(sql, values)]
        async with self._connection.cursor() as cursor:
            cursor.row_factory = None
            await cursor.execute(sql, values)
            return [*await cursor.fetchall()]

    def fault(self, error: Exception) -> Fault | None:
        return sqlite_fault(error)
