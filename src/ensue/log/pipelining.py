"""A psycopg connection to which many small statements cost little, as long as they go through a pipeline.

Half of what a statement costs in psycopg is its cursor. In a pipeline `execute` goes on with the cursor of the
statement before, unless somebody still holds the answer of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ReferenceType, ref

import psycopg
from psycopg.adapt import AdaptersMap


class Answer:
    """What `execute` returns in a pipeline: the cursor, which waits for what the server says when it is used."""

    __slots__ = ("__weakref__", "_connection", "_cursor")

    def __init__(self, connection: psycopg.Connection[Any], cursor: psycopg.Cursor[Any]) -> None:
        self._connection: psycopg.Connection[Any] | None = connection
        self._cursor = cursor

    def _arrived(self) -> psycopg.Cursor[Any]:
        connection, self._connection = self._connection, None
        if connection is not None and connection.pgconn.pipeline_status:
            with connection.pipeline() as pipeline:  # the cursor may be owed the answers of earlier statements, too
                pipeline.sync()
        return self._cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arrived(), name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._arrived())

    def __next__(self) -> Any:
        return next(iter(self._arrived()))

    def __enter__(self) -> psycopg.Cursor[Any]:
        return self._arrived().__enter__()

    def __exit__(self, *error: object) -> None:
        self._cursor.close()


class PipeliningConnection(psycopg.Connection[Any]):
    """For ensue's own use, and for those to whom ensue lends a connection."""

    _kept: psycopg.Cursor[Any] | None = None
    _answer: ReferenceType[Answer] | None = None

    def execute(self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool = False) -> Any:
        """Execute a statement; in a pipeline it need not have been answered yet."""
        if binary or not self.pgconn.pipeline_status:
            return super().execute(query, params, prepare=prepare, binary=binary)
        cursor = self._kept
        if cursor is None or (self._answer is not None and self._answer() is not None) or not self._fits(cursor):
            cursor = self.cursor()
            self._kept = cursor
        cursor.execute(query, params, prepare=prepare)
        answer = Answer(self, cursor)
        self._answer = ref(answer)
        return answer

    def _fits(self, cursor: psycopg.Cursor[Any]) -> bool:
        usual = cursor.row_factory is self.row_factory and type(cursor) is self.cursor_factory
        return usual and not cursor.closed

    @property
    def adapters(self) -> AdaptersMap:
        """How values are written and read; who asks may be about to change that, and a kept cursor would not know."""
        self._kept = None
        return super().adapters
