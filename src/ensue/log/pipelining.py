"""A psycopg connection to which many small statements cost little, as long as they go through a pipeline.

Most of what a statement costs in psycopg is its cursor, and a trip to the socket. In a pipeline `execute` holds equal
statements back and sends them together, as `executemany` does, unless somebody keeps the answer of one. What is held
back goes out before anything else does over the connection, so that the order is the one in which the statements came.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from threading import RLock
from typing import Any
from uuid import UUID
from weakref import ReferenceType, ref

import psycopg
from psycopg.adapt import AdaptersMap

_MOST = 64
"""How many statements are held back: few enough that the server is not idle meanwhile."""
_CONSTANT = frozenset((type(None), bool, int, float, str, bytes, Decimal, UUID, datetime, date, time, timedelta))
"""Types of values that nobody can change before they are sent."""
_SEQUENCES: frozenset[Any] = frozenset((tuple, list))


class Answer:
    """What `execute` returns in a pipeline: the cursor, which waits for what the server says when it is used."""

    __slots__ = ("__weakref__", "_connection", "_cursor")

    def __init__(self, connection: PipeliningConnection, cursor: psycopg.Cursor[Any] | None) -> None:
        self._connection: PipeliningConnection | None = connection
        self._cursor = cursor

    def _arrived(self) -> psycopg.Cursor[Any]:
        connection, self._connection = self._connection, None
        if connection is not None and connection.pgconn.pipeline_status:
            with connection.pipeline() as pipeline:  # the cursor may be owed the answers of earlier statements, too
                pipeline.sync()
        assert self._cursor is not None  # noqa: S101 it has been sent
        return self._cursor

    def sent_by(self, cursor: psycopg.Cursor[Any]) -> None:
        """Note which cursor has sent the statement, after it had been held back."""
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arrived(), name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._arrived())

    def __next__(self) -> Any:
        return next(iter(self._arrived()))

    def __enter__(self) -> psycopg.Cursor[Any]:
        return self._arrived().__enter__()

    def __exit__(self, *error: object) -> None:
        self._arrived().close()


class PipeliningConnection(psycopg.Connection[Any]):
    """For ensue's own use, and for those to whom ensue lends a connection."""

    _kept: psycopg.Cursor[Any] | None = None
    _answer: ReferenceType[Answer] | None = None
    _query: Any = ""
    _failed: BaseException | None = None
    """Why something that was held back has not been sent: the transaction lacks it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lock: Any = RLock()  # what is held back is sent when somebody has just taken it
        self._held: list[tuple[Any, ...]] = []
        """Values of the same statement, to be sent together."""

    def execute(self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool = False) -> Any:
        """Execute a statement; in a pipeline it need not have been sent yet, nor answered."""
        if binary or not self.pgconn.pipeline_status:
            return super().execute(query, params, prepare=prepare, binary=binary)
        given: Any = params
        plain = type(given) in _SEQUENCES and prepare is None and _CONSTANT.issuperset(map(type, given))
        if plain:
            kept = self._is_kept()
            if self._held and (kept or query != self._query or len(self._held) >= _MOST):
                self._send()
            elif kept:  # by the cursor that is, which has to be left alone
                self._kept = None
            self._query = query
            self._held.append(tuple(given))
            answer = Answer(self, None)
        else:
            cursor = self._cursor_again()
            cursor.execute(query, params, prepare=prepare)
            answer = Answer(self, cursor)
        self._answer = ref(answer)
        return answer

    def _is_kept(self) -> bool:
        """Tell whether somebody keeps the answer of the last statement."""
        return self._answer is not None and self._answer() is not None

    def _cursor_again(self) -> psycopg.Cursor[Any]:
        """Return the cursor of the statement before, or a new one."""
        if self._held:
            self._send()
        cursor = self._kept
        if cursor is None or self._is_kept() or not self._fits(cursor):
            cursor = self._kept = self.cursor()
        return cursor

    def _fits(self, cursor: psycopg.Cursor[Any]) -> bool:
        usual = cursor.row_factory is self.row_factory and type(cursor) is self.cursor_factory
        return usual and not cursor.closed

    def _send(self) -> None:
        """Send what is held back; the last one by itself if somebody keeps its answer."""
        held, self._held = self._held, []
        answer = self._answer() if self._answer is not None else None
        last = held.pop() if answer is not None else None
        try:
            if held:
                self._answer = None
                self._cursor_again().executemany(self._query, held)
            if answer is not None:
                cursor = self.cursor()
                cursor.execute(self._query, last)
                answer.sent_by(cursor)
                self._answer = ref(answer)
        except BaseException as error:
            self._failed = error
            raise

    def wait(self, *arguments: Any, **options: Any) -> Any:
        """Carry out any operation, after what is held back; an error of that is raised when it is done.

        It may be the end of the pipeline, without which the connection would be lost.
        """
        failed: Exception | None = None
        if self._held:
            try:
                self._send()
            except Exception as error:  # noqa: BLE001 raised below
                failed = error
        result = super().wait(*arguments, **options)
        if failed is not None:
            raise failed
        return result

    @property
    def adapters(self) -> AdaptersMap:
        """How values are written and read; who asks may be about to change that, and a kept cursor would not know."""
        if self._held:
            self._send()
        self._kept = None
        return super().adapters

    def commit(self) -> None:
        """Commit; raise once more what has kept a statement from being sent."""
        if self._failed is not None:
            raise self._failed
        super().commit()

    def rollback(self) -> None:
        """Roll back; what is held back is forgotten."""
        self._held.clear()
        self._failed = None
        super().rollback()
