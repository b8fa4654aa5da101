"""Which versions are at work."""

from __future__ import annotations

import platform
import sqlite3
from importlib import metadata

_PACKAGES = ("ensue", "msgspec", "psycopg", "sqlalchemy", "django", "asyncpg", "aiosqlite")


def versions() -> dict[str, str]:
    """Return the versions of ensue and of what it stands on, as far as installed."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"ensue": "unknown", **found, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
