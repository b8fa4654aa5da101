"""Which errors of a database say: later, perhaps."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from ensue.errors import DatabaseUnavailable

PASSING = ("08", "25P03", "40", "53", "55", "57P", "58")
"""SQLSTATE classes of what may succeed later: connections, idle ones, conflicts, resources, locks, shutdown, system."""
_BUSY = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))


def passes(error: BaseException) -> bool:
    """Tell whether an error, or one that it was made of, is a database's that may be gone when it is tried again.

    It looks at what drivers raise themselves, and at what SQLAlchemy and Django make of it.
    """
    return any(_passes(each) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "orig", None) or error.__cause__


def _passes(error: Any) -> bool:
    if isinstance(error, DatabaseUnavailable):
        return True
    if isinstance(error, sqlite3.Error):
        return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _BUSY
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if code:
        return str(code).startswith(PASSING)
    if getattr(error, "connection_invalidated", False):
        return True
    named = f"{type(error).__module__.partition('.')[0]}.{type(error).__name__}"
    return named in ("psycopg.OperationalError", "psycopg2.OperationalError", "asyncpg.InterfaceError")
