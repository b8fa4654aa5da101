"""A table that a projection keeps: rows are put, counted, included and removed without SQL.

Each verb is one statement with parameters, on the caller's own connection, sync or async; it is part of the transaction
that is open there. The statements are the same for both databases.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, Generic, TypeVar, cast, overload

import msgspec

from ensue.errors import DeclarationError
from ensue.log import AsyncConnection, Query, SyncConnection
from ensue.tables.carrying import ask, is_postgres, told
from ensue.tables.columns import columns_of, kept, key_of

R = TypeVar("R")
K = TypeVar("K")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


class Table(Generic[R, K]):
    """A table with typed rows: `Table("balances", Balance, key=lambda row: row.account)`.

    The row type is a dataclass or a `msgspec.Struct`; its fields are the columns, and type checkers know them. They
    hold str, int, float, bool, bytes, UUID, date, datetime and, in PostgreSQL, Decimal; or None besides. `key` says
    which make the primary key. Give the table to a projection (`tables=balances`), and `ensue migrate` makes it, unless
    `set_up` says how or it is there.

    On a sync connection a verb does it at once, on an async one it returns an awaitable. Raises `DeclarationError` for
    what cannot be a table, `UnusableConnection` for what is no connection, and what the driver raises.
    """

    def __init__(self, name: str, row: type[R], *, key: Callable[[R], K]) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DeclarationError(f"table {name!r}: a plain name of at most 40 characters, without a schema")
        self.name = name
        self.row = row
        self.columns = columns_of(row, name)
        self.key = key_of(key, self.columns, name)
        self._others = tuple(each for each in self.columns if each.name not in self.key)

    def __repr__(self) -> str:
        return f"Table({self.name!r}, {self.row.__qualname__}, key={', '.join(self.key)})"

    def ddl(self, *, postgres: bool) -> str:
        """Return the SQL that makes the table, for PostgreSQL or for SQLite."""
        columns = ", ".join(each.ddl(postgres=postgres) for each in self.columns)
        return f"create table {_quoted(self.name)} ({columns}, primary key ({_listed(self.key)}))"

    # --- the verbs

    @overload
    def put(self, row: R, /, *, via: SyncConnection) -> None: ...

    @overload
    def put(self, row: R, /, *, via: AsyncConnection) -> Awaitable[None]: ...

    def put(self, row: R, /, *, via: SyncConnection | AsyncConnection) -> Awaitable[None] | None:
        """Insert a row, or let it take the place of the one with its key."""
        return told(via, self._put, self._values(row, via))

    @overload
    def add(self, row: R, /, *, via: SyncConnection) -> None: ...

    @overload
    def add(self, row: R, /, *, via: AsyncConnection) -> Awaitable[None]: ...

    def add(self, row: R, /, *, via: SyncConnection | AsyncConnection) -> Awaitable[None] | None:
        """Insert a row, or add its numbers to those of the one with its key: negative ones subtract."""
        return told(via, self._add, self._values(row, via))

    @overload
    def include(self, row: R, /, *, via: SyncConnection) -> None: ...

    @overload
    def include(self, row: R, /, *, via: AsyncConnection) -> Awaitable[None]: ...

    def include(self, row: R, /, *, via: SyncConnection | AsyncConnection) -> Awaitable[None] | None:
        """Insert a row unless one with its key is there: a member of a set, what was first."""
        return told(via, self._include, self._values(row, via))

    @overload
    def remove(self, key: K, /, *, via: SyncConnection) -> None: ...

    @overload
    def remove(self, key: K, /, *, via: AsyncConnection) -> Awaitable[None]: ...

    def remove(self, key: K, /, *, via: SyncConnection | AsyncConnection) -> Awaitable[None] | None:
        """Remove the row with a key, if there is one; a key of several columns is a tuple."""
        return told(via, self._remove, self._key_values(key, via))

    @overload
    def get(self, key: K, /, *, via: SyncConnection) -> R | None: ...

    @overload
    def get(self, key: K, /, *, via: AsyncConnection) -> Awaitable[R | None]: ...

    def get(self, key: K, /, *, via: SyncConnection | AsyncConnection) -> Awaitable[R | None] | R | None:
        """Return the row with a key, None if there is none.

        Statements wait for its answer: a projection that only puts and adds is several times as fast.
        """
        return ask(via, self._get, self._key_values(key, via), self._found)

    # --- how

    def _values(self, row: R, via: object) -> tuple[object, ...]:
        if not isinstance(row, self.row):
            raise DeclarationError(f"table {self.name!r} takes a {self.row.__qualname__}, not {row!r}")
        postgres = is_postgres(via)
        return tuple([kept(getattr(row, each.name), postgres=postgres) for each in self.columns])

    def _key_values(self, key: K, via: object) -> tuple[object, ...]:
        parts = cast("tuple[object, ...]", key) if isinstance(key, tuple) else (key,)
        if len(parts) != len(self.key):
            raise DeclarationError(f"table {self.name!r}: its key is ({', '.join(self.key)}), not {key!r}")
        postgres = is_postgres(via)
        return tuple([kept(each, postgres=postgres) for each in parts])

    def _found(self, rows: Any) -> R | None:
        if not rows:
            return None
        fields = dict(zip((each.name for each in self.columns), rows[0], strict=True))
        return msgspec.convert(fields, self.row, strict=False)

    def _insert(self, otherwise: str) -> Query:
        names = [each.name for each in self.columns]
        marks = ", ".join(f":v{number}" for number in range(len(names)))
        return Query(
            f"insert into {_quoted(self.name)} ({_listed(names)}) values ({marks}) "
            f"on conflict ({_listed(self.key)}) do {otherwise}"
        )

    @cached_property
    def _put(self) -> Query:
        if not self._others:
            return self._include
        changes = ", ".join(f"{_quoted(each.name)} = excluded.{_quoted(each.name)}" for each in self._others)
        return self._insert(f"update set {changes}")

    @cached_property
    def _add(self) -> Query:
        if wrong := [each.name for each in self._others if not each.counts] or ([] if self._others else ["nothing"]):
            raise DeclarationError(
                f"table {self.name!r} cannot be added to: beside its key there is {', '.join(wrong)}, and only numbers "
                "that are never None can be counted; put the rows, or write SQL"
            )
        name = _quoted(self.name)
        changes = ", ".join(
            f"{column} = {name}.{column} + excluded.{column}"
            for column in (_quoted(each.name) for each in self._others)
        )
        return self._insert(f"update set {changes}")

    @cached_property
    def _include(self) -> Query:
        return self._insert("nothing")

    @cached_property
    def _remove(self) -> Query:
        return Query(f"delete from {_quoted(self.name)} where {self._is_it()}")

    @cached_property
    def _get(self) -> Query:
        names = _listed(each.name for each in self.columns)
        return Query(f"select {names} from {_quoted(self.name)} where {self._is_it()}")

    def _is_it(self) -> str:
        return " and ".join(f"{_quoted(name)} = :v{number}" for number, name in enumerate(self.key))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _listed(names: Any) -> str:
    return ", ".join(_quoted(name) for name in names)
