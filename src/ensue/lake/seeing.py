"""DuckDB over the tables of a lake, with an eye on memory: what is sorted goes to disk before it fills that."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ensue.lake.libraries import duckdb

_MEMORY = "1GB"


@contextmanager
def seeing(**tables: Any) -> Generator[Any]:
    """Lend a connection that sees Arrow datasets under their names."""
    connection = duckdb.connect(
        ":memory:", config={"memory_limit": _MEMORY, "temp_directory": tempfile.gettempdir(), "threads": 2}
    )
    try:
        connection.execute("set timezone = 'UTC'")
        for name, data in tables.items():
            connection.register(name, data)
        yield connection
    finally:
        connection.close()


def rows(query: str, values: dict[str, Any] | None = None, **tables: Any) -> list[tuple[Any, ...]]:
    """Return what a query finds, all of it at once."""
    with seeing(**tables) as connection:
        found: list[tuple[Any, ...]] = connection.execute(query, values).fetchall()
        return found
