"""Riding on asyncpg."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, ClassVar

import asyncpg

from ensue.errors import NotInTransaction, UnusableConnection
from ensue.log.dialect import Fault
from ensue.log.driving import drive_async
from ensue.log.place import Place
from ensue.log.postgres import Postgres
from ensue.log.statements import Call, Rows, Steps, T

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy


class AsyncpgRide:
    """An `asyncpg.Connection`, or one that a pool lends."""

    asynchronous: ClassVar[bool] = True
    kind = Postgres.label

    def __init__(self, connection: asyncpg.Connection[Any] | PoolConnectionProxy[Any]) -> None:
        self._connection = connection

    def run(self, steps: Steps[T], place: Place) -> Awaitable[T]:
        return drive_async(steps, self, place)

    async def begin(self, place: Place) -> None:
        connection = self._connection
        try:
            closed = connection.is_closed()
        except asyncpg.InterfaceError as error:  # given back to its pool
            raise UnusableConnection(f"the connection cannot be used: {error}") from error
        if closed:
            raise UnusableConnection("the connection is closed; nothing was recorded")
        if not connection.is_in_transaction():
            raise NotInTransaction(
                "this connection has no open transaction: the event would not be part of anything. "
                "Open one first (async with connection.transaction(): …); nothing was recorded"
            )
        place.confirm(getattr(getattr(connection, "_params", None), "database", None))

    async def execute(self, call: Call) -> Rows:
        return [tuple(row) for row in await self._connection.fetch(call.query.dollar, *call.values)]

    def fault(self, error: Exception) -> Fault | None:
        if isinstance(error, asyncpg.PostgresError):
            return Fault(error.sqlstate, str(error), error.detail, error.constraint_name)
        if isinstance(error, (asyncpg.InterfaceError, ConnectionError)):
            return Fault("08006", str(error))
        return None
