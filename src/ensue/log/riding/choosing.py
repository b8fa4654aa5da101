"""Which ride fits a connection, told by its class."""

from __future__ import annotations

from collections.abc import Awaitable
from importlib import import_module
from typing import Protocol

from ensue.errors import UnusableConnection
from ensue.log.driving import Ride


class SyncConnection(Protocol):
    """A connection of `sqlite3` or psycopg, a SQLAlchemy `Connection` or `Session`, Django's `connection`."""

    def commit(self) -> None: ...


class _Committing(Protocol):
    def commit(self) -> Awaitable[None]: ...


class _Asyncpg(Protocol):
    def is_in_transaction(self) -> bool: ...

    async def reset(self) -> None: ...


AsyncConnection = _Committing | _Asyncpg
"""A connection of aiosqlite, psycopg or asyncpg, a SQLAlchemy `AsyncConnection` or `AsyncSession`."""

_RIDES = {
    ("sqlite3", "Connection"): ("sqlite", "SqliteRide"),
    ("aiosqlite", "Connection"): ("sqlite", "AiosqliteRide"),
    ("psycopg", "Connection"): ("psycopg", "PsycopgRide"),
    ("psycopg", "AsyncConnection"): ("psycopg", "AsyncPsycopgRide"),
    ("asyncpg", "Connection"): ("asyncpg", "AsyncpgRide"),
    ("asyncpg", "PoolConnectionProxy"): ("asyncpg", "AsyncpgRide"),
    ("sqlalchemy", "Connection"): ("sqlalchemy", "ConnectionRide"),
    ("sqlalchemy", "Session"): ("sqlalchemy", "SessionRide"),
    ("sqlalchemy", "scoped_session"): ("sqlalchemy", "SessionRide"),
    ("sqlalchemy", "AsyncConnection"): ("sqlalchemy", "AsyncConnectionRide"),
    ("sqlalchemy", "AsyncSession"): ("sqlalchemy", "AsyncSessionRide"),
    ("sqlalchemy", "async_scoped_session"): ("sqlalchemy", "AsyncSessionRide"),
    ("django", "BaseDatabaseWrapper"): ("django", "DjangoRide"),
    ("django", "ConnectionProxy"): ("django", "DjangoRide"),
}
_chosen: dict[type, type[Ride]] = {}


def ride_on(connection: object) -> Ride:
    """Return the ride for a connection; raise `UnusableConnection` for what is none."""
    kind = type(connection)
    return (_chosen.get(kind) or _learn(kind))(connection)


def is_async(connection: object) -> bool:
    """Tell whether what rides on a connection is awaited; raise `UnusableConnection` for what is none."""
    kind = type(connection)
    return (_chosen.get(kind) or _learn(kind)).asynchronous


def _learn(kind: type) -> type[Ride]:
    _chosen[kind] = ride = _choose(kind)
    return ride


def _choose(kind: type) -> type[Ride]:
    for cls in kind.__mro__:
        found = _RIDES.get((cls.__module__.partition(".")[0], cls.__name__))
        if found:
            module, name = found
            ride: type[Ride] = getattr(import_module(f"ensue.log.riding.{module}"), name)
            return ride
    hint = ""
    if "Engine" in kind.__name__ or "Pool" in kind.__name__ or "sessionmaker" in kind.__name__:
        hint = ": it makes connections, pass one of those"
    raise UnusableConnection(
        f"via= is a {kind.__module__}.{kind.__qualname__}{hint}; record rides on a connection of sqlite3, aiosqlite, "
        "psycopg, asyncpg, a SQLAlchemy Session, AsyncSession, Connection or AsyncConnection, or Django's connection"
    )
