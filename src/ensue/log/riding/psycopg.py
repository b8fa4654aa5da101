"""Riding on psycopg 3, sync and async."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ensue.errors import NotInTransaction, UnusableConnection
from ensue.log.dialect import Fault
from ensue.log.driving import drive, drive_async
from ensue.log.place import Place
from ensue.log.postgres import Postgres
from ensue.log.statements import Call, Rows, Steps, T

FAILED = "the transaction has failed earlier and takes nothing more: roll it back first; nothing was recorded"
AUTOCOMMIT = (
    "this connection is in autocommit mode and has no open transaction: the event would not be part of anything. "
    "Open one first (with connection.transaction(): …); nothing was recorded"
)


def psycopg_fault(error: Exception) -> Fault | None:
    """Return what PostgreSQL said; a lost connection has no SQLSTATE and counts as 08006."""
    if not isinstance(error, psycopg.Error):
        return None
    code = error.sqlstate
    if code is None and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        code = "08006"
    return Fault(code, error.diag.message_primary or str(error), error.diag.message_detail, error.diag.constraint_name)


def _check(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], place: Place) -> None:
    pgconn = connection.pgconn
    status = pgconn.transaction_status
    if connection.closed:
        raise UnusableConnection("the connection is closed; nothing was recorded")
    if status == TransactionStatus.INERROR:
        raise UnusableConnection(FAILED)
    if connection.autocommit and status == TransactionStatus.IDLE:
        raise NotInTransaction(AUTOCOMMIT)
    if (database := pgconn.db.decode()) != place.database:
        place.confirm(database)


class PsycopgRide:
    """A `psycopg.Connection`."""

    asynchronous: ClassVar[bool] = False
    kind = Postgres.label

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def run(self, steps: Steps[T], place: Place) -> T:
        return drive(steps, self, place)

    def begin(self, place: Place) -> None:
        _check(self._connection, place)

    def execute(self, call: Call) -> Rows:
        query = call.query
        cursor = psycopg.Cursor(self._connection, row_factory=tuple_row)
        cursor.execute(query.format.encode(), query.arrange_format(call.values) or None)
        if cursor.rownumber is not None:
            return cursor.fetchall()
        if not self._connection.pgconn.pipeline_status:
            return ()
        with self._connection.pipeline() as pipeline:  # the user's: what it holds back comes now
            pipeline.sync()
        return cursor.fetchall() if cursor.rownumber is not None else ()

    def fault(self, error: Exception) -> Fault | None:
        return psycopg_fault(error)


class AsyncPsycopgRide:
    """A `psycopg.AsyncConnection`."""

    asynchronous: ClassVar[bool] = True
    kind = Postgres.label

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    def run(self, steps: Steps[T], place: Place) -> Awaitable[T]:
        return drive_async(steps, self, place)

    async def begin(self, place: Place) -> None:
        _check(self._connection, place)

    async def execute(self, call: Call) -> Rows:
        query = call.query
        cursor = psycopg.AsyncCursor(self._connection, row_factory=tuple_row)
        await cursor.execute(query.format.encode(), query.arrange_format(call.values) or None)
        if cursor.rownumber is not None:
            return await cursor.fetchall()
        if not self._connection.pgconn.pipeline_status:
            return ()
        async with self._connection.pipeline() as pipeline:
            await pipeline.sync()
        return await cursor.fetchall() if cursor.rownumber is not None else ()

    def fault(self, error: Exception) -> Fault | None:
        return psycopg_fault(error)


class OwnRide(PsycopgRide):
    """A connection of ensue's own in autocommit mode: an operation of one statement is a transaction."""

    def begin(self, place: Place) -> None:
        """Nothing to check."""


class AsyncOwnRide(AsyncPsycopgRide):
    """As `OwnRide`, for asyncio."""

    async def begin(self, place: Place) -> None:
        """Nothing to check."""
