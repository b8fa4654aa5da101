"""Where the tables of a build are, and how a function's plain SQL reaches them.

A function names its tables as readers do. While a build is not live, its tables stand aside: in PostgreSQL in a schema
of their own that comes first in the transaction's search path, in SQLite under names of their own, which the
transaction exchanges for the readers' names and back before it commits, so that nobody else ever sees that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ensue.log import Call, Query, Steps


class Aside(Protocol):
    """What `Tables` wants to know of a build."""

    @property
    def projection(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def tables(self) -> tuple[str, ...]: ...
    @property
    def home(self) -> str: ...


class Tables(Protocol):
    """What can be done with the tables of builds, in the open transaction."""

    def home(self) -> Steps[str]:
        """Return the schema in which tables are made that are named without one; nothing in SQLite."""
        ...

    def exists(self, table: str) -> Steps[bool]: ...

    def make(self, sql: str | None) -> Steps[None]:
        """Carry SQL out, one statement or several."""
        ...

    def make_aside(
        self, projection: str, number: int, tables: Sequence[str], sql: str | None, home: str
    ) -> Steps[None]:
        """Make tables aside by the SQL; without it, of the structure of those that readers see."""
        ...

    def enter(self, build: Aside) -> Steps[None]:
        """Let the names of tables lead to those aside, in this transaction."""
        ...

    def leave(self, build: Aside) -> Steps[None]:
        """Let them lead again to those that readers see; needed before the transaction commits."""
        ...

    def swap(self, live: Aside, new: Aside) -> Steps[None]:
        """Put the tables of one build where readers see them, and those that were there aside."""
        ...

    def drop_aside(self, build: Aside) -> Steps[None]: ...

    def name(self, build: Aside, table: str, *, live: bool) -> str:
        """Return how SQL reaches a build's table from outside."""
        ...

    def columns(self, name: str) -> Steps[list[str]]:
        """Return the columns of a table that is named so, but for those that the database computes."""
        ...

    def checksum(self, columns: Sequence[str]) -> str:
        """Return the SQL that sums up a hash of these columns of all rows, as text: equal rows, equal checksum."""
        ...


def statement(sql: str) -> Call:
    """Return a statement of one dialect, as it is."""
    return Call(Query.verbatim(sql))


def quoted(value: str) -> str:
    """Return text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"


def named(value: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + value.replace('"', '""') + '"'


def rows_of(table: str) -> Steps[bool]:
    """Tell whether a table has rows."""
    return bool((yield statement(f"select 1 from {table} limit 1")))
