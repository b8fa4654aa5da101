"""A transaction for those who have no connection of their own."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any, Protocol

from ensue.errors import UnusableConnection
from ensue.log.log import Log

_FAILED = 3
"""What libpq says of a transaction in which a statement has failed; its `COMMIT` would roll back without a word."""


class OwnConnection(Protocol):
    """What `with app.transaction()` lends: a connection of `sqlite3` or psycopg, inside a transaction."""

    def execute(self, sql: Any, parameters: Any = ..., /) -> Any: ...

    def commit(self) -> None: ...


class OwnAsyncConnection(Protocol):
    """What `async with app.transaction()` lends: a connection of aiosqlite or psycopg, inside a transaction."""

    async def execute(self, sql: Any, parameters: Any = ..., /) -> Any: ...

    async def commit(self) -> None: ...


class Transaction:
    """Commits when its block ends, rolls back when it raises; for `with` and `async with`.

    Raises `UnusableConnection` where there is nothing to commit any more: a statement has failed, and the block has
    caught that.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._stack = ExitStack()
        self._async_stack = AsyncExitStack()
        self._connection: Any = None

    def __enter__(self) -> OwnConnection:
        with ExitStack() as stack:
            connection = self._connection = stack.enter_context(self._log.own.lend())
            connection.execute(self._log.dialect.begin.source)
            self._stack = stack.pop_all()
        own: OwnConnection = connection
        return own

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                _refuse_failed(self._connection)
                self._connection.commit()
            elif not getattr(self._connection, "closed", False):
                self._connection.rollback()

    async def __aenter__(self) -> OwnAsyncConnection:
        async with AsyncExitStack() as stack:
            connection = self._connection = await stack.enter_async_context(self._log.own.lend_async())
            await connection.execute(self._log.dialect.begin.source)
            self._async_stack = stack.pop_all()
        own: OwnAsyncConnection = connection
        return own

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._async_stack:
            if kind is None:
                _refuse_failed(self._connection)
                await self._connection.commit()
            elif not getattr(self._connection, "closed", False):
                await self._connection.rollback()


def _refuse_failed(connection: Any) -> None:
    pgconn = getattr(connection, "pgconn", None)
    if pgconn is not None and pgconn.transaction_status == _FAILED:
        raise UnusableConnection(
            "a statement of this transaction has failed, and its error was caught: PostgreSQL keeps nothing of it, so "
            "it was rolled back and nothing was recorded. Let the error leave the block, or put the statement that may "
            "fail into a savepoint (with connection.transaction(): …)"
        )
