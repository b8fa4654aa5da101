"""Connections of ensue's own: for those who have none, for reading, and for the worker."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from ensue.errors import DatabaseUnavailable, UnusableConnection
from ensue.log.place import Place
from ensue.log.sqlite import checksum

if TYPE_CHECKING:
    import psycopg

BUSY_SECONDS = 10.0
"""How long an SQLite connection waits for another writer."""
_SILENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
"""When PostgreSQL counts as gone that does not say so, in seconds (the last one: milliseconds), by libpq's names."""


def open_sqlite(place: Place) -> sqlite3.Connection:
    """Open the file in autocommit mode; any thread may use the connection, one at a time."""
    source = sqlite_source(place)
    connection = None
    try:
        connection = sqlite3.connect(
            source, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        if not place.in_memory:
            _use_wal(connection)
        connection.execute("pragma foreign_keys = on")
        connection.create_aggregate(checksum.NAME, -1, cast("Any", checksum.Checksum))  # of any columns
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        folder = Path(place.database).parent
        why = str(error) if place.in_memory or folder.is_dir() else f"there is no folder {folder}"
        raise DatabaseUnavailable(f"SQLite cannot open {place.database!r}: {why}") from error
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to its write-ahead log; SQLite itself does not wait when another connection is just doing it."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("pragma journal_mode = wal").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def sqlite_source(place: Place) -> str:
    """Return what `sqlite3.connect(…, uri=True)` takes."""
    return f"file:{quote(place.database)}" + ("?vfs=memdb" if place.in_memory else "")


def _psycopg() -> ModuleType:
    try:
        import psycopg as driver
    except ImportError as error:
        raise UnusableConnection(
            "a log in PostgreSQL needs psycopg for connections of its own: pip install 'ensue[postgres]'"
        ) from error
    return driver


def _options(driver: ModuleType, place: Place) -> dict[str, Any]:
    """Return what the URL leaves open."""
    said = driver.conninfo.conninfo_to_dict(place.conninfo)
    known = driver.pq.version() >= 120_000  # older ones have no tcp_user_timeout
    left = {name: value for name, value in _SILENCE.items() if name not in said and (known or name[:3] != "tcp")}
    return {**left, "autocommit": True, "application_name": f"ensue {place.app}"}


def _unreached(place: Place, error: Exception) -> str:
    said = " ".join(str(error).split())  # libpq's are of several lines
    return f"PostgreSQL cannot be reached: {said}; the log of {place.app!r} is {place.shown}"


def open_postgres(place: Place) -> psycopg.Connection[Any]:
    """Open a connection in autocommit mode."""
    driver = _psycopg()
    from ensue.log.pipelining import PipeliningConnection

    try:
        connection = PipeliningConnection.connect(place.conninfo, **_options(driver, place))
    except driver.OperationalError as error:
        raise DatabaseUnavailable(_unreached(place, error)) from error
    return connection


async def open_postgres_async(place: Place) -> psycopg.AsyncConnection[Any]:
    """As `open_postgres`, for asyncio."""
    driver = _psycopg()
    try:
        connection: psycopg.AsyncConnection[Any] = await driver.AsyncConnection.connect(
            place.conninfo, **_options(driver, place)
        )
    except driver.OperationalError as error:
        raise DatabaseUnavailable(_unreached(place, error)) from error
    return connection


@asynccontextmanager
async def connected_aiosqlite(place: Place) -> AsyncGenerator[Any]:
    """Lend a connection of aiosqlite in autocommit mode and close it afterwards."""
    try:
        import aiosqlite
    except ImportError as error:
        raise UnusableConnection(
            "an async connection to SQLite needs aiosqlite: pip install 'ensue[aiosqlite]'"
        ) from error
    connection = await aiosqlite.connect(sqlite_source(place), uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        await connection.execute("pragma foreign_keys = on")
        yield connection
    finally:
        await connection.close()
