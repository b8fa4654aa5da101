"""Riding on SQLAlchemy: sync and async, core and ORM, over each driver that ensue knows."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar

import sqlalchemy.exc
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from ensue.errors import NotInTransaction, UnusableConnection
from ensue.log.dialect import Fault
from ensue.log.driving import drive
from ensue.log.place import Place
from ensue.log.postgres import Postgres
from ensue.log.riding.sqlite import (
    AUTOCOMMIT,
    BEGIN,
    DATABASE,
    PRIVATE,
    autocommit_of,
    refuse_autocommit,
    sqlite_fault,
)
from ensue.log.sqlite import Sqlite
from ensue.log.statements import Call, Rows, Steps, Style, T

_STYLES = {
    "psycopg": Style.FORMAT,
    "psycopg_async": Style.FORMAT,
    "psycopg2": Style.FORMAT,
    "asyncpg": Style.DOLLAR,
    "pysqlite": Style.NUMBERED,
    "aiosqlite": Style.NUMBERED,
}
_KINDS = {"postgresql": Postgres.label, "sqlite": Sqlite.label}


class ConnectionRide:
    """A SQLAlchemy `Connection`."""

    asynchronous: ClassVar[bool] = False

    def __init__(self, connection: Connection) -> None:
        dialect = connection.dialect
        style = _STYLES.get(dialect.driver)
        if style is None or dialect.name not in _KINDS:
            raise UnusableConnection(
                f"the SQLAlchemy connection uses {dialect.name}+{dialect.driver}; record rides on {', '.join(_STYLES)}"
            )
        self.kind = _KINDS[dialect.name]
        self._style = style
        self._connection = connection

    def run(self, steps: Steps[T], place: Place) -> T:
        if self._connection.closed:
            raise UnusableConnection("the connection is closed; nothing was recorded")
        return drive(steps, self, place)

    def begin(self, place: Place) -> None:
        connection = self._connection
        if connection.invalidated:
            raise UnusableConnection("the connection was lost; roll back and begin again; nothing was recorded")
        driver: Any = connection.connection.dbapi_connection
        if self.kind == Sqlite.label:
            place.confirm(self._execute(DATABASE, ())[0][2] or PRIVATE)
            raw: Any = connection.connection.driver_connection
            if not raw.in_transaction:
                is_async = connection.dialect.is_async
                autocommit = driver.run_async(autocommit_of) if is_async else getattr(raw, "autocommit", None)
                refuse_autocommit(raw.isolation_level, autocommit)
                self._execute(BEGIN, ())
            return
        if driver.autocommit:
            raise NotInTransaction(AUTOCOMMIT.replace("SQLite ", "").partition(" (")[0] + "; nothing was recorded")
        place.confirm(_database(connection.connection.driver_connection))

    def execute(self, call: Call) -> Rows:
        query = call.query
        if call.many:
            self._connection.exec_driver_sql(
                query.text(self._style), [tuple(query.arrange(self._style, row)) for row in call.values]
            )
            return ()
        return self._execute(query.text(self._style), tuple(query.arrange(self._style, call.values)))

    def _execute(self, sql: str, values: tuple[Any, ...]) -> Rows:
        result = (
            self._connection.exec_driver_sql(sql, values)
            if values
            else self._connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
        )
        return result.fetchall() if result.returns_rows else ()

    def fault(self, error: Exception) -> Fault | None:
        if not isinstance(error, sqlalchemy.exc.DBAPIError):
            return None
        original: Any = error.orig
        if self.kind == Sqlite.label:
            return sqlite_fault(original)
        code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
        if code is None and error.connection_invalidated:
            code = "08006"
        driver = original.__cause__ or original  # asyncpg's own error stands behind SQLAlchemy's adapter
        about = getattr(original, "diag", None)
        return Fault(
            code,
            getattr(about, "message_primary", None) or getattr(driver, "message", None) or str(original),
            getattr(about, "message_detail", None) or getattr(driver, "detail", None),
            getattr(about, "constraint_name", None) or getattr(driver, "constraint_name", None),
        )


def _database(raw: Any) -> str | None:
    """Return the database to which psycopg or asyncpg is connected: an engine's URL may leave it to a `creator`."""
    parameters = getattr(raw, "_params", None)
    name: str | None = raw.info.dbname if parameters is None else parameters.database
    return name


def _connection(session: Session) -> Connection:
    try:
        return session.connection()
    except sqlalchemy.exc.PendingRollbackError as error:
        raise UnusableConnection(
            "the session's transaction has failed earlier and takes nothing more: roll it back first; "
            "nothing was recorded"
        ) from error
    except sqlalchemy.exc.InvalidRequestError as error:
        raise UnusableConnection(f"the session cannot be used: {error}") from error


class SessionRide:
    """A SQLAlchemy `Session`, or a scoped one."""

    asynchronous: ClassVar[bool] = False

    def __init__(self, session: Session | scoped_session[Session]) -> None:
        plain = session() if isinstance(session, scoped_session) else session
        self._ride = ConnectionRide(_connection(plain))
        self.kind = self._ride.kind

    def run(self, steps: Steps[T], place: Place) -> T:
        return self._ride.run(steps, place)


def _kind(name: str) -> str:
    return _KINDS.get(name, name)


class AsyncConnectionRide:
    """A SQLAlchemy `AsyncConnection`: the sync ride, inside SQLAlchemy's own greenlet."""

    asynchronous: ClassVar[bool] = True

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.kind = _kind(connection.dialect.name)

    def run(self, steps: Steps[T], place: Place) -> Awaitable[T]:
        if self._connection.closed:
            raise UnusableConnection("the connection is closed; nothing was recorded")
        return self._connection.run_sync(lambda connection: ConnectionRide(connection).run(steps, place))


class AsyncSessionRide:
    """A SQLAlchemy `AsyncSession`, or a scoped one: the sync ride, inside SQLAlchemy's own greenlet."""

    asynchronous: ClassVar[bool] = True

    def __init__(self, session: AsyncSession | async_scoped_session[AsyncSession]) -> None:
        self._session: AsyncSession = session() if isinstance(session, async_scoped_session) else session
        self.kind = _kind(self._session.get_bind().dialect.name)

    def run(self, steps: Steps[T], place: Place) -> Awaitable[T]:
        return self._session.run_sync(lambda session: SessionRide(session).run(steps, place))
